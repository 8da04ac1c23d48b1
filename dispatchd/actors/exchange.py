"""An exchange: finds the queues for what is published to it."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from dispatchd.actors.inspection import Inspectable
from dispatchd.actors.messages import (
    Accepted,
    ActorMessage,
    Bind,
    Enqueue,
    Forget,
    Govern,
    Released,
    Retire,
    Route,
    Routed,
    Unbind,
)
from dispatchd.actors.runtime import Ref, System, Told, receives
from dispatchd.model.binding import Binding
from dispatchd.model.deduplication import make_deduplication
from dispatchd.model.exchanges.default import DefaultRoutes
from dispatchd.model.exchanges.recent_history import make_history
from dispatchd.model.exchanges.types import make_routing_table
from dispatchd.model.router import Publishing, Router

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.binding import Destination
    from dispatchd.model.catalogue import Catalogue
    from dispatchd.model.definitions import ExchangeDefinition


SHOWN_BINDINGS = 1000
"""In the admin: 100,000 would hold up the loop for a quarter of a second, and nobody reads them."""
MESSAGES_IN_ONE_TURN = 1000
"""What a queue is told at once of a long history."""


class ExchangeActor(Inspectable):
    """One exchange of a vhost. Its bindings are in the vhost's catalogue; it keeps the table that matches them."""

    kind = "exchange"

    def __init__(self, system: System, definition: ExchangeDefinition, catalogue: Catalogue, vhost: Ref) -> None:
        super().__init__(system, definition.name or "(default)", vhost)
        self._definition = definition
        self._catalogue = catalogue
        self._alternate = definition.alternate_exchange
        self._deduplication = make_deduplication(definition.arguments)
        self._history = make_history(definition.routing_type, definition.arguments)
        self._router = self._make_router()
        self._published_in = 0
        self._published_out = 0

    def _make_router(self) -> Router:
        if not self._definition.name:
            return Router(DefaultRoutes(self._catalogue.queue_destinations, self._catalogue.reply_addresses))
        table = make_routing_table(self._definition.type, self._definition.arguments)
        for binding in self._catalogue.bindings_from(self._definition.name):
            table.bind(binding)
        return Router(table)

    @receives(Route)
    def on_route(self, message: Route) -> None:
        """Hand messages to the queues, and to other exchanges, that the bindings name."""
        publishing, messages = message.publishing, message.messages
        self._published_in += len(messages)
        if self._deduplication is not None:
            messages = self._without_duplicates(publishing, messages)
        told, queues, exchanges = self._routing(publishing, messages)
        publishing.awaiting += queues
        publishing.hops += exchanges - 1
        self.answered(told)
        if publishing.hops == 0 and publishing.trace is not None:
            publishing.trace.tap.published(publishing.messages, publishing.trace)

    def _routing(self, publishing: Publishing, messages: list[Message]) -> tuple[Told, int, int]:
        """What is to be told to route messages, and how many queues and exchanges have yet to answer by that."""
        told: Told = []
        queues = exchanges = 0
        trace = publishing.trace
        for destination, routed in self._router.route(messages, self._find_alternate() if self._alternate else None):
            self._published_out += len(routed)
            if destination.is_queue:
                queues += 1
                told.append((destination.ref, Enqueue(publishing, routed)))
                if trace is not None:
                    trace.note(destination.name, routed)
            else:
                exchanges += 1
                told.append((destination.ref, Route(publishing, routed)))
        if publishing.hops + exchanges == 1:
            returned = publishing.unrouted()
            if returned or not publishing.awaiting + queues:
                told.append((publishing.channel, Routed(publishing, returned)))
        if self._history is not None:
            self._history.note(messages)
        return told, queues, exchanges

    def _without_duplicates(self, publishing: Publishing, messages: list[Message]) -> list[Message]:
        assert self._deduplication is not None
        publishing.remembered_by = [*(publishing.remembered_by or ()), self.ref]
        return self._deduplication.new_ones(messages, time.monotonic_ns() // 1_000_000)

    @receives(Forget)
    def on_forget(self, message: Forget) -> None:
        """What was refused is no duplicate when its publisher tries again."""
        if self._deduplication is not None:
            self._deduplication.forget(message.messages)

    def _find_alternate(self) -> Destination | None:
        """The alternate exchange. There need not be one with that name."""
        exchange = self._catalogue.exchanges.get(self._alternate)
        return None if exchange is None else exchange.destination

    @receives(Bind)
    def on_bind(self, message: Bind) -> None:
        """Take a binding in; with a history it goes to who is bound now, before all that comes later."""
        self._router.table.bind(message.binding)
        if self._history is not None:
            self.answered(self._sending(self._history.copies(), message.binding.destination))

    def _sending(self, messages: list[Message], destination: Destination) -> Told:
        told: Told = []
        for start in range(0, len(messages), MESSAGES_IN_ONE_TURN):
            some = messages[start : start + MESSAGES_IN_ONE_TURN]
            self._published_out += len(some)
            publishing = Publishing(self.ref, some, 0, confirm=False)
            told.append((destination.ref, (Enqueue if destination.is_queue else Route)(publishing, some)))
        return told

    @receives(Accepted)
    @receives(Released)
    @receives(Routed)
    def on_sent(self, _message: ActorMessage) -> None:
        """What became of history: nobody waits to hear it."""

    @receives(Unbind)
    def on_unbind(self, message: Unbind) -> None:
        """Take a binding out."""
        self._router.table.unbind(message.binding)

    @receives(Govern)
    def on_govern(self, _message: Govern) -> None:
        """Other policies may name another alternate exchange."""
        self._alternate = self._definition.alternate_exchange

    @receives(Retire)
    def on_retire(self, _message: Retire) -> None:
        """The exchange has been deleted."""
        self.end()

    def restarted(self) -> None:
        """Match anew what the catalogue says."""
        self._router = self._make_router()
        self._alternate = self._definition.alternate_exchange

    def _shown_bindings(self) -> tuple[list[Binding], int]:
        """The first of the bindings, and how many there are."""
        if self._definition.name:
            bindings = self._catalogue.bindings_from(self._definition.name)
            return bindings[:SHOWN_BINDINGS], len(bindings)
        queues = self._catalogue.queue_destinations
        shown = [Binding("", queue, queue.name, {}) for queue in islice(queues.values(), SHOWN_BINDINGS)]
        return shown, len(queues)

    def figures(self) -> dict[str, Any]:
        """What lists of many exchanges are made of, seen from outside."""
        return {
            "vhost": self._catalogue.vhost,
            "type": self._definition.type,
            "published_in": self._published_in,
            "published_out": self._published_out,
        }

    def snapshot(self) -> dict[str, Any]:
        """The exchange's row in the admin."""
        definition = self._definition
        bindings, binding_count = self._shown_bindings()
        return {
            "name": definition.name,
            "vhost": self._catalogue.vhost,
            "type": definition.type,
            "durable": definition.durable,
            "auto_delete": definition.auto_delete,
            "internal": definition.internal,
            "arguments": definition.arguments,
            **definition.governance.to_row(),
            "bindings": [
                {
                    "destination": binding.destination.name,
                    "destination_type": binding.destination.kind,
                    "routing_key": binding.routing_key,
                    "arguments": binding.arguments,
                }
                for binding in bindings
            ],
            "binding_count": binding_count,
            "published_in": self._published_in,
            "published_out": self._published_out,
            "duplicates_dropped": self._deduplication.dropped if self._deduplication is not None else 0,
        }
