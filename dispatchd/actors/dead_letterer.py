"""Where a queue's dead go: published to the dead letter exchange, and let go of when they are safe there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dispatchd.actors.messages import Accepted, Committed, Released, Route, Routed
from dispatchd.model.dead_letters import dead_letter
from dispatchd.model.router import Publishing

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.model.catalogue import Catalogue
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.queue_rules import QueueRules

Answer = Routed | Accepted | Released | Committed


class DeadLetterer:
    """Publishes for a queue as a channel does for its client, with confirms: a crash on the way loses no dead letter.

    One that is refused, by a full queue with `reject-publish` or an actor that failed, is gone, as in RabbitMQ.
    """

    def __init__(self, ref: Ref, name: str, rules: QueueRules, catalogue: Catalogue) -> None:
        self._ref = ref
        self._name = name
        self._rules = rules
        self._catalogue = catalogue
        self._on_their_way: dict[Publishing, list[QueueEntry]] = {}

    def publish(self, entries: list[QueueEntry], reason: str) -> list[QueueEntry]:
        """Send entries away; returns those that can be forgotten at once, because they have nowhere to go."""
        exchange = self._catalogue.exchanges.get(self._rules.dead_letter_exchange or "")
        if self._rules.dead_letter_exchange is None or exchange is None:
            return entries
        now, routing_key = int(time.time()), self._rules.dead_letter_routing_key
        messages = [
            dead_letter(entry.message, reason, self._name, exchange.name, routing_key, now) for entry in entries
        ]
        publishing = Publishing(self._ref, messages, 0, confirm=True)
        publishing.death = reason
        self._on_their_way[publishing] = entries
        exchange.destination.ref.tell(Route(publishing, messages))
        return []

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
