"""Events over Tidelog, with nothing but the stubs generated from its proto files."""

import contextlib
import itertools
import json
import queue
import sys
import time
from pathlib import Path

import grpc

sys.path.append(str(Path(__file__).parent / "gen"))
from tidelog.v1 import common_pb2, group_pb2, group_pb2_grpc, log_pb2, log_pb2_grpc  # noqa: E402

# Another broker would say the same. Anything else is a matter of time, or of the broker.
FATAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
PAUSE_S = 0.2
# A broker that is frozen, not dead, closes no connection: pings find it.
OPTIONS = [
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 1_000),
]


def connect(broker):
    return grpc.insecure_channel(broker, OPTIONS)


def consume(brokers, group, topic, stop, credit=100):
    """Yields the events of a topic, shared with all other members of the group, until `stop` is set.

    An event is done when the next one is asked for; one that is not comes again, to whoever holds its
    partition then. Goes on at the next broker when one dies.
    """
    subscription = group_pb2.Subscription(topics=[topic], client_id="python")
    start = common_pb2.OffsetSpec(bound=common_pb2.OFFSET_BOUND_EARLIEST)
    opening = group_pb2.SubscribeOpen(
        group_id=group, subscription=subscription, start=start, credit_records=credit
    )
    for broker in itertools.cycle(brokers):
        asked = queue.SimpleQueue()
        asked.put(group_pb2.SubscribeRequest(open=opening))
        try:
            with connect(broker) as channel:
                stub = group_pb2_grpc.GroupServiceStub(channel)
                for response in stub.Subscribe(requests(asked, stop)):
                    batch = response.records
                    for fetched in batch.records:
                        if stop.is_set():
                            break
                        yield json.loads(fetched.record.value)
                        done = {"topic": batch.topic, "partition": batch.partition}
                        ack = group_pb2.SubscribeAck(**done, offsets=[fetched.offset])
                        asked.put(group_pb2.SubscribeRequest(ack=ack))
                        more = group_pb2.SubscribeCredit(records=1)
                        asked.put(group_pb2.SubscribeRequest(credit=more))
        except grpc.RpcError as err:
            if err.code() in FATAL:
                raise
            print(f"subscription ended, the next broker is tried: {err.details()}", file=sys.stderr)
            stop.wait(PAUSE_S)
        finally:
            asked.put(None)
        if stop.is_set():
            return


def requests(asked, stop):
    """What is asked of the broker. With the end of it the broker commits, leaves the group and ends
    the stream."""
    while not stop.is_set() or not asked.empty():
        with contextlib.suppress(queue.Empty):
            request = asked.get(timeout=PAUSE_S)
            if request is None:
                return
            yield request


class Publisher:
    """Publishes events until they are on disk at a majority of brokers."""

    def __init__(self, brokers, topic, within_s=60):
        self.topic, self.within_s = topic, within_s
        self.channels = [connect(broker) for broker in brokers]
        self.stubs = itertools.cycle([log_pb2_grpc.LogServiceStub(c) for c in self.channels])
        self.stub = next(self.stubs)

    def publish(self, key, event):
        """Tries broker after broker. An attempt without an answer may have written the event, so it
        may be there twice: its id tells consumers."""
        record = common_pb2.Record(key=key.encode(), value=json.dumps(event).encode())
        request = log_pb2.ProduceRecordsRequest(topic=self.topic, records=[record])
        deadline = time.monotonic() + self.within_s
        while True:
            try:
                result = self.stub.ProduceRecords(request, timeout=5).results[0]
                if result.WhichOneof("result") == "offset":
                    return
                failure = RuntimeError(f"{result.error.name}: {result.error.message}")
                fatal = not result.error.retriable
            except grpc.RpcError as err:
                failure, fatal = err, err.code() in FATAL
            if fatal or time.monotonic() >= deadline:
                raise failure
            time.sleep(PAUSE_S)
            self.stub = next(self.stubs)

    def close(self):
        for channel in self.channels:
            channel.close()
