"""What is measured: figures, each with its measures."""

from dataclasses import dataclass


MORE_IS_BETTER = ("records/s", "MB/s")


@dataclass(frozen=True)
class Measure:
    """One number of a figure."""

    figure: str
    key: str
    title: str
    unit: str
    digits: int = 0
    # Values that differ by powers of ten are drawn on a logarithmic axis.
    logarithmic: bool = False

    def heading(self):
        """The title of its bars."""
        better = "more" if self.unit in MORE_IS_BETTER else "less"
        return f"{self.title} ({self.unit}), {better} is better"


TITLES = {
    "produce": "Producing as fast as acks come",
    "consume": "Reading a topic from its start",
    "latency": "Latency of acks at a fixed rate",
    "failover": "Pause of a partition whose leader is killed",
    "partitions": "Many partitions of three replicas",
    "disk": "What the disk can do",
}

FIGURES = tuple(TITLES)

MEASURES = (
    Measure("produce", "records_per_s", "acked records", "records/s"),
    Measure("produce", "mb_per_s", "acked bytes", "MB/s", 1),
    Measure("consume", "records_per_s", "records read", "records/s"),
    Measure("consume", "mb_per_s", "bytes read", "MB/s", 1),
    Measure("latency", "p50_ms", "p50", "ms", 2, True),
    Measure("latency", "p99_ms", "p99", "ms", 2, True),
    Measure("latency", "p999_ms", "p99.9", "ms", 2, True),
    Measure("latency", "records_per_s", "rate that was reached", "records/s"),
    Measure("failover", "pauses_ms", "longest time without an ack", "ms", 0, True),
    Measure("partitions", "create_s", "until each has acked a record", "s", 2),
    Measure("partitions", "cpu_percent", "CPU of an idle broker", "% of a core", 2),
    Measure("partitions", "rss_mib", "memory of an idle broker", "MiB", 0),
    Measure("disk", "mb_per_s", "written and synced", "MB/s", 0),
)

# Figures that are taken one after the other on the same cluster.
GROUPS = (("disk",), ("produce", "consume", "latency"), ("failover",), ("partitions",))


def measures_of(figure):
    """The measures of one figure."""
    return [measure for measure in MEASURES if measure.figure == figure]
