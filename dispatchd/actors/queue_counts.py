"""What a queue counts beside its order, for the admin: once for a batch, not for each message of it."""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final

from dispatchd.amqp.message import make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.entry import QueueEntry
from dispatchd.model.residency import resident

if TYPE_CHECKING:
    from dispatchd.actors.pager import Pager
    from dispatchd.model.queue import Queue

_MESSAGE: Final = make_message("", "", Properties(), b"")
EACH_IN_MEMORY: Final = sum(map(getsizeof, (QueueEntry(_MESSAGE, None, 0), _MESSAGE, _MESSAGE.header, _MESSAGE.body)))
"""Octets that a message takes, beside its body and its properties, of which nothing is known without a look."""


class QueueCounts:
    """How messages left, and what was stored. What a queue counts itself is not in here."""

    __slots__ = ("delivered_no_ack", "got", "got_no_ack", "got_nothing", "stored")

    def __init__(self) -> None:
        self.delivered_no_ack = 0
        self.got = 0
        self.got_no_ack = 0
        self.got_nothing = 0
        self.stored = 0

    def count_get(self, is_found: bool, *, no_ack: bool) -> None:
        """A basic.get was answered."""
        if not is_found:
            self.got_nothing += 1
        elif no_ack:
            self.got_no_ack += 1
        else:
            self.got += 1

    def figures(self, queue: Queue, pager: Pager, now: int) -> dict[str, int]:
        """All that is counted, and what the queue holds, at the time `now` (ms since 1970)."""
        ready, unacked, delivered = len(queue), int(queue.unacked), int(queue.delivered)
        in_memory, bytes_in_memory = resident(queue)
        waiting, out = queue.waiting, queue.out
        bytes_in_all, bytes_in_ram = waiting.octets + out.octets, bytes_in_memory + out.octets
        return {
            "messages": ready + unacked,
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
            "messages_ram": in_memory + unacked,
            "messages_ready_ram": in_memory,
            "messages_unacknowledged_ram": unacked,
            "messages_paged_out": ready - in_memory,
            "messages_persistent": waiting.persistent + out.persistent if queue.durable else 0,
            "message_bytes": bytes_in_all,
            "message_bytes_ready": waiting.octets,
            "message_bytes_unacknowledged": out.octets,
            "message_bytes_ram": bytes_in_ram,
            "message_bytes_paged_out": waiting.octets - bytes_in_memory,
            "message_bytes_persistent": waiting.persistent_octets + out.persistent_octets if queue.durable else 0,
            "memory": bytes_in_ram + (in_memory + unacked) * EACH_IN_MEMORY,
            "published": queue.published,
            "delivered": delivered,
            "delivered_ack": delivered - self.delivered_no_ack - self.got - self.got_no_ack,
            "delivered_no_ack": self.delivered_no_ack,
            "got": self.got,
            "got_no_ack": self.got_no_ack,
            "got_nothing": self.got_nothing,
            "redelivered": queue.redelivered,
            "acknowledged": queue.acknowledged,
            "disk_reads": pager.reads,
            "disk_writes": self.stored + pager.spills,
            "held_ms": queue.held_ms + (now - queue.held_since if queue.held_since else 0),
        }
