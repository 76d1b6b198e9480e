"""Tidelog, measured with its own `tidelog bench`."""

import json
import re
import time

from ..processes import Failed, Process, run_tool
from .base import BROKERS, PARTITIONS, ROUND_MAX_S, Cluster, Contender, Missing, started

START_WITHIN_S = 60
STOP_WITHIN_S = 30
COMMAND_WITHIN_S = 600
# Records of one load to warm up, and how long such loads are repeated.
WARM_RECORDS = 100_000
WARM_S = 3
BROKER = re.compile(r"broker \d+\s+clients (\S+)\s.*\bpid (\d+)")


class Tidelog(Contender):
    """Tidelog as it is by default."""

    name = "tidelog"
    label = "Tidelog"
    ack = "In the logs of a majority, each of which has fsynced it."
    figures = ("produce", "consume", "latency", "failover", "partitions", "disk")

    def __init__(self, options):
        self.program = options.tidelog

    def client(self):
        return ("tidelog-client as it is by default (linger 5 ms, 0 for latencies; batches of 256 KiB, buffer of "
                "32 MiB, idempotence): 2 producers, 2 consumers")

    def prepare(self):
        if not self.program.exists():
            raise Missing(f"{self.program} is not there: cargo build --release, or --tidelog PATH")
        return run_tool([self.program, "--version"], 10).strip()

    def start(self, data):
        cluster = TidelogCluster(self.program, data)
        return started(cluster, cluster.wait_ready)

    def failover(self, data, rounds):
        # It starts a cluster of its own, in a temporary directory.
        found = bench(self.program, "failover", ["--rounds", rounds], env={"TMPDIR": str(data)},
                      within=rounds * ROUND_MAX_S)
        return {**found, "pauses_ms": [one["pause_ms"] for one in found["rounds"]]}

    def measure_disk(self, data):
        return bench(self.program, "disk", ["--dir", data])


class TidelogCluster(Cluster):
    """A `tidelog dev` with three brokers."""

    def __init__(self, program, data):
        self.program = program
        self.data = data
        command = [program, "dev", "--nodes", BROKERS, "--dir", data / "cluster", "--free-ports"]
        self.process = Process(command, data / "dev.log", read_stdout=True)
        self.addresses = []
        self.brokers = []
        self.settings = {}

    def wait_ready(self):
        """Reads the addresses that `tidelog dev` prints once its brokers are up."""
        deadline = time.monotonic() + START_WITHIN_S
        while len(self.brokers) < BROKERS:
            line = self.process.line(deadline)
            if line is None:
                raise Failed(f"tidelog dev ended: {self.process.tail()}")
            if found := BROKER.search(line):
                self.addresses.append(found[1])
                self.brokers.append(int(found[2]))
        text = (self.data / "cluster" / "node1.toml").read_text().replace(str(self.data), "DATA")
        self.settings = {"node1.toml": text}

    def pids(self):
        return self.brokers

    def produce(self, topic, seconds, rate=None):
        self.create(topic, PARTITIONS)
        flags = ["--topic", topic]
        if rate:
            flags += ["--records", int(rate * seconds), "--rate", rate, "--linger", "0ms"]
            return self.bench("produce", flags)
        flags += ["--records", max(1, int(self.warm_up() * seconds))]
        # It fails if it does not read what was acked.
        return {**self.bench("produce", [*flags, "--verify"]), "verified": True}

    def consume(self, topic):
        flags = ["--topic", topic, "--records", self.end_of(topic)]
        # Once without being counted, as peers read once to compare checksums.
        self.bench("consume", flags)
        return self.bench("consume", flags)

    def warm_up(self):
        """Loads the cluster for a while; gives the records per second of the last load."""
        deadline = time.monotonic() + WARM_S
        while True:
            warmed = self.bench("produce", ["--records", WARM_RECORDS])
            if time.monotonic() > deadline:
                return warmed["records_per_s"]

    def create_partitions(self, count):
        begun = time.monotonic()
        self.create("many", count)
        # One client sends to one partition after the other.
        self.bench("produce", ["--topic", "many", "--records", count, "--clients", 1])
        return {"partitions": count, "create_s": time.monotonic() - begun}

    def create(self, topic, partitions):
        """Creates a topic."""
        self.run("topic", "create", topic, "--partitions", partitions, "--timeout", "120s")

    def end_of(self, topic):
        """The number of records of a new topic."""
        listed = self.run("partition", "list", topic)["items"]
        return sum(partition["high_watermark"] for partition in listed)

    def run(self, *words):
        """Runs a command on this cluster and gives its JSON."""
        command = [self.program, *words, "-b", ",".join(self.addresses), "-o", "json"]
        return json.loads(run_tool(command, COMMAND_WITHIN_S))

    def bench(self, what, flags):
        """Runs one of the `tidelog bench` on this cluster."""
        return bench(self.program, what, [*flags, "-b", ",".join(self.addresses)])

    def stop(self):
        self.process.stop(STOP_WITHIN_S)


def bench(program, what, flags, env=None, within=COMMAND_WITHIN_S):
    """Runs one of the `tidelog bench` and gives what it measured."""
    command = [program, "bench", what, *flags, "-o", "json"]
    return json.loads(run_tool(command, within, env=env))["item"]
