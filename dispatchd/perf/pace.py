"""A rate that is not to be exceeded."""

from __future__ import annotations

import time

import gevent

MOST_BEHIND = 1.0
"""Seconds: who was held back for longer, by the broker or by a lack of messages, does not catch up on the rest."""


class Pace:
    """`rate` messages a second, evenly; 0 = as many as there can be."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = 0.0  # when the next message may go

    def take(self, most: int) -> int:
        """Wait until messages may go, and say how many: at least one and at most `most`, which are taken then."""
        if not self._rate:
            return most
        now = time.monotonic()
        self._due = max(self._due, now - MOST_BEHIND) if self._due else now
        while self._due > now:
            gevent.sleep(self._due - now)
            now = time.monotonic()
        number = min(most, 1 + int((now - self._due) * self._rate))
        self._due += number / self._rate
        return number
