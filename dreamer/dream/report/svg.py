"""Plots as SVG text, coloured by the page's style sheet so that they are right in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from dreamer.dream.report.estimate import MODEL, POSITIVE, Estimate, Quantity

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 12, 40
OFF_SCALE = 20  # times further than any other: such a contestant is outside of the plot
ROW, NAME_WIDTH, VALUE_WIDTH = 26, 130, 170


def plot(quantity: Quantity) -> str:
    """A curve where there is an axis, else a row for each contestant."""
    return _curves(quantity) if quantity.axis else _rows(quantity)


def style_of(name: str) -> str:
    """CSS class of a contestant."""
    if name == MODEL:
        return "model"
    return "truth" if name in POSITIVE else f"negative {name.split(maxsplit=1)[0].lower().replace(chr(39), '')}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}"


def _curves(quantity: Quantity) -> str:
    low, high = _range(quantity)
    xs = quantity.x
    places = [LEFT + (WIDTH - LEFT - RIGHT) * _share(x, xs) for x in xs]

    def height(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [_open(WIDTH, HEIGHT, quantity.title)]
    for tick in _ticks(low, high):
        y = height(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    last = -math.inf
    for place, x in zip(places, xs, strict=True):
        if place - last > 24:
            parts.append(f'<text class="tick" x="{place:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{x:g}</text>')
            last = place
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="tick" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(quantity.axis)}</text>'
    )
    outside = _outside(quantity)
    if outside:
        parts.append(f'<text class="tick" x="{LEFT + 8}" y="{TOP + 12}">outside: {escape(", ".join(outside))}</text>')
    for name, estimates in sorted(quantity.values.items(), key=_model_last):
        points = [(place, one) for place, one in zip(places, estimates, strict=True) if one is not None]
        if points and name not in outside:
            parts.append(_band_and_line(name, points, height))
    return "".join([*parts, "</svg>"])


def _band_and_line(name: str, points: list[tuple[float, Estimate]], height: object) -> str:
    assert callable(height)
    upper = [f"{x:.1f},{height(one.high):.1f}" for x, one in points]
    lower = [f"{x:.1f},{height(one.low):.1f}" for x, one in reversed(points)]
    line = " ".join(f"{x:.1f},{height(one.mean):.1f}" for x, one in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{height(one.mean):.1f}" r="2.5"/>' for x, one in points)
    return (
        f'<g class="{style_of(name)}"><title>{escape(name)}</title>'
        f'<polygon class="band" points="{" ".join(upper + lower)}"/><polyline points="{line}"/>{dots}</g>'
    )


def _rows(quantity: Quantity) -> str:
    low, high = _range(quantity)
    outside = _outside(quantity)
    tall = ROW * len(quantity.values) + 26
    right = WIDTH - VALUE_WIDTH

    def place(value: float) -> float:
        return NAME_WIDTH + (right - NAME_WIDTH) * (value - low) / (high - low)

    parts = [_open(WIDTH, tall, quantity.title)]
    for tick in _ticks(low, high):
        x = place(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{tall - 20}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{tall - 6}" text-anchor="middle">{number(tick)}</text>')
    for index, (name, estimates) in enumerate(quantity.values.items()):
        y, one = ROW * (index + 0.5) + 2, estimates[0]
        parts.append(f'<text class="name" x="{NAME_WIDTH - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        if one is not None and name not in outside:
            parts.append(
                f'<g class="{style_of(name)}"><line class="whisker" x1="{place(one.low):.1f}" '
                f'x2="{place(one.high):.1f}" y1="{y}" y2="{y}"/><circle cx="{place(one.mean):.1f}" cy="{y}" r="5"/></g>'
            )
        parts.append(f'<text class="tick" x="{right + 14}" y="{y + 4}">{escape(in_words(one))}</text>')
    return "".join([*parts, "</svg>"])


def in_words(estimate: Estimate | None) -> str:
    """`0.93 [0.91, 0.95]`."""
    if estimate is None:
        return "too few starts"
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def _open(width: float, height: float, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'


def _model_last(item: tuple[str, list[Estimate | None]]) -> bool:
    return item[0] == MODEL  # drawn above the others


def _share(x: float, xs: Sequence[float]) -> float:
    """Place on a square-root axis, on which both the first steps and the last can be read."""
    if len(xs) == 1:
        return 0.5
    low, high = math.sqrt(xs[0]), math.sqrt(xs[-1])
    return (math.sqrt(x) - low) / (high - low)


def _range(quantity: Quantity) -> tuple[float, float]:
    """What the axis of the values shows: 0 always, and all contestants that are not outside."""
    outside = _outside(quantity)
    shown = [estimates for name, estimates in quantity.values.items() if name not in outside]
    found = [one for estimates in shown for one in estimates if one is not None]
    low, high = min([0.0, *(one.low for one in found)]), max([0.0, *(one.high for one in found)])
    if high == low:
        high = low + 1.0
    margin = 0.04 * (high - low)
    above = 3 * margin if outside else margin  # room for the line that names them
    return low - (margin if low < 0 else 0.0), high + above


def _outside(quantity: Quantity) -> list[str]:
    """Contestants so far off that they would hide what differs between all others."""
    reach = {
        name: max(max(abs(one.low), abs(one.high)) for one in estimates if one is not None)
        for name, estimates in quantity.values.items()
        if any(one is not None for one in estimates)
    }
    far = sorted(reach, key=reach.__getitem__, reverse=True)
    outside = []
    for name, next_one in pairwise(far):
        if name in (MODEL, *POSITIVE) or not reach[name] > OFF_SCALE * reach[next_one] > 0:
            break
        outside.append(name)
    return outside


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [step * index for index in range(first, math.floor(high / step) + 1)]
