"""A delayed exchange: keeps messages for as long as they ask for, and routes them then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatchd.actors.alarm import Alarm, now_ms
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
from dispatchd.actors.republisher import Answer, Republisher
from dispatchd.actors.runtime import Ref, System, receives
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
        self._delays = Delays(self.ref, [])
        self._republisher = Republisher(self.ref)
        self._alarm = Alarm(self.ref, DelayOver())

    def restore(self, entries: list[QueueEntry]) -> None:
        """Take in what the store kept, before the actor begins."""
        self._delays.put_back(entries)

    def on_start(self) -> None:
        """What became due while the broker was down is due now."""
        self._alarm.set(self._delays.next_due())

    def _route(self, publishing: Publishing, messages: list[Message]) -> None:
        """Keep what is to wait, and route the rest."""
        at_once, entries = self._delays.take_in(messages, now_ms())
        if entries:
            self._keep(publishing, entries)
        super()._route(publishing, at_once)

    def _keep(self, publishing: Publishing, entries: list[QueueEntry]) -> None:
        stored = [entry for entry in entries if entry.message.persistent] if self._definition.durable else []
        confirms_stored = bool(stored) and publishing.confirm
        publishing.awaiting += 1
        publishing.channel.tell(Accepted(publishing, stored=confirms_stored))
        queue_id = self._definition.queue_id
        if stored and publishing.transaction is not None:
            self._persistence.tell(Stage(publishing.transaction, queue_id, added=stored))
        elif stored:
            self._persistence.tell(Add(queue_id, stored, publishing if confirms_stored else None))
        self._alarm.set(self._delays.next_due())

    @receives(DelayOver)
    def on_delay_over(self, _message: DelayOver) -> None:
        """Route what is due, by the bindings that there are now."""
        self._alarm.rang()
        due = self._delays.take_due(now_ms(), DUE_IN_ONE_TURN)
        if due:
            try:
                self._publish(due)
            except BaseException:
                self._delays.put_back(due)
                raise
        self._alarm.set(self._delays.next_due())

    def _publish(self, due: list[QueueEntry]) -> None:
        messages = [resume(entry.message) for entry in due]
        publishing = self._republisher.publishing(messages)
        super()._route(publishing, messages)
        self._republisher.follow(publishing, due)

    @receives(Routed)
    @receives(Accepted)
    @receives(Released)
    @receives(Committed)
    def on_answer(self, message: Answer) -> None:
        """What was due is where it had to go, or on its way there."""
        arrived = self._republisher.heard(message)
        if arrived and self._definition.durable:
            self._persistence.tell(Delete(self._definition.queue_id, arrived))

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
        self._delays = Delays(self.ref, self._delays.entries(), self._delays.last_position)
        self._alarm.cancel()
        self._alarm.set(self._delays.next_due())

    def quarantined(self, reason: str) -> None:
        """Answers are not heard any more: what is on its way is due again after a restart."""
        self._delays.put_back(self._republisher.recall())

    def snapshot(self) -> dict[str, Any]:
        """The exchange's row in the admin."""
        return {**super().snapshot(), "messages_delayed": len(self._delays)}
