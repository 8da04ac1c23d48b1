"""The publishing half of a channel: what went to exchanges, who has yet to answer, and what the client is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispatchd.actors.messages import Accepted, Committed, Forget, Released, Route, Routed
from dispatchd.amqp.encoder import encode_return
from dispatchd.amqp.errors import NO_ROUTE
from dispatchd.model.confirms import ConfirmLedger
from dispatchd.model.publishes import by_exchange, publishable
from dispatchd.model.router import Publishing
from dispatchd.model.trace import Party, Trace

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.session import Session
    from dispatchd.amqp.message import Message
    from dispatchd.model.transaction import Transaction


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
        self._user = session.user
        self._party = Party(session.name, number, session.user)
        self._outstanding_credit = 0
        self._has_ended = False
        self.confirms: ConfirmLedger | None = None
        self.unaccepted = 0
        self.published = 0
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
        self._outstanding_credit -= credit
        self._transport.grant(credit)

    def end(self) -> None:
        """The channel ends: give back whatever is still out. The answers to come mean nothing any more."""
        self.give_back(self._outstanding_credit)
        self._has_ended = True

    def publish(self, messages: list[Message]) -> None:
        """Send messages on their way; the credit that is owed for them comes back with the answers.

        Raises an AmqpError for the first message that can't be published; those before it are on their way then, and
        those behind it are not.
        """
        messages, error = publishable(messages, self._user, self._catalogue, self.reply_address)
        if self.confirms is not None:
            self.confirms.number(messages)
        for name, group, cost in by_exchange(messages):
            self._send(self._target(name), Publishing(self._ref, group, cost, self.confirms is not None))
        if error is not None:
            raise error

    def publish_transaction(self, transaction: Transaction) -> None:
        """Send what a transaction gathered (tx.commit); `transaction.is_partial` will say whether some was refused.

        Raises NotFound (404) for an exchange that is gone meanwhile; nothing has been sent then.
        """
        groups = [(self._target(name), group) for name, group, _ in by_exchange(transaction.published)]
        for target, group in groups:
            publishing = Publishing(self._ref, group, 0, confirm=False)
            publishing.transaction = transaction
            self._send(target, publishing)

    def _target(self, exchange: str) -> Ref:
        ref: Ref = self._catalogue.exchange_to_publish_to(exchange).destination.ref
        return ref

    def _send(self, target: Ref, publishing: Publishing) -> None:
        if self._catalogue.tap is not None:
            publishing.trace = Trace(self._catalogue.tap, self._party)
        self.unaccepted += 1
        self.published += len(publishing.messages)
        target.tell(Route(publishing, publishing.messages))

    def check(self, messages: list[Message]) -> None:
        """Raise what publishing these would raise, without doing it."""
        _, error = publishable(messages, self._user, self._catalogue, self.reply_address)
        if error is not None:
            raise error

    def routed(self, answer: Routed) -> None:
        """All exchanges have routed it; what is mandatory and found no queue goes back to the client."""
        self._note_refused(answer.publishing, answer.refused)
        for message in answer.returned if not self._has_ended else ():
            self._transport.send_all(encode_return(self._number, NO_ROUTE, "NO_ROUTE", message, self._frame_max))
        self._progress(answer.publishing)

    def accepted(self, answer: Accepted) -> None:
        """One queue has it."""
        publishing = answer.publishing
        publishing.awaiting -= 1
        publishing.held += answer.held
        publishing.uncommitted += answer.stored
        self._note_refused(publishing, answer.refused)
        self._progress(publishing)

    def released(self, answer: Released) -> None:
        """A queue that kept its credit back gives it."""
        answer.publishing.held -= 1
        self._progress(answer.publishing)

    def committed(self, answer: Committed) -> None:
        """It is on disk."""
        for publishing in answer.publishings:
            publishing.uncommitted -= 1
            self._note_refused(publishing, answer.refused)
            self._progress(publishing)

    def _note_refused(self, publishing: Publishing, refused: list[Message]) -> None:
        if refused:
            publishing.refused.extend(refused)
            for exchange in publishing.remembered_by or ():
                exchange.tell(Forget(refused))

    def _progress(self, publishing: Publishing) -> None:
        if publishing.hops or publishing.awaiting:
            return
        if not publishing.is_accepted:
            publishing.is_accepted = True
            self.unaccepted -= 1
            if publishing.transaction is not None and publishing.refused:
                publishing.transaction.is_partial = True
        if self._has_ended:
            return
        if not publishing.held and publishing.cost:
            self.give_back(publishing.cost)
            publishing.cost = 0
        if not publishing.uncommitted and not publishing.is_settled:
            publishing.is_settled = True
            if self.confirms is not None:
                self._transport.send(self.confirms.settle(publishing.messages, publishing.refused))

    @property
    def unconfirmed(self) -> int:
        """Numbers that the client waits for."""
        return self.confirms.outstanding() if self.confirms is not None else 0
