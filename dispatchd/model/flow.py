"""Room: how much a consumer's channel and socket will still take. Shared counters, changed by one thread of control.

Asking for room by message would cost a hop per delivery. So the queues that deliver to a channel and the channel
itself look at the same two counters; whoever finds no room leaves a mark, and is told when there is some again.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

OUTLET_BYTES: Final = 262_144
DELIVERY_OVERHEAD: Final = 128


class Outlet:
    """What may wait for one socket, in bytes: encoded but not yet sent, and on the way to one of its channels."""

    def __init__(self, limit: i64 = OUTLET_BYTES) -> None:
        self.limit: i64 = limit
        self.unsent: i64 = 0
        self.starved: bool = False

    def has_room(self, reserved: i64) -> bool:
        """Whether there may be more than the `reserved` bytes on the way; notes that somebody wanted to when not."""
        if reserved + self.unsent < self.limit:
            return True
        self.starved = True
        return False


class ChannelWindow:
    """basic.qos with global=true, and channel.flow: what one channel takes over all its consumers (0 = no limit).

    RabbitMQ's meaning of `global`: true is shared by the channel, false is each new consumer's own. `reserved` is what
    is on its way to the channel, in bytes: each channel has its own, so that a paused one leaves room to the others.
    `last_served` is the consumer that got the channel's last entry, while a queue dispatches.
    """

    def __init__(self) -> None:
        self.limit: i64 = 0
        self.unacked: i64 = 0
        self.reserved: i64 = 0
        self.active: bool = True
        self.starved: bool = False
        self.last_served: object = None

    def has_room(self) -> bool:
        """Whether the channel takes another unacknowledged delivery; notes that somebody wanted to when not."""
        if self.active and (self.limit == 0 or self.unacked < self.limit):
            return True
        self.starved = True
        return False
