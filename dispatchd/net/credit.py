"""Publish credit: how much one socket may have on its way to queues before it isn't read any further."""

from __future__ import annotations

from typing import Final

PUBLISH_CREDIT: Final = 1000
"""Credit units: one for each message, and one for each KiB of its body."""
OCTETS_OF_SMALL: Final = 128
"""A message without properties and with a body of 80 octets; an ack has 21."""
LEAST_CREDIT: Final = 50
CREDIT_OF_ALL: Final = 2_000
"""What all sockets together may have on its way, as long as each has the least: others wait behind it. Beside 50
publishers at full speed with 1,000 each, a message of somebody else took 160 ms (median, busy machine), with 4,000 in
all 31 to 37, so 19 to 24; and consumers kept up better."""


class Publishers:
    """The sockets that have something on its way."""

    def __init__(self) -> None:
        self.active = 0

    @property
    def share(self) -> int:
        """What each of them may have on its way."""
        if self.active * PUBLISH_CREDIT <= CREDIT_OF_ALL:
            return PUBLISH_CREDIT
        return max(CREDIT_OF_ALL // self.active, LEAST_CREDIT)


ALL: Final = Publishers()
"""One loop serves them all."""


class Credit:
    """An amount that is taken by what is read and given back by channels; one read may take more than there is.

    While it is blocked it counts as used up, whatever is given.
    """

    __slots__ = ("_is_blocked", "_publishers", "_taken")

    def __init__(self, publishers: Publishers = ALL) -> None:
        self._publishers = publishers
        self._taken = 0
        self._is_blocked = False

    def fitting(self, octets: int) -> int:
        """How much of so many octets of small messages to read at a time, so that it is no more than the share."""
        return min(octets, self._publishers.share * OCTETS_OF_SMALL)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self._taken > 0 and self._taken >= self._publishers.share

    @property
    def is_available(self) -> bool:
        """Whether the socket may be read."""
        return not self._is_blocked and (self._taken <= 0 or self._taken < self._publishers.share)

    def take(self, amount: int) -> None:
        """Use credit up."""
        self._change(amount)

    def give(self, amount: int) -> None:
        """Put credit back."""
        self._change(-amount)

    def _change(self, amount: int) -> None:
        had, self._taken = self._taken, self._taken + amount
        if (had > 0) != (self._taken > 0):
            self._publishers.active += 1 if self._taken > 0 else -1

    def block(self) -> None:
        """Have the socket not read, until it is unblocked."""
        self._is_blocked = True

    def unblock(self) -> None:
        """Have it read as far as there is credit."""
        self._is_blocked = False

    def end(self) -> None:
        """The socket is closed."""
        self._change(-self._taken)
