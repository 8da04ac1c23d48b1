"""How large the messages are that clients publish: the histogram of RabbitMQ 4 (rabbit_msg_size_metrics)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message

BOUNDS: Final = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000)
"""Octets of a body, the last of each class; what is larger is in one more."""
_ENDLESS: Final = 1 << 62


class MessageSizes:
    """Counts messages of each class, and their octets. Most are of the class of the one before, and only counted."""

    def __init__(self) -> None:
        self.counts: list[i64] = [0] * (len(BOUNDS) + 1)
        self.octets: i64 = 0

    def note(self, messages: list[Message]) -> None:
        """Count messages that were published."""
        octets: i64 = 0
        run: i64 = 0
        place: i64 = 0
        least: i64 = 0
        most: i64 = -1
        for message in messages:
            size: i64 = message.size
            octets += size
            if size > most or size < least:
                if run:
                    self.counts[place] += run
                    run = 0
                place = 0
                least, most = 0, BOUNDS[0]
                while size > most:
                    place += 1
                    least = most + 1
                    most = BOUNDS[place] if place < len(BOUNDS) else _ENDLESS
            run += 1
        if run:
            self.counts[place] += run
        self.octets += octets
