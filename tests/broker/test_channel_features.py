"""What RabbitMQ's clients rely on beyond AMQP on their channels and connections."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import gevent
import pytest
from actors.harness import wait_until as wait_for
from broker.clients import Inbox, channel_error, depth, exists, publish, round_trip, wait_until
from broker.conftest import Connect, Fresh, rabbitmq_differs
from broker.raw import RawClient
from pamqp import commands as spec
from pika import BasicProperties, ConnectionParameters
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from dispatchd.actors.broker import BrokerActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.messages import AlarmEnded, AlarmRaised, CloseConnection
from dispatchd.config import Config
from dispatchd.model.alarms import DISK, MEMORY
from dispatchd.server import Server
from dispatchd.store.memory_store import MemoryStore

REPLY_TO = "amq.rabbitmq.reply-to"


class Caller:
    """A client of RPC servers by direct reply-to."""

    def __init__(self, channel: BlockingChannel) -> None:
        self.channel = channel
        self.inbox = Inbox(channel, REPLY_TO, auto_ack=True)

    def ask(self, queue: str, body: bytes, **properties: Any) -> None:
        self.channel.basic_publish("", queue, body, BasicProperties(reply_to=REPLY_TO, **properties))


def take_request(channel: BlockingChannel, queue: str) -> tuple[BasicProperties, bytes]:
    """The next request, once it is there."""
    wait_until(channel, lambda: depth(channel, queue))
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    assert properties is not None
    assert body is not None
    return properties, body


def test_direct_replies(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    callers = [Caller(connect().channel()), Caller(channel), Caller(channel.connection.channel())]
    for number, caller in enumerate(callers):
        for correlation in range(20):
            caller.ask(queue, str(number).encode(), correlation_id=str(correlation), headers={"n": number}, priority=3)
        round_trip(caller.channel)

    server = connect().channel()
    addresses: dict[bytes, set[str]] = {}
    for _ in range(60):
        properties, body = take_request(server, queue)
        assert properties.reply_to.startswith(REPLY_TO + ".")
        assert (properties.headers, properties.priority) == ({"n": int(body)}, 3)
        addresses.setdefault(body, set()).add(properties.reply_to)
        answer = BasicProperties(correlation_id=properties.correlation_id, content_type="text/plain")
        server.basic_publish("", properties.reply_to, b"answer to " + body, answer)

    for number, caller in enumerate(callers):
        deliveries = caller.inbox.wait(20)
        assert [delivery.properties.correlation_id for delivery in deliveries] == [str(each) for each in range(20)]
        assert set(caller.inbox.bodies) == {b"answer to %d" % number}
        (address,) = addresses[str(number).encode()]
        first = deliveries[0]
        assert (first.consumer_tag, first.exchange, first.routing_key) == (caller.inbox.tag, "", address)
        assert not first.redelivered
        assert first.properties.content_type == "text/plain"
    assert len(set().union(*addresses.values())) == 3


@pytest.fixture
def caller(connect: Connect) -> Caller:
    return Caller(connect().channel())


def address_of(caller: Caller, channel: BlockingChannel, queue: str) -> str:
    caller.ask(queue, b"request")
    return str(take_request(channel, queue)[0].reply_to)


def test_an_address_can_be_declared_while_its_consumer_is_there(
    caller: Caller, channel: BlockingChannel, queue: str
) -> None:
    address = address_of(caller, channel, queue)
    for name in (REPLY_TO, address):
        for passive in (False, True):
            answer = channel.queue_declare(name, passive=passive).method
            assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 0, 1)
    caller.channel.basic_cancel(caller.inbox.tag)
    assert not exists(channel, address)
    assert exists(channel, REPLY_TO)


@pytest.mark.parametrize("name", [REPLY_TO + ".", REPLY_TO + ".made-up", REPLY_TO + "x"])
def test_a_made_up_address(channel: BlockingChannel, name: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", name, b"x")
    with pytest.raises(UnroutableError):
        channel.basic_publish("", name, b"x", mandatory=True)
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        channel.queue_declare(name)


def test_a_mandatory_answer_is_delivered_and_returned_all_the_same(
    caller: Caller, channel: BlockingChannel, queue: str
) -> None:
    address = address_of(caller, channel, queue)
    channel.confirm_delivery()
    channel.basic_publish("", address, b"first")
    with pytest.raises(UnroutableError):
        channel.basic_publish("", address, b"second", mandatory=True)
    caller.inbox.wait(2)
    assert caller.inbox.bodies == [b"first", b"second"]


def test_who_has_gone_gets_no_answer(caller: Caller, channel: BlockingChannel, queue: str) -> None:
    address = address_of(caller, channel, queue)
    caller.channel.connection.close()
    wait_until(channel, lambda: not exists(channel, address))
    channel.confirm_delivery()
    channel.basic_publish("", address, b"answer")
    with pytest.raises(UnroutableError):
        channel.basic_publish("", address, b"answer", mandatory=True)


def test_a_reply_consumer_is_cancelled_and_another_one_comes(
    caller: Caller, channel: BlockingChannel, queue: str
) -> None:
    first = address_of(caller, channel, queue)
    caller.channel.basic_cancel(caller.inbox.tag)
    caller.inbox = Inbox(caller.channel, REPLY_TO, auto_ack=True)
    second = address_of(caller, channel, queue)
    for address in (first, second):
        channel.basic_publish("", address, address.encode())
    caller.inbox.wait(1)
    assert caller.inbox.bodies == [second.encode()]


def test_a_reply_consumer_can_not_acknowledge(channel: BlockingChannel) -> None:
    with channel_error(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
        channel.basic_consume(REPLY_TO, print)


def test_one_reply_consumer_for_a_channel(caller: Caller) -> None:
    with channel_error(406, "PRECONDITION_FAILED - reply consumer already set"):
        Inbox(caller.channel, REPLY_TO, auto_ack=True)


def test_a_request_without_a_reply_consumer(
    connection: BlockingConnection, channel: BlockingChannel, queue: str
) -> None:
    other = connection.channel()
    other.basic_publish("", queue, b"before", BasicProperties(reply_to=queue))
    other.basic_publish("", queue, b"request", BasicProperties(reply_to=REPLY_TO))
    with channel_error(406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        round_trip(other)
    assert take_request(channel, queue)[1] == b"before"
    assert depth(channel, queue) == 0


def test_nothing_else_can_be_done_with_the_pseudo_queue(
    caller: Caller, connection: BlockingConnection, channel: BlockingChannel, queue: str, fresh: Fresh
) -> None:
    for name in (REPLY_TO, address_of(caller, channel, queue)):
        for operate in (
            lambda probe, name=name: probe.basic_get(name),
            lambda probe, name=name: probe.queue_purge(name),
            lambda probe, name=name: probe.queue_bind(name, "amq.direct", "key"),
        ):
            with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
                operate(connection.channel())
        assert channel.queue_delete(name).method.message_count == 0
    with pytest.raises(ChannelClosedByBroker, match="no queue"):
        channel.basic_consume(name, print, auto_ack=True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"x-priority": "high"}, "invalid arg 'x-priority' for {}: \"expected integer, got longstr\""),
        ({"x-priority": True}, "invalid arg 'x-priority' for {}: \"expected integer, got bool\""),
        (
            {"x-cancel-on-ha-failover": "x"},
            "invalid arg 'x-cancel-on-ha-failover' for {}: {{unacceptable_type,longstr}}",
        ),
        ({"x-stream-offset": "first"}, "invalid arg 'x-stream-offset' for {} of queue type rabbit_classic_queue"),
    ],
)
def test_arguments_that_no_consumer_can_have(
    connection: BlockingConnection, fresh: Fresh, arguments: dict[str, Any], problem: str
) -> None:
    missing, queue = fresh("missing"), fresh("q")[-40:]
    with channel_error(404, f"NOT_FOUND - no queue '{missing}' in vhost '/'"):
        connection.channel().basic_consume(missing, print, arguments=arguments)
    channel = connection.channel()
    channel.queue_declare(queue, exclusive=True)
    resource = f"queue '{queue}' in vhost '/'"
    with channel_error(406, f"PRECONDITION_FAILED - {problem.format(resource)}"):
        channel.basic_consume(queue, print, arguments=arguments)


def test_arguments_that_a_consumer_may_have(channel: BlockingChannel, queue: str) -> None:
    for arguments in ({"x-priority": -5}, {"x-priority": 2**40}, {"x-cancel-on-ha-failover": True}, {"anything": None}):
        Inbox(channel, queue, arguments=arguments)
    assert channel.queue_declare(queue, passive=True).method.consumer_count == 4


class Local:
    """A broker in the process of the test, which rings the alarm itself."""

    def __init__(self) -> None:
        config = Config(amqp_port=0, admin_port=0, debug_port=0, bind="127.0.0.1")
        self.server = Server(config, MemoryStore())
        self.server.start()
        (self.broker,) = [actor for actor in self.server.system.actors.values() if isinstance(actor, BrokerActor)]
        self.is_stopped = False

    def stop(self) -> bool:
        self.is_stopped = True
        return self.server.stop()

    def connect(self) -> BlockingConnection:
        return BlockingConnection(ConnectionParameters("127.0.0.1", self.server.amqp_port, heartbeat=0))

    def raw(self, **capabilities: bool) -> RawClient:
        client = RawClient("127.0.0.1", self.server.amqp_port)
        client.open(capabilities={name.replace("_", "."): able for name, able in capabilities.items()})
        client.open_channel()
        return client

    def raise_alarm(self, cause: str) -> None:
        self.broker.ref.tell(AlarmRaised(cause, "the test says so"))

    def end_alarm(self, cause: str) -> None:
        self.broker.ref.tell(AlarmEnded(cause))

    @property
    def states(self) -> list[str]:
        """What the admin shows of the connections."""
        actors = self.server.system.actors.values()
        return [actor.snapshot()["state"] for actor in actors if isinstance(actor, ConnectionActor)]


@pytest.fixture
def local() -> Iterator[Local]:
    local = Local()
    yield local
    if not local.is_stopped:
        local.stop()


def test_blocked_publishers_wait_while_consumers_go_on(local: Local) -> None:
    consumer = local.connect().channel()
    consumer.queue_declare("q")
    publish(consumer, "q", b"before")
    round_trip(consumer)
    publisher = local.connect()
    told: list[Any] = []
    publisher.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
    publisher.add_on_connection_unblocked_callback(lambda _, frame: told.append("unblocked"))
    channel = publisher.channel()

    local.raise_alarm(MEMORY)
    round_trip(channel)
    assert local.states == ["blocking", "blocking"]
    publish(channel, "q", b"first")
    wait_until(channel, lambda: told)
    publish(channel, "q", b"second")
    inbox = Inbox(consumer, "q", auto_ack=True)
    inbox.wait(2)
    for _ in range(20):
        round_trip(consumer)
    assert inbox.all() == [b"before", b"first"]
    assert local.states == ["blocking", "blocked"]

    local.end_alarm(MEMORY)
    wait_until(channel, lambda: len(told) == 2)
    inbox.wait(3)
    assert inbox.bodies == [b"before", b"first", b"second"]
    assert told == ["low on memory", "unblocked"]
    consumer.connection.close()
    publisher.close()


def test_who_can_not_be_told_is_blocked_without_a_word(local: Local) -> None:
    client = local.raw()
    client.send(spec.Queue.Declare(queue="q"), 1)
    client.expect(spec.Queue.DeclareOk)
    local.raise_alarm(DISK)
    client.publish(1, "q", b"first")
    wait_for(lambda: local.states == ["blocked"])
    client.publish(1, "q", b"second")
    client.send(spec.Queue.Declare(queue="q", passive=True), 1)
    local.end_alarm(DISK)
    assert client.expect(spec.Queue.DeclareOk).message_count == 2


def test_a_blocked_connection_can_be_closed(local: Local) -> None:
    client = local.raw(connection_blocked=True)
    local.raise_alarm(DISK)
    client.publish(1, "q", b"x")
    assert client.expect(spec.Connection.Blocked).reason == "low on disk"
    (connection,) = [a for a in local.server.system.actors.values() if isinstance(a, ConnectionActor)]
    connection.ref.tell(CloseConnection("enough"))
    assert client.expect_connection_close(320) == "CONNECTION_FORCED - enough"
    wait_for(lambda: not local.states)


def test_the_broker_ends_with_blocked_connections(local: Local) -> None:
    client = local.raw(connection_blocked=True)
    local.raise_alarm(DISK)
    client.publish(1, "q", b"x")
    client.expect(spec.Connection.Blocked)
    ended = gevent.spawn(local.stop)
    assert client.expect_connection_close(320).startswith("CONNECTION_FORCED")
    assert ended.get(timeout=20) is True


def test_who_leaves_while_blocked_is_gone_after_the_alarm(local: Local) -> None:
    client = local.raw(connection_blocked=True)
    local.raise_alarm(DISK)
    client.publish(1, "q", b"x")
    client.expect(spec.Connection.Blocked)
    client.close()
    local.end_alarm(DISK)
    wait_for(lambda: not local.states)


def test_the_admin_shows_what_a_client_calls_its_connection(local: Local) -> None:
    parameters = ConnectionParameters(
        "127.0.0.1", local.server.amqp_port, client_properties={"connection_name": "orders"}
    )
    connection = BlockingConnection(parameters)
    url = f"http://127.0.0.1:{local.server.admin_port}/api/connections"
    request = Request(url, headers={"Authorization": "Basic " + b64encode(b"guest:guest").decode()})
    with urlopen(request, timeout=10) as answer:
        (row,) = json.load(answer)
    assert row["user_provided_name"] == "orders"
    connection.close()


@rabbitmq_differs(reason="it has had this argument since 3.12")
def test_a_queue_that_waits_for_acknowledgements_only_so_long(connection: BlockingConnection, fresh: Fresh) -> None:
    channel, queue = connection.channel(), fresh("q")
    with channel_error(406):
        connection.channel().queue_declare(queue, arguments={"x-consumer-timeout": "soon"})
    channel.queue_declare(queue, arguments={"x-consumer-timeout": 100})
    publish(channel, queue, b"x")
    inbox = Inbox(channel, queue)
    inbox.wait(1)
    with channel_error(
        406,
        f"PRECONDITION_FAILED - delivery acknowledgement on channel {channel.channel_number} timed out. "
        "Timeout value used: 100 ms. This timeout value can be configured, see consumers doc guide to learn more",
    ):
        while inbox.bodies == [b"x"]:
            round_trip(channel)
    other = connection.channel()
    method, _, _ = other.basic_get(queue, auto_ack=True)
    assert method.redelivered
    other.queue_delete(queue)
