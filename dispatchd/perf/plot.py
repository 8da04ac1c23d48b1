"""A load as a picture: rates and latencies over time, as SVG that any browser shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from dispatchd.perf.report import shown_counts, shown_latencies

if TYPE_CHECKING:
    from dispatchd.perf.meter import Sample
    from dispatchd.perf.options import Load

WIDTH, PANEL, TOP, LEFT, RIGHT, GAP = 960, 230, 64, 84, 150, 76
COLOURS = ("#1f5fb4", "#d1651b", "#2b8a57", "#a03a86", "#8a6d1c", "#5b6470")
LATENCIES = ("median", "95th", "99th")
FEW_POINTS = 80
RARE = ("returned", "nacked")
"""Curves that are drawn only if there is something to be seen."""

Series = dict[str, list[float]]


def plot(load: Load, samples: Sequence[Sample]) -> str:
    """The picture: a point for each interval, at its end."""
    # The last interval may be so short that its rates mean nothing.
    samples = [each for each in samples if each.seconds >= load.interval / 4] or samples
    times = [each.time for each in samples]
    rates = {name: [each.rate(name) for each in samples] for name in shown_counts(load)}
    rates = {name: values for name, values in rates.items() if name not in RARE or any(values)}
    waits: Series = {}
    for each in samples:
        for what, values in shown_latencies(load, each).items():
            for name in LATENCIES:
                waits.setdefault(f"{what} {name}", []).append(float(values[name]))
    panels = [_panel(0, "messages a second", times, rates, _even_ticks(_largest(rates)), _rate)]
    if waits:
        panels.append(_panel(1, "latency", times, waits, _decades(waits), _duration, math.log10))
    height = TOP + len(panels) * (PANEL + GAP)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#30363d"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            _text(LEFT, 26, f"dispatchd perf {load.id}", 'font-size="16" font-weight="600"'),
            _text(LEFT, 44, _description(load), 'fill="#5b6470"'),
            *panels,
            "</svg>\n",
        ]
    )


def _description(load: Load) -> str:
    how = "autoack" if load.autoack else f"an ack for {load.ack_every}"
    parts = [f"{load.producers} producers, {load.consumers} consumers", f"{load.size} octets", *load.flag]
    if load.consumers:
        parts.append(f"{how}, prefetch {load.qos or 'without limit'}")
    if load.producers and load.confirm:
        parts.append(f"at most {load.confirm} unconfirmed")
    return "; ".join(parts)


def _panel(
    number: int,
    title: str,
    times: Sequence[float],
    series: Series,
    ticks: Sequence[float],
    name_tick: Callable[[float], str],
    scale: Callable[[float], float] = float,
) -> str:
    top = TOP + number * (PANEL + GAP) + 18
    bottom, right = top + PANEL, WIDTH - RIGHT
    low, high = scale(ticks[0]), scale(ticks[-1])
    longest = max(times, default=1.0)
    time_ticks = [tick for tick in _even_ticks(longest) if tick <= longest]

    def x(value: float) -> float:
        return LEFT + (right - LEFT) * value / longest

    def y(value: float) -> float:
        return bottom - PANEL * (scale(max(value, ticks[0])) - low) / (high - low)

    drawn = [_text(LEFT, top - 10, title, 'font-weight="600"')]
    for tick in ticks:
        drawn.append(_line(LEFT, y(tick), right, y(tick)))
        drawn.append(_text(LEFT - 8, y(tick) + 4, name_tick(tick), 'text-anchor="end"'))
    for tick in time_ticks:
        drawn.append(_line(x(tick), bottom, x(tick), bottom + 5))
        drawn.append(_text(x(tick), bottom + 20, f"{tick:g}", 'text-anchor="middle"'))
    drawn.append(_text((LEFT + right) / 2, bottom + 40, "seconds", 'text-anchor="middle" fill="#5b6470"'))
    for place, (name, values) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = [(x(time), y(value)) for time, value in zip(times, values, strict=True)]
        drawn.append(_curve(points, colour))
        drawn.append(_line(right + 14, top + 8 + 20 * place, right + 34, top + 8 + 20 * place, colour, 3))
        drawn.append(_text(right + 40, top + 12 + 20 * place, name))
    return "\n".join(drawn)


def _curve(points: Sequence[tuple[float, float]], colour: str) -> str:
    at = [f"{x:.1f},{y:.1f}" for x, y in points]
    curve = f'<polyline points="{" ".join(at)}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
    dots = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colour}"/>' for x, y in points)
    return "\n".join([curve, *dots]) if len(points) <= FEW_POINTS else curve


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#d9dee3", width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _largest(series: Series) -> float:
    return max((max(values, default=0) for values in series.values()), default=0)


def _even_ticks(largest: float) -> list[float]:
    """Round numbers from 0 to `largest` or a little more, some four to seven of them."""
    rough = (largest or 1) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil((largest or 1) / step) + 1)]


def _decades(series: Series) -> list[float]:
    """Powers of ten around all values, at least two; values below 1 are taken for it."""
    values: Iterable[float] = (max(1.0, value) for row in series.values() for value in row)
    logs = [math.log10(value) for value in values] or [0.0]
    first, last = math.floor(min(logs)), math.ceil(max(logs))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:g}"


def _duration(microseconds: float) -> str:
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:g} {unit}"
    return f"{microseconds:g} µs"
