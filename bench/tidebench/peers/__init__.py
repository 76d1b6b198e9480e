"""Who is measured."""

from .kafka import Kafka
from .nats import Nats
from .tidelog import Tidelog

REFERENCE = "tidelog"

NAMES = ("tidelog", "nats", "nats-always", "nats-batched", "kafka", "kafka-flush")


def contenders(names, options):
    """The contenders of these names, in the order in which they take turns."""
    known = {
        "tidelog": lambda: Tidelog(options),
        "nats": lambda: Nats("nats", options),
        "nats-always": lambda: Nats("nats-always", options, always=True),
        "nats-batched": lambda: Nats("nats-batched", options, batched=True),
        "kafka": lambda: Kafka("kafka", options),
        "kafka-flush": lambda: Kafka("kafka-flush", options, flush=True),
    }
    return [known[name]() for name in names]
