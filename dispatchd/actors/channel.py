"""A channel: takes what its client sends in the order that it was sent, and gives deliveries their tags."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.channel_methods import ChannelMethods, MethodTable
from dispatchd.actors.messages import (
    Accepted,
    Arrived,
    Cancel,
    ChannelFailed,
    ChannelGone,
    CloseChannel,
    Committed,
    ConsumerCancelled,
    Deliver,
    Denied,
    Disconnected,
    Done,
    Drained,
    Enqueue,
    Got,
    LookForOverdue,
    Released,
    Request,
    Retire,
    Routed,
    Settle,
    Settled,
    Subscribe,
    TransactionCommitted,
    Unsubscribe,
)
from dispatchd.actors.runtime import Ref, System, Told, receives, tell_all
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import (
    AmqpError,
    ChannelError,
    ChannelException,
    PreconditionFailed,
    Unavailable,
)

if TYPE_CHECKING:
    from dispatchd.actors.session import Session
    from dispatchd.amqp.frame_parser import ChannelInput

OPENING = "opening"
OPEN = "open"
CLOSING = "closing"
CLOSED = "closed"

_BASIC_ACK = m.BasicAck()  # to be blamed


class ChannelActor(ChannelMethods):
    """One channel of a connection.

    What arrives waits in `_backlog` while the channel waits for an answer (`_waiting_for`), so that answers and
    deliveries keep one order and nobody is blocked. A method that reads or changes a queue first waits until all that
    was published before it is in its queues.
    """

    kind = "channel"

    def __init__(self, system: System, number: int, connection: Ref, session: Session) -> None:
        super().__init__(system, number, connection, session)
        self._connection = connection
        self._state = OPENING
        self._backlog: deque[ChannelInput] = deque()
        self._behind_answer: list[ConsumerCancelled] = []
        self._disconnected = False

    # What the client sends

    @receives(Arrived)
    def on_arrived(self, message: Arrived) -> None:
        """Take what one read brought."""
        self._backlog += message.inputs
        self.answered()
        self._advance()

    def _advance(self) -> None:
        if self._waiting_for is None:
            behind, self._behind_answer = self._behind_answer, []
            for cancelled in behind:
                self.on_consumer_cancelled(cancelled)
        while self._backlog and self._waiting_for is None:
            try:
                self._take(self._backlog[0])
            except AmqpError as error:
                self._fail_with(error)
        if self._disconnected and self._waiting_for is None:
            self._finish()

    def _take(self, arrived: ChannelInput) -> None:
        if self._state is not OPEN:
            self._take_while_not_open(arrived)
            return
        self._publisher.owe(arrived.cost)
        del self._backlog[0]
        if arrived.acks:
            self._settle(arrived.acks, _BASIC_ACK, Settle)
        if arrived.published:
            if self._transaction is None:
                self._publisher.publish(arrived.published)
            else:
                self._keep(self._transaction, arrived)
        if arrived.error is not None:
            raise arrived.error
        if arrived.method is not None:
            self._perform(arrived.method)

    def _take_while_not_open(self, arrived: ChannelInput) -> None:
        method, gone = arrived.method, Told()
        if self._state is CLOSED:
            self._connection.tell(Arrived([arrived]))
        elif self._state is CLOSING:
            if isinstance(method, m.ChannelClose):
                self._send(m.ChannelCloseOk())
            elif isinstance(method, m.ChannelCloseOk):
                gone = self._gone()
            self._transport.grant(arrived.cost)
        else:
            self._transport.grant(arrived.cost)
        del self._backlog[0]
        if gone:
            self._state = CLOSED
            tell_all(gone)
        elif self._state is OPENING:
            self._begin(arrived)

    def _begin(self, arrived: ChannelInput) -> None:
        if not isinstance(arrived.method, m.ChannelOpen) or arrived.published or arrived.acks:
            error = ChannelError("expected 'channel.open'")
            error.blame(*arrived.first_method_ids())
            raise error
        self._state = OPEN
        self._send(m.ChannelOpenOk())

    def _on_open(self, _method: m.ChannelOpen) -> None:
        raise ChannelError("second 'channel.open' seen")

    def _on_close(self, _method: m.ChannelClose) -> None:
        self._release()
        gone = self._gone()
        self._send(m.ChannelCloseOk())
        self._state = CLOSED
        tell_all(gone)

    _methods: ClassVar[MethodTable] = {
        **ChannelMethods._methods,
        m.ChannelOpen: _on_open,
        m.ChannelClose: _on_close,
    }

    # Answers

    @receives(Done)
    def on_done(self, message: Done) -> None:
        """Another actor carried out a method."""
        request = message.request
        if request is not self._waiting_for:
            if isinstance(request, Subscribe):
                request.consumer.queue.tell(Unsubscribe(request.consumer))
            return
        self._waiting_for = None
        if isinstance(message.reply, m.QueueDeclareOk):
            self._last_queue = message.reply.queue
        elif isinstance(request, Subscribe):
            self._subscriber.add(request.consumer)
        elif isinstance(request, Cancel):
            self._subscriber.remove(request.consumer)
        self._answer(request.method, message.reply)
        self._advance()

    @receives(Got)
    def on_got(self, message: Got) -> None:
        """A queue answered a basic.get."""
        request, entry = message.request, message.entry
        if request is not self._waiting_for:
            message.refuse("the channel is closed")
            return
        self._waiting_for = None
        if entry is None:
            self._subscriber.got_nothing += 1
            self._send(m.BasicGetEmpty())
        else:
            no_ack = isinstance(request.method, m.BasicGet) and request.method.no_ack
            self._subscriber.answer_get(entry, message.message_count, no_ack=no_ack)
        self._advance()

    @receives(Denied)
    def on_denied(self, message: Denied) -> None:
        """Another actor could not carry out a method."""
        request = message.request
        if request is not self._waiting_for:
            return
        self._waiting_for = None
        if isinstance(request, Cancel):
            self._subscriber.remove(request.consumer)
            self._answer(request.method, m.BasicCancelOk(request.consumer.tag))
        else:
            message.error.blame(*m.method_ids(request.method))
            self._fail_with(message.error)
        self._advance()

    @receives(Routed)
    def on_routed(self, message: Routed) -> None:
        """The exchanges are done with a publishing."""
        publishing, refused = message.publishing, message.refused
        told = self._publisher.forgetting(publishing, refused) if refused else []
        self._publisher.heard(publishing, refused)
        self.answered(told)
        if message.returned:
            self._publisher.give_back_returned(message.returned)
        self._publisher.progress(publishing)
        if self._waiting_for or self._committing:
            self._progressed()

    @receives(Accepted)
    def on_accepted(self, message: Accepted) -> None:
        """A queue has a publishing."""
        publishing, refused = message.publishing, message.refused
        told = self._publisher.forgetting(publishing, refused) if refused else []
        self._publisher.heard(publishing, refused, accepted=1, held=message.held, uncommitted=message.stored)
        self.answered(told)
        self._publisher.progress(publishing)
        if self._waiting_for or self._committing:
            self._progressed()

    @receives(Released)
    def on_released(self, message: Released) -> None:
        """A queue has room again."""
        self._publisher.heard(message.publishing, [], held=-1)
        self.answered()
        self._publisher.progress(message.publishing)

    @receives(Committed)
    def on_committed(self, message: Committed) -> None:
        """Publishings are on disk."""
        refused = message.refused
        told: Told = []
        for publishing in message.publishings if refused else ():
            told += self._publisher.forgetting(publishing, refused)
        for publishing in message.publishings:
            self._publisher.heard(publishing, refused, uncommitted=-1)
        self.answered(told)
        for publishing in message.publishings:
            self._publisher.progress(publishing)
        if self._waiting_for or self._committing:
            self._progressed()

    def _progressed(self) -> None:
        """Go on with what waits for what was published before it."""
        try:
            self._resume()
        except AmqpError as error:
            self._fail_with(error)
        self._advance()

    @receives(Settled)
    def on_settled(self, message: Settled) -> None:
        """A queue has done what a transaction asks of it."""
        message.transaction.unsettled -= 1
        self.answered()
        self._progressed()

    @receives(TransactionCommitted)
    def on_transaction_committed(self, message: TransactionCommitted) -> None:
        """A transaction is on disk."""
        if message.transaction is not self._committing:
            return
        try:
            self._committed(message.transaction)
        except AmqpError as error:
            self._fail_with(error)
        self._advance()

    # Deliveries

    @receives(Deliver)
    def on_deliver(self, message: Deliver) -> None:
        """A queue delivers to one of our consumers."""
        if self._state is OPEN:
            self._subscriber.deliver(message)
        else:
            message.refuse("the channel is closed")

    @receives(LookForOverdue)
    def on_look_for_overdue(self, _message: LookForOverdue) -> None:
        """Who does not acknowledge in time loses the channel."""
        if self._state is not OPEN:
            return
        timeout = self._subscriber.overdue(int(time.monotonic() * 1000))
        if not timeout:
            self._look_later()
            return
        self._fail_with(
            PreconditionFailed(
                f"delivery acknowledgement on channel {self._number_in_connection} timed out. "
                f"Timeout value used: {timeout} ms. "
                "This timeout value can be configured, see consumers doc guide to learn more"
            )
        )
        self._advance()

    @receives(Enqueue)
    def on_enqueue(self, message: Enqueue) -> None:
        """Answers were published to our reply address."""
        self.answered(self._requester.receive(message, self._subscriber.last_tag + 1))

    @receives(ConsumerCancelled)
    def on_consumer_cancelled(self, message: ConsumerCancelled) -> None:
        """The queue of a consumer is gone; clients that can be told are told, after the answer to deleting it."""
        waiting = self._waiting_for
        if isinstance(waiting, Request) and isinstance(waiting.method, m.QueueDelete):
            self._behind_answer.append(message)
            return
        if self._subscriber.remove(message.consumer) and self._session.client_can("consumer_cancel_notify"):
            self._send(m.BasicCancel(message.consumer.tag, nowait=True))

    @receives(Drained)
    def on_drained(self, _message: Drained) -> None:
        """The socket takes more deliveries."""
        self._subscriber.wake_queues()
        self._requester.release()

    # The end

    def _fail_with(self, error: AmqpError) -> None:
        """A protocol error: it closes the channel, or by way of the connection actor everything."""
        if self._state is CLOSING or self._state is CLOSED:
            return
        self._release()
        if isinstance(error, ChannelException):
            self._send(m.ChannelClose(error.code, error.text, error.class_id, error.method_id))
        else:
            self._connection.tell(ChannelFailed(error))
        self._state = CLOSING

    def restarted(self) -> None:
        """A failure of ours closes the channel for its client; a transaction whose commit was begun is carried out."""
        self._waiting_for = None
        last = self.failures.last
        self._fail_with(Unavailable(last.error if last else "restarted"))
        self._progressed()

    def quarantined(self, reason: str) -> None:
        """As a failure: the channel is of no use any more."""
        self._fail_with(Unavailable(reason))
        self._abandon()

    def _abandon(self) -> None:
        """No more answers are heard: what queues still have to do for a transaction is stored as it comes."""
        if self._committing is not None:
            self._store(self._committing)

    def on_stop(self) -> None:
        """As a quarantine."""
        self._abandon()

    def _release(self) -> None:
        """Let go of consumers, of what they hold, and of publish credit."""
        self._look_no_more()
        self._subscriber.release()
        self._requester.end()
        self._publisher.end()
        self._transaction = None
        self._waiting_for = None

    def _close(self) -> None:
        gone = self._gone()
        self._state = CLOSED
        tell_all(gone)

    def _gone(self) -> Told:
        return [(self._connection, ChannelGone(self._number_in_connection, self.ref))]

    @receives(Disconnected)
    def on_disconnected(self, _message: Disconnected) -> None:
        """Nothing comes any more: finish what came, then go."""
        self._disconnected = True
        self._advance()

    def _finish(self) -> None:
        if self._state is not CLOSED:
            self._release()
            self._close()

    @receives(Retire)
    def on_retire(self, _message: Retire) -> None:
        """The connection has forgotten this channel."""
        self.end()

    @receives(CloseChannel)
    def on_close_channel(self, message: CloseChannel) -> None:
        """An operator closes the channel."""
        self._fail_with(Unavailable(message.text))
        self._advance()

    def farewell(self, reason: str) -> CloseChannel:
        """Its client gets a channel.close."""
        return CloseChannel(reason)

    def waits_for(self) -> str | None:
        """What keeps it from going on with what its client sends."""
        waiting = self._waiting_for
        if isinstance(waiting, Request):
            of = getattr(waiting.method, "queue", "") or getattr(waiting.method, "exchange", "")
            return f"the answer to {m.method_name(waiting.method)}{f' of {of}' if of else ''}"
        if self._committing is not None:
            return "the end of its transaction"
        return f"what was published before {m.method_name(waiting)} to be in queues" if waiting is not None else None

    def figures(self) -> dict[str, Any]:
        """What lists of many channels are made of, seen from outside."""
        return {
            "vhost": self._session.vhost_name,
            "user": self._session.user,
            "connection": self._session.name,
            "messages_unacknowledged": self._subscriber.unacknowledged,
            "messages_unconfirmed": self._publisher.unconfirmed,
            "consumer_count": self._subscriber.consumer_count,
            **self._publisher.counts(),
            **self._subscriber.counts(),
        }

    def details(self) -> dict[str, Any]:
        """What the page of the channel shows beyond its row."""
        return {
            "consumers": self._subscriber.consumer_rows(),
            "unacked": self._subscriber.unacked_rows(time.monotonic()),
            "unaccepted": self._publisher.unaccepted,
            "backlog": len(self._backlog),
        }

    def snapshot(self) -> dict[str, Any]:
        """The channel's row in the admin."""
        waiting, transaction = self._waiting_for, self._transaction
        method = waiting.method if isinstance(waiting, Request) else waiting
        return {
            "name": self.name,
            "number": self._number_in_connection,
            "connection": self._session.name,
            "vhost": self._session.vhost_name,
            "user": self._session.user,
            "state": self._state,
            "prefetch_count": self._subscriber.prefetch,
            "global_prefetch_count": self._subscriber.global_prefetch,
            "confirm": self._publisher.confirms is not None,
            "transactional": self._transaction is not None,
            "messages_unacknowledged": self._subscriber.unacknowledged,
            "messages_unconfirmed": self._publisher.unconfirmed,
            "messages_uncommitted": len(transaction.published) if transaction is not None else 0,
            "acks_uncommitted": sum(len(acks) for acks, _ in transaction.settled) if transaction is not None else 0,
            "consumer_count": self._subscriber.consumer_count,
            **self._publisher.counts(),
            **self._subscriber.counts(),
            "waiting_for": m.method_name(method) if method is not None else None,
        }
