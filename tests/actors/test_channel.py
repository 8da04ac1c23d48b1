from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import gevent
import pytest
from actors.harness import (
    FRAME_MAX,
    Client,
    FakeTransport,
    Listener,
    Reader,
    World,
    arrived,
    failing,
    published,
    sample_methods,
    settle,
    wait_until,
)
from pamqp import commands as spec

import dispatchd
from dispatchd.actors.channel import CLOSED, CLOSING, OPEN, OPENING, ChannelActor
from dispatchd.actors.messages import (
    Accepted,
    Arrived,
    Cancel,
    ChannelFailed,
    ChannelGone,
    Committed,
    CommitTransaction,
    ConsumerCancelled,
    Deliver,
    Denied,
    Discard,
    Disconnected,
    Dispatch,
    Done,
    Drained,
    Got,
    LookForOverdue,
    Released,
    Request,
    Requeue,
    Restart,
    Retire,
    Route,
    Routed,
    Settle,
    Settled,
    Settlement,
    Stage,
    Subscribe,
    TransactionCommitted,
    Unsubscribe,
)
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import System
from dispatchd.actors.session import Session, Vhost
from dispatchd.actors.subscriber import Subscriber
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import NotFound
from dispatchd.amqp.message import make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.access import unrestricted
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.consumer import Consumer
from dispatchd.model.entry import QueueEntry
from dispatchd.model.router import Publishing
from dispatchd.model.transaction import Transaction


class Rig:
    """One channel whose neighbours only listen."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.connection, self.vhost = Listener("connection"), Listener("vhost")
        self.exchange, self.queue = Listener("exchange"), Listener("queue")
        self.persistence = Listener("persistence")
        self.transport = FakeTransport()
        self.reader = Reader(self.transport)
        catalogue = Catalogue("/", lambda octets: b"x" * octets, lambda: 1)
        for exchange in catalogue.exchanges.values():
            exchange.destination.ref = self.exchange
        connection: Any = self.connection
        vhost: Any = self.vhost
        persistence: Any = self.persistence
        capabilities = {"capabilities": {"consumer_cancel_notify": True}}
        host = Vhost("/", vhost, catalogue, persistence)
        session = Session("session", 5, unrestricted("guest", "/"), self.transport, FRAME_MAX, capabilities, host)
        self.channel = ChannelActor(system, 1, connection, session)
        self.ref = self.channel.begin()

    def tell(self, message: Any) -> None:
        self.ref.tell(message)
        settle(self.system)

    def method(self, method: m.Method) -> None:
        self.tell(arrived(method))

    def read(self, *frames: Any) -> None:
        self.tell(Arrived(self.reader.read(1, *frames)))

    def open(self) -> Rig:
        self.method(m.ChannelOpen())
        assert self.frames() == ["Channel.OpenOk"]
        return self

    def close_with_error(self) -> Rig:
        self.method(m.BasicReject(99))
        assert self.frames() == ["Channel.Close"]
        return self

    @property
    def state(self) -> str:
        return str(self.channel.snapshot()["state"])

    def frames(self) -> list[str]:
        """The names of what was sent."""
        return [frame.name for _, frame in self.transport.frames()]

    def route(self) -> Publishing:
        """The publishing that went to the exchange."""
        return self.exchange.take(Route).publishing

    def accept(self, publishing: Publishing, **answer: Any) -> None:
        """Be the exchange and the one queue that take it."""
        publishing.hops -= 1
        publishing.awaiting += 1
        self.tell(Accepted(publishing, **answer))

    def commit(self) -> Transaction:
        """Be the persistence that has committed the transaction which the channel says is complete."""
        transaction = self.persistence.take(CommitTransaction).transaction
        self.tell(TransactionCommitted(transaction))
        return transaction

    def request(self) -> Request:
        (request,) = self.vhost.take_all()
        assert isinstance(request, Request)
        return request

    def consume(self, tag: str = "c", **options: Any) -> Consumer:
        """Have a consumer of the queue."""
        self.method(m.BasicConsume("q", tag, **options))
        request = self.vhost.take(Subscribe)
        queue: Any = self.queue
        request.consumer.queue = queue
        self.tell(Done(request, m.BasicConsumeOk(tag)))
        assert self.frames() == ["Basic.ConsumeOk"]
        return request.consumer

    def entries(self, *bodies: bytes) -> list[QueueEntry]:
        return [
            QueueEntry(make_message("", "q", Properties(), body), self.queue, position)
            for position, body in enumerate(bodies, 1)
        ]

    def deliver(self, consumer: Consumer, *bodies: bytes) -> list[QueueEntry]:
        """Be the queue that delivers to the consumer."""
        entries = self.entries(*bodies)
        for entry in entries:
            entry.is_out = True
            consumer.take(entry)
        consumer.batch = []
        self.tell(Deliver(consumer, entries))
        return entries


@pytest.fixture
def rig() -> Iterator[Rig]:
    system = System()
    yield Rig(system)
    for actor in list(system.actors.values()):
        actor.end()
    wait_until(lambda: not system.actors)


METHODS = sample_methods()
SERVER_ONLY = [method for method in METHODS if type(method) not in ChannelActor._methods]


def name_of(method: Any) -> str:
    return type(method).__name__


# States and methods


@pytest.mark.parametrize("method", [method for method in METHODS if not isinstance(method, m.ChannelOpen)], ids=name_of)
def test_only_open_opens(rig: Rig, method: m.Method) -> None:
    rig.method(method)
    error = rig.connection.take(ChannelFailed).error
    assert (error.code, error.text) == (504, "CHANNEL_ERROR - expected 'channel.open'")
    assert rig.frames() == []


def test_a_publish_does_not_open(rig: Rig) -> None:
    rig.read(*published(b"early"), spec.Channel.Open())
    assert rig.connection.take(ChannelFailed).error.code == 504
    rig.transport.assert_all_credit_is_back()


@pytest.mark.parametrize("method", SERVER_ONLY, ids=name_of)
def test_methods_that_no_channel_takes(rig: Rig, method: m.Method) -> None:
    rig.open().method(method)
    error = rig.connection.take(ChannelFailed).error
    assert (error.code, error.text) == (503, "COMMAND_INVALID - unimplemented method")
    assert (error.class_id, error.method_id) == m.method_ids(method)
    assert (rig.state, rig.frames()) == (CLOSING, [])


def test_a_second_open(rig: Rig) -> None:
    rig.open().method(m.ChannelOpen())
    error = rig.connection.take(ChannelFailed).error
    assert (error.code, error.text) == (504, "CHANNEL_ERROR - second 'channel.open' seen")


@pytest.mark.parametrize(
    "method", [method for method in METHODS if not isinstance(method, m.ChannelClose | m.ChannelCloseOk)], ids=name_of
)
def test_while_it_closes_nothing_means_anything(rig: Rig, method: m.Method) -> None:
    rig.open().close_with_error()
    rig.method(method)
    assert (rig.state, rig.frames()) == (CLOSING, [])
    assert (rig.connection.told, rig.vhost.told, rig.exchange.told) == ([], [], [])


def test_a_close_while_it_closes_is_answered(rig: Rig) -> None:
    rig.open().close_with_error()
    rig.method(m.ChannelClose(200))
    assert (rig.state, rig.frames()) == (CLOSING, ["Channel.CloseOk"])
    rig.method(m.ChannelCloseOk())
    assert rig.connection.take(ChannelGone).number == 1
    assert rig.state == CLOSED


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_what_comes_to_a_closed_channel_is_for_the_next_one(rig: Rig, method: m.Method) -> None:
    rig.open().method(m.ChannelClose(200))
    assert rig.frames() == ["Channel.CloseOk"]
    rig.connection.take(ChannelGone)
    rig.method(method)
    (forwarded,) = rig.connection.take(Arrived).inputs
    assert forwarded.method is method
    assert (rig.state, rig.frames()) == (CLOSED, [])


def test_states(rig: Rig) -> None:
    assert rig.state == OPENING
    rig.open()
    assert rig.state == OPEN
    rig.close_with_error()
    assert rig.state == CLOSING
    rig.method(m.ChannelCloseOk())
    assert rig.state == CLOSED
    rig.tell(Retire())
    assert rig.system.actors == {}


# Waiting for answers


def test_what_comes_behind_a_request_waits_for_the_answer(rig: Rig) -> None:
    rig.open()
    rig.read(spec.Queue.Declare(queue="a"), spec.Basic.Qos(prefetch_count=1), spec.Queue.Declare(queue="b"))
    first = rig.request()
    assert rig.frames() == []
    rig.tell(Done(first, m.QueueDeclareOk("a", 0, 0)))
    assert rig.frames() == ["Queue.DeclareOk", "Basic.QosOk"]
    rig.tell(Done(rig.request(), m.QueueDeclareOk("b", 0, 0)))
    assert rig.frames() == ["Queue.DeclareOk"]


def test_no_answer_with_nowait(rig: Rig) -> None:
    rig.open()
    rig.read(spec.Queue.Declare(queue="a", nowait=True), spec.Basic.Qos(prefetch_count=1))
    rig.tell(Done(rig.request(), m.QueueDeclareOk("a", 0, 0)))
    assert rig.frames() == ["Basic.QosOk"]


def test_a_denied_request_closes_and_names_the_method(rig: Rig) -> None:
    rig.open()
    rig.read(spec.Queue.Bind(queue="q", exchange="x"), *published(b"behind"), spec.Basic.Qos())
    rig.tell(Denied(rig.request(), NotFound("no exchange")))
    ((_, close),) = rig.transport.frames()
    assert (close.reply_code, close.reply_text) == (404, "NOT_FOUND - no exchange")
    assert (close.class_id, close.method_id) == (50, 20)
    assert rig.exchange.told == []
    rig.transport.assert_all_credit_is_back()


def test_answers_that_nobody_waits_for_any_more(rig: Rig) -> None:
    rig.open()
    rig.method(m.BasicGet("q"))
    get = rig.request()
    rig.tell(Restart())
    assert rig.frames() == ["Channel.Close"]
    (entry,) = rig.entries(b"late")
    rig.tell(Got(get, entry, 0))
    assert rig.queue.take(Requeue).entries == [entry]
    rig.tell(Denied(get, NotFound("late")))
    assert rig.frames() == []


def test_a_consumer_that_is_accepted_too_late_is_let_go(rig: Rig) -> None:
    rig.open()
    rig.method(m.BasicConsume("q", "c"))
    request = rig.vhost.take(Subscribe)
    queue: Any = rig.queue
    request.consumer.queue = queue
    rig.tell(Restart())
    rig.tell(Done(request, m.BasicConsumeOk("c")))
    assert rig.queue.take(Unsubscribe).consumer is request.consumer
    assert rig.frames() == ["Channel.Close"]


def test_a_cancel_that_fails_is_a_cancel(rig: Rig) -> None:
    rig.open()
    rig.consume()
    rig.method(m.BasicCancel("c"))
    request = rig.queue.take(Cancel)
    request.refuse("the queue has stopped")
    rig.ref.tell(Denied(request, NotFound("twice")))
    settle(rig.system)
    assert rig.frames() == ["Basic.CancelOk"]
    assert rig.state == OPEN


@pytest.mark.parametrize(
    "method",
    [
        m.BasicGet("q"),
        m.QueueDeclare("q", passive=True),
        m.QueuePurge("q"),
        m.QueueDelete("q"),
        m.QueueUnbind("q", "amq.direct"),
        m.ExchangeDelete("x"),
        m.ExchangeUnbind("a", "b"),
    ],
    ids=name_of,
)
def test_what_sees_a_queue_waits_for_what_was_published_before(rig: Rig, method: m.Method) -> None:
    rig.open().read(*published(b"first"))
    rig.method(method)
    publishing = rig.route()
    assert rig.vhost.told == []
    rig.accept(publishing)
    assert type(rig.request().method) is type(method)


def test_it_waits_for_every_publishing(rig: Rig) -> None:
    rig.open().read(*published(b"one"), *published(b"two", exchange="amq.fanout"), spec.Basic.Get(queue="q"))
    first, second = (route.publishing for route in rig.exchange.take_all())
    rig.accept(first)
    assert rig.vhost.told == []
    second.hops -= 1
    rig.tell(Routed(second))
    assert isinstance(rig.request().method, m.BasicGet)


def test_what_does_not_see_queues_need_not_wait(rig: Rig) -> None:
    rig.open().read(*published(b"first"), spec.Basic.Qos())
    assert rig.frames() == ["Basic.QosOk"]
    rig.method(m.ExchangeDeclare("x"))
    assert isinstance(rig.request().method, m.ExchangeDeclare)


# Deliveries


def test_deliveries_get_tags_and_acks_go_to_the_queue(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    entries = rig.deliver(consumer, b"a", b"b", b"c")
    tags = [frame.delivery_tag for _, frame in rig.transport.frames() if frame.name == "Basic.Deliver"]
    assert tags == [1, 2, 3]
    rig.read(spec.Basic.Ack(2))
    assert rig.queue.take(Settle).entries == entries[1:2]
    rig.read(spec.Basic.Ack(3, multiple=True))
    assert rig.queue.take(Settle).entries == [entries[0], entries[2]]


@pytest.mark.parametrize("close", ["client", "error", "failure", "disconnect"])
def test_a_channel_that_ends_lets_go_of_consumers_first_and_deliveries_then(rig: Rig, close: str) -> None:
    rig.open()
    consumer = rig.consume()
    entries = rig.deliver(consumer, b"a", b"b")
    rig.read(spec.Basic.Ack(1))
    rig.queue.take(Settle)
    rig.tell(
        {
            "client": arrived(m.ChannelClose(200)),
            "error": arrived(m.BasicReject(99)),
            "failure": Restart(),
            "disconnect": Disconnected("gone"),
        }[close]
    )
    assert rig.queue.take_all() == [Unsubscribe(consumer), Requeue(entries[1:])]
    assert rig.channel.snapshot()["messages_unacknowledged"] == 0


def test_deliveries_to_a_closed_channel_go_back(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    rig.close_with_error()
    rig.queue.take_all()
    entries = rig.deliver(consumer, b"late")
    assert rig.queue.take_all() == [Unsubscribe(consumer), Requeue(entries)]
    assert rig.frames() == []
    assert (consumer.window.reserved, consumer.window.unacked) == (0, 0)


def test_deliveries_that_wait_for_a_stopped_channel_go_back(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    rig.channel.actor_inbox.pause()
    entries = rig.deliver(consumer, b"late")
    rig.channel.end()
    settle(rig.system)
    assert rig.queue.take_all() == [Unsubscribe(consumer), Requeue(entries)]
    assert (consumer.window.reserved, consumer.window.unacked) == (0, 0)


@pytest.mark.skipif(dispatchd.is_compiled(), reason="compiled attributes take no poison")
def test_deliveries_that_can_not_be_encoded_go_back_once(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    entries = rig.entries(b"good", b"poison", b"good")
    broken: Any = None
    entries[1].message.header = broken
    for entry in entries:
        consumer.take(entry)
    rig.tell(Deliver(consumer, entries))
    assert rig.frames() == ["Channel.Close"]
    requeued = [entry for told in rig.queue.take_all() if isinstance(told, Requeue) for entry in told.entries]
    assert requeued == entries
    assert (consumer.window.reserved, consumer.window.unacked) == (0, 0)


def test_a_cancelled_consumer_is_told_once(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    rig.tell(ConsumerCancelled(consumer))
    rig.tell(ConsumerCancelled(consumer))
    assert rig.frames() == ["Basic.Cancel"]


def test_room_in_the_socket_wakes_the_queues(rig: Rig) -> None:
    rig.open()
    rig.consume("a")
    rig.consume("b")
    rig.tell(Drained())
    rig.queue.take(Dispatch)


# Publish credit


def publish(rig: Rig, *bodies: bytes, **options: Any) -> Publishing:
    rig.read(*[frame for body in bodies for frame in published(body, **options)])
    return rig.route()


def test_credit_comes_back_when_every_queue_has_it(rig: Rig) -> None:
    publishing = publish(rig.open(), b"a", b"b" * 5000)
    assert (rig.transport.taken, rig.transport.granted) == (6, 0)
    publishing.hops -= 1
    publishing.awaiting += 2
    rig.tell(Accepted(publishing))
    assert rig.transport.granted == 0
    rig.tell(Accepted(publishing))
    rig.transport.assert_all_credit_is_back()


def test_credit_that_a_queue_holds(rig: Rig) -> None:
    publishing = publish(rig.open(), b"a")
    rig.accept(publishing, held=True)
    assert rig.transport.granted == 0
    rig.tell(Released(publishing))
    rig.transport.assert_all_credit_is_back()


def test_credit_of_what_nobody_takes(rig: Rig) -> None:
    publishing = publish(rig.open(), b"a", mandatory=True)
    publishing.hops -= 1
    rig.tell(Routed(publishing, publishing.messages))
    assert rig.frames() == ["Basic.Return", "ContentHeader", "ContentBody"]
    rig.transport.assert_all_credit_is_back()


def test_credit_of_what_is_refused(rig: Rig) -> None:
    publishing = publish(rig.open(), b"a")
    Route(publishing, publishing.messages).refuse("quarantined")
    settle(rig.system)
    rig.transport.assert_all_credit_is_back()


@pytest.mark.parametrize(
    "frames",
    [
        [spec.Basic.Ack(99), *published(b"behind a bad ack")],
        published(b"to nowhere", exchange="nowhere"),
        published(b"internal", exchange="amq.rabbitmq.trace"),
        [*published(b"good"), *published(b"to nowhere", exchange="nowhere")],
        published(b"immediate", immediate=True),
        [*published(b"before"), spec.Basic.Qos(prefetch_size=1), *published(b"after")],
        [spec.Basic.Cancel("none"), spec.Basic.Ack(99), spec.Basic.Qos(), *published(b"after")],
    ],
)
@pytest.mark.parametrize("tx", [False, True])
def test_credit_comes_back_from_a_channel_that_errs(rig: Rig, frames: list[Any], tx: bool) -> None:
    rig.open()
    if tx:
        rig.method(m.TxSelect())
    rig.read(*frames)
    routes = [told for told in rig.exchange.take_all() if isinstance(told, Route)]
    if tx and rig.state == OPEN:
        rig.method(m.TxCommit())
        rig.commit()
    assert (rig.state == CLOSING) or tx
    for route in routes:
        rig.accept(route.publishing)
    rig.method(m.ChannelCloseOk())
    rig.transport.assert_all_credit_is_back()


@pytest.mark.parametrize("close", ["client", "error", "failure", "disconnect"])
def test_credit_comes_back_once_from_a_channel_that_ends(rig: Rig, close: str) -> None:
    rig.open().method(m.ConfirmSelect())
    rig.frames()
    publishing = publish(rig, b"a", b"b")
    rig.tell(
        {
            "client": arrived(m.ChannelClose(200)),
            "error": arrived(m.BasicReject(99)),
            "failure": Restart(),
            "disconnect": Disconnected("gone"),
        }[close]
    )
    rig.transport.assert_all_credit_is_back()
    sent = rig.frames()
    rig.accept(publishing, held=True, stored=True)
    rig.tell(Released(publishing))
    rig.tell(Committed([publishing]))
    rig.transport.assert_all_credit_is_back()
    assert rig.frames() == []
    assert len(sent) == (0 if close == "disconnect" else 1)


def test_nothing_is_returned_on_a_channel_that_has_closed(rig: Rig) -> None:
    publishing = publish(rig.open(), b"a", mandatory=True)
    rig.method(m.ChannelClose(200))
    assert rig.frames() == ["Channel.CloseOk"]
    publishing.hops -= 1
    rig.tell(Routed(publishing, publishing.messages))
    assert rig.frames() == []
    rig.transport.assert_all_credit_is_back()


def test_credit_of_what_is_stashed_when_the_connection_ends(rig: Rig) -> None:
    rig.open()
    rig.read(spec.Queue.Declare(queue="a"), *published(b"stashed"), spec.Basic.Qos(), *published(b"more"))
    rig.tell(Disconnected("gone"))
    assert rig.connection.told == []  # what came is carried out first
    rig.tell(Done(rig.request(), m.QueueDeclareOk("a", 0, 0)))
    rig.connection.take(ChannelGone)
    assert len(rig.exchange.told) == 2
    rig.transport.assert_all_credit_is_back()


def test_credit_of_what_comes_behind_an_error_among_the_stashed(rig: Rig) -> None:
    rig.open()
    rig.read(spec.Queue.Declare(queue="a"), spec.Basic.Qos(prefetch_size=9), *published(b"x"), spec.Basic.Qos())
    rig.read(*published(b"y"))
    rig.tell(Done(rig.request(), m.QueueDeclareOk("a", 0, 0)))
    assert rig.connection.take(ChannelFailed).error.code == 540
    rig.transport.assert_all_credit_is_back()


def test_credit_of_what_came_in_one_read_with_a_close_and_an_open(rig: Rig) -> None:
    rig.open()
    rig.read(*published(b"old"), spec.Channel.Close(200, "", 0, 0), spec.Channel.Open(), *published(b"new"))
    assert rig.frames() == ["Channel.CloseOk"]
    old = rig.route()
    gone, *forwarded = rig.connection.take_all()
    assert isinstance(gone, ChannelGone)
    cost = sum(one.cost for message in forwarded for one in message.inputs)
    assert (cost, rig.transport.granted, rig.transport.taken) == (1, 1, 2)
    rig.accept(old)
    assert rig.transport.granted == 1


def test_a_failure_in_the_middle_of_a_read_returns_all_credit(rig: Rig) -> None:
    rig.open()
    inputs = rig.reader.read(
        1, *published(b"a"), spec.Basic.Qos(), *published(b"b"), spec.Basic.Qos(), *published(b"c")
    )
    broken: Any = [None]
    inputs[1].published = broken
    rig.tell(Arrived(inputs))
    assert rig.frames()[-1] == "Channel.Close"
    for route in rig.exchange.take_all():
        rig.accept(route.publishing)
    rig.transport.assert_all_credit_is_back()


# Confirms and transactions


def test_confirms_wait_for_the_disk_where_they_have_to(rig: Rig) -> None:
    rig.open().method(m.ConfirmSelect())
    assert rig.frames() == ["Confirm.SelectOk"]
    publishing = publish(rig, b"a", persistent=True)
    rig.accept(publishing, stored=True)
    assert rig.frames() == []
    rig.tell(Committed([publishing]))
    assert rig.frames() == ["Basic.Ack"]


def test_a_return_comes_before_its_confirm(rig: Rig) -> None:
    rig.open().method(m.ConfirmSelect())
    rig.frames()
    publishing = publish(rig, b"a", mandatory=True)
    publishing.hops -= 1
    rig.tell(Routed(publishing, publishing.messages))
    assert rig.frames() == ["Basic.Return", "ContentHeader", "ContentBody", "Basic.Ack"]


def test_what_is_refused_is_nacked(rig: Rig) -> None:
    rig.open().method(m.ConfirmSelect())
    rig.frames()
    publishing = publish(rig, b"a", b"b", b"c")
    rig.accept(publishing, refused=publishing.messages[1:2])
    assert [(frame.name, frame.delivery_tag) for _, frame in rig.transport.frames()] == [
        ("Basic.Ack", 1),
        ("Basic.Nack", 2),
        ("Basic.Ack", 3),
    ]


def test_a_commit_is_answered_when_all_of_it_is_on_disk(rig: Rig) -> None:
    rig.open().method(m.TxSelect())
    rig.read(*published(b"a", persistent=True))
    rig.transport.assert_all_credit_is_back()  # a transaction may be larger than the credit
    assert rig.exchange.told == []
    rig.method(m.TxCommit())
    publishing = rig.route()
    assert publishing.transaction is not None
    assert rig.persistence.told == []
    rig.accept(publishing)
    assert rig.frames() == ["Tx.SelectOk"]
    assert rig.commit() is publishing.transaction
    assert rig.frames() == ["Tx.CommitOk"]
    rig.transport.assert_all_credit_is_back()


def transact(rig: Rig) -> tuple[Publishing, Publishing, Settlement]:
    """Begin a commit of publishes through two exchanges and an ack."""
    rig.open()
    consumer = rig.consume()
    rig.deliver(consumer, b"a", b"b")
    rig.frames()
    rig.method(m.TxSelect())
    rig.read(*published(b"c"), *published(b"d", exchange="amq.fanout"), spec.Basic.Ack(1), spec.Tx.Commit())
    assert rig.frames() == ["Tx.SelectOk"]
    one, other = (route.publishing for route in rig.exchange.take_all())
    return one, other, rig.queue.take(Settlement)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_commit_is_stored_when_every_queue_has_done_its_part(rig: Rig, order: tuple[int, ...]) -> None:
    one, other, settlement = transact(rig)
    parts = [
        lambda: rig.accept(one),
        lambda: rig.accept(other),
        lambda: rig.tell(Settled(settlement.transaction)),
    ]
    for number in order:
        assert rig.persistence.told == []
        parts[number]()
    assert rig.commit() is settlement.transaction
    assert rig.frames() == ["Tx.CommitOk"]


def test_what_comes_behind_a_commit_waits(rig: Rig) -> None:
    one, other, settlement = transact(rig)
    rig.read(spec.Basic.Qos(prefetch_count=1))
    rig.accept(one)
    rig.accept(other)
    rig.tell(Settled(settlement.transaction))
    assert rig.frames() == []
    rig.commit()
    assert rig.frames() == ["Tx.CommitOk", "Basic.QosOk"]


def test_an_answer_that_comes_twice_is_none_to_the_next_commit(rig: Rig) -> None:
    rig.open().method(m.TxSelect())
    rig.method(m.TxCommit())
    first = rig.commit()
    rig.method(m.TxCommit())
    rig.tell(TransactionCommitted(first))
    assert rig.frames() == ["Tx.SelectOk", "Tx.CommitOk"]
    rig.commit()
    assert rig.frames() == ["Tx.CommitOk"]


def test_settlements_of_one_kind_are_one_for_each_queue(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    entries = rig.deliver(consumer, *[b"x"] * 6)
    rig.method(m.TxSelect())
    nack = spec.Basic.Nack(5, requeue=True)
    rig.read(spec.Basic.Ack(2), spec.Basic.Ack(1), spec.Basic.Reject(3, requeue=False), nack, spec.Basic.Ack(6))
    assert rig.queue.told == []
    rig.method(m.TxCommit())
    told = [(settlement.outcome, settlement.entries) for settlement in rig.queue.take_all()]
    assert told == [
        (Settle, entries[:2]),
        (Discard, [entries[2]]),
        (Requeue, [entries[4]]),
        (Settle, [entries[5]]),
    ]


@pytest.mark.parametrize("where", ["exchange", "queue", "settlement", "stage", "commit"])
def test_a_commit_of_which_a_part_is_refused_fails(rig: Rig, where: str) -> None:
    one, other, settlement = transact(rig)
    transaction = settlement.transaction
    rig.accept(one)
    if where == "exchange":
        Route(other, other.messages).refuse("quarantined")
    else:
        rig.accept(other, refused=other.messages if where == "queue" else [])
    if where == "stage":
        Stage(transaction, 1).refuse("failed")
    if where == "settlement":
        settlement.refuse("failed")
    else:
        rig.tell(Settled(transaction))
    settle(rig.system)
    assert rig.frames() == []  # what was accepted is to be stored first
    if where == "commit":
        rig.persistence.take(CommitTransaction).refuse("quarantined")
        settle(rig.system)
    else:
        rig.commit()
    ((_, close),) = rig.transport.frames()
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")
    assert (close.class_id, close.method_id) == (90, 20)


def test_returns_come_before_the_commit_ok(rig: Rig) -> None:
    rig.open().method(m.TxSelect())
    rig.read(*published(b"a", mandatory=True), *published(b"b", exchange="amq.fanout"), spec.Tx.Commit())
    nowhere, somewhere = (route.publishing for route in rig.exchange.take_all())
    rig.accept(somewhere)
    nowhere.hops -= 1
    rig.tell(Routed(nowhere, nowhere.messages))
    rig.commit()
    assert rig.frames() == ["Tx.SelectOk", "Basic.Return", "ContentHeader", "ContentBody", "Tx.CommitOk"]


def test_a_queue_that_is_gone_holds_no_commit_up(rig: Rig) -> None:
    one, other, settlement = transact(rig)
    rig.accept(one)
    rig.accept(other)
    rig.queue.has_stopped = True
    settlement.refuse("the queue has stopped")
    settle(rig.system)
    rig.commit()
    assert rig.frames() == ["Tx.CommitOk"]


def test_a_commit_through_an_exchange_that_is_gone_does_nothing(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    entries = rig.deliver(consumer, b"a")
    catalogue = rig.channel._session.catalogue
    exchange, _ = catalogue.declare_exchange("x", "fanout", False, False, False, {})
    exchange.destination.ref = rig.exchange
    rig.method(m.TxSelect())
    rig.read(*published(b"b"), *published(b"c", exchange="x"), spec.Basic.Ack(1))
    catalogue.delete_exchange("x", False)
    rig.frames()
    rig.method(m.TxCommit())
    ((_, close),) = rig.transport.frames()
    assert (close.reply_text, close.class_id, close.method_id) == ("NOT_FOUND - no exchange 'x' in vhost '/'", 90, 20)
    assert rig.exchange.told == []
    assert rig.queue.take_all() == [Unsubscribe(consumer), Requeue(entries)]


class Overdue:
    """A subscriber whose client should have acknowledged something a millisecond ago."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subscriber, name)

    def overdue(self, _now: int) -> int:
        return 1


@pytest.mark.parametrize("failure", [Restart(), LookForOverdue()], ids=["failure", "overdue"])
def test_a_commit_that_was_begun_is_complete_even_if_its_channel_ends(
    rig: Rig, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, settlement = transact(rig)
    rig.accept(one)
    if isinstance(failure, LookForOverdue):
        monkeypatch.setattr(rig.channel, "_subscriber", Overdue(rig.channel._subscriber))
    rig.tell(failure)
    assert rig.frames() == ["Channel.Close"]
    rig.accept(other)
    assert rig.persistence.told == []
    rig.tell(Settled(settlement.transaction))
    rig.commit()
    rig.method(m.ChannelCloseOk())
    rig.tell(Retire())
    assert (rig.frames(), rig.persistence.told) == ([], [])


@pytest.mark.parametrize("end", ["stop", "quarantine"])
def test_who_hears_no_more_answers_waits_for_none(rig: Rig, end: str) -> None:
    one, _, settlement = transact(rig)
    rig.accept(one)
    if end == "stop":
        rig.channel.end()
        settle(rig.system)
    else:
        with failing(rig.channel, Drained, ValueError, times=6):
            for _ in range(6):
                rig.tell(Drained())
        assert rig.channel.is_quarantined
    assert rig.persistence.take(CommitTransaction).transaction is settlement.transaction


def test_a_disconnected_channel_finishes_its_commit(rig: Rig) -> None:
    one, other, settlement = transact(rig)
    rig.tell(Disconnected("gone"))
    rig.accept(one)
    rig.accept(other)
    rig.tell(Settled(settlement.transaction))
    assert rig.connection.told == []
    rig.commit()
    rig.connection.take(ChannelGone)


def test_a_rollback_forgets(rig: Rig) -> None:
    rig.open().method(m.TxSelect())
    rig.read(*published(b"a"), spec.Tx.Rollback(), spec.Tx.Commit())
    assert rig.frames() == ["Tx.SelectOk", "Tx.RollbackOk"]
    rig.commit()
    assert rig.frames() == ["Tx.CommitOk"]
    assert rig.exchange.told == []
    rig.transport.assert_all_credit_is_back()


# Failures


def test_a_failure_closes_the_channel_for_its_client(rig: Rig) -> None:
    rig.open()
    with failing(rig.channel, Arrived, lambda: ValueError("boom")):
        rig.read(spec.Basic.Qos())
    ((_, close),) = rig.transport.frames()
    assert (close.reply_code, close.reply_text) == (541, "INTERNAL_ERROR - ValueError: boom")
    rig.method(m.ChannelCloseOk())
    rig.connection.take(ChannelGone)


def test_a_channel_that_fails_again_and_again_can_still_be_closed(rig: Rig) -> None:
    rig.open()
    consumer = rig.consume()
    with failing(rig.channel, Deliver, ValueError, times=9):
        for _ in range(9):
            rig.deliver(consumer, b"poison")
    assert rig.channel.is_quarantined
    assert rig.frames() == ["Channel.Close"]
    requeued = [entry for told in rig.queue.take_all() if isinstance(told, Requeue) for entry in told.entries]
    assert len(requeued) == 9
    rig.read(*published(b"on its way"))
    rig.method(m.ChannelCloseOk())
    rig.connection.take(ChannelGone)
    rig.transport.assert_all_credit_is_back()


# With real neighbours


def test_a_consumer_whose_channel_fails_before_it_knows_is_let_go(world: World, client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    with failing(world.actor(ChannelActor), Done, ValueError):
        client.send(1, *published(b"kept"), spec.Basic.Consume(queue="q", consumer_tag="c"))
        client.expect(spec.Channel.Close, 1)
    world.settle()
    snapshot = world.actor(QueueActor).snapshot()
    assert (snapshot["messages_ready"], snapshot["consumers"]) == (1, 0)


def test_a_message_whose_get_ok_fails_goes_back(world: World, client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    with failing(world.actor(ChannelActor), Got, ValueError):
        client.send(1, *published(b"kept"), spec.Basic.Get(queue="q"))
        client.expect(spec.Channel.Close, 1)
    world.settle()
    assert world.actor(QueueActor).snapshot()["messages_ready"] == 1
    assert client.open_channel(2).get(channel=2)[1] == b"kept"


def test_a_get_sees_what_was_published_before(client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    for number in range(50):
        client.send(1, *published(b"%d" % number), spec.Basic.Get(queue="q", no_ack=True))
        answer = client.expect(spec.Basic.GetOk, 1)
        assert (client._body(1), answer.message_count) == (b"%d" % number, 0)


def test_the_next_channel_of_a_number_hears_nothing_of_the_last(client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.send(1, *published(b"unsettled"), spec.Channel.Close(200, "", 0, 0), spec.Channel.Open(), spec.Basic.Qos())
    client.expect(spec.Channel.CloseOk, 1)
    client.expect(spec.Channel.OpenOk, 1)
    client.expect(spec.Basic.QosOk, 1)
    client.expect_nothing()
    client.transport.assert_all_credit_is_back()


def test_a_paused_channel_holds_only_its_own(world: World, client: Client) -> None:
    other = Client(world).open().open_channel()
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    paused = next(
        actor for actor in world.actors(ChannelActor) if actor.parent is not None and actor.parent == client.connection
    )
    paused.actor_inbox.pause()
    client.publish(1, b"held")
    other.publish(1, b"first")
    assert other.get(no_ack=True)[1] == b"first"
    client.open_channel(2)
    client.publish(2, b"second")
    assert client.get(channel=2, no_ack=True)[1] == b"second"
    paused.actor_inbox.resume()
    world.settle()
    assert other.get(no_ack=True)[1] == b"held"
    assert world.actor(QueueActor).snapshot()["messages"] == 0


def test_a_consumer_with_arguments_that_it_can_not_have_does_not_reach_the_vhost(rig: Rig) -> None:
    rig.open()
    rig.channel._session.catalogue.declare_queue("q", False, False, False, {}, 1)
    rig.method(m.BasicConsume("q", "c", arguments={"x-priority": "high"}))
    assert rig.vhost.told == []
    assert rig.frames() == ["Channel.Close"]


def overdue_text(milliseconds: int) -> str:
    return (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. "
        f"Timeout value used: {milliseconds} ms. "
        "This timeout value can be configured, see consumers doc guide to learn more"
    )


@pytest.mark.parametrize("by_get", [False, True])
def test_who_does_not_acknowledge_in_time_loses_the_channel(client: Client, by_get: bool) -> None:
    client.call(1, spec.Queue.Declare(queue="q", arguments={"x-consumer-timeout": 50}), spec.Queue.DeclareOk)
    client.publish(1, b"x")
    if by_get:
        client.get()
    else:
        client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
        client.delivery()
    close = client.expect(spec.Channel.Close, 1)
    assert (close.reply_code, close.reply_text, close.class_id) == (406, overdue_text(50), 0)
    client.send(1, spec.Channel.CloseOk())
    client.open_channel(2)
    assert client.get(channel=2)[0].redelivered


def test_who_acknowledges_in_time_goes_on(client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q", arguments={"x-consumer-timeout": 200}), spec.Queue.DeclareOk)
    client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    for _ in range(10):
        client.publish(1, b"x")
        deliver, _ = client.delivery()
        gevent.sleep(0.03)
        client.send(1, spec.Basic.Ack(deliver.delivery_tag or 0))
    client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)


def test_without_acknowledgements_there_is_nothing_to_wait_for(client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q", arguments={"x-consumer-timeout": 1}), spec.Queue.DeclareOk)
    client.call(1, spec.Basic.Consume(queue="q", no_ack=True), spec.Basic.ConsumeOk)
    client.publish(1, b"x")
    client.delivery()
    gevent.sleep(0.05)
    client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)
