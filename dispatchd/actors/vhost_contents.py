"""What is in a virtual host: its catalogue, the actors of what that names, and who is to hear of a change in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dispatchd.actors.delayed_exchange import DelayedExchangeActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.governor import Governor
from dispatchd.actors.messages import ActorMessage, Bind, Define, Retire, Unbind
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor, Ref, System, Told, tell_all
from dispatchd.actors.tracer import TracerActor
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.catalogue import Catalogue, Removed
from dispatchd.model.definitions import (
    ExchangeDefinition,
    QueueDefinition,
    VhostDefinition,
    exchange_from_record,
    queue_from_record,
)
from dispatchd.model.exchanges.delayed import DELAYED_MESSAGE
from dispatchd.model.stored_definitions import StoredVhost, binding_row, exchange_row, queue_row, vhost_row

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage
    from dispatchd.actors.stored_queues import StoredQueues
    from dispatchd.actors.tap import Tap


@dataclass(slots=True)
class Change:
    """What one message has changed in the catalogue, or in what an operator says of the vhost (`redefines`).

    Others have yet to be told, and `then` whoever asked for it; a queue may be named by its destination.
    """

    then: tuple[Any, ActorMessage] | None = None
    exchanges: list[ExchangeDefinition] = field(default_factory=list)
    queues: list[QueueDefinition] = field(default_factory=list)
    binding: Binding | None = None
    removed: Removed | None = None
    redefines: bool = False


class VhostContents(Actor):
    """The part of a vhost that has its exchanges and queues; the vhost itself sees to what is asked of it.

    What has changed is in hand (`_changes`) until everybody concerned has been told, also when something fails.
    """

    def __init__(
        self,
        system: System,
        definition: VhostDefinition,
        parent: Ref,
        storage: Storage,
        new_queue_id: Callable[[], int],
    ) -> None:
        super().__init__(system, definition.name, parent)
        self._definition = definition
        self.limits = definition.limits
        self._broker = parent
        self._storage = storage
        self._persistence = storage.persistence
        self._is_retiring = False
        self._changes: list[Change] = []
        self.catalogue = Catalogue(definition.name, os.urandom, new_queue_id)
        self._governor = Governor(self.ref, self.catalogue, self._persistence)

    def restore(self, stored: StoredVhost, contents: StoredQueues) -> None:
        """Take in what the store kept before the actor begins.

        Raises KeyError, ValueError, AmqpError or StoreError for records that don't fit together.
        """
        self._start_exchanges()
        self._governor.restore(stored)
        for record in stored.exchanges:
            exchange = exchange_from_record(record)
            self.catalogue.restore_exchange(exchange)
            if exchange.destination.ref is None and self.catalogue.exchanges[exchange.name] is exchange:
                self._start_exchange(exchange, contents)
        for record in stored.queues:
            queue = queue_from_record(record)
            self.catalogue.restore_queue(queue)
            self._start_queue(queue, contents)
        for record in stored.bindings:
            binding = self.catalogue.restore_binding(record)
            if binding is not None:
                self._exchange(binding.source).tell(Bind(binding))

    def begin(self) -> Ref:
        """Begin with the exchanges that every vhost has; if that fails it may be tried again."""
        self._start_exchanges()
        self._set_tracing()
        return super().begin()

    def _start_exchanges(self) -> None:
        for exchange in self.catalogue.exchanges.values():
            if exchange.destination.ref is None:
                self._start_exchange(exchange)

    def _start_exchange(self, exchange: ExchangeDefinition, contents: StoredQueues | None = None) -> None:
        self._governor.govern(exchange)
        actor: ExchangeActor
        if exchange.type == DELAYED_MESSAGE:
            actor = DelayedExchangeActor(self.system, exchange, self.catalogue, self.ref, self._persistence)
            if contents is not None:
                actor.restore(contents.entries(exchange.queue_id))
        else:
            actor = ExchangeActor(self.system, exchange, self.catalogue, self.ref)
        exchange.destination.ref = actor.begin()

    def _start_queue(self, queue: QueueDefinition, contents: StoredQueues | None = None) -> None:
        self._governor.govern(queue)
        actor = QueueActor(self.system, queue, self.catalogue, self.ref, self._storage)
        if contents is not None:
            actor.restore(contents)
        queue.destination.ref = actor.begin()

    def _exchange(self, name: str) -> Ref:
        ref: Ref = self.catalogue.exchanges[name].destination.ref
        return ref

    def _set_tracing(self) -> None:
        """Begin or end the tracer, as the definition says; channels see it at once, without being told."""
        tap: Tap | None = self.catalogue.tap
        if self._definition.tracing and tap is None:
            tracer = TracerActor(self.system, self.catalogue, self.ref)
            tracer.begin()
            self.catalogue.tap = tracer.tap
        elif tap is not None and not self._definition.tracing:
            told: Told = [(tap.tracer, Retire())]
            self.catalogue.tap = None
            tell_all(told)

    # What has changed

    def _go_on(self) -> None:
        """Start what is new, tell everybody concerned what has changed, and whoever asked when the store has it."""
        while self._changes:
            told = self._telling(self._changes[0])
            del self._changes[0]
            tell_all(told)

    def _telling(self, change: Change) -> Told:
        told: Told = []
        rows: list[tuple[bytes, bytes | None]] = []
        if change.redefines:
            self._set_tracing()
            rows.append(vhost_row(self._definition))
        for exchange in change.exchanges:
            if exchange.destination.ref is None:
                self._start_exchange(exchange)
            rows += [exchange_row(self.name, exchange)] if exchange.durable else []
        for queue in change.queues:
            if queue.destination.ref is None:
                self._start_queue(queue)
            rows += [queue_row(self.name, queue)] if queue.durable else []
        if change.binding is not None:
            told.append((self._exchange(change.binding.source), Bind(change.binding)))
            rows += [binding_row(self.name, change.binding)] if change.binding.durable else []
        if change.removed is not None:
            rows += self._remove(change.removed, told)
        then = change.then
        if then is not None and isinstance(then[0], Destination):
            then = then[0].ref, then[1]
        if rows:
            told.append((self._persistence, Define(rows, then=then)))
        elif then is not None:
            told.append(then)
        return told

    def _remove(self, removed: Removed, told: Told) -> list[tuple[bytes, None]]:
        """Add to `told` who is to know what went; returns what the store has to forget."""
        for binding in removed.bindings:
            if binding.source in self.catalogue.exchanges:
                told.append((self._exchange(binding.source), Unbind(binding)))
        gone: list[ExchangeDefinition | QueueDefinition] = [*removed.exchanges, *removed.queues]
        told += [(each.destination.ref, self._retire(each)) for each in gone]
        rows = [
            *(binding_row(self.name, binding) for binding in removed.bindings if binding.durable),
            *(exchange_row(self.name, exchange) for exchange in removed.exchanges if exchange.durable),
            *(queue_row(self.name, queue) for queue in removed.queues if queue.durable),
        ]
        return [(key, None) for key, _ in rows]

    def _retire(self, removed: ExchangeDefinition | QueueDefinition) -> Retire:
        is_stored = removed.durable and removed.queue_id
        return Retire((self._persistence, Define([], dropped_queues=[removed.queue_id])) if is_stored else None)

    def restarted(self) -> None:
        """Go on with what had changed before the failure, and with policies."""
        self._go_on()
        self._governor.restart()
