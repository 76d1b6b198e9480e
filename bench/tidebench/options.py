"""The flags of `bench/run`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from .figures import FIGURES
from .peers import NAMES

REPOSITORY = Path(__file__).resolve().parents[2]

EPILOGUE = """\
exit codes: 0 everything was measured; 1 nothing was; 2 usage; 3 some peer or figure is missing or
has a warning, see the messages and "failures" in results.json; 130 interrupted, what was measured
until then is reported.
"""


@dataclass(frozen=True)
class Options:
    """What a run measures, and where."""

    only: list[str]
    figures: list[str]
    repeat: int
    repeat_partitions: int
    seconds: float
    rate: int
    rounds: int
    partitions: int
    settle: int
    idle: int
    tidelog: Path
    cache: Path
    out: Path
    data: Path | None

    def as_json(self):
        """The options for the results; paths are of no interest to who reads those."""
        paths = ("tidelog", "cache", "out", "data")
        return {key: value for key, value in vars(self).items() if key not in paths}


def parse(words):
    """Reads the flags; ends the process on wrong ones, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measure Tidelog and its peers on this machine, in turn, repeatedly.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    target = REPOSITORY / "target"
    add = parser.add_argument
    add("--only", type=chosen(NAMES), default=list(NAMES), metavar="NAMES",
        help=f"who is measured, of {','.join(NAMES)} (default: all)")
    add("--figures", type=chosen(FIGURES), default=list(FIGURES), metavar="NAMES",
        help=f"what is measured, of {','.join(FIGURES)} (default: all)")
    add("--repeat", type=positive(int), default=3,
        help="repetitions of everything but partitions (default: 3)")
    add("--repeat-partitions", type=positive(int), default=1,
        help="repetitions of the figure partitions, which take minutes each (default: 1)")
    add("--seconds", type=positive(float), default=15,
        help="counted seconds of each load (default: 15)")
    add("--rate", type=positive(int), default=1_000,
        help="records/s of the figure latency (default: 1000)")
    add("--rounds", type=positive(int), default=4,
        help="leaders killed in each repetition (default: 4)")
    add("--partitions", type=positive(int), default=1_000,
        help="partitions of the figure partitions (default: 1000)")
    add("--settle", type=positive(int), default=120,
        help="idle seconds before the CPU time of idle brokers is taken (default: 120)")
    add("--idle", type=positive(int), default=60,
        help="seconds that CPU time is taken over (default: 60)")
    add("--tidelog", type=Path, default=target / "release" / "tidelog",
        help="release build of tidelog (default: target/release/tidelog)")
    add("--cache", type=Path, default=target / "bench",
        help="where the peers are kept once fetched (default: target/bench)")
    add("--out", type=Path, default=target / "bench" / "results",
        help="where results go (default: target/bench/results)")
    add("--data", type=Path,
        help="where servers keep their data while they run (default: below --out); a real disk")
    found = parser.parse_args(words)
    for name in ("tidelog", "cache", "out", "data"):
        path = getattr(found, name)
        setattr(found, name, path.resolve() if path else None)
    return Options(**vars(found))


def chosen(names):
    """A list of names, separated by commas, in the order of `names`."""

    def parse_names(text):
        words = text.split(",")
        for word in words:
            if word not in names:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(names)}")
        return [name for name in names if name in words]

    return parse_names


def positive(kind):
    """A number above 0."""

    def parse_number(text):
        try:
            number = kind(text)
        except ValueError:
            number = 0
        if number <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
        return number

    return parse_number
