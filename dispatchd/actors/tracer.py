"""A tracer: copies what is published and delivered in its vhost to amq.rabbitmq.trace (RabbitMQ's firehose)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispatchd.actors.identity import node_name
from dispatchd.actors.messages import Accepted, Committed, Delivered, Published, Released, Retire, Route, Routed
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.actors.tap import Tap
from dispatchd.model.names import TRACE_EXCHANGE
from dispatchd.model.router import Publishing
from dispatchd.model.trace import Firehose

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.catalogue import Catalogue


class TracerActor(Actor):
    """Makes copies in turns of its own, so that whoever publishes or takes deliveries waits for none of them."""

    kind = "tracer"

    def __init__(self, system: System, catalogue: Catalogue, vhost: Ref) -> None:
        super().__init__(system, f"tracer of {catalogue.vhost}", vhost)
        self._catalogue = catalogue
        self._firehose = Firehose(node_name(), catalogue.vhost)
        self._copied = 0
        self.tap = Tap(self.ref)

    @receives(Published)
    def on_published(self, message: Published) -> None:
        """Copy what a channel has published."""
        self._publish(self._firehose.published(message.messages, message.trace))
        self.tap.taken(message.cost)

    @receives(Delivered)
    def on_delivered(self, message: Delivered) -> None:
        """Copy what a channel got."""
        self._publish(self._firehose.delivered(message.queue, message.deliveries, message.party))
        self.tap.taken(message.cost)

    def _publish(self, copies: list[Message]) -> None:
        exchange = self._catalogue.exchanges.get(TRACE_EXCHANGE)
        if exchange is not None:  # it goes with its vhost alone
            exchange.destination.ref.tell(Route(Publishing(self.ref, copies, 0, confirm=False), copies))
            self._copied += len(copies)

    @receives(Routed)
    @receives(Accepted)
    @receives(Released)
    @receives(Committed)
    def on_answer(self, _message: Routed | Accepted | Released | Committed) -> None:
        """Nothing depends on what becomes of a copy."""

    @receives(Retire)
    def on_retire(self, _message: Retire) -> None:
        """Tracing is switched off, or the vhost is deleted."""
        self.end()

    def snapshot(self) -> dict[str, Any]:
        """The tracer's row in the admin; `waiting` is in units of publish credit."""
        return {
            "name": self.name,
            "vhost": self._catalogue.vhost,
            "copied": self._copied,
            "left_out": self.tap.left_out,
            "waiting": self.tap.waiting,
        }
