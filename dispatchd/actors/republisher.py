"""What an actor publishes that it holds itself, and lets go of when it is safe where it went."""

from __future__ import annotations

from collections.abc import Iterable
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
        self.on_their_way: dict[Publishing, list[QueueEntry]] = {}

    def publishing(self, messages: list[Message]) -> Publishing:
        """These messages, on the way to their first exchange; who sends them puts them among those `on_their_way`."""
        return Publishing(self._ref, messages, 0, confirm=True)

    def heard(self, answer: Answer) -> list[Publishing]:
        """Take an answer; returns the publishings that it is about, some of which may have `arrived` by it."""
        publishings = answer.publishings if isinstance(answer, Committed) else [answer.publishing]
        accepted, stored = (1, answer.stored) if isinstance(answer, Accepted) else (0, 0)
        committed = isinstance(answer, Committed)
        for publishing in publishings:
            publishing.awaiting -= accepted
            publishing.uncommitted += stored - committed
        return publishings

    def arrived(self, among: Iterable[Publishing] | None = None) -> list[Publishing]:
        """Those that everybody has answered; whoever lets go of their entries takes them off `on_their_way`.

        One commit may be the answer of several queues: a publishing may be `among` them as often.
        """
        return [
            publishing
            for publishing in dict.fromkeys(self.on_their_way if among is None else among)
            if publishing in self.on_their_way
            and not (publishing.hops or publishing.awaiting or publishing.uncommitted)
        ]

    def count(self) -> int:
        """How many entries are on their way."""
        return sum(map(len, self.on_their_way.values()))

    def recall(self) -> list[QueueEntry]:
        """The entries whose answers nobody will hear."""
        recalled = [entry for entries in self.on_their_way.values() for entry in entries]
        self.on_their_way.clear()
        return recalled
