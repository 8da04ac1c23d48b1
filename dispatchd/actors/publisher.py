"""The publishing half of a channel: what went to exchanges, who has yet to answer, and what the client is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dispatchd.actors.messages import Forget, Route
from dispatchd.actors.runtime import Telling, Told, tell_all
from dispatchd.amqp import methods as m
from dispatchd.amqp.encoder import encode_return
from dispatchd.amqp.errors import NO_ROUTE, AmqpError
from dispatchd.model.confirms import ConfirmLedger
from dispatchd.model.publishes import by_exchange, publishable
from dispatchd.model.router import Publishing
from dispatchd.model.trace import Party, Trace

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.session import Session
    from dispatchd.amqp.message import Message
    from dispatchd.model.transaction import Transaction

_BASIC_PUBLISH: Final = m.method_ids(m.BasicPublish())


class Publisher:
    """Sends publishings to exchanges and settles them as the answers come.

    `unaccepted` publishings are not in all of their queues yet. They are counted to the last, even after the end of the
    channel: a transaction whose commit was begun is carried out.
    """

    def __init__(self, number: int, ref: Ref, session: Session) -> None:
        self._number = number
        self._ref = ref
        self._transport = session.transport
        self._catalogue = session.catalogue
        self._frame_max = session.frame_max
        self._access = session.access
        self._sizes = session.sizes
        self._party = Party(session.name, number, session.user)
        self._outstanding_credit = 0
        self._has_ended = False
        self.confirms: ConfirmLedger | None = None
        self.unaccepted = 0
        self.published = 0
        self.confirmed = 0
        self.returned = 0
        self.dropped = 0
        self.reply_address = ""

    def begin_confirms(self) -> None:
        """Number what is published from now on (confirm.select)."""
        if self.confirms is None:
            self.confirms = ConfirmLedger(self._number)

    def owe(self, credit: int) -> None:
        """Take charge of the credit that arrived messages took; what isn't published is to be given back."""
        self._outstanding_credit += credit

    def give_back(self, credit: int) -> None:
        """Let the connection take as much in again."""
        self._transport.grant(credit)
        self._outstanding_credit -= credit

    def end(self) -> None:
        """The channel ends: give back whatever is still out. The answers to come mean nothing any more."""
        self.give_back(self._outstanding_credit)
        self._has_ended = True

    def publish(self, messages: list[Message]) -> None:
        """Send messages on their way; the credit that is owed for them comes back with the answers.

        Raises an AmqpError, which blames basic.publish, for the first message that can't be published; those before it
        are on their way then, and those behind it are not.
        """
        messages, error = self._publishable(messages)
        if self.confirms is not None:
            self.confirms.number(messages)
        self._sizes.note(messages)
        told: Told = []
        for name, group, cost in by_exchange(messages):
            told.append(self._route(self._target(name), Publishing(self._ref, group, cost, self.confirms is not None)))
        self.published += len(messages)
        self.unaccepted += len(told)
        tell_all(told)
        if error is not None:
            raise error

    def routes_of(self, transaction: Transaction) -> Told:
        """What sends away what a transaction gathered; `transaction.is_partial` will say whether some was refused.

        Whoever tells it adds how many these are to `unaccepted`. Raises NotFound (404) for an exchange that is gone.
        """
        told: Told = []
        for name, group, _ in by_exchange(transaction.published):
            publishing = Publishing(self._ref, group, 0, confirm=False)
            publishing.transaction = transaction
            told.append(self._route(self._target(name), publishing))
        self._sizes.note(transaction.published)
        self.published += len(transaction.published)
        return told

    def _target(self, exchange: str) -> Ref:
        ref: Ref = self._catalogue.exchange_to_publish_to(exchange).destination.ref
        return ref

    def _route(self, target: Ref, publishing: Publishing) -> Telling:
        if self._catalogue.tap is not None:
            publishing.trace = Trace(self._catalogue.tap, self._party)
        return target, Route(publishing, publishing.messages)

    def check(self, messages: list[Message]) -> None:
        """Raise what publishing these would raise, without doing it."""
        _, error = self._publishable(messages)
        if error is not None:
            raise error

    def _publishable(self, messages: list[Message]) -> tuple[list[Message], AmqpError | None]:
        messages, error = publishable(messages, self._access, self._catalogue, self.reply_address)
        if error is not None:
            error.blame(*_BASIC_PUBLISH)
        return messages, error

    def heard(
        self, publishing: Publishing, refused: list[Message], *, accepted: int = 0, held: int = 0, uncommitted: int = 0
    ) -> None:
        """Take note of an answer: a queue has it, keeps its credit back or gives it, waits for a commit or has it.

        Nothing in here can fail; `progress` is what follows.
        """
        publishing.awaiting -= accepted
        publishing.held += held
        publishing.uncommitted += uncommitted
        if refused:
            publishing.refused += refused
        if not (publishing.hops or publishing.awaiting or publishing.is_accepted):
            publishing.is_accepted = True
            self.unaccepted -= 1
            self.dropped += publishing.dropped
            if publishing.transaction is not None and publishing.refused:
                publishing.transaction.is_partial = True

    def forgetting(self, publishing: Publishing, refused: list[Message]) -> Told:
        """What lets exchanges that drop duplicates know that these were refused."""
        return [(exchange, Forget(refused)) for exchange in publishing.remembered_by or ()]

    def give_back_returned(self, messages: list[Message]) -> None:
        """Send back to the client what was mandatory and found no queue."""
        if self._has_ended:
            return
        self.returned += len(messages)
        for message in messages:
            self._transport.send_all(encode_return(self._number, NO_ROUTE, "NO_ROUTE", message, self._frame_max))

    def progress(self, publishing: Publishing) -> None:
        """Give credit back and confirm, if everybody who matters for that has answered."""
        if not publishing.is_accepted or self._has_ended:
            return
        if not publishing.held and publishing.cost:
            self.give_back(publishing.cost)
            publishing.cost = 0
        if not publishing.uncommitted and not publishing.is_settled:
            publishing.is_settled = True
            if self.confirms is not None:
                self._transport.send(self.confirms.settle(publishing.messages, publishing.refused))
                refused = {each.sequence for each in publishing.refused} if publishing.refused else ()
                self.confirmed += len(publishing.messages) - len(refused)

    def counts(self) -> dict[str, int]:
        """What was published so far, and what became of it."""
        return {
            "published": self.published,
            "published_to_confirm": int(self.confirms.last) if self.confirms is not None else 0,
            "confirmed": self.confirmed,
            "returned": self.returned,
            "dropped": self.dropped,
        }

    @property
    def unconfirmed(self) -> int:
        """Numbers that the client waits for."""
        return self.confirms.outstanding() if self.confirms is not None else 0
