"""What the turns of each load and broker come to: medians, ratios, and tables of them in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loads import Figures, Load


@dataclass
class Cell:
    """The turns of one load on one broker. Once it failed it has no other turn."""

    turns: list[Figures] = field(default_factory=list)
    failure: str = ""

    def median(self, figure: str) -> float:
        """Of all turns; NaN if there is none, or if it failed."""
        values = [getattr(turn, figure) for turn in self.turns]
        return statistics.median(values) if values and not self.failure else math.nan


Row = dict[str, Cell]
Results = dict[Load, Row]
"""By load and the broker's name."""

TABLES = (
    ("Messages received a second", "received", ",.0f"),
    ("CPU of the broker, µs per message received", "cpu", ",.2f"),
    ("Latency, from publish to delivery, p50 in ms", "p50", ",.2f"),
    ("Latency, p99 in ms", "p99", ",.2f"),
    ("Memory at the end of the load, MB", "memory", ",.0f"),
)


def ratio(first: Cell, other: Cell, figure: str) -> float:
    """How many times the second's figure the first's is; NaN if either has none."""
    divisor = other.median(figure)
    return first.median(figure) / divisor if divisor else math.nan


def absolute_tables(results: Results, names: Sequence[str]) -> str:
    """One table for each figure, with a column for each broker."""

    def shown_as(figure: str, form: str) -> Callable[[Row, str], str]:
        return lambda row, name: _shown(row[name], figure, form)

    return "\n\n".join(
        f"### {title}\n\n{_table(results, names, shown_as(figure, form))}" for title, figure, form in TABLES
    )


def ratio_table(results: Results, names: Sequence[str]) -> str:
    """What the first broker is to each other: times the throughput, times the CPU per message."""

    def shown(row: Row, name: str) -> str:
        first, other = row[names[0]], row[name]
        if failure := first.failure or other.failure:
            return failure
        return ", ".join(_times(ratio(first, other, figure)) for figure in ("received", "cpu"))

    return _table(results, names[1:], shown)


def _table(results: Results, names: Sequence[str], shown: Callable[[Row, str], str]) -> str:
    lines = [f"| load | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for load, row in results.items():
        lines.append(f"| {load.name} (`{load.options}`) | {' | '.join(shown(row, name) for name in names)} |")
    return "\n".join(lines)


def _shown(cell: Cell, figure: str, form: str) -> str:
    value = cell.median(figure)
    return cell.failure or ("-" if math.isnan(value) else format(value, form))


def _times(value: float) -> str:
    """Two digits or more that count."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"
