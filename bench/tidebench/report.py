"""Writes what a run has found: JSON, a Markdown fragment and plots."""

import json
import shutil

from .figures import FIGURES, TITLES, measures_of
from .plot import Bar, Panel, draw


def write(results, out):
    """Writes `results.json`, `results.md` and one SVG for each figure that was taken."""
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "results.md").write_text(markdown(results))
    for figure in FIGURES:
        if figure in results["summary"]:
            (out / f"{figure}.svg").write_text(plot(results, figure))


def clear(out):
    """Takes away what an earlier run has left."""
    for name in ("results.json", "results.md", *(f"{figure}.svg" for figure in FIGURES)):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "logs", ignore_errors=True)


def markdown(results):
    """Tables for `docs/benchmarks.md`."""
    parts = [preamble(results)]
    for figure in FIGURES:
        if figure in results["summary"]:
            parts.append(section(results, figure))
    parts.append(acks(results))
    parts.append(settings(results))
    if results["failures"]:
        parts.append(failures(results["failures"]))
    return "\n\n".join(parts) + "\n"


def preamble(results):
    """On what, when and how often."""
    machine, options = results["machine"], results["options"]
    loads = [run["load_before"] for run in results["runs"]]
    return (
        f"Measured by `bench/run` at {results['started']}: {machine['cores']} cores "
        f"({machine['cpu']}), {machine['memory_gib']} GiB, one {machine['filesystem']} disk, Linux "
        f"{machine['kernel']}, three servers *and* the load on it, 2 clients, values of 1,024 "
        "random bytes, 8 partitions of 3 replicas, "
        f"{options['seconds']:g} s for each load, in turn, {options['repeat']} times; load average "
        f"before each {min(loads):g} to {max(loads):g}. Median (least–most), and how many times "
        "Tidelog's."
    )


def section(results, figure):
    """The table of one figure."""
    summary = results["summary"][figure]
    measures = [measure for measure in measures_of(figure) if measure.key in summary]
    titles = [f"{measure.title}, {measure.unit}" for measure in measures]
    title = TITLES[figure]
    if figure == "latency":
        title += f" ({results['options']['rate']:,} records/s)"
    lines = [f"### {title}", "", f"![{title}]({figure}.svg)", "",
             "| | " + " | ".join(titles) + " |",
             "|---|" + "---:|" * len(measures)]
    for name, contender in results["contenders"].items():
        cells = [cell(summary[measure.key].get(name), measure.digits) for measure in measures]
        if any(cells):
            lines.append(f"| {contender['label']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(entry, digits):
    """A median with its spread and its ratio."""
    if entry is None:
        return ""
    text = f"{entry['median']:,.{digits}f}"
    if entry["count"] > 1:
        text += f" ({entry['min']:,.{digits}f}–{entry['max']:,.{digits}f})"
    if entry["ratio"] is not None:
        text += f" ×{entry['ratio']:.2f}"
    return text


def acks(results):
    """What each contender promises by an ack."""
    lines = ["### What an ack means", "", "| | version | a record that was acked is | client |",
             "|---|---|---|---|"]
    for contender in results["contenders"].values():
        lines.append(f"| {contender['label']} | {contender['version']} | {contender['ack']} "
                     f"| {contender['client']} |")
    return "\n".join(lines)


def settings(results):
    """The configuration of one server of each contender."""
    parts = ["### Settings"]
    for contender in results["contenders"].values():
        for name, text in contender["settings"].items():
            parts.append(f"{contender['label']}, `{name}`:\n\n```\n{text.rstrip()}\n```")
    return "\n\n".join(parts)


def failures(found):
    """What is missing, and why."""
    lines = ["### Not measured, or with a warning", ""]
    for failure in found:
        where = " ".join(str(part) for part in
                         (failure["contender"], failure["figure"], failure["repetition"]) if part)
        problem = " ".join(failure["problem"].split())
        lines.append(f"- {where}: {problem}")
    return "\n".join(lines)


def plot(results, figure):
    """The bars of one figure, a panel for each measure."""
    summary = results["summary"][figure]
    panels = []
    for measure in measures_of(figure):
        if measure.key not in summary:
            continue
        bars = [bar(results, name, entry) for name, entry in summary[measure.key].items()]
        panels.append(Panel(measure.heading(), bars, measure.digits, measure.logarithmic))
    return draw(TITLES[figure], panels)


def bar(results, name, entry):
    """One contender's bar."""
    label = results["contenders"][name]["label"]
    return Bar(label, entry["median"], entry["min"], entry["max"], name == "tidelog")
