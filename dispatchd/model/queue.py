"""The order of one queue: what is ready, what came back, who takes it.

Entries leave from the head only, so whatever was delivered once stands before everything that never was. Requeued
entries therefore wait in a small sorted list of their own in front of `ready`: each is back at its original place.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from dispatchd.model.entry import QueueEntry

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer

DISPATCH_LIMIT: Final = 1000


def _by_position_from_last(entry: QueueEntry) -> int:
    return -entry.position


class Queue:
    """Ready entries and consumers. `ref` is the actor that owns it; it is what ledgers send settlements to.

    `delivered_up_to` is the last position that was ever delivered; `drained` counts what left, in publish credit.
    """

    def __init__(self, ref: Any, durable: bool, last_position: i64 = 0) -> None:
        self.ref: Any = ref
        self.durable: bool = durable
        self.ready: deque[QueueEntry] = deque()
        self.returned: list[QueueEntry] = []
        self.consumers: list[Consumer] = []
        self.unacked: i64 = 0
        self.ready_bytes: i64 = 0
        self.last_position: i64 = last_position
        self.delivered_up_to: i64 = 0
        self.published: i64 = 0
        self.delivered: i64 = 0
        self.redelivered: i64 = 0
        self.acknowledged: i64 = 0
        self.drained: i64 = 0
        self.unfinished: bool = False
        self._turn: i64 = 0

    def __len__(self) -> int:
        return len(self.ready) + len(self.returned)

    def enqueue(self, messages: list[Message]) -> list[QueueEntry]:
        """Take messages in at the tail; returns the entries that have to be stored."""
        ready = self.ready
        ref = self.ref
        position = self.last_position
        size: i64 = 0
        durable = self.durable
        stored: list[QueueEntry] = []
        for message in messages:
            position += 1
            entry = QueueEntry(message, ref, position)
            ready.append(entry)
            size += message.size
            if durable and message.persistent:
                stored.append(entry)
        self.last_position = position
        self.ready_bytes += size
        self.published += len(messages)
        return stored

    def restore(self, entries: list[QueueEntry]) -> None:
        """Take in entries that have their place already, in order: a recovered queue, or one whose actor failed."""
        for entry in entries:
            self.ready.append(entry)
            self.ready_bytes += entry.message.size
            self.last_position = max(self.last_position, entry.position)

    def adopt(self, old: Queue) -> None:
        """Go on with the consumers and the figures of a queue whose entries were restored.

        Entries of it that are out still come back, among those that came back before.
        """
        while self.ready and self.ready[0].position <= old.delivered_up_to:
            self.returned.append(self.ready.popleft())
        self.returned.reverse()
        self.consumers = old.consumers
        self.unacked = old.unacked
        self.delivered_up_to = old.delivered_up_to
        self.published = old.published
        self.delivered = old.delivered
        self.redelivered = old.redelivered
        self.acknowledged = old.acknowledged
        self.drained = old.drained

    def take(self) -> QueueEntry | None:
        """Remove the head for a delivery; None when nothing is ready."""
        if self.returned:
            entry = self.returned.pop()
        elif self.ready:
            entry = self.ready.popleft()
            if entry.position > self.delivered_up_to:  # not so for what was restored
                self.delivered_up_to = entry.position
        else:
            return None
        entry.is_out = True
        self.ready_bytes -= entry.message.size
        self.delivered += 1
        self.drained += 1 + (entry.message.size >> 10)
        if entry.redelivered:
            self.redelivered += 1
        return entry

    def dispatch(self) -> list[tuple[Consumer, list[QueueEntry]]]:
        """Hand ready entries to consumers with room, one each in turn; at most DISPATCH_LIMIT in one call.

        `unfinished` says afterwards whether that limit, and nothing else, ended it.
        """
        self.unfinished = False
        consumers = self.consumers
        total: i64 = len(consumers)
        if total == 0 or not (self.ready or self.returned):
            return []
        served: list[Consumer] = []
        without_room: i64 = 0
        given: i64 = 0
        turn = self._turn
        while without_room < total and given < DISPATCH_LIMIT:
            if turn >= total:
                turn = 0
            consumer = consumers[turn]
            turn += 1
            if not consumer.has_room():
                without_room += 1
                continue
            entry = self.take()
            if entry is None:
                turn -= 1  # the next message is for this consumer
                break
            without_room = 0
            given += 1
            if not consumer.batch:
                served.append(consumer)
            consumer.take(entry)
            if consumer.no_ack:
                entry.is_out = False
            else:
                self.unacked += 1
        self._turn = turn
        self.unfinished = given == DISPATCH_LIMIT
        deliveries: list[tuple[Consumer, list[QueueEntry]]] = []
        for consumer in served:
            deliveries.append((consumer, consumer.batch))
            consumer.batch = []
        return deliveries

    def settle(self, entries: list[QueueEntry]) -> None:
        """Let go of acknowledged or discarded entries; those that aren't out are passed over."""
        for entry in entries:
            if self._end_delivery(entry):
                self.acknowledged += 1

    def requeue(self, entries: list[QueueEntry]) -> None:
        """Put entries back where they were, marked as redelivered; those that aren't out are passed over."""
        for entry in entries:
            if self._end_delivery(entry):
                entry.redelivered = True
                self.ready_bytes += entry.message.size
                self.returned.append(entry)
        self.returned.sort(key=_by_position_from_last)

    def _end_delivery(self, entry: QueueEntry) -> bool:
        if not entry.is_out:
            return False
        entry.is_out = False
        self.unacked -= 1
        consumer = entry.consumer
        if consumer is not None:
            consumer.unacked -= 1
            entry.consumer = None
        return True

    def purge(self) -> list[QueueEntry]:
        """Remove everything that is ready; what is unacknowledged stays out."""
        purged = self.entries()
        self.returned.clear()
        self.ready.clear()
        self.ready_bytes = 0
        return purged

    def entries(self) -> list[QueueEntry]:
        """What is ready, from the head."""
        return [*reversed(self.returned), *self.ready]

    def shared_entries(self) -> list[QueueEntry]:
        """Ready entries whose message is stored on its own, because other queues have it too."""
        return [entry for entry in self.entries() if entry.message.message_id]

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer take part; it is served after those that were there before."""
        self.consumers.append(consumer)

    def remove_consumer(self, consumer: Consumer) -> bool:
        """Take a consumer out; what it holds stays with its channel. False when it isn't here."""
        if consumer not in self.consumers:
            return False
        self.consumers.remove(consumer)
        return True

    def has_exclusive_consumer(self) -> bool:
        """Whether a consumer has this queue to itself."""
        return any(consumer.exclusive for consumer in self.consumers)
