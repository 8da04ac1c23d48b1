"""A virtual host: the one who changes its catalogue, and the parent of its exchanges and queues."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.governor import ReviewPolicies
from dispatchd.actors.messages import (
    Define,
    DeleteQueue,
    Denied,
    Done,
    OwnerReleased,
    ReleaseOwner,
    Request,
    Retire,
    Subscribe,
)
from dispatchd.actors.orders import (
    AddDefinitions,
    ClearPolicy,
    DefineVhost,
    Fulfilled,
    LimitVhost,
    Order,
    SetPolicy,
    ShowPolicies,
    ShowVhost,
    VhostGone,
)
from dispatchd.actors.runtime import Told, receives
from dispatchd.actors.vhost_contents import Change, VhostContents
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AmqpError, Unavailable
from dispatchd.model.binding import EXCHANGE, QUEUE, Kind, binding_key
from dispatchd.model.limits import MAX_BINDINGS, check_new_binding, check_new_queue
from dispatchd.model.method_access import check_access
from dispatchd.model.names import QUEUE_NAME_PREFIX, clean_name, server_given_name

if TYPE_CHECKING:
    from dispatchd.model.definitions import QueueDefinition

REMOVED_IN_ONE_TURN = 50
"""Queues, or exchanges, of a vhost that is deleted: a vhost of many must not hold up the loop."""


class VhostActor(VhostContents):
    """Carries out what declares, binds and deletes, and hands on what concerns one queue."""

    kind = "vhost"

    # Orders

    @receives(DefineVhost)
    @receives(LimitVhost)
    def on_define(self, order: DefineVhost | LimitVhost) -> None:
        """Change what an operator says of this vhost."""
        change = Change((self.ref, Fulfilled(order, answer=False)), redefines=True)
        order.apply_to(self._definition)
        self._changes += [change]
        self.answered()
        self._go_on()

    @receives(ShowVhost)
    def on_show(self, order: ShowVhost) -> None:
        """Tell what there is to say of the vhost itself."""
        order.fulfil(self._definition.to_record())

    @receives(AddDefinitions)
    def on_add(self, order: AddDefinitions) -> None:
        """Add what a file of definitions has."""
        try:
            self._refuse_if_retiring()
            for item in order.items:
                change = self._add(order.kind, item)
                self._changes += [change]
        except AmqpError as error:
            order.deny(error)
            self._go_on()
            return
        # The vhost's own record is written once more, so that the answer comes when all is on disk.
        self._changes += [Change((self.ref, Fulfilled(order, answer=None)), redefines=True)]
        self.answered()
        self._go_on()

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

    def _add(self, kind: str, item: dict[str, Any]) -> Change:
        change = Change()
        if kind == "exchanges":
            exchange = self.catalogue.add_exchange(**item)
            change.exchanges += [exchange] if exchange is not None else []
        elif kind == "queues":
            queue = self.catalogue.add_queue(**item)
            change.queues += [queue] if queue is not None else []
        else:
            change.binding = self.catalogue.bind(**item, connection=None)
        return change

    def _carry_out(self, order: Order, carry_out: Callable[[Any], None]) -> None:
        try:
            self._refuse_if_retiring()
            carry_out(order)
        except AmqpError as error:
            order.deny(error)
            return
        self.answered([(self.ref, ReviewPolicies())])

    # Methods, by type

    @receives(Request)
    @receives(Subscribe)
    def on_request(self, request: Request) -> None:
        """Carry out a method for a channel, or hand it to the queue that it names."""
        change = Change()
        try:
            self._refuse_if_retiring()
            check_access(request.access, request.method, self.catalogue)
            self._methods[type(request.method)](self, request, request.method, change)
        except AmqpError as error:
            self.answered([(request.reply_to, Denied(request, error))])
            return
        self._changes += [change]
        self.answered()
        self._go_on()

    def _refuse_if_retiring(self) -> None:
        if self._is_retiring:
            raise Unavailable(self._farewell())

    def _farewell(self) -> str:
        return f"vhost '{self.name}' is deleted"

    def _declare_exchange(self, request: Request, method: m.ExchangeDeclare, change: Change) -> None:
        change.then = request.reply_to, Done(request, m.ExchangeDeclareOk())
        if method.passive:
            self.catalogue.passive_exchange(method.exchange)
            return
        exchange, is_new = self.catalogue.declare_exchange(
            method.exchange, method.type, method.durable, method.auto_delete, method.internal, method.arguments
        )
        if is_new:
            change.exchanges += [exchange]

    def _delete_exchange(self, request: Request, method: m.ExchangeDelete, change: Change) -> None:
        change.then = request.reply_to, Done(request, m.ExchangeDeleteOk())
        change.removed = self.catalogue.delete_exchange(method.exchange, method.if_unused)

    def _declare_queue(self, request: Request, method: m.QueueDeclare, change: Change) -> None:
        if method.passive:
            self._hand_on(request, method, change)
            return
        self.system.churn["queue_declared"] += 1
        name = clean_name(method.queue)
        if self.limits and name not in self.catalogue.queues:
            shown = name or server_given_name(QUEUE_NAME_PREFIX, os.urandom)  # one such as it would get
            check_new_queue(self.limits, self.name, shown, len(self.catalogue.queues))
        queue, is_new = self.catalogue.declare_queue(
            method.queue, method.durable, method.exclusive, method.auto_delete, method.arguments, request.owner
        )
        change.then = queue.destination, request
        if is_new:
            change.queues += [queue]

    def _hand_on(self, request: Request, method: Any, change: Change) -> None:
        change.then = self.catalogue.existing_queue(method.queue, request.owner).destination, request

    def _delete_queue(self, request: Request, method: m.QueueDelete, change: Change) -> None:
        if method.queue in self.catalogue.queues:
            self._hand_on(request, method, change)
        else:
            change.then = request.reply_to, Done(request, m.QueueDeleteOk(0))

    def _bind_queue(self, request: Request, method: m.QueueBind, change: Change) -> None:
        change.then = request.reply_to, Done(request, m.QueueBindOk())
        self._check_limit(method.exchange, QUEUE, method.queue, method)
        change.binding = self.catalogue.bind(
            method.exchange, QUEUE, method.queue, method.routing_key, method.arguments, request.owner
        )

    def _bind_exchange(self, request: Request, method: m.ExchangeBind, change: Change) -> None:
        change.then = request.reply_to, Done(request, m.ExchangeBindOk())
        self._check_limit(method.source, EXCHANGE, method.destination, method)
        change.binding = self.catalogue.bind(
            method.source, EXCHANGE, method.destination, method.routing_key, method.arguments, request.owner
        )

    def _check_limit(self, source: str, kind: Kind, destination: str, method: m.QueueBind | m.ExchangeBind) -> None:
        """See that there may be another binding. All are counted for that, so only a vhost that has the limit does."""
        if MAX_BINDINGS not in self.limits:
            return
        source, destination = clean_name(source), clean_name(destination)
        key = binding_key(source, kind, destination, method.routing_key, method.arguments)
        if all(binding.key != key for binding in self.catalogue.bindings_to(kind, destination)):
            check_new_binding(self.limits, self.name, f"{kind} '{destination}'", self.catalogue.count_bindings())

    def _unbind_queue(self, request: Request, method: m.QueueUnbind, change: Change) -> None:
        change.then = request.reply_to, Done(request, m.QueueUnbindOk())
        change.removed = self.catalogue.unbind(
            method.exchange, QUEUE, method.queue, method.routing_key, method.arguments, request.owner
        )

    def _unbind_exchange(self, request: Request, method: m.ExchangeUnbind, change: Change) -> None:
        change.then = request.reply_to, Done(request, m.ExchangeUnbindOk())
        change.removed = self.catalogue.unbind(
            method.source, EXCHANGE, method.destination, method.routing_key, method.arguments, request.owner
        )

    _methods: ClassVar[dict[type, Callable[[Any, Request, Any, Change], None]]] = {
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
        request, change = message.request, Change()
        if request is not None:
            change.then = request.reply_to, Done(request, m.QueueDeleteOk(message.message_count))
        queue = self.catalogue.queues.get(message.name)
        if queue is not None and queue.destination.ref is message.queue:
            change.removed = self.catalogue.delete_queue(message.name)
        self._changes += [change]
        self.answered()
        self._go_on()

    @receives(ReleaseOwner)
    def on_release_owner(self, message: ReleaseOwner) -> None:
        """A connection closes."""
        self._delete(self.catalogue.queues_of(message.owner))
        self.answered([(message.reply_to, OwnerReleased())])
        self._go_on()

    def _delete(self, queues: Iterable[QueueDefinition]) -> None:
        for queue in queues:
            change = Change()
            change.removed = self.catalogue.delete_queue(queue.name)
            self._changes += [change]

    @receives(Retire)
    def on_retire(self, message: Retire) -> None:
        """The vhost is deleted: a few queues and exchanges at a time go, then it stops."""
        self._is_retiring = True
        self._definition.tracing = False
        self._set_tracing()
        catalogue = self.catalogue
        self._delete(list(islice(catalogue.queues.values(), REMOVED_IN_ONE_TURN)))
        if not catalogue.queues:
            for name in list(islice(catalogue.exchanges, REMOVED_IN_ONE_TURN)):
                change = Change()
                if name in catalogue.exchanges:  # an auto-delete one may have gone with another
                    change.removed = catalogue.drop_exchange(name)
                self._changes += [change]
        self._go_on()
        if catalogue.queues or catalogue.exchanges:
            self.ref.tell(message)
            return
        forgotten = self._governor.end(self._farewell())
        told: Told = [(self._persistence, Define([*forgotten], then=(self._broker, VhostGone(self.name))))]
        self.answered(told)
        self.end()

    def snapshot(self) -> dict[str, Any]:
        """The vhost's row in the admin."""
        return {
            "name": self.name,
            "description": self._definition.description,
            "tags": self._definition.tags,
            "tracing": self._definition.tracing,
            "limits": self.limits,
            "exchanges": len(self.catalogue.exchanges),
            "queues": len(self.catalogue.queues),
            "bindings": self.catalogue.count_bindings(),
        }
