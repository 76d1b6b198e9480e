// Notification service: tells each user of each order, once.
'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { consume } = require('./tidelog_events');

class NotificationService {
  // The journal is what the service has done, one JSON object a line. One process at a time has it.
  constructor(journal) {
    this.notified = new Set();
    const text = fs.existsSync(journal) ? fs.readFileSync(journal, 'utf8') : '';
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    for (const line of whole.split('\n').filter(Boolean)) {
      this.notified.add(JSON.parse(line).event_id);
    }
    this.journal = fs.openSync(journal, 'a');
    // What follows the last whole line was never done: its writer was killed within it.
    fs.ftruncateSync(this.journal, Buffer.byteLength(whole));
    this.replays = 0;
  }

  processOrderEvent(event) {
    if (event.type !== 'OrderCreated') return;
    const replay = this.notified.has(event.event_id);
    const entry = { event_id: event.event_id, replay };
    fs.writeSync(this.journal, `${JSON.stringify(entry)}\n`);
    if (replay) {
      this.replays += 1;
      console.log(`Replay of event ${event.event_id} left alone. Replays: ${this.replays}`);
      return;
    }
    this.notified.add(event.event_id);
    const { user_id: user, order_id: order } = event.data;
    console.log(`Notification sent to ${user} for order ${order}`);
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      bootstrap: { type: 'string', default: '127.0.0.1:7071' },
      topic: { type: 'string', default: 'order_events' },
      group: { type: 'string', default: 'notification' },
      journal: { type: 'string' },
    },
  });
  if (!values.journal) throw new Error('--journal FILE is missing: where to keep what was done');
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => stop.abort());
  const service = new NotificationService(values.journal);
  console.log('Notification Service is waiting for order events. To exit press CTRL+C');
  const brokers = values.bootstrap.split(',');
  await consume(brokers, values.group, values.topic, stop.signal, (event) =>
    service.processOrderEvent(event),
  );
}

main().catch((err) => {
  console.error(err.message);
  process.exitCode = 1;
});
