"""A delayed exchange: keeps messages for as long as they ask for, and routes them then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatchd.actors.alarm import Alarm
from dispatchd.actors.clock import now_ms
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import (
    Accepted,
    ActorMessage,
    Add,
    Committed,
    Delete,
    Released,
    Retire,
    Routed,
    Stage,
)
from dispatchd.actors.republisher import Republisher
from dispatchd.actors.runtime import Ref, System, Told, receives, tell_all
from dispatchd.model.delays import Delays, resume

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.catalogue import Catalogue
    from dispatchd.model.definitions import ExchangeDefinition
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.router import Publishing

DUE_IN_ONE_TURN = 500
"""How many messages it routes at once: many that are due together must not hold up the loop."""


@dataclass(frozen=True, slots=True)
class DelayOver(ActorMessage):
    """A delayed exchange's timer to itself: a message may be due."""


class DelayedExchangeActor(ExchangeActor):
    """An exchange of the type x-delayed-message (RabbitMQ's plugin).

    To who publishes it is a queue that takes what is delayed. What is due it publishes itself, and forgets it when all
    queues have it, so that a crash loses no persistent message of a durable exchange; it may double it.
    """

    def __init__(
        self, system: System, definition: ExchangeDefinition, catalogue: Catalogue, vhost: Ref, persistence: Ref
    ) -> None:
        super().__init__(system, definition, catalogue, vhost)
        self._persistence = persistence
        self._delays = Delays([])
        self._accepted_up_to = 0
        self._due: list[QueueEntry] = []
        self._republisher = Republisher(self.ref)
        self._alarm = Alarm(self.ref, DelayOver())

    def restore(self, entries: list[QueueEntry]) -> None:
        """Take in what the store kept, before the actor begins."""
        self._delays.put_back(entries)
        self._accepted_up_to = self._delays.last_position

    def on_start(self) -> None:
        """What became due while the broker was down is due now."""
        self._alarm.set(self._delays.next_due())

    def _routing(self, publishing: Publishing, messages: list[Message]) -> tuple[Told, int, int]:
        """Keep what is to wait, and route the rest. Until that is told a failure leaves nothing of it."""
        at_once, entries = self._delays.take_in(messages, now_ms())
        kept = self._keeping(publishing, entries) if entries else []
        told, queues, exchanges = super()._routing(publishing, at_once)
        self._accepted_up_to = self._delays.last_position
        return kept + told, queues + (1 if kept else 0), exchanges

    def _keeping(self, publishing: Publishing, entries: list[QueueEntry]) -> Told:
        self._alarm.set(self._delays.next_due())
        stored = [entry for entry in entries if entry.message.persistent] if self._definition.durable else []
        confirms_stored = bool(stored) and publishing.confirm
        told: Told = [(publishing.channel, Accepted(publishing, stored=confirms_stored))]
        queue_id = self._definition.queue_id
        if stored and publishing.transaction is not None:
            told.append((self._persistence, Stage(publishing.transaction, queue_id, added=stored)))
        elif stored:
            told.append((self._persistence, Add(queue_id, stored, publishing if confirms_stored else None)))
        return told

    @receives(DelayOver)
    def on_delay_over(self, _message: DelayOver) -> None:
        """Route what is due, by the bindings that there are now."""
        self._alarm.rang()
        self._due.extend(self._delays.take_due(now_ms(), DUE_IN_ONE_TURN))
        if self._due:
            self._publish(self._due)
        self._alarm.set(self._delays.next_due())

    def _publish(self, due: list[QueueEntry]) -> None:
        messages = [resume(entry.message) for entry in due]
        publishing = self._republisher.publishing(messages)
        told, queues, exchanges = super()._routing(publishing, messages)
        publishing.awaiting += queues
        publishing.hops += exchanges - 1
        self._republisher.on_their_way[publishing] = due
        self._due = []
        tell_all(told)

    @receives(Routed)
    @receives(Accepted)
    @receives(Released)
    @receives(Committed)
    def on_answer(self, message: Routed | Accepted | Released | Committed) -> None:
        """What was due is where it had to go, or on its way there."""
        heard_of = self._republisher.heard(message)
        self.answered()
        self._part_with(self._republisher.arrived(heard_of))

    def _part_with(self, arrived: list[Publishing]) -> None:
        on_their_way = self._republisher.on_their_way
        for publishing in arrived:
            told: Told = [(self._persistence, Delete(self._definition.queue_id, on_their_way[publishing]))]
            del on_their_way[publishing]
            tell_all(told if self._definition.durable else [])

    @receives(Retire)
    def on_retire(self, message: Retire) -> None:
        """The exchange has been deleted, and what waits goes with it."""
        self._alarm.cancel()
        if message.last_word is not None:
            receiver, last_word = message.last_word
            receiver.tell(last_word)
        self.end()

    def restarted(self) -> None:
        """A new order of all that waits, and what the catalogue says."""
        super().restarted()
        waiting = [entry for entry in self._delays.entries() if entry.position <= self._accepted_up_to]
        self._delays = Delays([*waiting, *self._due], self._delays.last_position)
        self._due = []
        self._accepted_up_to = self._delays.last_position
        self._part_with(self._republisher.arrived())
        self._alarm.cancel()
        self._alarm.set(self._delays.next_due())

    def quarantined(self, reason: str) -> None:
        """Answers are not heard any more: what is on its way is due again after a restart."""
        self._due += self._republisher.recall()
        self._delays.put_back(self._due)
        self._due = []

    def snapshot(self) -> dict[str, Any]:
        """The exchange's row in the admin."""
        return {**super().snapshot(), "messages_delayed": len(self._delays)}
