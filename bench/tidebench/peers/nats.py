"""NATS JetStream: three servers, one stream of three replicas for each partition."""

from pathlib import Path

from ..processes import Process, free_ports, run_tool
from .base import BROKERS, Contender, PeerCluster, started

SERVER = "github.com/nats-io/nats-server/v2"
VERSION = "v2.15.2"
LOAD = Path(__file__).resolve().parents[2] / "peers" / "nats"
BUILD_WITHIN_S = 900
START_WITHIN_S = 30

CONFIG = """\
server_name: {name}
listen: 127.0.0.1:{client}
jetstream {{
  store_dir: "{store}"{sync}
}}
cluster {{
  name: bench
  listen: 127.0.0.1:{route}
  routes: [{routes}]
}}
"""


class Nats(Contender):
    """NATS in one of its settings."""

    def __init__(self, name, options, always=False, batched=False):
        self.name = name
        self.cache = options.cache
        self.always = always
        self.batched = batched
        if always:
            self.label = "NATS, sync always"
            self.ack = "In the Raft logs of a majority, each of which has fsynced it."
            self.figures = ("produce", "consume", "latency", "failover")
        elif batched:
            self.label = "NATS, fast batches"
            self.ack = ("As NATS by default, many records with one ack; the servers limit what a "
                        "batch has in flight.")
            self.figures = ("produce",)
        else:
            self.label = "NATS, default"
            self.ack = ("In the Raft logs of a majority, written to the page cache; fsynced every "
                        "two minutes (`sync_interval`).")
            self.figures = ("produce", "consume", "latency", "failover", "partitions")

    def client(self):
        if self.batched:
            return ("orbit.go jetstreamext FastPublisher, one per stream and connection, flow 500, "
                    "4 outstanding acks; 2 connections")
        return ("nats.go PublishMsgAsync, 2 connections, up to 32,768 records each without ack; "
                "reading with ordered consumers, 4096 records ahead")

    def prepare(self):
        programs = self.cache / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        server = programs / "nats-server"
        if not server.exists() or VERSION not in run_tool([server, "--version"], 10):
            run_tool(["go", "install", f"{SERVER}@{VERSION}"], BUILD_WITHIN_S,
                     env={"GOBIN": str(programs)})
        run_tool(["go", "build", "-o", programs / "nats-load", "."], BUILD_WITHIN_S, cwd=LOAD)
        return run_tool([server, "--version"], 10).strip()

    def start(self, data):
        cluster = NatsCluster(data, self.cache / "bin", self.always, self.batched)
        return started(cluster, cluster.start_all)


class NatsCluster(PeerCluster):
    """Three NATS servers."""

    def __init__(self, data, programs, always, batched):
        super().__init__(data, [programs / "nats-load"])
        self.program = programs / "nats-server"
        self.ports = dict(zip(("n1", "n2", "n3"), free_ports(BROKERS), strict=True))
        self.addresses = [f"127.0.0.1:{port}" for port in self.ports.values()]
        self.produce_flags = ("--batched",) if batched else ()
        routes = free_ports(BROKERS)
        sync = "\n  sync_interval: always" if always else ""
        for (name, client), route in zip(self.ports.items(), routes, strict=True):
            config = CONFIG.format(
                name=name, client=client, route=route, sync=sync, store=data / name,
                routes=", ".join(f"nats://127.0.0.1:{port}" for port in routes),
            )
            (data / f"{name}.conf").write_text(config)
        self.settings = {"n1.conf": (data / "n1.conf").read_text().replace(str(data), "DATA")}

    def start_all(self):
        """Starts all servers and waits until they listen; the load waits for the rest."""
        for name in self.ports:
            self.start_server(name)
        for name, port in self.ports.items():
            self.servers[name].wait_port(port, START_WITHIN_S)

    def start_server(self, name):
        command = [self.program, "-c", self.data / f"{name}.conf"]
        self.servers[name] = Process(command, self.data / f"{name}.log")


