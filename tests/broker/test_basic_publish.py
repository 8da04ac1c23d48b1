from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
from broker.clients import Inbox, channel_error, depth, get, get_all, publish, round_trip, wait_until
from broker.conftest import Connect, Fresh, OpenRaw, rabbitmq_differs
from broker.process import BrokerProcess
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pika.adapters.blocking_connection import BlockingChannel

MAX_MESSAGE = 16 * 1024 * 1024

EVERY_FIELD_TYPE = (
    b"\x01tt\x01"
    b"\x01bb\xff"
    b"\x01BB\xff"
    b"\x01ss\xff\xfe"
    b"\x01uu\xff\xfe"
    b"\x01II\xff\xff\xff\xfe"
    b"\x01ii\xff\xff\xff\xfe"
    b"\x01ll\xff\xff\xff\xff\xff\xff\xff\xfe"
    + (b"\x01ff" + struct.pack(">f", 1.5))
    + (b"\x01dd" + struct.pack(">d", -0.1))
    + b"\x01DD\x02\x00\x00\x04\xd2"
    b"\x01SS\x00\x00\x00\x03\xff\x00\xfe"
    b"\x01TT\x00\x00\x00\x00\x65\x00\x00\x00"
    b"\x01VV"
    b"\x01xx\x00\x00\x00\x02\x00\xff"
    b"\x01AA\x00\x00\x00\x08t\x00S\x00\x00\x00\x01a"
    b"\x01FF\x00\x00\x00\x08\x05innert\x01"
)


def content_header(properties: bytes, body_size: int) -> bytes:
    """A whole frame of channel 1."""
    payload = struct.pack(">HHQ", 60, 0, body_size) + properties
    return struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"


# What arrives is what was sent


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 131_063, 131_064, 131_065, 1_000_000])
def test_bodies_of_all_sizes(channel: BlockingChannel, queue: str, size: int) -> None:
    body = bytes(at % 251 for at in range(min(size, 70_000))) * (1 + size // 70_000)
    body = body[:size]
    inbox = Inbox(channel, queue, auto_ack=True)
    publish(channel, queue, body)
    assert inbox.wait(1)[0].body == body
    channel.basic_cancel(inbox.tag)
    publish(channel, queue, body)
    assert get(channel, queue) == body


def test_a_large_body(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    body = bytes(range(256)) * (20 * 4096 // 2)  # 10 MiB
    publish(channel, queue, b"before", body, b"after")
    small_frames = connect(frame_max=4096)
    inbox = Inbox(small_frames.channel(), queue)
    inbox.wait(3)
    assert [len(delivery.body) for delivery in inbox.deliveries] == [6, len(body), 5]
    assert inbox.deliveries[1].body == body


def test_bodies_are_split_to_the_frame_max_of_each_consumer(
    channel: BlockingChannel, raw: OpenRaw, fresh: Fresh
) -> None:
    name, body = fresh("x"), bytes(range(256)) * 100
    channel.exchange_declare(name, "fanout", auto_delete=True)
    for frame_max in (4096, 10_000, 131072):
        client = raw()
        client.open(frame_max=frame_max)
        client.open_channel()
        client.send(spec.Queue.Declare(exclusive=True), 1)
        queue = client.expect(spec.Queue.DeclareOk).queue
        client.send(spec.Queue.Bind(queue=queue, exchange=name), 1)
        client.expect(spec.Queue.BindOk)
        client.send(spec.Basic.Consume(queue=queue, no_ack=True), 1)
        client.expect(spec.Basic.ConsumeOk)
        channel.basic_publish(name, "", body)
        client.expect(spec.Basic.Deliver)
        _, parts = client.content()
        assert b"".join(parts) == body
        assert max(map(len, parts)) <= frame_max - 8
        assert len(parts) == -(-len(body) // (frame_max - 8))


def test_a_body_in_frames_of_all_sizes(raw: OpenRaw, queue: str, channel: BlockingChannel) -> None:
    client = raw()
    client.open()
    client.open_channel()
    body = bytes(range(200))
    client.send(spec.Basic.Publish(routing_key=queue), 1)
    client.send(ContentHeader(0, len(body), spec.Basic.Properties()), 1)
    for begin, end in ((0, 1), (1, 3), (3, 100), (100, 199), (199, 200)):
        client.send(ContentBody(body[begin:end]), 1)
    client.send(spec.Basic.Get(queue=queue, no_ack=True), 1)
    client.expect(spec.Basic.GetOk)
    assert client.content()[1] == [body]


def test_contents_of_several_channels_may_be_interleaved(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    for number in (1, 2, 3):
        client.open_channel(number)
        client.send(spec.Basic.Publish(routing_key=queue), number)
    for number in (3, 1, 2):
        client.send(ContentHeader(0, 4, spec.Basic.Properties()), number)
    for part in (b"ab", b"cd"):
        for number in (2, 3, 1):
            client.send(ContentBody(part), number)
    for number in (1, 2, 3):
        client.send(spec.Basic.Get(queue=queue, no_ack=True), number)
        client.expect(spec.Basic.GetOk)
        assert client.content()[1] == [b"abcd"]


def test_all_properties(channel: BlockingChannel, queue: str) -> None:
    sent = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers={
            "text": "é世界",
            "bytes": b"\x00\xff",
            "true": True,
            "number": -(2**40),
            "decimal": Decimal("1.25"),
            "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "none": None,
            "table": {"inner": {"innermost": [1, "two", None, {"three": 3}]}},
            "list": [],
        },
        delivery_mode=2,
        priority=9,
        correlation_id="correlation",
        reply_to="reply",
        expiration="60000",
        message_id="message",
        timestamp=1_700_000_000,
        type="type",
        user_id="guest",
        app_id="app",
        cluster_id="cluster",
    )
    channel.basic_publish("", queue, b"x", sent)
    _, received, _ = channel.basic_get(queue, auto_ack=True)
    assert vars(received) == vars(sent)


def test_no_properties(channel: BlockingChannel, queue: str) -> None:
    channel.basic_publish("", queue, b"x", pika.BasicProperties())
    _, received, _ = channel.basic_get(queue, auto_ack=True)
    assert vars(received) == vars(pika.BasicProperties())


@pytest.mark.parametrize("routed_by", ["default", "headers"])
def test_headers_of_every_type_come_as_they_were(
    raw: OpenRaw, channel: BlockingChannel, queue: str, routed_by: str
) -> None:
    properties = struct.pack(">HI", 1 << 13, len(EVERY_FIELD_TYPE)) + EVERY_FIELD_TYPE
    exchange = ""
    if routed_by == "headers":
        exchange = "amq.headers"
        channel.queue_bind(queue, exchange, "", {"x-match": "any", "I": -2})
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Publish(exchange=exchange, routing_key=queue), 1)
    client.send_bytes(content_header(properties, 1))
    client.send(ContentBody(b"x"), 1)
    client.send(spec.Basic.Get(queue=queue, no_ack=True), 1)
    received = b""
    while not received.endswith(b"\x03\x00\x01\x00\x00\x00\x01x\xce"):
        received += client.socket.recv(65536)
    assert content_header(properties, 1) in received


@rabbitmq_differs(reason="it calls that an internal error")
def test_properties_that_are_not_what_they_say(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Publish(routing_key="q"), 1)
    client.send_bytes(content_header(struct.pack(">HI", 1 << 13, 1000) + b"\x01", 0))
    client.expect_connection_close(502, hang_up=True)


def test_a_body_above_the_limit(raw: OpenRaw, queue: str, channel: BlockingChannel) -> None:
    client = raw()
    client.open()
    client.open_channel()
    size = MAX_MESSAGE + 1
    client.send(spec.Basic.Publish(routing_key=queue), 1)
    client.send(ContentHeader(0, size, spec.Basic.Properties()), 1)
    closed = client.expect(spec.Channel.Close)
    assert (closed.reply_code, closed.reply_text) == (
        406,
        f"PRECONDITION_FAILED - message size {size} is larger than configured max size {MAX_MESSAGE}",
    )
    assert depth(channel, queue) == 0


def test_the_limit_can_be_chosen(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--max-message-size", "20MiB")
    with closing(pika.BlockingConnection(pika.ConnectionParameters(broker.host, broker.port))) as connection:
        channel = connection.channel()
        channel.queue_declare("q")
        publish(channel, "q", bytes(20 << 20))
        body = get(channel, "q")
        assert body is not None
        assert len(body) == 20 << 20
        with channel_error(406):
            publish(channel, "q", bytes((20 << 20) + 1))
            round_trip(channel)


# mandatory and immediate


def test_mandatory(connect: Connect, channel: BlockingChannel, queue: str, fresh: Fresh) -> None:
    returned: list[Any] = []
    channel.add_on_return_callback(
        lambda _channel, method, properties, body: returned.append((method, properties, body))
    )
    sent = pika.BasicProperties(headers={"a": 1}, correlation_id="c")
    channel.basic_publish("", queue, b"routed", mandatory=True)
    channel.basic_publish("", fresh("missing"), b"not mandatory")
    channel.basic_publish("", fresh("missing"), b"returned", sent, mandatory=True)
    channel.basic_publish("amq.topic", fresh("key"), b"", mandatory=True)
    wait_until(channel, lambda: len(returned) >= 2)
    assert [
        (method.reply_code, method.reply_text, method.exchange, method.routing_key, body)
        for method, _, body in returned
    ] == [
        (312, "NO_ROUTE", "", fresh("missing"), b"returned"),
        (312, "NO_ROUTE", "amq.topic", fresh("key"), b""),
    ]
    assert vars(returned[0][1]) == vars(sent)
    assert get_all(channel, queue) == [b"routed"]


def test_a_large_returned_body_is_split(raw: OpenRaw, fresh: Fresh) -> None:
    client = raw()
    client.open(frame_max=4096)
    client.open_channel()
    body = bytes(4000) * 3
    client.send(spec.Basic.Publish(routing_key=fresh("missing"), mandatory=True), 1)
    client.send(ContentHeader(0, len(body), spec.Basic.Properties()), 1)
    for _ in range(3):
        client.send(ContentBody(bytes(4000)), 1)
    client.expect(spec.Basic.Return)
    _, parts = client.content()
    assert b"".join(parts) == body
    assert max(map(len, parts)) <= 4088


def test_mandatory_through_exchanges(channel: BlockingChannel, fresh: Fresh, queue: str) -> None:
    returned: list[bytes] = []
    channel.add_on_return_callback(lambda _channel, _method, _properties, body: returned.append(body))
    upper, lower = fresh("upper"), fresh("lower")
    channel.exchange_declare(upper, "fanout", auto_delete=True)
    channel.exchange_declare(lower, "direct", auto_delete=True)
    channel.exchange_bind(lower, upper)
    channel.queue_bind(queue, lower, "key")
    channel.basic_publish(upper, "key", b"routed", mandatory=True)
    channel.basic_publish(upper, "other", b"returned", mandatory=True)
    wait_until(channel, lambda: returned)
    assert returned == [b"returned"]
    assert get_all(channel, queue) == [b"routed"]


def test_immediate(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.publish(1, queue, b"x", immediate=True)
    assert client.expect_connection_close(540) == "NOT_IMPLEMENTED - immediate=true"


def test_messages_before_one_to_a_missing_exchange_arrive(channel: BlockingChannel, queue: str, fresh: Fresh) -> None:
    name = fresh("x")
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        publish(channel, queue, b"before")
        channel.basic_publish(name, "", b"x")
        publish(channel, queue, b"after")
        round_trip(channel)
    channel = channel.connection.channel()
    assert get_all(channel, queue) == [b"before"]


# The channel sees what it has published


@pytest.mark.parametrize("kind", ["default", "fanout", "topic", "headers", "exchange to exchange"])
def test_get_sees_what_was_published_before(channel: BlockingChannel, queue: str, fresh: Fresh, kind: str) -> None:
    exchange = ""
    if kind != "default":
        exchange = last = fresh("x")
        channel.exchange_declare(exchange, "fanout" if " " in kind else kind, auto_delete=True)
        if " " in kind:
            for number in range(5):
                channel.exchange_declare(fresh(f"x{number}"), "fanout", auto_delete=True)
                channel.exchange_bind(fresh(f"x{number}"), last)
                last = fresh(f"x{number}")
        channel.queue_bind(queue, last, queue)
    for number in range(300):
        body = str(number).encode()
        channel.basic_publish(exchange, queue, body)
        assert get(channel, queue) == body


@rabbitmq_differs(reason="it counts messages before it takes in those that came before")
def test_declare_sees_what_was_published_before(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    for number in range(1, 301):
        client.publish(1, queue, b"x")
        client.send(spec.Queue.Declare(queue=queue, passive=number % 2 == 0), 1)
        assert client.expect(spec.Queue.DeclareOk).message_count == number


@pytest.mark.parametrize("method", [spec.Queue.Purge, spec.Queue.Delete])
def test_purge_and_delete_see_what_was_published_before(raw: OpenRaw, queue: str, method: Callable[..., Any]) -> None:
    client = raw()
    client.open()
    client.open_channel()
    for number in range(300):
        count = number % 5
        client.send(spec.Queue.Declare(queue=queue), 1)
        for _ in range(count):
            client.publish(1, queue, b"x")
        client.send(method(queue=queue), 1)
        client.expect(spec.Queue.DeclareOk)
        _, answer = client.receive()
        assert answer.message_count == count


def test_what_was_published_before_an_unbind_is_routed(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    for _ in range(100):
        client.send(spec.Queue.Bind(queue=queue, exchange="amq.direct", routing_key=queue), 1)
        client.publish(1, queue, b"x", exchange="amq.direct")
        client.send(spec.Queue.Unbind(queue=queue, exchange="amq.direct", routing_key=queue), 1)
        client.publish(1, queue, b"y", exchange="amq.direct")
        client.expect(spec.Queue.BindOk)
        client.expect(spec.Queue.UnbindOk)
    client.send(spec.Queue.Purge(queue=queue), 1)
    assert client.expect(spec.Queue.PurgeOk).message_count == 100


def test_order_of_one_channel_is_kept(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(connect().channel(), queue, auto_ack=True)
    for number in range(5000):
        channel.basic_publish("", queue, str(number).encode())
    inbox.wait(5000)
    assert inbox.bodies == [str(number).encode() for number in range(5000)]
