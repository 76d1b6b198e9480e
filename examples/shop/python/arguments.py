"""The arguments that all services of the shop take."""

import argparse
import signal
import threading


def parser(what):
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument(
        "--bootstrap", default="127.0.0.1:7071", type=lambda text: text.split(","),
        metavar="HOST:PORT,...", help="brokers, tried one after the other",
    )
    parser.add_argument("--topic", default="order_events", help="the topic of the events")
    parser.add_argument("--journal", required=True, metavar="FILE", help="what the service has done")
    return parser


def asked_to_stop():
    """An event that SIGTERM and Ctrl-C set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
