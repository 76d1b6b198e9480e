"""One run: who is there takes turns, figure by figure, repetition by repetition."""

import datetime
import shutil
import subprocess
import sys
import time

from . import machine
from .figures import GROUPS, MEASURES
from .peers import REFERENCE, contenders
from .peers.base import Missing, check_verified
from .processes import Failed, cpu_seconds
from .report import write
from .stats import summarize

# Who reaches less of the rate that it was sent has latencies that say how far behind it was.
KEPT_UP = 0.95
# The last acks of who has kept up may come so late.
LATE_S = 0.5
# A longer log says the same again and again.
LOG_BYTES_MAX = 10 << 20
FAILURES = (Failed, Missing, OSError, subprocess.SubprocessError, KeyError, ValueError)


def say(text):
    """Tells how far the run is; results go to files."""
    print(text, file=sys.stderr, flush=True)


class Session:
    """A run, and all that it has found so far."""

    def __init__(self, options, data):
        self.options = options
        self.data = data
        self.begun = time.monotonic()
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.contenders = contenders(options.only, options)
        self.described = {}
        self.runs = []
        self.failures = []

    def prepare(self):
        """Fetches what every contender needs; who cannot be had is left out."""
        machine.check_disk(self.data, self.options.seconds)
        there = []
        for contender in self.contenders:
            try:
                say(f"preparing {contender.name}")
                version = contender.prepare()
            except FAILURES as failure:
                self.fail(contender, None, None, failure)
                continue
            self.described[contender.name] = {
                "label": contender.label, "version": version, "ack": contender.ack,
                "client": contender.client(), "settings": {},
            }
            there.append(contender)
        self.contenders = there

    def run(self):
        """Measures everything."""
        last = max(self.repeats(figure) for figure in self.options.figures)
        for repetition in range(1, last + 1):
            for group in GROUPS:
                figures = [figure for figure in group if figure in self.options.figures
                           and repetition <= self.repeats(figure)]
                for contender in self.contenders:
                    own = [figure for figure in figures if figure in contender.figures]
                    if own:
                        self.turn(repetition, contender, own)

    def repeats(self, figure):
        """How often a figure is taken."""
        many = figure == "partitions"
        return self.options.repeat_partitions if many else self.options.repeat

    def turn(self, repetition, contender, figures):
        """One contender's turn: figures on one new cluster, gone afterwards."""
        place = self.data / f"{contender.name}-{repetition}-{figures[0]}"
        place.mkdir()
        try:
            machine.flush_caches()
            if figures == ["failover"]:
                self.note(repetition, contender, "failover",
                          lambda: contender.failover(place, self.options.rounds))
            elif figures == ["disk"]:
                self.note(repetition, contender, "disk", lambda: contender.measure_disk(place))
            else:
                self.on_cluster(repetition, contender, figures, place)
        except FAILURES as failure:
            self.fail(contender, figures[0], repetition, failure)
        finally:
            keep_logs(place, self.options.out / "logs" / place.name)
            shutil.rmtree(place, ignore_errors=True)
            # Each time, so that nothing can take away what was found in an hour.
            self.save()

    def on_cluster(self, repetition, contender, figures, place):
        """Takes figures one after the other on one cluster."""
        cluster = contender.start(place)
        try:
            self.described[contender.name]["settings"] = cluster.settings
            taken = Figures(self.options, cluster)
            for figure in figures:
                self.note(repetition, contender, figure, getattr(taken, figure))
        finally:
            cluster.stop()

    def note(self, repetition, contender, figure, measure):
        """Takes one figure and keeps it, or why it could not be taken."""
        load, begun = machine.load(), time.monotonic()
        try:
            values = measure()
        except FAILURES as failure:
            self.fail(contender, figure, repetition, failure)
            return
        self.runs.append({
            "repetition": repetition, "contender": contender.name, "figure": figure,
            "load_before": load, "took_s": round(time.monotonic() - begun, 1), "values": values,
        })
        if "warning" in values:
            self.fail(contender, figure, repetition, values["warning"])
        shown = [f"{measure.title} {number(values[measure.key], measure.digits)} {measure.unit}"
                 for measure in MEASURES
                 if measure.figure == figure and values.get(measure.key) is not None]
        say(f"[{repetition}] {contender.name} {figure}: {', '.join(shown)}")

    def fail(self, contender, figure, repetition, failure):
        """Keeps and tells a failure; the run goes on without."""
        text = str(failure) if str(failure) else type(failure).__name__
        if isinstance(failure, KeyError):
            text = f"the result has no {failure}"
        say(f"{contender.name}{f' {figure}' if figure else ''}: {text}")
        self.failures.append({
            "contender": contender.name, "figure": figure, "repetition": repetition,
            "problem": text,
        })

    def save(self):
        """Writes what was found so far."""
        if self.runs:
            write(self.results(), self.options.out)

    def results(self):
        """All that was found, as it is written to results.json."""
        return {
            "version": 1,
            "started": self.started,
            "took_s": round(time.monotonic() - self.begun),
            "machine": machine.describe(self.data),
            "options": self.options.as_json(),
            "contenders": self.described,
            "runs": self.runs,
            "summary": summarize(self.runs, MEASURES, REFERENCE),
            "failures": self.failures,
        }


class Figures:
    """The figures that are taken on one cluster."""

    def __init__(self, options, cluster):
        self.options = options
        self.cluster = cluster
        self.produced = None

    def produce(self):
        """Writes as fast as acks come."""
        self.produced = self.cluster.produce("produce", self.options.seconds)
        return warned(self.produced)

    def consume(self):
        """Reads what `produce` wrote, and compares it with what was acked."""
        if self.produced is None:
            self.produce()
        found = self.cluster.consume("produce")
        if "written" in self.produced and "read" in found:
            check_verified(self.produced, found)
            found["verified"] = True
        return found

    def latency(self):
        """Writes at a fixed rate."""
        rate = self.options.rate
        found = warned(self.cluster.produce("latency", self.options.seconds, rate))
        if found["seconds"] > self.options.seconds / KEPT_UP + LATE_S:
            found["warning"] = (f"did not keep up: {found['records_per_s']:.0f} of {rate} "
                                "records/s; its latencies grow with the length of the run")
        return found

    def partitions(self):
        """Creates many partitions, and looks at brokers that have nothing to do."""
        found = self.cluster.create_partitions(self.options.partitions)
        time.sleep(self.options.settle)
        pids = self.cluster.pids()
        before, begun = [cpu_seconds(pid) for pid in pids], time.monotonic()
        time.sleep(self.options.idle)
        passed = time.monotonic() - begun
        used = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
        found["cpu_percent"] = [100 * seconds / passed for seconds in used]
        found["rss_mib"] = self.cluster.memory()
        return found


def keep_logs(place, kept):
    """Keeps what servers and loads wrote to their logs, up to a size."""
    kept.mkdir(parents=True, exist_ok=True)
    for log in place.glob("*.log"):
        if log.stat().st_size <= LOG_BYTES_MAX:
            shutil.copy(log, kept)


def warned(found):
    """Adds a warning to a result in which records were refused."""
    if found.get("failed"):
        found["warning"] = f"{found['failed']} records were not acked: {found.get('reason')}"
    return found


def number(value, digits):
    """A value, or the ends of several, for eyes."""
    if isinstance(value, list):
        return f"{min(value):,.{digits}f} to {max(value):,.{digits}f}"
    return f"{value:,.{digits}f}"
