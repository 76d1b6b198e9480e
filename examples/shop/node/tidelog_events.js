// Events over Tidelog. The stubs are made from the proto files when the program starts.
'use strict';

const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTO = path.join(__dirname, '..', '..', '..', 'proto');
const loaded = protoLoader.loadSync(
  ['admin', 'group', 'log'].map((name) => `tidelog/v1/${name}.proto`),
  // Without defaults a partition 0 or an offset 0 would be undefined.
  { includeDirs: [PROTO], keepCase: true, longs: String, defaults: true, oneofs: true },
);
const v1 = grpc.loadPackageDefinition(loaded).tidelog.v1;

// Another broker would say the same. Anything else is a matter of time, or of the broker.
const FATAL = new Set([
  grpc.status.INVALID_ARGUMENT,
  grpc.status.PERMISSION_DENIED,
  grpc.status.UNAUTHENTICATED,
  grpc.status.UNIMPLEMENTED,
]);
const PAUSE_MS = 200;
// A broker that is frozen, not dead, closes no connection: pings find it.
const OPTIONS = { 'grpc.keepalive_time_ms': 2000, 'grpc.keepalive_timeout_ms': 2000 };

function connect(Service, broker) {
  return new Service(broker, grpc.credentials.createInsecure(), OPTIONS);
}

// Gives the events of a topic to `handle`, one after the other, shared with all other members of the
// group, until `stop` (an AbortSignal) says so. An event is done when `handle` is; one that is not comes
// again, to whoever holds its partition then. Goes on at the next broker when one dies.
async function consume(brokers, group, topic, stop, handle) {
  const open = {
    group_id: group,
    subscription: { topics: [topic], client_id: 'node' },
    start: { bound: 'OFFSET_BOUND_EARLIEST' },
    credit_records: 100,
  };
  for (let turn = 0; !stop.aborted; turn += 1) {
    const client = connect(v1.GroupService, brokers[turn % brokers.length]);
    const stream = client.Subscribe();
    // With the end of the requests the broker commits, leaves the group and ends the stream.
    const end = () => stream.end();
    stop.addEventListener('abort', end);
    try {
      stream.write({ open });
      for await (const response of stream) {
        const batch = response.records || { records: [] };
        for (const { offset, record } of batch.records) {
          if (stop.aborted) break;
          await handle(JSON.parse(record.value));
          if (stop.aborted) break;
          const { topic: from, partition } = batch;
          stream.write({ ack: { topic: from, partition, offsets: [offset] } });
          stream.write({ credit: { records: 1 } });
        }
      }
    } catch (err) {
      if (err.code === undefined || FATAL.has(err.code)) throw err;
      console.error(`subscription ended, the next broker is tried: ${err.message}`);
      await pause(PAUSE_MS);
    } finally {
      stop.removeEventListener('abort', end);
      stream.cancel();
      client.close();
    }
  }
}

// One call without streams, as a promise.
function call(client, method, request) {
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 15_000;
    client[method](request, { deadline }, (err, answer) => (err ? reject(err) : resolve(answer)));
  });
}

module.exports = { call, connect, consume, v1 };
