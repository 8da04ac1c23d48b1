"""A virtual host: the one who changes its catalogue, and the parent of its exchanges and queues."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.delayed_exchange import DelayedExchangeActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.governor import Governor, ReviewPolicies
from dispatchd.actors.messages import (
    ActorMessage,
    Bind,
    Define,
    DeleteQueue,
    Denied,
    Done,
    OwnerReleased,
    ReleaseOwner,
    Request,
    Retire,
    Subscribe,
    Unbind,
)
from dispatchd.actors.orders import (
    ClearPolicy,
    DefineVhost,
    Fulfilled,
    Order,
    SetPolicy,
    ShowPolicies,
    VhostGone,
)
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.actors.tracer import TracerActor
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AmqpError, Unavailable
from dispatchd.model.binding import EXCHANGE, QUEUE, Binding
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

REMOVED_IN_ONE_TURN = 50
"""Queues, or exchanges, of a vhost that is deleted: a vhost of many must not hold up the loop."""


class VhostActor(Actor):
    """Carries out what declares, binds and deletes, and hands on what concerns one queue."""

    kind = "vhost"

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
        self._broker = parent
        self._storage = storage
        self._persistence = storage.persistence
        self._is_retiring = False
        self.catalogue = Catalogue(definition.name, os.urandom, new_queue_id)
        self._governor = Governor(self.ref, self.catalogue, self._persistence)
        for exchange in self.catalogue.exchanges.values():
            self._start_exchange(exchange)
        self._set_tracing()

    def restore(self, stored: StoredVhost, contents: StoredQueues) -> None:
        """Take in what the store kept before the actor begins.

        Raises KeyError, ValueError, AmqpError or StoreError for records that don't fit together.
        """
        self._governor.restore(stored)
        for record in stored.exchanges:
            exchange = exchange_from_record(record)
            self.catalogue.restore_exchange(exchange)
            if exchange.destination.ref is None and self.catalogue.exchanges[exchange.name] is exchange:
                self._start_exchange(exchange, contents)
        for record in stored.queues:
            queue = queue_from_record(record)
            self.catalogue.restore_queue(queue)
            actor = self._make_queue(queue)
            actor.restore(contents)
            actor.begin()
        for record in stored.bindings:
            binding = self.catalogue.restore_binding(record)
            if binding is not None:
                self._exchange(binding.source).tell(Bind(binding))

    def _start_exchange(self, exchange: ExchangeDefinition, contents: StoredQueues | None = None) -> None:
        self._governor.govern(exchange)
        actor: ExchangeActor
        if exchange.type == DELAYED_MESSAGE:
            actor = DelayedExchangeActor(self.system, exchange, self.catalogue, self.ref, self._persistence)
            if contents is not None:
                actor.restore(contents.entries(exchange.queue_id, actor.ref))
        else:
            actor = ExchangeActor(self.system, exchange, self.catalogue, self.ref)
        exchange.destination.ref = actor.begin()

    def _make_queue(self, queue: QueueDefinition) -> QueueActor:
        self._governor.govern(queue)
        actor = QueueActor(self.system, queue, self.catalogue, self.ref, self._storage)
        queue.destination.ref = actor.ref
        return actor

    def _exchange(self, name: str) -> Ref:
        ref: Ref = self.catalogue.exchanges[name].destination.ref
        return ref

    # Orders

    @receives(DefineVhost)
    def on_define(self, order: DefineVhost) -> None:
        """Change what an operator says of this vhost."""
        order.apply_to(self._definition)
        self._set_tracing()
        self._store([vhost_row(self._definition)], (self.ref, Fulfilled(order, answer=False)))

    def _set_tracing(self) -> None:
        """Begin or end the tracer, as the definition says; channels see it at once, without being told."""
        tap: Tap | None = self.catalogue.tap
        if self._definition.tracing and tap is None:
            tracer = TracerActor(self.system, self.catalogue, self.ref)
            tracer.begin()
            self.catalogue.tap = tracer.tap
        elif tap is not None and not self._definition.tracing:
            self.catalogue.tap = None
            tap.tracer.tell(Retire())

    @receives(Fulfilled)
    def on_fulfilled(self, message: Fulfilled) -> None:
        """What an order changed is on disk."""
        message.order.fulfil(message.answer)

    @receives(SetPolicy)
    def on_set_policy(self, order: SetPolicy) -> None:
        """Add a policy."""
        self._carry_out(order, self._governor.set)

    @receives(ClearPolicy)
    def on_clear_policy(self, order: ClearPolicy) -> None:
        """Remove a policy."""
        self._carry_out(order, self._governor.clear)

    @receives(ShowPolicies)
    def on_show_policies(self, order: ShowPolicies) -> None:
        """Tell what policies there are."""
        order.fulfil(self._governor.rows(order.is_operator))

    @receives(ReviewPolicies)
    def on_review_policies(self, _message: ReviewPolicies) -> None:
        """Policies have changed: some more queues and exchanges may hear of it."""
        self._governor.review()

    def _carry_out(self, order: Order, carry_out: Callable[[Any], None]) -> None:
        try:
            self._refuse_if_retiring()
            carry_out(order)
        except AmqpError as error:
            order.deny(error)

    # Methods, by type

    @receives(Request)
    @receives(Subscribe)
    def on_request(self, request: Request) -> None:
        """Carry out a method for a channel, or hand it to the queue that it names."""
        try:
            self._refuse_if_retiring()
            self._methods[type(request.method)](self, request, request.method)
        except AmqpError as error:
            request.reply_to.tell(Denied(request, error))

    def _refuse_if_retiring(self) -> None:
        if self._is_retiring:
            raise Unavailable(self._farewell())

    def _farewell(self) -> str:
        return f"vhost '{self.name}' is deleted"

    def _declare_exchange(self, request: Request, method: m.ExchangeDeclare) -> None:
        done = Done(request, m.ExchangeDeclareOk())
        if method.passive:
            self.catalogue.passive_exchange(method.exchange)
            request.reply_to.tell(done)
            return
        exchange, is_new = self.catalogue.declare_exchange(
            method.exchange, method.type, method.durable, method.auto_delete, method.internal, method.arguments
        )
        if is_new:
            self._start_exchange(exchange)
        rows = [exchange_row(self.name, exchange)] if is_new and exchange.durable else []
        self._store(rows, (request.reply_to, done))

    def _delete_exchange(self, request: Request, method: m.ExchangeDelete) -> None:
        removed = self.catalogue.delete_exchange(method.exchange, method.if_unused)
        self._remove(removed, (request.reply_to, Done(request, m.ExchangeDeleteOk())))

    def _declare_queue(self, request: Request, method: m.QueueDeclare) -> None:
        if method.passive:
            self._hand_on(request, method)
            return
        queue, is_new = self.catalogue.declare_queue(
            method.queue, method.durable, method.exclusive, method.auto_delete, method.arguments, request.owner
        )
        if is_new:
            self._make_queue(queue).begin()
        rows = [queue_row(self.name, queue)] if is_new and queue.durable else []
        self._store(rows, (queue.destination.ref, request))

    def _hand_on(self, request: Request, method: Any) -> None:
        self.catalogue.existing_queue(method.queue, request.owner).destination.ref.tell(request)

    def _delete_queue(self, request: Request, method: m.QueueDelete) -> None:
        if method.queue in self.catalogue.queues:
            self._hand_on(request, method)
        else:
            request.reply_to.tell(Done(request, m.QueueDeleteOk(0)))

    def _bind_queue(self, request: Request, method: m.QueueBind) -> None:
        binding = self.catalogue.bind(
            method.exchange, QUEUE, method.queue, method.routing_key, method.arguments, request.owner
        )
        self._bound(binding, request, m.QueueBindOk())

    def _bind_exchange(self, request: Request, method: m.ExchangeBind) -> None:
        binding = self.catalogue.bind(
            method.source, EXCHANGE, method.destination, method.routing_key, method.arguments, request.owner
        )
        self._bound(binding, request, m.ExchangeBindOk())

    def _bound(self, binding: Binding | None, request: Request, reply: m.Method) -> None:
        if binding is not None:
            self._exchange(binding.source).tell(Bind(binding))
        rows = [binding_row(self.name, binding)] if binding is not None and binding.durable else []
        self._store(rows, (request.reply_to, Done(request, reply)))

    def _unbind_queue(self, request: Request, method: m.QueueUnbind) -> None:
        removed = self.catalogue.unbind(
            method.exchange, QUEUE, method.queue, method.routing_key, method.arguments, request.owner
        )
        self._remove(removed, (request.reply_to, Done(request, m.QueueUnbindOk())))

    def _unbind_exchange(self, request: Request, method: m.ExchangeUnbind) -> None:
        removed = self.catalogue.unbind(
            method.source, EXCHANGE, method.destination, method.routing_key, method.arguments, request.owner
        )
        self._remove(removed, (request.reply_to, Done(request, m.ExchangeUnbindOk())))

    _methods: ClassVar[dict[type, Callable[[Any, Request, Any], None]]] = {
        m.ExchangeDeclare: _declare_exchange,
        m.ExchangeDelete: _delete_exchange,
        m.ExchangeBind: _bind_exchange,
        m.ExchangeUnbind: _unbind_exchange,
        m.QueueDeclare: _declare_queue,
        m.QueueDelete: _delete_queue,
        m.QueueBind: _bind_queue,
        m.QueueUnbind: _unbind_queue,
        m.QueuePurge: _hand_on,
        m.BasicGet: _hand_on,
        m.BasicConsume: _hand_on,
    }

    # What goes

    @receives(DeleteQueue)
    def on_delete_queue(self, message: DeleteQueue) -> None:
        """A queue may go: its conditions are met, or its last consumer has left."""
        request = message.request
        then = (request.reply_to, Done(request, m.QueueDeleteOk(message.message_count))) if request else None
        queue = self.catalogue.queues.get(message.name)
        is_current = queue is not None and queue.destination.ref is message.queue
        self._remove(self.catalogue.delete_queue(message.name) if is_current else None, then)

    @receives(ReleaseOwner)
    def on_release_owner(self, message: ReleaseOwner) -> None:
        """A connection closes."""
        for queue in self.catalogue.queues_of(message.owner):
            self._remove(self.catalogue.delete_queue(queue.name), None)
        message.reply_to.tell(OwnerReleased())

    @receives(Retire)
    def on_retire(self, message: Retire) -> None:
        """The vhost is deleted: a few queues and exchanges at a time go, then it stops."""
        self._is_retiring = True
        self._definition.tracing = False
        self._set_tracing()
        catalogue = self.catalogue
        for name in list(islice(catalogue.queues, REMOVED_IN_ONE_TURN)):
            self._remove(catalogue.delete_queue(name), None)
        if not catalogue.queues:
            for name in list(islice(catalogue.exchanges, REMOVED_IN_ONE_TURN)):
                if name in catalogue.exchanges:  # an auto-delete one may have gone with another
                    self._remove(catalogue.drop_exchange(name), None)
        if catalogue.queues or catalogue.exchanges:
            self.ref.tell(message)
        else:
            forgotten = self._governor.end(self._farewell())
            self._persistence.tell(Define([*forgotten], then=(self._broker, VhostGone(self.name))))
            self.end()

    def _remove(self, removed: Removed | None, then: tuple[Ref, ActorMessage] | None) -> None:
        """Tell everybody concerned what went, and `then` when the store has forgotten it."""
        removed = removed or Removed()
        for binding in removed.bindings:
            if binding.source in self.catalogue.exchanges:
                self._exchange(binding.source).tell(Unbind(binding))
        for exchange in removed.exchanges:
            exchange.destination.ref.tell(self._retire(exchange))
        for queue in removed.queues:
            queue.destination.ref.tell(self._retire(queue))
        rows = [
            *(binding_row(self.name, binding) for binding in removed.bindings if binding.durable),
            *(exchange_row(self.name, exchange) for exchange in removed.exchanges if exchange.durable),
            *(queue_row(self.name, queue) for queue in removed.queues if queue.durable),
        ]
        self._store([(key, None) for key, _ in rows], then)

    def _retire(self, removed: ExchangeDefinition | QueueDefinition) -> Retire:
        is_stored = removed.durable and removed.queue_id
        return Retire((self._persistence, Define([], dropped_queues=[removed.queue_id])) if is_stored else None)

    def _store(
        self,
        rows: list[tuple[bytes, bytes]] | list[tuple[bytes, None]],
        then: tuple[Ref, ActorMessage] | None,
    ) -> None:
        if rows:
            self._persistence.tell(Define([*rows], then=then))
        elif then is not None:
            then[0].tell(then[1])

    def snapshot(self) -> dict[str, Any]:
        """The vhost's row in the admin."""
        return {
            "name": self.name,
            "description": self._definition.description,
            "tags": self._definition.tags,
            "tracing": self._definition.tracing,
            "exchanges": len(self.catalogue.exchanges),
            "queues": len(self.catalogue.queues),
            "bindings": len(self.catalogue.bindings()),
        }
