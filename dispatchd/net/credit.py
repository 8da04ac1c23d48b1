"""Publish credit: how much one socket may have on its way to queues before it isn't read any further."""

from __future__ import annotations

from gevent.event import Event

PUBLISH_CREDIT = 1000
"""Credit units: one for each message, and one for each KiB of its body."""


class Credit:
    """An amount that is taken by the reader and given back by channels; it may go below zero by one read."""

    __slots__ = ("_amount", "_available")

    def __init__(self, amount: int = PUBLISH_CREDIT) -> None:
        self._amount = amount
        self._available = Event()
        self._available.set()

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._amount <= 0

    def take(self, amount: int) -> None:
        """Use credit up."""
        self._amount -= amount
        if self._amount <= 0:
            self._available.clear()

    def give(self, amount: int) -> None:
        """Put credit back."""
        self._amount += amount
        if self._amount > 0:
            self._available.set()

    def give_all(self) -> None:
        """Let a waiting reader go on, to find its socket closed."""
        self._available.set()

    def wait(self) -> None:
        """Wait until there is some."""
        self._available.wait()
