"""Where a queue's dead go: published to the dead letter exchange, and let go of when they are safe there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dispatchd.actors.messages import Route
from dispatchd.actors.republisher import Republisher
from dispatchd.actors.runtime import Told
from dispatchd.model.dead_letters import dead_letter

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.model.catalogue import Catalogue
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.queue_rules import QueueRules


class DeadLetterer(Republisher):
    """Publishes what a queue gives up to the exchange that the queue's rules name."""

    def __init__(self, ref: Ref, name: str, rules: QueueRules, catalogue: Catalogue) -> None:
        super().__init__(ref)
        self._name = name
        self.rules = rules
        self._catalogue = catalogue

    def publish(self, entries: list[QueueEntry], reason: str) -> Told:
        """What sends entries away; nothing if they can be forgotten at once, because they have nowhere to go."""
        exchange = self._catalogue.exchanges.get(self.rules.dead_letter_exchange or "")
        if self.rules.dead_letter_exchange is None or exchange is None:
            return []
        now, routing_key = int(time.time()), self.rules.dead_letter_routing_key
        messages = [
            dead_letter(entry.message, reason, self._name, exchange.name, routing_key, now) for entry in entries
        ]
        publishing = self.publishing(messages)
        publishing.death = reason
        told: Told = [(exchange.destination.ref, Route(publishing, messages))]
        self.on_their_way[publishing] = entries
        return told
