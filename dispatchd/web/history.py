"""How figures went lately: of the last minute, ten minutes and hour, a point for each sixtieth of that."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, Final

POINTS: Final = 60
SPANS: Final = {"minute": 60, "ten_minutes": 600, "hour": 3600}
"""Seconds that each chart shows."""


class Ring:
    """The points of one span. A point is the mean of what was seen in its time; it fills while that lasts."""

    __slots__ = ("_at", "_seen", "_step", "_values", "_width")

    def __init__(self, seconds: int, width: int) -> None:
        self._step = seconds / POINTS
        self._width = width
        self._at = array("d")
        self._values = array("f")
        self._seen = 0

    def add(self, at: float, values: Sequence[float]) -> None:
        """Take in what is so at the Unix time `at`; NaN is what is not known."""
        width, begin = self._width, at - at % self._step
        if self._at and self._at[-1] == begin:
            self._seen += 1
            last = len(self._values) - width
            for place, value in enumerate(values, start=last):
                before = self._values[place]
                mean = before + (value - before) / self._seen
                self._values[place] = value if math.isnan(before) else mean
            return
        self._at.append(begin)
        self._values.extend(values)
        self._seen = 1
        if len(self._at) > POINTS:
            del self._at[0]
            del self._values[:width]

    def rows(self) -> list[list[float | None]]:
        """A column of times, then one for each figure; None is what is not known."""
        columns: list[list[float | None]] = [list(self._at)]
        for figure in range(self._width):
            column = self._values[figure :: self._width]
            columns.append([None if math.isnan(each) else round(each, 2) for each in column])
        return columns


class History:
    """The figures of one thing: 6 KiB at most for six of them."""

    __slots__ = ("_rings", "names")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._rings = {span: Ring(seconds, len(names)) for span, seconds in SPANS.items()}

    def add(self, at: float, values: Sequence[float]) -> None:
        """Take in a value for each name."""
        for ring in self._rings.values():
            ring.add(at, values)

    def to_row(self) -> dict[str, Any]:
        """For JSON: `names`, and for each span the columns of its points."""
        return {"names": list(self.names), **{span: ring.rows() for span, ring in self._rings.items()}}
