// Runs the notification service against a cluster, kills it on the way, and checks that each order was
// told once.
//
//     node smoke_test.js HOST:PORT,HOST:PORT,...
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { once } = require('node:events');
const { setTimeout: pause } = require('node:timers/promises');
const { call, connect, v1 } = require('./tidelog_events');

const ORDERS = 60;
const WITHIN_MS = 60_000;

function start(args) {
  const script = path.join(__dirname, 'notification_service.js');
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const service = { child, printed: '', exited: once(child, 'exit') };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    service.printed += text;
  });
  return service;
}

// Whole lines only: the last one may be in the making.
function told(journal) {
  if (!fs.existsSync(journal)) return [];
  const lines = fs.readFileSync(journal, 'utf8').split('\n').slice(0, -1);
  const entries = lines.map((line) => JSON.parse(line));
  return entries.filter((entry) => !entry.replay).map((entry) => entry.event_id);
}

async function waitFor(journal, count) {
  const deadline = Date.now() + WITHIN_MS;
  while (told(journal).length < count) {
    assert(Date.now() < deadline, `${told(journal).length} of ${count} in ${journal}`);
    await pause(20);
  }
}

async function publish(log, topic, numbers) {
  const events = numbers.map((number) => {
    const data = { order_id: randomUUID(), user_id: `user${number}`, product_id: 'product456' };
    return { event_id: randomUUID(), type: 'OrderCreated', data };
  });
  const records = events.map((event) => ({
    key: Buffer.from(event.data.user_id),
    value: Buffer.from(JSON.stringify(event)),
  }));
  const { results } = await call(log, 'ProduceRecords', { topic, records });
  for (const { result, error } of results) assert.equal(result, 'offset', JSON.stringify(error));
  return events;
}

async function main() {
  const bootstrap = process.argv[2];
  const [first] = bootstrap.split(',');
  const admin = connect(v1.AdminService, first);
  const log = connect(v1.LogService, first);
  const topic = `order_events-${randomUUID()}`;
  const { results } = await call(admin, 'CreateTopics', { topics: [{ name: topic, partitions: 3 }] });
  assert.equal(results[0].result, 'created', JSON.stringify(results));

  const place = fs.mkdtempSync(path.join(os.tmpdir(), 'tidelog-shop-'));
  const journal = path.join(place, 'notifications');
  const args = ['--bootstrap', bootstrap, '--topic', topic, '--group', topic, '--journal', journal];
  const services = [start(args)];
  try {
    const all = Array.from({ length: ORDERS }, (_, number) => number);
    const events = await publish(log, topic, all.slice(0, ORDERS / 2));
    await waitFor(journal, ORDERS / 4);
    services[0].child.kill('SIGKILL');
    await services[0].exited;
    services.push(start(args));
    events.push(...(await publish(log, topic, all.slice(ORDERS / 2))));
    await waitFor(journal, ORDERS);
    services[1].child.kill('SIGTERM');
    assert.deepEqual(await services[1].exited, [0, null]);
    const ids = events.map((event) => event.event_id);
    assert.deepEqual(told(journal).sort(), ids.sort());
    const { printed } = services[1];
    assert(printed.includes('Notification sent to user59 for order '), printed);
    // Only what the killed process had got may come again.
    const replays = printed.split('Replay of event').length - 1;
    assert(replays <= ORDERS / 2, `${replays} replays`);
    console.log(`node: ${ORDERS} orders, each told once, ${replays} replays left alone`);
  } finally {
    for (const { child } of services) child.kill('SIGKILL');
    fs.rmSync(place, { recursive: true });
    admin.close();
    log.close();
  }
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
