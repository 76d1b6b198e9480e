"""Runs order and inventory against a cluster, kills an inventory process, and checks the stock.

    python smoke_test.py HOST:PORT,HOST:PORT,...
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import tidelog_events
from tidelog.v1 import admin_pb2, admin_pb2_grpc

ORDERS, PRODUCTS, WITHIN_S = 60, 3, 60
HERE = Path(__file__).parent


def create_topic(brokers, name):
    with tidelog_events.connect(brokers[0]) as channel:
        topic = admin_pb2.NewTopic(name=name, partitions=3)
        request = admin_pb2.CreateTopicsRequest(topics=[topic])
        result = admin_pb2_grpc.AdminServiceStub(channel).CreateTopics(request, timeout=15).results[0]
        assert result.WhichOneof("result") == "created", result


@contextlib.contextmanager
def processes():
    """Starts services; none outlives the test."""
    started = []

    def start(service, *args):
        command = [sys.executable, HERE / f"{service}_service.py", *args]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()


def applied(journal):
    """Whole lines only: the last one may be in the making."""
    if not journal.exists():
        return []
    lines = journal.read_bytes().split(b"\n")[:-1]
    return [entry for entry in map(json.loads, lines) if not entry["replay"]]


def wait_for(journal, count):
    deadline = time.monotonic() + WITHIN_S
    while len(applied(journal)) < count:
        assert time.monotonic() < deadline, f"{len(applied(journal))} of {count} in {journal}"
        time.sleep(0.05)


def main():
    brokers = sys.argv[1].split(",")
    topic = f"order_events-{uuid.uuid4()}"
    create_topic(brokers, topic)
    with tempfile.TemporaryDirectory() as place, processes() as start:
        orders, inventory = Path(place, "orders"), Path(place, "inventory")
        common = ["--bootstrap", sys.argv[1], "--topic", topic]
        consumer = [*common, "--group", topic, "--journal", inventory]
        members = [start("inventory", *consumer) for _ in range(2)]
        amount = ["--orders", str(ORDERS), "--products", str(PRODUCTS), "--pause", "0.02"]
        order = start("order", *common, "--journal", orders, *amount)
        wait_for(inventory, ORDERS // 3)
        members[0].kill()
        members.append(start("inventory", *consumer))
        created, _ = order.communicate(timeout=WITHIN_S)
        assert order.returncode == 0, order.returncode
        wait_for(inventory, ORDERS)
        for member in members[1:]:
            member.terminate()
        printed = "".join(member.communicate(timeout=WITHIN_S)[0] for member in members)
        assert [member.returncode for member in members[1:]] == [0, 0], members

        assert created.count("Order created and event published: ") == ORDERS, created
        assert "Inventory updated for product product456. New stock: 98\n" in printed, printed
        ids = [entry["event_id"] for entry in applied(inventory)]
        assert sorted(ids) == sorted(entry["event_id"] for entry in applied(orders))
        stock = {entry["product_id"]: entry["stock"] for entry in applied(inventory)}
        assert sum(stock.values()) == 100 * PRODUCTS - 2 * ORDERS, stock
        # What the killed process had got and not acknowledged; the others have committed.
        replays = printed.count("Replay of event")
        assert replays <= ORDERS // 2, replays
        print(f"python: {ORDERS} orders, stock {sum(stock.values())}, {replays} replays left alone")


if __name__ == "__main__":
    main()
