"""The comparison as a picture: for each load bars of throughput and of CPU per message, as SVG in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from loads import Load
from results import Results, Row

WIDTH, MARGIN, NAMES, BARS, VALUES = 960, 24, 150, 250, 90
BAR, STEP, HEAD, TOP = 13, 18, 34, 104
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #30363d }
.title { font-size: 18px; font-weight: 600 }
.load { font-weight: 600 }
.faint { fill: #68727d }
.paper { fill: #ffffff }
.first { fill: #1f5fb4 }
.other { fill: #a9b4c0 }
@media (prefers-color-scheme: dark) {
  text { fill: #d7dde4 }
  .faint { fill: #919ca8 }
  .paper { fill: #14181d }
  .first { fill: #5b9ef0 }
  .other { fill: #56616d }
}
"""


def chart(results: Results, names: Sequence[str]) -> str:
    """The picture. The first broker's bars stand out; each load has a scale of its own."""
    block = HEAD + STEP * len(names) + 12
    height = TOP + block * len(results) + MARGIN
    panels = [_block(TOP + block * place, load, row, names) for place, (load, row) in enumerate(results.items())]
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>',
            _text(MARGIN, 38, f"{names[0]} and other AMQP 0-9-1 brokers", "title"),
            _text(MARGIN, 60, "medians of turns on the same machine; each load has its own scale", "faint"),
            *panels,
            "</svg>\n",
        ]
    )


def _block(top: int, load: Load, row: Row, names: Sequence[str]) -> str:
    left, right = MARGIN + NAMES, WIDTH - MARGIN - BARS - VALUES
    first = ("p99", "latency p99, ms: less is better") if load.is_paced else ("received", "received/s: more is better")
    drawn = [
        _text(MARGIN, top, load.name, "load"),
        _text(left, top + 18, first[1], "faint"),
        _text(right, top + 18, "CPU µs per message: less is better", "faint"),
    ]
    for place, name in enumerate(names):
        drawn.append(_text(MARGIN, top + HEAD + STEP * place + 4, name))
    for x, figure in ((left, first[0]), (right, "cpu")):
        values = {name: row[name].median(figure) for name in names}
        most = max((value for value in values.values() if not math.isnan(value)), default=0)
        for place, (name, value) in enumerate(values.items()):
            y = top + HEAD + STEP * place
            if math.isnan(value):
                drawn.append(_text(x, y + 4, row[name].failure or "-", "faint"))
                continue
            width = max(1.0, BARS * value / most) if most else 1.0
            kind = "first" if place == 0 else "other"
            drawn.append(f'<rect class="{kind}" x="{x}" y="{y - 7}" width="{width:.1f}" height="{BAR}" rx="2"/>')
            drawn.append(_text(x + width + 6, y + 4, f"{value:,.0f}" if value >= 100 else f"{value:.2f}"))
    return "\n".join(drawn)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={kind!r}" if kind else ""}>{escape(text)}</text>'
