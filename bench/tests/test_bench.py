"""What can be wrong without any server: `python3 -m unittest discover -s bench/tests`."""

import sys
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tidebench import machine, options, plot, report  # noqa: E402 (the path comes first)
from tidebench.figures import MEASURES  # noqa: E402
from tidebench.peers.base import check_verified  # noqa: E402
from tidebench.processes import Failed, Process, cpu_seconds, free_ports  # noqa: E402
from tidebench.stats import spread, summarize  # noqa: E402


def run_of(name, figure, **values):
    """A run as a session keeps it."""
    return {"contender": name, "figure": figure, "repetition": 1, "load_before": 0.5,
            "values": values}


RUNS = [
    run_of("tidelog", "produce", records_per_s=100.0, mb_per_s=1.0),
    run_of("tidelog", "produce", records_per_s=300.0, mb_per_s=3.0),
    run_of("tidelog", "produce", records_per_s=200.0, mb_per_s=2.0),
    run_of("nats", "produce", records_per_s=50.0, mb_per_s=None),
    run_of("nats", "failover", pauses_ms=[10.0, 4000.0]),
]


class Stats(unittest.TestCase):
    """Medians, spreads and ratios."""

    def test_ratio_is_to_the_median_of_the_reference(self):
        produce = summarize(RUNS, MEASURES, "tidelog")["produce"]["records_per_s"]
        self.assertEqual(produce["tidelog"],
                         {"median": 200.0, "min": 100.0, "max": 300.0, "count": 3, "ratio": 1.0})
        self.assertEqual(produce["nats"]["ratio"], 0.25)

    def test_figure_without_the_reference_has_no_ratio(self):
        failover = summarize(RUNS, MEASURES, "tidelog")["failover"]["pauses_ms"]
        self.assertEqual((failover["nats"]["count"], failover["nats"]["ratio"]), (2, None))

    def test_nothing_has_no_spread(self):
        self.assertIsNone(spread([None]))


class Plot(unittest.TestCase):
    """Plots are XML, and their bars are where their values are."""

    def panel(self, logarithmic, *values):
        bars = [plot.Bar("a < b", value, value / 2, value * 2, False) for value in values]
        return plot.Panel("x & y", bars, 1, logarithmic)

    def test_every_kind_of_panel_is_well_formed(self):
        for values in ((0.0,), (1.0, 1e6), (999.9,), (0.003, 2.0)):
            panels = [self.panel(False, *values), self.panel(True, *values)]
            xml.fromstring(plot.draw("t", panels))

    def test_longest_value_stays_within_its_axis(self):
        for logarithmic in (False, True):
            axis = plot.Axis(self.panel(logarithmic, 3.0, 7.0, 1234.0))
            self.assertLessEqual(axis.place(2468.0), plot.WIDTH - plot.RIGHT + 0.01)
            self.assertGreaterEqual(axis.place(1.5), plot.LEFT)

    def test_marks_are_round(self):
        axis = plot.Axis(plot.Panel("", [plot.Bar("", 175_810, 1, 175_810, True)], 0, False))
        self.assertEqual(axis.marks, [0, 50_000, 100_000, 150_000, 200_000])


class Report(unittest.TestCase):
    """The Markdown says what was and what was not measured."""

    def test_tables_have_the_ratio_and_the_spread(self):
        contenders = {name: {"label": name.title(), "version": "1", "ack": "A.", "client": "c",
                             "settings": {"file": "key=1\n"}} for name in ("tidelog", "nats")}
        text = report.markdown({
            "started": "now", "machine": machine.describe(Path("/")),
            "options": {"seconds": 1, "repeat": 3, "rate": 10_000}, "contenders": contenders,
            "runs": RUNS, "summary": summarize(RUNS, MEASURES, "tidelog"),
            "failures": [{"contender": "kafka", "figure": None, "repetition": None,
                          "problem": "mvn is\nnot installed"}],
        })
        self.assertIn("| Tidelog | 200 (100–300) ×1.00 | 2.0 (1.0–3.0) ×1.00 |", text)
        self.assertIn("| Nats | 50 ×0.25 |  |", text)
        self.assertIn("- kafka: mvn is not installed", text)


class Verification(unittest.TestCase):
    """What was acked must be read."""

    def check(self, acked, read, failed=0):
        def sums(records):
            return [{"partition": 0, "records": records, "crc_sum": "ab"}]

        check_verified({"written": sums(acked), "failed": failed}, {"read": sums(read)})

    def test_a_lost_record_is_a_failure(self):
        self.check(7, 7)
        with self.assertRaises(Failed):
            self.check(7, 6)
        with self.assertRaises(Failed):
            self.check(7, 6, failed=1)

    def test_records_whose_acks_failed_may_be_there(self):
        self.check(7, 8, failed=1)
        with self.assertRaises(Failed):
            self.check(7, 8)


class Flags(unittest.TestCase):
    """Names are taken in the order of turns."""

    def test_names_keep_the_order_of_turns(self):
        found = options.parse(["--only", "kafka,tidelog", "--figures", "latency,produce"])
        self.assertEqual(found.only, ["tidelog", "kafka"])
        self.assertEqual(found.figures, ["produce", "latency"])


class Processes(unittest.TestCase):
    """Processes are read and ended by their own ids."""

    def test_ports_differ(self):
        self.assertEqual(len(set(free_ports(20))), 20)

    def test_process_is_read_and_ended(self):
        log = Path(self.enterContext(TemporaryDirectory())) / "sleeper.log"
        process = Process(["sh", "-c", "echo one; exec sleep 60"], log, read_stdout=True)
        self.assertEqual(process.line(monotonic() + 10), "one")
        self.assertGreaterEqual(cpu_seconds(process.pid), 0)
        process.stop(10)
        self.assertFalse(process.running())


if __name__ == "__main__":
    unittest.main()
