"""A consumer of a queue: where its deliveries go, and how many it may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mypy_extensions import i64

from dispatchd.amqp.encoder import deliver_prefix
from dispatchd.model.flow import DELIVERY_OVERHEAD, ChannelWindow, Outlet

if TYPE_CHECKING:
    from dispatchd.model.entry import QueueEntry


class Consumer:
    """One basic.consume. `channel` and `queue` are the references of its actors; `prefetch` 0 means no limit."""

    def __init__(
        self,
        tag: str,
        channel: Any,
        queue: Any,
        *,
        no_ack: bool,
        exclusive: bool,
        prefetch: i64,
        window: ChannelWindow,
        outlet: Outlet,
        arguments: dict[str, Any],
    ) -> None:
        self.tag: str = tag
        self.channel: Any = channel
        self.queue: Any = queue
        self.no_ack: bool = no_ack
        self.exclusive: bool = exclusive
        self.prefetch: i64 = prefetch
        self.window: ChannelWindow = window
        self.outlet: Outlet = outlet
        self.arguments: dict[str, Any] = arguments
        priority = arguments.get("x-priority", 0)
        self.priority: i64 = priority if isinstance(priority, int) else 0
        self.unacked: i64 = 0
        self.delivered: i64 = 0
        self.deliver_prefix: bytes = deliver_prefix(tag)
        self.batch: list[QueueEntry] = []

    def has_room(self) -> bool:
        """Whether the next message may go to this consumer."""
        if not self.outlet.has_room(self.window.reserved):
            return False
        if self.no_ack:
            return self.window.has_room()
        return (self.prefetch == 0 or self.unacked < self.prefetch) and self.window.has_room()

    def take(self, entry: QueueEntry) -> None:
        """Count an entry as on its way to this consumer."""
        self.batch.append(entry)
        self.delivered += 1
        self.window.reserved += entry.message.size + DELIVERY_OVERHEAD
        if not self.no_ack:
            entry.consumer = self
            self.unacked += 1
            self.window.unacked += 1

    def give_back(self, entries: list[QueueEntry]) -> None:
        """Free the room of entries that did not reach the channel."""
        for entry in entries:
            self.window.reserved -= entry.message.size + DELIVERY_OVERHEAD
            if not self.no_ack:
                self.window.unacked -= 1
