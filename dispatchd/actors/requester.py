"""The asking half of a channel: direct reply-to, where answers come to the channel itself and to no queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatchd.actors.messages import Accepted, Released, Routed
from dispatchd.actors.runtime import Told, tell_all
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.direct_replies import ReplyConsumer, in_no_queue

if TYPE_CHECKING:
    from dispatchd.actors.messages import Enqueue
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.session import Session
    from dispatchd.model.router import Publishing


class Requester:
    """Has a reply address while the channel consumes from it, and hands on what is published there.

    When the client does not take its answers in, those who give them are held back by their publish credit.
    """

    def __init__(self, number: int, ref: Ref, session: Session) -> None:
        self._number = number
        self._ref = ref
        self._transport = session.transport
        self._addresses = session.catalogue.reply_addresses
        self._frame_max = session.frame_max
        self._consumer: ReplyConsumer | None = None
        self._held: list[Publishing] = []

    @property
    def address(self) -> str:
        """Where answers are to be published to; empty while nobody consumes them."""
        return self._consumer.address if self._consumer is not None else ""

    def check(self, *, no_ack: bool) -> None:
        """Raise PreconditionFailed (406) if a basic.consume of the answers can't be granted."""
        if not no_ack:
            raise PreconditionFailed("reply consumer cannot acknowledge")
        if self._consumer is not None:
            raise PreconditionFailed("reply consumer already set")

    def consume(self, tag: str) -> None:
        """Take answers in from now on, under this consumer tag."""
        self._consumer = ReplyConsumer(tag, self._addresses.open(self._ref))

    def cancel(self, tag: str) -> bool:
        """Take no more answers in; False if this is not the tag of their consumer."""
        if self._consumer is None or self._consumer.tag != tag:
            return False
        self.end()
        return True

    def receive(self, message: Enqueue, delivery_tag: int) -> Told:
        """Hand answers on to the client, if it still wants them; returns what answers who published them."""
        publishing, consumer, held = message.publishing, self._consumer, False
        returned = in_no_queue(message.messages)
        told: Told = [(publishing.channel, Routed(publishing, returned))] if returned else []
        if consumer is not None:
            self._transport.send_all(consumer.encode(message.messages, self._number, delivery_tag, self._frame_max))
            held = not self._transport.outlet.has_room(0)
        told.append((publishing.channel, Accepted(publishing, held=held)))
        if held:
            self._held += [publishing]
        return told

    def release(self) -> None:
        """Let those go on who were held back: the socket has room again, or nobody waits for their answers."""
        told: Told = [(publishing.channel, Released(publishing)) for publishing in self._held]
        self._held = []
        tell_all(told)

    def end(self) -> None:
        """Give the address up, and let everybody go on."""
        if self._consumer is not None:
            self._addresses.close(self._consumer.address)
            self._consumer = None
        self.release()
