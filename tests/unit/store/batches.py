"""What the store's tests write, and how they read it back."""

from collections.abc import Iterable

from unit.model.consuming import sealed

from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.entry import QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.stored_entries import StoredEntry
from dispatchd.store.interface import Recovered, Store


def persistent(body: bytes, queues: int = 1) -> Message:
    """A persistent message that went to so many queues."""
    message = make_message("events", "a.key", Properties(delivery_mode=2, headers={"n": 1}), body)
    message.queues = queues
    return message


def entries(bodies: Iterable[bytes], first: int = 1) -> list[QueueEntry]:
    """Entries of messages of their own, at positions from `first`."""
    return [QueueEntry(persistent(body), None, position) for position, body in enumerate(bodies, first)]


def adding(queue_id: int, added: list[QueueEntry]) -> Changes:
    """The batch that adds these entries and does nothing else."""
    journal = Journal()
    journal.add(queue_id, added)
    return sealed(journal)


def recovered_and_read(store: Store) -> tuple[Recovered, dict[int, list[StoredEntry]]]:
    """What a store says at start, and all that it has of each queue."""
    recovered = store.recover()
    queues = {
        queue_id: store.read(queue_id, found.positions.head(len(found.positions)))
        for queue_id, found in recovered.queues.items()
    }
    return recovered, queues


def contents_of(store: Store) -> dict[int, list[tuple[int, bytes]]]:
    """Queue id to (position, body)."""
    _, queues = recovered_and_read(store)
    return {
        queue_id: [(position, message.body) for position, message, _ in found] for queue_id, found in queues.items()
    }
