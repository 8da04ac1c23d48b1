"""What an actor publishes that it holds itself, and lets go of when it is safe where it went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatchd.actors.messages import Accepted, Committed, Released, Routed
from dispatchd.model.router import Publishing

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.message import Message
    from dispatchd.model.entry import QueueEntry

Answer = Routed | Accepted | Released | Committed


class Republisher:
    """Publishes for an actor as a channel does for its client, with confirms: a crash on the way loses nothing.

    What is refused, by a full queue with `reject-publish` or an actor that failed, is gone, as in RabbitMQ.
    """

    def __init__(self, ref: Ref) -> None:
        self._ref = ref
        self._on_their_way: dict[Publishing, list[QueueEntry]] = {}

    def publishing(self, messages: list[Message]) -> Publishing:
        """These messages, on the way to their first exchange."""
        return Publishing(self._ref, messages, 0, confirm=True)

    def follow(self, publishing: Publishing, entries: list[QueueEntry]) -> None:
        """Remember what was published, until everybody has answered."""
        self._on_their_way[publishing] = entries

    def heard(self, answer: Answer) -> list[QueueEntry]:
        """Take an answer on the way of a publishing; returns the entries that can be forgotten now."""
        publishings = answer.publishings if isinstance(answer, Committed) else [answer.publishing]
        arrived: list[QueueEntry] = []
        for publishing in publishings:
            if isinstance(answer, Accepted):
                publishing.awaiting -= 1
                publishing.uncommitted += answer.stored
            elif isinstance(answer, Committed):
                publishing.uncommitted -= 1
            if not (publishing.hops or publishing.awaiting or publishing.uncommitted):
                arrived.extend(self._on_their_way.pop(publishing, []))
        return arrived

    def recall(self) -> list[QueueEntry]:
        """The entries whose answers nobody will hear."""
        recalled = [entry for entries in self._on_their_way.values() for entry in entries]
        self._on_their_way.clear()
        return recalled
