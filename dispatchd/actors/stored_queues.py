"""What a store kept of the queues, handed to each as it is begun again; the messages themselves stay on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatchd.model.queue import priority_of
from dispatchd.model.residency import stored_entry
from dispatchd.model.store_index import QueueIndex

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.entry import QueueEntry
    from dispatchd.store.interface import Recovered, Store


class StoredQueues:
    """By queue id. What nobody has taken belongs to no queue any more: `left_over` names it."""

    def __init__(self, store: Store, recovered: Recovered) -> None:
        self._store = store
        self._queues = recovered.queues
        self._marks = recovered.marks

    def take(self, queue_id: int, highest_priority: int) -> list[QueueIndex]:
        """Where the entries of a queue are, for each priority from 0 on. Raises StoreError if they can't be read."""
        found = self._queues.pop(queue_id, QueueIndex())
        if not highest_priority or not len(found.positions):
            return [found]
        lines = [QueueIndex() for _ in range(highest_priority + 1)]
        for position, header, size, _ in self._store.heads(queue_id):
            line = lines[min(priority_of(header), highest_priority)]
            line.positions.append(position)
            line.bytes += size
        return lines

    def entries(self, queue_id: int) -> list[QueueEntry]:
        """All entries of whoever keeps them in memory and is no queue. Raises StoreError if they can't be read."""
        positions = self._queues.pop(queue_id, QueueIndex()).positions
        rows = self._store.read(queue_id, positions.head(len(positions)))
        return [stored_entry(None, *row) for row in rows]

    def latest(self, queue_id: int, count: int) -> list[Message]:
        """The last messages that a queue took which nobody has taken yet. Raises StoreError if they can't be read."""
        found = self._queues.get(queue_id)
        positions = found.positions.tail(count) if found is not None else []
        return [message for _, message, _ in self._store.read(queue_id, positions)]

    def delivered_up_to(self, queue_id: int) -> int:
        """The position up to which a queue delivered."""
        return self._marks.get(queue_id, 0)

    def left_over(self) -> list[int]:
        """Ids of queues that nobody has taken."""
        return list(self._queues)
