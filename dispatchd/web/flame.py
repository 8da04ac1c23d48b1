"""A flame graph as one SVG, without a script: the wider a box, the more time; what a box stands on called it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Final
from zlib import crc32

WIDTH: Final = 1200
ROW: Final = 18
MARGIN: Final = 10
CHARACTER: Final = 6.4
"""Width of one, about."""
NARROWEST: Final = 0.4
ACTOR_LEVELS: Final = 3
"""What is above the functions: kind, name and message. These boxes are blue."""


@dataclass
class _Box:
    label: str
    value: int = 0
    inner: dict[str, _Box] = field(default_factory=dict)


def flame_graph(stacks: Mapping[tuple[str, ...], int], title: str) -> str:
    """Draw how often stacks were seen (the outermost function first in each). Labels may have any characters."""
    root = _Box("all")
    for stack, count in stacks.items():
        box = root
        box.value += count
        for label in stack:
            box = box.inner.setdefault(label, _Box(label))
            box.value += count
    boxes = list(_placed(root, MARGIN, WIDTH - 2 * MARGIN, 0))
    height = (max(level for *_, level in boxes) + 3) * ROW + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        '<g font-family="monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fffdf6"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 12}" font-size="14">{_text(title)}</text>',
        *(_drawn(box, left, width, level, root.value) for box, left, width, level in boxes),
        "</g></svg>\n",
    ]
    return "\n".join(lines)


def _placed(box: _Box, left: float, width: float, level: int) -> Iterator[tuple[_Box, float, float, int]]:
    yield box, left, width, level
    for inner in sorted(box.inner.values(), key=lambda each: each.label):
        inner_width = width * inner.value / box.value
        if inner_width >= NARROWEST:
            yield from _placed(inner, left, inner_width, level + 1)
        left += inner_width


def _drawn(box: _Box, left: float, width: float, level: int, total: int) -> str:
    top = MARGIN + (level + 1) * ROW + 4
    share = f"{100 * box.value / total:.1f} %" if total else "nothing"
    fits = int((width - 4) / CHARACTER)
    label = box.label if len(box.label) <= fits else box.label[: fits - 1] + "…" if fits > 2 else ""
    return (
        f"<g><title>{_text(box.label)}: {box.value} samples, {share}</title>"
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 1}" rx="2" fill="{_colour(box, level)}"/>'
        f'<text x="{left + 3:.1f}" y="{top + 13}">{_text(label)}</text></g>'
    )


def _colour(box: _Box, level: int) -> str:
    """The same for the same label in each picture."""
    shade = crc32(box.label.encode(errors="replace"))
    if level <= ACTOR_LEVELS:
        return f"hsl({200 + shade % 40} 70% {74 + shade // 64 % 12}%)"
    return f"hsl({15 + shade % 40} 85% {66 + shade // 64 % 14}%)"


def _text(label: str) -> str:
    """As text in XML, which can't have all characters."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in label))
