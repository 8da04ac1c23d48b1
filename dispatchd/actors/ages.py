"""How old things are that have numbers which only grow: without a time noted for each of them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

RESOLUTION: Final = 0.1
"""Seconds between two marks."""
MOST_MARKS: Final = 64
_NO_TIMES: Final = array("d")
_NO_NUMBERS: Final = array("q")
"""Of those who have no marks yet, and perhaps never will: there may be 100,000."""


class Ages:
    """Marks, each with a time and the highest number that there was by the next. Times are in seconds, monotonic.

    A mark costs as much as many numbers: when there are too many, every second one of the older half goes, and what is
    old is known less exactly, by some percent of its age.
    """

    __slots__ = ("_next", "_numbers", "_times")

    def __init__(self) -> None:
        self._times = _NO_TIMES
        self._numbers = _NO_NUMBERS
        self._next = 0.0

    def note(self, number: int, now: float) -> None:
        """All numbers up to this one are there now."""
        if now < self._next:
            self._numbers[-1] = number
            return
        if self._numbers and self._numbers[-1] >= number:
            return
        if not self._numbers:
            self._times, self._numbers = array("d"), array("q")
        self._next = now + RESOLUTION
        self._times.append(now)
        self._numbers.append(number)
        if len(self._times) > MOST_MARKS:
            self._thin_out()

    def _thin_out(self) -> None:
        half = MOST_MARKS // 2
        # The first time of two, the last number of two: what is known stays true, if for more numbers at once.
        self._times[:half] = self._times[:half:2]
        self._numbers[:half] = self._numbers[1 : half + 1 : 2]

    def age(self, number: int, now: float) -> float | None:
        """Seconds since this number came, RESOLUTION too many at most while it is young; None if nothing is known."""
        place = bisect_left(self._numbers, number)
        return now - self._times[place] if place < len(self._times) else None
