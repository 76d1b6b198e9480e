"""What every contender can do, and what those have in common whose servers this script starts."""

from abc import ABC, abstractmethod

from ..load import run_load
from ..processes import Failed, resident_mib

BROKERS = 3
PARTITIONS = 8
# Beyond the time that a load is asked to take: to create, to wait for acks, to read.
LOAD_EXTRA_S = 300
ROUND_MAX_S = 180


class Missing(Exception):
    """A contender or one of its figures cannot be had here; the message says why."""


class Contender(ABC):
    """One system in one setting."""

    # How it is called in tables and plots.
    label: str
    # What it means when it acks a record, in one sentence.
    ack: str
    # What it is asked to measure.
    figures: tuple[str, ...]

    @abstractmethod
    def prepare(self):
        """Fetches what it needs and gives its version; raises `Missing` or `Failed` without."""

    @abstractmethod
    def start(self, data):
        """Starts a new cluster that keeps its data in a directory; gives a `Cluster`."""

    @abstractmethod
    def client(self):
        """The settings of its clients that are not their defaults, in one sentence."""

    def measure_disk(self, data):
        """What the disk can do; only Tidelog has a command for it."""
        raise Missing("is not asked what the disk can do")

    def failover(self, data, rounds):
        """Kills leaders of a cluster of its own; gives `pauses_ms`."""
        cluster = self.start(data)
        try:
            return cluster.failover(rounds)
        finally:
            cluster.stop()


class Cluster(ABC):
    """A running cluster; whoever starts it must stop it."""

    # Texts of its configuration files by name.
    settings: dict[str, str]

    @abstractmethod
    def pids(self):
        """The process ids of all brokers."""

    @abstractmethod
    def produce(self, topic, seconds, rate=None):
        """Writes to a new topic, as fast as acks come or at a rate."""

    @abstractmethod
    def consume(self, topic):
        """Reads a topic from its start."""

    @abstractmethod
    def create_partitions(self, count):
        """Creates partitions; gives `create_s`."""

    @abstractmethod
    def stop(self):
        """Ends all its processes."""

    def memory(self):
        """Memory of each broker."""
        return [resident_mib(pid) for pid in self.pids()]


class PeerCluster(Cluster):
    """Servers that this script starts, and a load program with the flags that all peers share.

    A subclass sets `servers` (name to `Process`), `addresses`, `load_command` and `data`.
    """

    # Seconds of load before each counted figure.
    warm_s = 3
    produce_flags: tuple[str, ...] = ()

    def __init__(self, data, load_command):
        self.data = data
        self.load_command = load_command
        self.servers = {}
        self.addresses = []
        self.settings = {}

    @abstractmethod
    def start_server(self, name):
        """Starts one server of the cluster, anew or again."""

    def pids(self):
        return [server.pid for server in self.servers.values()]

    def produce(self, topic, seconds, rate=None):
        flags = ["--seconds", seconds, *self.produce_flags]
        if rate:
            flags += ["--rate", rate]
        return self.run_load("produce", topic, seconds * 3, flags)

    def consume(self, topic):
        return self.run_load("consume", topic, 0, [])

    def create_partitions(self, count):
        # The last flag of a name wins.
        return self.run_load("create", "many", 600, ["--partitions", count])

    def failover(self, rounds):
        victim = None

        def act(said):
            """Kills whom the load names, and starts it again once the pause is over."""
            nonlocal victim
            if said["event"] == "kill":
                victim = said["server"]
                self.servers[victim].kill()
            else:
                self.start_server(victim)

        flags = ["--rounds", rounds, "--rate", 1000]
        return self.run_load("failover", "failover", rounds * ROUND_MAX_S, flags, act)

    def run_load(self, mode, topic, seconds, flags, on_event=None):
        """Runs the load program, which warms itself and the cluster up first."""
        command = [
            *self.load_command, mode, "--servers", ",".join(self.addresses), "--topic", topic,
            "--partitions", PARTITIONS, "--size", 1024, "--clients", 2,
            "--warm", self.warm_s, *flags,
        ]
        log = self.data / f"load-{mode}-{topic}.log"
        return run_load(command, log, seconds + self.warm_s * 3 + LOAD_EXTRA_S, on_event)

    def stop(self):
        # Nothing of the data is needed any more, so nothing needs to be put in order.
        for server in self.servers.values():
            if server.running():
                server.child.kill()
        for server in self.servers.values():
            server.stop(10)


def started(cluster, start):
    """Gives a cluster once `start` is through, and stops it if that fails."""
    try:
        start()
        return cluster
    except BaseException:
        cluster.stop()
        raise


def check_verified(produced, consumed):
    """Compares what was acked with what was read, by partition; raises `Failed` on a difference.

    Where acks failed, records may be there that were not acked, but never less.
    """
    for acked, read in zip(produced["written"], consumed["read"], strict=True):
        more = produced.get("failed") and read["records"] >= acked["records"]
        if acked != read and not more:
            raise Failed(f"acked {acked}, but read {read}")
