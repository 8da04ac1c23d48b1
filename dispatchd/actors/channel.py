"""A channel: takes what its client sends in the order that it was sent, and gives deliveries their tags."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.messages import (
    Accepted,
    Arrived,
    Cancel,
    ChannelFailed,
    ChannelGone,
    Committed,
    ConsumerCancelled,
    Deliver,
    Denied,
    Discard,
    Disconnected,
    Done,
    Drained,
    Enqueue,
    Got,
    Released,
    Request,
    Requeue,
    Retire,
    Routed,
    Settle,
    Subscribe,
    Unsubscribe,
)
from dispatchd.actors.publisher import Publisher
from dispatchd.actors.requester import Requester
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.actors.subscriber import Outcome, Subscriber
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import (
    AmqpError,
    ChannelError,
    ChannelException,
    CommandInvalid,
    NotFound,
    NotImplementedByServer,
    PreconditionFailed,
    Unavailable,
)
from dispatchd.amqp.method_codec import encode_method
from dispatchd.model.consumer_arguments import check_consumer_arguments
from dispatchd.model.direct_replies import REPLY_TO
from dispatchd.model.ledger import acknowledgement
from dispatchd.model.names import clean_name
from dispatchd.model.transaction import Transaction

if TYPE_CHECKING:
    from dispatchd.actors.session import Session
    from dispatchd.amqp.frame_parser import ChannelInput

OPENING = "opening"
OPEN = "open"
CLOSING = "closing"
CLOSED = "closed"


class ChannelActor(Actor):
    """One channel of a connection.

    What arrives waits in `_backlog` while the channel waits for an answer (`_waiting_for`), so that answers and
    deliveries keep one order and nobody is blocked. A method that reads or changes a queue first waits until all that
    was published before it is in its queues.
    """

    kind = "channel"

    def __init__(self, system: System, number: int, connection: Ref, session: Session) -> None:
        super().__init__(system, f"{session.name} ({number})", connection)
        self._number_in_connection = number
        self._connection = connection
        self._session = session
        self._transport = session.transport
        self._state = OPENING
        self._backlog: deque[ChannelInput] = deque()
        self._waiting_for: Request | m.Method | None = None
        self._behind_answer: list[ConsumerCancelled] = []
        self._disconnected = False
        self._subscriber = Subscriber(number, self.ref, self._transport, session.frame_max)
        self._publisher = Publisher(number, self.ref, session)
        self._requester = Requester(number, self.ref, session)
        self._transaction: Transaction | None = None
        self._last_queue = ""

    # What the client sends

    @receives(Arrived)
    def on_arrived(self, message: Arrived) -> None:
        """Take what one read brought."""
        self._backlog.extend(message.inputs)
        self._advance()

    def _advance(self) -> None:
        if self._waiting_for is None:
            behind, self._behind_answer = self._behind_answer, []
            for cancelled in behind:
                self.on_consumer_cancelled(cancelled)
        while self._backlog and self._waiting_for is None:
            try:
                self._take(self._backlog.popleft())
            except AmqpError as error:
                self._fail_with(error)
        if self._disconnected and self._waiting_for is None:
            self._finish()

    def _take(self, arrived: ChannelInput) -> None:
        if self._state is not OPEN:
            self._take_while_not_open(arrived)
            return
        self._publisher.owe(arrived.cost)
        if arrived.acks:
            self._acknowledge(arrived.acks)
        if arrived.published:
            self._publish(arrived)
        if arrived.error is not None:
            raise arrived.error
        if arrived.method is not None:
            self._perform(arrived.method)

    def _take_while_not_open(self, arrived: ChannelInput) -> None:
        method = arrived.method
        if self._state is CLOSED:
            self._connection.tell(Arrived([arrived]))
            return
        self._transport.grant(arrived.cost)
        if self._state is OPENING:
            if not isinstance(method, m.ChannelOpen) or arrived.published or arrived.acks:
                error = ChannelError("expected 'channel.open'")
                error.blame(*arrived.first_method_ids())
                raise error
            self._state = OPEN
            self._send(m.ChannelOpenOk())
        elif isinstance(method, m.ChannelClose):
            self._send(m.ChannelCloseOk())
        elif isinstance(method, m.ChannelCloseOk):
            self._close()

    def _perform(self, method: m.Method) -> None:
        perform = self._methods.get(type(method))
        try:
            if perform is None:
                raise CommandInvalid("unimplemented method")
            if self._publisher.unaccepted and type(method) in self._see_what_was_published:
                self._waiting_for = method
            else:
                perform(self, method)
        except AmqpError as error:
            error.blame(*m.method_ids(method))
            raise

    def _publish(self, arrived: ChannelInput) -> None:
        try:
            if self._transaction is None:
                self._publisher.publish(arrived.published)
            else:
                self._publisher.give_back(arrived.cost)
                self._publisher.check(arrived.published)
                self._transaction.published.extend(arrived.published)
        except AmqpError as error:
            error.blame(*m.method_ids(m.BasicPublish()))
            raise

    def _acknowledge(self, acks: list[Any]) -> None:
        self._settle(acks, m.BasicAck(), Settle)

    def _settle(self, acks: list[int], method: m.Method, outcome: Outcome) -> None:
        if self._transaction is None:
            self._subscriber.settle(acks, outcome, method)
        else:
            self._transaction.settled.extend((self._subscriber.set_aside(ack, method), outcome) for ack in acks)

    # Methods, by type

    def _ask(self, request: Request) -> None:
        self._waiting_for = request
        self._session.vhost.tell(request)

    def _ask_vhost(self, method: m.Method) -> None:
        self._ask(Request(self.ref, method, self._session.owner))

    def _named_queue(self, name: str) -> str:
        """A queue name, where the empty one stands for the queue that this channel declared last."""
        if name:
            return name
        if not self._last_queue:
            raise NotFound("no previously declared queue")
        return self._last_queue

    def _on_declare_queue(self, method: m.QueueDeclare) -> None:
        if not method.queue.startswith(REPLY_TO):
            self._ask_vhost(method)
            return
        name = clean_name(method.queue)
        if not self._session.catalogue.reply_addresses.can_be_declared(name):
            self._session.catalogue.existing_queue(name, self._session.owner)  # there is none, and this says so
        self._last_queue = name
        self._answer(method, m.QueueDeclareOk(name, message_count=0, consumer_count=1))

    def _on_queue_method(self, method: Any) -> None:
        self._ask_vhost(replace(method, queue=self._named_queue(method.queue)))

    def _on_bind_queue(self, method: m.QueueBind | m.QueueUnbind) -> None:
        routing_key = method.routing_key
        if not method.queue and not routing_key:
            routing_key = self._named_queue("")
        self._ask_vhost(replace(method, queue=self._named_queue(method.queue), routing_key=routing_key))

    def _on_qos(self, method: m.BasicQos) -> None:
        if method.prefetch_size:
            raise NotImplementedByServer(f"prefetch_size!=0 ({method.prefetch_size})")
        self._subscriber.set_prefetch(method.prefetch_count, whole_channel=method.global_)
        self._send(m.BasicQosOk())

    def _on_consume(self, method: m.BasicConsume) -> None:
        method = replace(method, queue=self._named_queue(method.queue))
        if method.queue == REPLY_TO:
            self._consume_replies(method)
            return
        consumer = self._subscriber.new_consumer(method)
        if method.arguments:
            catalogue = self._session.catalogue
            queue = catalogue.existing_queue(method.queue, self._session.owner)
            check_consumer_arguments(catalogue.resource("queue", queue.name), method.arguments)
        self._ask(Subscribe(self.ref, method, self._session.owner, consumer))

    def _consume_replies(self, method: m.BasicConsume) -> None:
        tag = self._subscriber.tag_for(method)
        self._requester.check(no_ack=method.no_ack)
        self._requester.consume(tag)
        self._publisher.reply_address = self._requester.address
        self._answer(method, m.BasicConsumeOk(tag))

    def _on_cancel(self, method: m.BasicCancel) -> None:
        if self._requester.cancel(method.consumer_tag):
            self._publisher.reply_address = ""
            self._answer(method, m.BasicCancelOk(method.consumer_tag))
            return
        consumer = self._subscriber.find(method.consumer_tag)
        if consumer is None:
            self._answer(method, m.BasicCancelOk(method.consumer_tag))
            return
        self._waiting_for = request = Cancel(self.ref, method, self._session.owner, consumer)
        consumer.queue.tell(request)

    def _on_reject(self, method: m.BasicReject | m.BasicNack) -> None:
        ack = acknowledgement(method.delivery_tag, isinstance(method, m.BasicNack) and method.multiple)
        self._settle([ack], method, Requeue if method.requeue else Discard)

    def _on_recover(self, method: m.BasicRecover | m.BasicRecoverAsync) -> None:
        if not method.requeue:
            raise NotImplementedByServer("requeue=false")
        self._subscriber.requeue_all()
        if isinstance(method, m.BasicRecover):
            self._send(m.BasicRecoverOk())

    def _on_flow(self, method: m.ChannelFlow) -> None:
        if not method.active:
            raise NotImplementedByServer("active=false")
        self._send(m.ChannelFlowOk(True))

    def _on_select_confirms(self, method: m.ConfirmSelect) -> None:
        if self._transaction is not None:
            raise PreconditionFailed("cannot switch from tx to confirm mode")
        self._publisher.begin_confirms()
        self._answer(method, m.ConfirmSelectOk())

    def _on_select_transactions(self, _method: m.TxSelect) -> None:
        if self._publisher.confirms is not None:
            raise PreconditionFailed("cannot switch from confirm to tx mode")
        if self._transaction is None:
            self._transaction = Transaction()
        self._send(m.TxSelectOk())

    def _end_transaction(self) -> Transaction:
        if self._transaction is None:
            raise PreconditionFailed("channel is not transactional")
        ended, self._transaction = self._transaction, Transaction()
        return ended

    def _on_commit(self, method: m.TxCommit) -> None:
        transaction = self._end_transaction()
        self._waiting_for = method
        if transaction.published:
            self._publisher.publish_transaction(transaction.published)
        self._subscriber.restore()
        for acks, outcome in transaction.settled:
            self._subscriber.settle(acks, outcome, method)
        self._resume()

    def _on_rollback(self, _method: m.TxRollback) -> None:
        self._end_transaction()
        self._subscriber.restore()
        self._send(m.TxRollbackOk())

    def _on_open(self, _method: m.ChannelOpen) -> None:
        raise ChannelError("second 'channel.open' seen")

    def _on_close(self, _method: m.ChannelClose) -> None:
        self._release()
        self._send(m.ChannelCloseOk())
        self._close()

    def _on_access_request(self, _method: m.AccessRequest) -> None:
        self._send(m.AccessRequestOk())

    def _ignore(self, method: m.Method) -> None:
        """flow-ok and cancel-ok answer what the server sent; nobody waits for them."""

    _methods: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        m.ChannelOpen: _on_open,
        m.ChannelFlow: _on_flow,
        m.ChannelFlowOk: _ignore,
        m.ChannelClose: _on_close,
        m.AccessRequest: _on_access_request,
        m.ExchangeDeclare: _ask_vhost,
        m.ExchangeDelete: _ask_vhost,
        m.ExchangeBind: _ask_vhost,
        m.ExchangeUnbind: _ask_vhost,
        m.QueueDeclare: _on_declare_queue,
        m.QueueBind: _on_bind_queue,
        m.QueueUnbind: _on_bind_queue,
        m.QueuePurge: _on_queue_method,
        m.QueueDelete: _on_queue_method,
        m.BasicQos: _on_qos,
        m.BasicConsume: _on_consume,
        m.BasicCancel: _on_cancel,
        m.BasicCancelOk: _ignore,
        m.BasicGet: _on_queue_method,
        m.BasicReject: _on_reject,
        m.BasicNack: _on_reject,
        m.BasicRecover: _on_recover,
        m.BasicRecoverAsync: _on_recover,
        m.ConfirmSelect: _on_select_confirms,
        m.TxSelect: _on_select_transactions,
        m.TxCommit: _on_commit,
        m.TxRollback: _on_rollback,
    }

    _see_what_was_published: ClassVar[frozenset[type]] = frozenset(
        (m.BasicGet, m.QueueDeclare, m.QueuePurge, m.QueueDelete, m.QueueUnbind, m.ExchangeDelete, m.ExchangeUnbind)
    )

    # Answers

    def _answer(self, method: Any, reply: m.Method) -> None:
        if not getattr(method, "nowait", False):
            self._send(reply)

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
        self._publisher.routed(message)
        self._publishing_progressed()

    @receives(Accepted)
    def on_accepted(self, message: Accepted) -> None:
        """A queue has a publishing."""
        self._publisher.accepted(message)
        self._publishing_progressed()

    @receives(Released)
    def on_released(self, message: Released) -> None:
        """A queue has room again."""
        self._publisher.released(message)

    @receives(Committed)
    def on_committed(self, message: Committed) -> None:
        """Publishings are on disk."""
        self._publisher.committed(message)
        self._publishing_progressed()

    def _publishing_progressed(self) -> None:
        try:
            self._resume()
        except AmqpError as error:
            self._fail_with(error)
        self._advance()

    def _resume(self) -> None:
        """Go on with the method that waits for what was published before it, if that is where it has to be."""
        waiting = self._waiting_for
        if not isinstance(waiting, m.Method) or self._publisher.unaccepted:
            return
        if not isinstance(waiting, m.TxCommit):
            self._waiting_for = None
            self._perform(waiting)
        elif not self._publisher.unsettled:
            self._waiting_for = None
            if self._publisher.is_transaction_partial:
                error = PreconditionFailed("partial tx completion")  # as RabbitMQ's
                error.blame(*m.method_ids(waiting))
                raise error
            self._send(m.TxCommitOk())

    # Deliveries

    @receives(Deliver)
    def on_deliver(self, message: Deliver) -> None:
        """A queue delivers to one of our consumers."""
        if self._state is OPEN:
            self._subscriber.deliver(message)
        else:
            message.refuse("the channel is closed")

    @receives(Enqueue)
    def on_enqueue(self, message: Enqueue) -> None:
        """Answers were published to our reply address."""
        self._requester.receive(message, self._subscriber.last_tag + 1)

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
        self._state = CLOSING
        if isinstance(error, ChannelException):
            self._send(m.ChannelClose(error.code, error.text, error.class_id, error.method_id))
        else:
            self._connection.tell(ChannelFailed(error))

    def restarted(self) -> None:
        """A failure of ours closes the channel for its client."""
        self._waiting_for = None
        last = self.failures.last
        self._fail_with(Unavailable(last.error if last else "restarted"))
        self._advance()

    def quarantined(self, reason: str) -> None:
        """As a failure: the channel is of no use any more."""
        self._fail_with(Unavailable(reason))

    def _release(self) -> None:
        """Let go of consumers, of what they hold, and of publish credit."""
        self._subscriber.release()
        self._requester.end()
        self._publisher.end()
        self._transaction = None
        self._waiting_for = None

    def _close(self) -> None:
        self._state = CLOSED
        self._connection.tell(ChannelGone(self._number_in_connection, self.ref))

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

    def _send(self, method: m.Method) -> None:
        self._transport.send(encode_method(self._number_in_connection, method))

    def snapshot(self) -> dict[str, Any]:
        """The channel's row in the admin."""
        waiting = self._waiting_for
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
            "consumer_count": self._subscriber.consumer_count,
            "published": self._publisher.published,
            "delivered": self._subscriber.last_tag,
            "acknowledged": self._subscriber.acknowledged,
            "waiting_for": m.method_name(method) if method is not None else None,
        }
