"""Medians, spreads and ratios of repeated figures."""

from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The middle and the ends of several values of one figure."""

    median: float
    min: float
    max: float
    count: int

    def as_json(self):
        """As it is in the results."""
        return asdict(self)


def spread(values):
    """The spread of values; None without any."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def summarize(runs, measures, reference):
    """Spreads by figure, measure and contender, each with its ratio to the reference's median."""
    summary = {}
    for measure in measures:
        by_name = {}
        for name in dict.fromkeys(run["contender"] for run in runs):
            found = spread(values_of(runs, name, measure))
            if found:
                by_name[name] = found.as_json()
        base = by_name.get(reference, {}).get("median")
        for entry in by_name.values():
            entry["ratio"] = entry["median"] / base if base else None
        if by_name:
            summary.setdefault(measure.figure, {})[measure.key] = by_name
    return summary


def values_of(runs, name, measure):
    """All values of one measure of one contender; a run may hold a list of them."""
    values = []
    for run in runs:
        if run["contender"] == name and run["figure"] == measure.figure:
            value = run["values"].get(measure.key)
            values += value if isinstance(value, list) else [value]
    return values
