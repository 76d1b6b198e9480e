"""Draws bars with their spreads as SVG.

Colors are of middle lightness and the ground is transparent: they are read on white and on black.
"""

import math
from dataclasses import dataclass
from html import escape

WIDTH = 760
LEFT = 150
# Room for the value behind the longest bar.
RIGHT = 90
TITLE_HEIGHT = 40
PANEL_TITLE_HEIGHT = 30
AXIS_HEIGHT = 26
ROW_HEIGHT = 26
BAR_HEIGHT = 14
GAP = 12

TEXT = "#7d8590"
GRID = "#7d859055"
OURS = "#2f81f7"
THEIRS = "#9a8fb8"
SPREAD = "#d29922"


@dataclass(frozen=True)
class Bar:
    """One bar: a median, and the least and the most of its values."""

    label: str
    median: float
    least: float
    most: float
    highlighted: bool


@dataclass(frozen=True)
class Panel:
    """Bars over one axis."""

    title: str
    bars: list[Bar]
    digits: int
    logarithmic: bool


class Axis:
    """Maps values to places, and knows the round values to mark."""

    def __init__(self, panel):
        values = [value for bar in panel.bars for value in (bar.median, bar.least, bar.most)]
        self.logarithmic = panel.logarithmic and min(values) > 0
        if self.logarithmic:
            first = math.floor(math.log10(min(values)))
            # A bar that ended at the axis could not be seen.
            first -= math.log10(min(values)) - first < 0.1
            last = max(math.ceil(math.log10(max(values))), first + 1)
            self.low, self.high = first, last
            self.marks = [10.0**power for power in range(first, last + 1)]
        else:
            step = round_step(max(values) / 4)
            count = max(1, math.ceil(max(values) / step - 1e-9))
            self.low, self.high = 0.0, step * count
            self.marks = [step * number for number in range(count + 1)]

    def place(self, value):
        """Where a value is, in pixels from the left."""
        value = math.log10(value) if self.logarithmic else value
        share = (value - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def round_step(least):
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    # A hair below, since powers of ten are not exact.
    steps = [factor * power for factor in (1, 2, 2.5, 5, 10)]
    return next(step for step in steps if step >= least * 0.999999)


def draw(title, panels):
    """One SVG with its panels below each other."""
    top, parts = TITLE_HEIGHT, []
    for panel in panels:
        parts += draw_panel(panel, top)
        top += panel_height(panel) + GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" '
        f'height="{top}" font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}" '
        f'role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, text(0, 20, title, size=16, weight=600), *parts, "</svg>"]) + "\n"


def panel_height(panel):
    """The height of a panel with its title and axis."""
    return PANEL_TITLE_HEIGHT + ROW_HEIGHT * len(panel.bars) + AXIS_HEIGHT


def draw_panel(panel, top):
    """A title, the marks of the axis, and a row for each bar."""
    axis = Axis(panel)
    rows = top + PANEL_TITLE_HEIGHT
    bottom = rows + ROW_HEIGHT * len(panel.bars)
    scale = ", logarithmic scale" if axis.logarithmic else ""
    parts = [text(0, top + 16, panel.title + scale, weight=600)]
    for mark in axis.marks:
        x = axis.place(mark)
        parts.append(f'<line x1="{x:.1f}" y1="{rows}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>')
        parts.append(text(x, bottom + 16, short(mark), anchor="middle", size=11))
    for number, bar in enumerate(panel.bars):
        parts += draw_bar(bar, axis, rows + ROW_HEIGHT * number, panel.digits)
    return parts


def draw_bar(bar, axis, top, digits):
    """A label, the bar, a line from the least to the most value, and the median as text."""
    middle = top + ROW_HEIGHT / 2
    end, least, most = (axis.place(value) for value in (bar.median, bar.least, bar.most))
    color, weight = (OURS, 600) if bar.highlighted else (THEIRS, 400)
    parts = [
        text(LEFT - 8, middle + 4, bar.label, anchor="end", weight=weight),
        f'<rect x="{LEFT}" y="{middle - BAR_HEIGHT / 2}" width="{max(end - LEFT, 1):.1f}" '
        f'height="{BAR_HEIGHT}" fill="{color}"/>',
    ]
    if bar.most > bar.least:
        ends = (f"M{least:.1f} {middle - 4}V{middle + 4}M{least:.1f} {middle}H{most:.1f}"
                f"M{most:.1f} {middle - 4}V{middle + 4}")
        parts.append(f'<path d="{ends}" stroke="{SPREAD}" stroke-width="2" fill="none"/>')
    value = f"{bar.median:,.{digits}f}"
    parts.append(text(max(end, most) + 8, middle + 4, value, weight=weight))
    return parts


def text(x, y, words, anchor="start", size=None, weight=None):
    """A text element."""
    extra = f' font-size="{size}"' if size else ""
    extra += f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'


def short(value):
    """A round value, as short as it is exact."""
    for size, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"
