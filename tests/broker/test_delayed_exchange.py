"""Exchanges of the type x-delayed-message, as RabbitMQ's plugin has them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from broker.clients import Inbox, channel_error, connection_error, depth, persistent, round_trip, wait_until
from broker.conftest import Connect, Fresh
from broker.process import BrokerProcess
from broker.raw import RawClient
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel

DELAYED = "x-delayed-message"
LONG = 600_000


def declare(channel: BlockingChannel, name: str, kind: str = "direct", **options: Any) -> str:
    arguments = {"x-delayed-type": kind, **options.pop("arguments", {})}
    channel.exchange_declare(name, DELAYED, arguments=arguments, **options)
    return name


def bound_queue(channel: BlockingChannel, name: str, exchange: str, key: str = "k", **arguments: Any) -> str:
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, exchange, key, arguments)
    return name


def delayed(delay: Any, **headers: Any) -> BasicProperties:
    return BasicProperties(headers={"x-delay": delay, **headers})


def test_messages_come_in_the_order_in_which_they_are_due(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"))
    inbox = Inbox(channel, bound_queue(channel, fresh("q"), x), auto_ack=True)
    delays = [600, 200, 400, 200, 0, LONG]
    began = time.monotonic()
    for number, delay in enumerate(delays):
        channel.basic_publish(x, "k", b"%d of %d" % (delay, number), delayed(delay))
    inbox.wait(5)
    assert time.monotonic() - began >= 0.6
    assert inbox.all() == [b"0 of 4", b"200 of 1", b"200 of 3", b"400 of 2", b"600 of 0"]
    assert [each.properties.headers["x-delay"] for each in inbox.deliveries] == [0, -200, -200, -400, -600]
    assert {(each.exchange, each.routing_key) for each in inbox.deliveries} == {(x, "k")}


@pytest.mark.parametrize(("value", "shown"), [(20, -20), ("20", -20), ("+020", -20)])
def test_what_is_a_delay(channel: BlockingChannel, fresh: Fresh, value: Any, shown: int) -> None:
    x = declare(channel, fresh("x"))
    q = bound_queue(channel, fresh("q"), x)
    properties = BasicProperties(
        headers={"x-delay": value, "other": [1, "two"]}, content_type="text/plain", priority=3, message_id="id"
    )
    channel.basic_publish(x, "k", b"body", properties)
    [delivery] = Inbox(channel, q, auto_ack=True).wait(1)
    properties.headers["x-delay"] = shown
    assert delivery.properties == properties


@pytest.mark.parametrize(
    "headers",
    [
        *(None, {}, {"x-delay": 0}, {"x-delay": -5000}, {"x-delay": 4294967296}, {"x-delay": "4294967296"}),
        *({"x-delay": "soon"}, {"x-delay": ""}, {"x-delay": None}, {"x-delay": True}, {"x-delay": [5]}),
    ],
)
def test_what_is_routed_at_once_and_left_as_it_is(
    channel: BlockingChannel, fresh: Fresh, headers: dict[str, Any] | None
) -> None:
    x = declare(channel, fresh("x"))
    q = bound_queue(channel, fresh("q"), x)
    channel.basic_publish(x, "k", b"body", BasicProperties(headers=headers))
    _, properties, body = channel.basic_get(q, auto_ack=True)
    assert (body, properties.headers) == (b"body", headers)


@pytest.mark.parametrize(
    ("kind", "key", "arguments", "matching", "other"),
    [
        ("direct", "k", {}, "k", "K"),
        ("fanout", "", {}, "anything", None),
        ("topic", "a.*.#", {}, "a.b.c", "b.a"),
        ("headers", "", {"x-match": "all", "h": "1"}, "1", "2"),
        ("x-consistent-hash", "3", {}, "anything", None),
    ],
)
def test_it_routes_as_the_other_type_does(
    channel: BlockingChannel,
    fresh: Fresh,
    kind: str,
    key: str,
    arguments: dict[str, Any],
    matching: str,
    other: str | None,
) -> None:
    x = declare(channel, fresh("x"), kind)
    q = bound_queue(channel, fresh("q"), x, key, **arguments)
    inbox = Inbox(channel, q, auto_ack=True)
    for delay in (0, 10):
        if other is not None:
            channel.basic_publish(x, other, b"no", delayed(delay, h=other))
        channel.basic_publish(x, matching, b"%d" % delay, delayed(delay, h=matching))
    inbox.wait(2)
    channel.basic_publish(x, matching, b"last", delayed(20, h=matching))
    inbox.wait(3)
    assert inbox.all() == [b"0", b"10", b"last"]


MISSING = "Invalid argument, 'x-delayed-type' must be an existing exchange type"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, MISSING),
    ({"x-delayed-type": 1}, MISSING),
    ({"x-delayed-type": None}, MISSING),
    ({"x-delayed-type": DELAYED}, "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'"),
    (
        {"x-delayed-type": "x-consistent-hash", "hash-header": "a", "hash-property": "b"},
        "hash-header and hash-property are mutually exclusive",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_arguments_that_are_refused(
    channel: BlockingChannel, fresh: Fresh, arguments: dict[str, Any], text: str
) -> None:
    with channel_error(406, f"PRECONDITION_FAILED - {text}"):
        channel.exchange_declare(fresh("x"), DELAYED, arguments=arguments)


def test_a_type_that_there_is_not(connect: Connect, fresh: Fresh) -> None:
    with connection_error(503, "COMMAND_INVALID - unknown exchange type 'x-not-valid-type'"):
        declare(connect().channel(), fresh("x"), "x-not-valid-type")


def test_declared_again(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"), "topic")
    declare(channel, x, "topic")
    channel.exchange_declare(x, passive=True)
    prefix = f"PRECONDITION_FAILED - inequivalent arg 'x-delayed-type' for exchange '{x}' in vhost '/'"
    with channel_error(406, f"{prefix}: received 'direct' but current is 'topic'"):
        declare(channel, x)


def test_confirms_and_mandatory(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"))
    channel.confirm_delivery()
    returned: list[bytes] = []
    channel.add_on_return_callback(lambda *what: returned.append(what[3]))
    channel.basic_publish(x, "nowhere", b"waits", delayed(LONG), mandatory=True)
    assert returned == []


def test_a_transaction_begins_to_wait_when_it_is_committed(
    channel: BlockingChannel, connect: Connect, fresh: Fresh
) -> None:
    x = declare(channel, fresh("x"))
    inbox = Inbox(channel, bound_queue(channel, fresh("q"), x), auto_ack=True)
    transaction = connect().channel()
    transaction.tx_select()
    transaction.basic_publish(x, "k", b"rolled back", delayed(10))
    transaction.tx_rollback()
    transaction.basic_publish(x, "k", b"committed", delayed(10))
    transaction.tx_commit()
    inbox.wait(1)
    assert inbox.all() == [b"committed"]


def test_copies_and_an_alternate_exchange(channel: BlockingChannel, fresh: Fresh) -> None:
    ae = fresh("ae")
    channel.exchange_declare(ae, "fanout")
    caught = bound_queue(channel, fresh("caught"), ae)
    x = declare(channel, fresh("x"), arguments={"alternate-exchange": ae})
    queues = [bound_queue(channel, fresh(name), x, name) for name in ("to", "cc", "bcc")]
    channel.basic_publish(x, "to", b"copied", delayed(10, CC=["cc"], BCC=["bcc"]))
    channel.basic_publish(x, "nowhere", b"caught", delayed(10))
    for queue in queues:
        [delivery] = Inbox(channel, queue, auto_ack=True).wait(1)
        assert (delivery.body, delivery.properties.headers) == (b"copied", {"x-delay": -10, "CC": ["cc"]})
    assert Inbox(channel, caught, auto_ack=True).wait(1)[0].body == b"caught"


def test_retries_with_a_growing_delay(channel: BlockingChannel, fresh: Fresh) -> None:
    """What many do with it: what fails is published again, to wait longer."""
    x = declare(channel, fresh("x"))
    q = bound_queue(channel, fresh("q"), x)
    inbox = Inbox(channel, q)
    channel.basic_publish(x, "k", b"job", delayed(10))
    for attempt in range(1, 4):
        delivery = inbox.wait(attempt)[-1]
        waited = -delivery.properties.headers["x-delay"]
        assert waited == 10 * attempt
        channel.basic_publish(x, "k", delivery.body, delayed(waited + 10))
        channel.basic_ack(delivery.tag)
    inbox.wait(4)


def test_the_dead_wait_once(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"))
    q = fresh("q")
    channel.queue_declare(q, exclusive=True, arguments={"x-dead-letter-exchange": x, "x-dead-letter-routing-key": "k"})
    channel.queue_bind(q, x, "k")
    inbox = Inbox(channel, q)
    channel.basic_publish("", q, b"a", delayed(30))
    channel.basic_reject(inbox.wait(1)[0].tag, requeue=False)
    rejected = time.monotonic()
    delivery = inbox.wait(2)[1]
    assert time.monotonic() - rejected >= 0.03
    assert delivery.properties.headers["x-delay"] == -30
    assert delivery.properties.headers["x-death"][0]["reason"] == "rejected"
    channel.basic_reject(delivery.tag, requeue=False)
    assert inbox.wait(3)[2].properties.headers["x-death"][0]["count"] == 2


def test_a_deleted_exchange_forgets_what_waits(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"))
    q = bound_queue(channel, fresh("q"), x)
    channel.basic_publish(x, "k", b"forgotten", delayed(500))
    channel.exchange_delete(x)
    declare(channel, x)
    channel.queue_bind(q, x, "k")
    inbox = Inbox(channel, q, auto_ack=True)
    channel.basic_publish(x, "k", b"kept", delayed(600))
    inbox.wait(1)
    assert inbox.all() == [b"kept"]


def test_a_hundred_thousand(own_broker: BrokerProcess, connect: Connect) -> None:
    """They are taken in and wait, and when all are due at once nobody else has to wait long."""
    count, at_once, wait = 100_000, 1000, 5.0
    channel = connect(own_broker).channel()
    declare(channel, "x", "fanout")
    channel.queue_declare("q")
    channel.queue_bind("q", "x")
    raw = RawClient(own_broker.host, own_broker.port, timeout=30)
    raw.open()
    raw.open_channel()
    due = time.monotonic() + wait
    for _ in range(0, count, at_once):
        left = max(1, round((due - time.monotonic()) * 1000))
        header = ContentHeader(0, 1, spec.Basic.Properties(headers={"x-delay": left}))
        frames = (spec.Basic.Publish(exchange="x"), header, ContentBody(b"a"))
        raw.send_bytes(b"".join(marshal(frame, 1) for frame in frames) * at_once)
    raw.send(spec.Basic.Qos(), 1)
    raw.expect(spec.Basic.QosOk)
    taken_in = time.monotonic()
    slowest = 0.0
    while depth(channel, "q") < count:
        began = time.monotonic()
        round_trip(channel)
        slowest = max(slowest, time.monotonic() - began)
        assert began < due + 20
    routed = time.monotonic() - due
    print(
        f"taken in for {wait + taken_in - due:.2f} s, routed for {routed:.2f} s, answers took {slowest:.3f} s at most"
    )
    assert routed > 0
    assert slowest < max(1, routed / 2)
    raw.close()


def test_it_outlives_a_restart(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    declare(channel, "x", "topic", durable=True)
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "x", "a.*")
    channel.confirm_delivery()
    for delay in (LONG, 1, 2):
        channel.basic_publish("x", "a.b", b"%d" % delay, persistent(headers={"x-delay": delay}))
    wait_until(channel, lambda: depth(channel, "q") == 2)
    channel.basic_publish("x", "a.b", b"3", persistent(headers={"x-delay": 100}))
    channel.connection.close()
    own_broker.stop()
    time.sleep(0.1)  # so that it becomes due while the broker is down
    own_broker.start()
    channel = connect(own_broker).channel()
    inbox = Inbox(channel, "q", auto_ack=True)
    inbox.wait(3)
    assert inbox.all() == [b"1", b"2", b"3"]
