"""Publish credit: how much one socket may have on its way to queues before it isn't read any further."""

from __future__ import annotations

from gevent.event import Event

PUBLISH_CREDIT = 1000
"""Credit units: one for each message, and one for each KiB of its body."""


class Credit:
    """An amount that is taken by the reader and given back by channels; it may go below zero by one read.

    While it is blocked it counts as used up, whatever is given.
    """

    __slots__ = ("_amount", "_available", "_is_blocked")

    def __init__(self, amount: int = PUBLISH_CREDIT) -> None:
        self._amount = amount
        self._is_blocked = False
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
        self._review()

    def block(self) -> None:
        """Let the reader wait, until it is unblocked."""
        self._is_blocked = True
        self._available.clear()

    def unblock(self) -> None:
        """Let it go on as far as there is credit."""
        self._is_blocked = False
        self._review()

    def _review(self) -> None:
        if self._amount > 0 and not self._is_blocked:
            self._available.set()

    @property
    def is_available(self) -> bool:
        """Whether the reader needs not wait."""
        return self._available.is_set()

    def give_all(self) -> None:
        """Let a waiting reader go on, to find its socket closed."""
        self._available.set()

    def wait(self) -> None:
        """Wait until there is some."""
        self._available.wait()
