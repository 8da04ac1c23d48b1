"""Publish credit: how much one socket may have on its way to queues before it isn't read any further."""

from __future__ import annotations

PUBLISH_CREDIT = 1000
"""Credit units: one for each message, and one for each KiB of its body."""


class Credit:
    """An amount that is taken by what is read and given back by channels; it may go below zero by one read.

    While it is blocked it counts as used up, whatever is given.
    """

    __slots__ = ("_amount", "_is_blocked")

    def __init__(self, amount: int = PUBLISH_CREDIT) -> None:
        self._amount = amount
        self._is_blocked = False

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._amount <= 0

    @property
    def is_available(self) -> bool:
        """Whether the socket may be read."""
        return self._amount > 0 and not self._is_blocked

    def take(self, amount: int) -> None:
        """Use credit up."""
        self._amount -= amount

    def give(self, amount: int) -> None:
        """Put credit back."""
        self._amount += amount

    def block(self) -> None:
        """Have the socket not read, until it is unblocked."""
        self._is_blocked = True

    def unblock(self) -> None:
        """Have it read as far as there is credit."""
        self._is_blocked = False
