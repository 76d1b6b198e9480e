"""Apache Kafka: three brokers that are controllers too."""

import base64
import os
from pathlib import Path

from ..processes import Process, free_ports, run_tool
from .base import BROKERS, Contender, PeerCluster, started

VERSION = "4.4.0"
LOAD = Path(__file__).resolve().parents[2] / "peers" / "kafka"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
FETCH_WITHIN_S = 900
START_WITHIN_S = 60

CONFIG = """\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{client}
log.dirs={logs}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
auto.create.topics.enable=false
{flush}"""

# What Kafka's own start script gives a broker.
JVM = (
    "-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
LOAD_JVM = ("-Xms1G", "-Xmx1G", "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


class Kafka(Contender):
    """Kafka in one of its settings."""

    def __init__(self, name, options, flush=False):
        self.name = name
        self.cache = options.cache
        self.flush = flush
        if flush:
            self.label = "Kafka, flush always"
            self.ack = ("On all in-sync replicas, at least two, each of which has fsynced it "
                        "(`log.flush.interval.messages=1`).")
            self.figures = ("produce", "consume", "latency", "failover")
        else:
            self.label = "Kafka, default"
            self.ack = ("On all in-sync replicas, at least two, written to the page cache; the "
                        "kernel writes it to the disk when it likes.")
            self.figures = ("produce", "consume", "latency", "failover", "partitions")

    def client(self):
        return ("kafka-clients: 2 producers, acks=all, linger.ms=5 (0 for latencies), batch.size=1 MiB, "
                "buffer.memory=64 MiB, max.request.size=4 MiB, idempotence by default; "
                "2 consumers with max.poll.records=5000")

    def prepare(self):
        jars = self.cache / f"kafka-{VERSION}"
        if not (jars / f"kafka_2.13-{VERSION}.jar").exists():
            run_tool(["mvn", "-q", "-B", "-f", LOAD / "pom.xml", COPY, f"-DoutputDirectory={jars}"],
                     FETCH_WITHIN_S)
        classes = self.cache / "kafka-load"
        classes.mkdir(parents=True, exist_ok=True)
        run_tool(["javac", "-cp", f"{jars}/*", "-d", classes, *sorted(LOAD.glob("*.java"))], 120)
        java = run_tool(["java", "--version"], 20).splitlines()[0]
        return f"{VERSION}, {java}"

    def start(self, data):
        cluster = KafkaCluster(data, self.cache, self.flush)
        return started(cluster, cluster.start_all)


class KafkaCluster(PeerCluster):
    """Three Kafka brokers."""

    # A cold JVM says little about one that has run for a minute, and the load's is new each time.
    warm_s = 25

    def __init__(self, data, cache, flush):
        jars = f"{cache}/kafka-{VERSION}/*"
        super().__init__(data, ["java", *LOAD_JVM, "-cp", f"{cache / 'kafka-load'}:{jars}", "Load"])
        self.jars = jars
        ports = free_ports(2 * BROKERS)
        self.ports = {str(id): ports[id - 1] for id in range(1, BROKERS + 1)}
        controllers = ports[BROKERS:]
        self.addresses = [f"127.0.0.1:{port}" for port in self.ports.values()]
        voters = [f"{id}@127.0.0.1:{port}" for id, port in enumerate(controllers, 1)]
        for id, port in enumerate(self.ports.values(), 1):
            config = CONFIG.format(
                id=id, voters=",".join(voters), client=port, controller=controllers[id - 1],
                logs=data / f"broker{id}",
                flush="log.flush.interval.messages=1\n" if flush else "",
            )
            (data / f"{id}.properties").write_text(config)
        text = (data / "1.properties").read_text().replace(str(data), "DATA")
        self.settings = {"1.properties": text, "java": " ".join(JVM)}

    def start_all(self):
        """Formats the directories, starts all brokers and waits until they listen."""
        cluster_id = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=").replace("-", "A")
        for name in self.ports:
            run_tool(["java", "-cp", self.jars, "kafka.tools.StorageTool", "format",
                      "-t", cluster_id, "-c", self.data / f"{name}.properties"], 60)
        for name in self.ports:
            self.start_server(name)
        for name, port in self.ports.items():
            self.servers[name].wait_port(port, START_WITHIN_S)

    def start_server(self, name):
        command = ["java", *JVM, "-cp", self.jars, "kafka.Kafka", self.data / f"{name}.properties"]
        self.servers[name] = Process(command, self.data / f"{name}.log")
