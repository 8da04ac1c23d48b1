"""What a client's methods ask of a channel: one handler for each, in a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import gevent

from dispatchd.actors.inspection import Inspectable
from dispatchd.actors.messages import (
    Cancel,
    CommitTransaction,
    Discard,
    LookForOverdue,
    Request,
    Requeue,
    Subscribe,
)
from dispatchd.actors.publisher import Publisher
from dispatchd.actors.requester import Requester
from dispatchd.actors.runtime import Ref, System, Told, tell_all
from dispatchd.actors.subscriber import Outcome, Subscriber
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import (
    AmqpError,
    CommandInvalid,
    NotAllowed,
    NotFound,
    NotImplementedByServer,
    PreconditionFailed,
)
from dispatchd.amqp.method_codec import encode_method
from dispatchd.model.ack_timeouts import CONSUMER_TIMEOUT
from dispatchd.model.consumer_arguments import check_consumer_arguments
from dispatchd.model.direct_replies import REPLY_TO
from dispatchd.model.ledger import acknowledgement
from dispatchd.model.method_access import check_access
from dispatchd.model.names import clean_name
from dispatchd.model.transaction import Transaction

if TYPE_CHECKING:
    from dispatchd.actors.session import Session
    from dispatchd.amqp.frame_parser import ChannelInput

AboutQueue = TypeVar("AboutQueue", m.BasicGet, m.BasicConsume, m.QueuePurge, m.QueueDelete)

MethodTable = dict[type, Callable[[Any, Any], None]]


class ChannelMethods(Inspectable):
    """The part of a channel that carries out methods; the channel itself sees to when each has its turn.

    `_waiting_for` is the method, or the request to another actor, without whose answer the channel does not go on.
    `_committing` is the transaction that is being carried out: it outlives a failure of the channel.
    """

    def __init__(self, system: System, number: int, connection: Ref, session: Session) -> None:
        super().__init__(system, f"{session.name} ({number})", connection)
        self._number_in_connection = number
        self._session = session
        self._transport = session.transport
        self._waiting_for: Request | m.Method | None = None
        self._subscriber = Subscriber(number, self.ref, session)
        self._publisher = Publisher(number, self.ref, session)
        self._requester = Requester(number, self.ref, session)
        self._transaction: Transaction | None = None
        self._committing: Transaction | None = None
        self._last_queue = ""
        self._look: gevent.Greenlet[..., None] | None = None

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

    def _keep(self, transaction: Transaction, arrived: ChannelInput) -> None:
        """What is published in a transaction waits for its commit."""
        self._publisher.give_back(arrived.cost)
        self._publisher.check(arrived.published)
        transaction.published.extend(arrived.published)

    def _settle(self, acks: list[int], method: m.Method, outcome: Outcome) -> None:
        if self._transaction is None:
            self._subscriber.settle(acks, outcome, method)
        else:
            for ack in acks:
                self._transaction.settle(self._subscriber.set_aside(ack, method), outcome)

    def _resume(self) -> None:
        """Go on with the method that waits for what was published before it, if that is where it has to be."""
        if self._publisher.unaccepted:
            return
        transaction, waiting = self._committing, self._waiting_for
        if transaction is not None:
            if not transaction.unsettled:
                self._store(transaction)
        elif isinstance(waiting, m.Method):
            self._waiting_for = None
            self._perform(waiting)

    def _answer(self, method: Any, reply: m.Method) -> None:
        if not getattr(method, "nowait", False):
            self._send(reply)

    def _send(self, method: m.Method) -> None:
        self._transport.send(encode_method(self._number_in_connection, method))

    # Methods, by type

    def _ask(self, request: Request) -> None:
        self._waiting_for = request
        self._session.vhost.tell(request)

    def _ask_vhost(self, method: m.Method) -> None:
        self._ask(Request(self.ref, method, self._session.owner, self._session.access))

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
        self._ask_vhost(self._with_queue(method))

    def _with_queue(self, method: AboutQueue) -> AboutQueue:
        """The same method, with the name of its queue."""
        return method if method.queue else replace(method, queue=self._named_queue(""))

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
        method = self._with_queue(method)
        if method.queue == REPLY_TO:
            self._consume_replies(method)
            return
        consumer = self._subscriber.new_consumer(method)
        most = self._session.most_consumers
        if most and self._subscriber.consumer_count >= most:
            raise NotAllowed(f"reached maximum ({most}) of consumers per channel")
        if method.arguments:
            catalogue = self._session.catalogue
            check_access(self._session.access, method, catalogue)
            queue = catalogue.existing_queue(method.queue, self._session.owner)
            check_consumer_arguments(catalogue.resource("queue", queue.name), method.arguments)
        if not method.no_ack:
            self._wait_for_acks(method.queue)
        self._ask(Subscribe(self.ref, method, self._session.owner, self._session.access, consumer))

    def _on_get(self, method: m.BasicGet) -> None:
        method = self._with_queue(method)
        if not method.no_ack:
            self._wait_for_acks(method.queue)
        self._ask_vhost(method)

    def _wait_for_acks(self, name: str) -> None:
        """Not for ever, if the queue has a timeout for that."""
        queue = self._session.catalogue.queues.get(clean_name(name))
        timeout = 0 if queue is None else queue.governed_arguments.get(CONSUMER_TIMEOUT, 0)
        if queue is not None and timeout:
            self._subscriber.ack_timeouts.watch(queue.destination.ref, timeout)
            self._look_later()

    def _look_later(self) -> None:
        self._look_no_more()
        self._look = gevent.spawn_later(self._subscriber.ack_timeouts.pause / 1000, self.ref.tell, LookForOverdue())

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.kill(block=False)
            self._look = None

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
        self._waiting_for = request = Cancel(self.ref, method, self._session.owner, self._session.access, consumer)
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
            self._transaction = Transaction(self.ref)
        self._send(m.TxSelectOk())

    def _end_transaction(self) -> Transaction:
        if self._transaction is None:
            raise PreconditionFailed("channel is not transactional")
        ended, self._transaction = self._transaction, Transaction(self.ref)
        return ended

    def _on_commit(self, method: m.TxCommit) -> None:
        transaction = self._end_transaction()
        routes = self._publisher.routes_of(transaction)
        told, count = [*routes, *self._subscriber.settlements_of(transaction)], len(routes)
        self._committing, self._waiting_for = transaction, method
        self._publisher.unaccepted += count
        self._subscriber.in_hand = []
        tell_all(told)
        self._resume()

    def _store(self, transaction: Transaction) -> None:
        """Have a transaction stored, of which the queues have done their parts."""
        if not transaction.is_complete:
            told: Told = [(self._session.persistence, CommitTransaction(transaction))]
            transaction.is_complete = True
            tell_all(told)

    def _committed(self, transaction: Transaction) -> None:
        """Answer the tx.commit. Raises PreconditionFailed (406) if a part was refused (RabbitMQ's text)."""
        self._committing, waiting = None, self._waiting_for
        if not isinstance(waiting, m.TxCommit):
            return
        self._waiting_for = None
        if transaction.is_partial:
            error = PreconditionFailed("partial tx completion")
            error.blame(*m.method_ids(waiting))
            raise error
        self._send(m.TxCommitOk())

    def _on_rollback(self, _method: m.TxRollback) -> None:
        self._end_transaction()
        self._subscriber.restore()
        self._send(m.TxRollbackOk())

    def _on_access_request(self, _method: m.AccessRequest) -> None:
        self._send(m.AccessRequestOk())

    def _ignore(self, method: m.Method) -> None:
        """flow-ok and cancel-ok answer what the server sent; nobody waits for them."""

    _methods: ClassVar[MethodTable] = {
        m.ChannelFlow: _on_flow,
        m.ChannelFlowOk: _ignore,
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
        m.BasicGet: _on_get,
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
        (
            m.BasicGet,
            m.BasicConsume,
            m.BasicCancel,
            m.QueueDeclare,
            m.QueuePurge,
            m.QueueDelete,
            m.QueueUnbind,
            m.ExchangeDelete,
            m.ExchangeUnbind,
        )
    )
