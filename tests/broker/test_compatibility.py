"""Differences from RabbitMQ that other people's test suites and a comparison with RabbitMQ 3.10 have found."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from broker.clients import Inbox, channel_error, get_all, put, round_trip, wait_until
from broker.clients import publish as publish_to
from broker.conftest import Fresh, OpenRaw, rabbitmq_differs
from broker.raw import RawClient
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat
from pika.adapters.blocking_connection import BlockingChannel


def test_close_ok_reaches_a_client_that_goes_on_sending_after_its_close(raw: OpenRaw) -> None:
    """amqplib sends what it has queued for channels even after connection.close."""
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Connection.Close(200, "bye", 0, 0))
    publish = (
        marshal(spec.Basic.Publish(routing_key="nowhere"), 1)
        + marshal(ContentHeader(0, 1000, spec.Basic.Properties()), 1)
        + marshal(ContentBody(bytes(1000)), 1)
    )
    client.send_bytes(publish * 1000)
    client.expect(spec.Connection.CloseOk)


@rabbitmq_differs(reason="it may see the close first")
def test_a_close_right_behind_a_violation_is_answered(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send_bytes(marshal(spec.Basic.Qos(), 7) + marshal(spec.Connection.Close(200, "bye", 0, 0), 0))
    client.expect(spec.Connection.Close)
    client.expect(spec.Connection.CloseOk)


def publish(**options: Any) -> bytes:
    return marshal(spec.Basic.Publish(**options), 1) + marshal(ContentHeader(0, 0, spec.Basic.Properties()), 1)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def next_close(client: RawClient) -> Any:
    """Reply code and text of the next close of a channel or connection, and the method that it blames."""
    while True:
        _, close = client.receive()
        if isinstance(close, spec.Channel.Close | spec.Connection.Close):
            return close.reply_code, close.reply_text, (close.class_id, close.method_id)
        assert not isinstance(close, Heartbeat)


NO_EXCHANGE = (404, "NOT_FOUND - no exchange 'missing' in vhost '/'", (60, 40))
TRACE = "exchange 'amq.rabbitmq.trace' in vhost '/'"
NO_IMMEDIATE = (540, "NOT_IMPLEMENTED - immediate=true", (60, 40))


@pytest.mark.parametrize("mode", [b"", marshal(spec.Tx.Select(), 1), marshal(spec.Confirm.Select(), 1)])
@pytest.mark.parametrize(
    ("options", "close"),
    [
        ({"exchange": "missing"}, NO_EXCHANGE),
        (
            {"exchange": "amq.rabbitmq.trace"},
            (403, f"ACCESS_REFUSED - cannot publish to internal {TRACE}", (60, 40)),
        ),
        ({"immediate": True}, NO_IMMEDIATE),
    ],
)
def test_a_publish_that_fails_is_named(raw: OpenRaw, mode: bytes, options: dict[str, Any], close: Any) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send_bytes(mode + publish(**options))
    assert next_close(client) == close


@pytest.mark.parametrize(
    ("sent", "blamed"),
    [
        (marshal(spec.Queue.Declare(queue="q"), 1), (50, 10)),
        (publish(routing_key="q"), (60, 40)),
        (marshal(spec.Basic.Ack(1), 1), (60, 80)),
        (marshal(spec.Channel.CloseOk(), 1), (20, 41)),
    ],
)
@pytest.mark.parametrize("was_open", [False, True])
def test_what_comes_for_a_channel_that_is_not_open_is_named(
    raw: OpenRaw, sent: bytes, blamed: tuple[int, int], was_open: bool
) -> None:
    client = raw()
    client.open()
    if was_open:
        client.open_channel()
        client.send(spec.Channel.Close(200, "", 0, 0), 1)
        client.expect(spec.Channel.CloseOk)
    client.send_bytes(sent)
    assert next_close(client) == (504, "CHANNEL_ERROR - expected 'channel.open'", blamed)


def test_an_unknown_tag_in_a_transaction_is_blamed_on_the_ack(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Tx.Select(), 1)
    client.expect(spec.Tx.SelectOk)
    client.send(spec.Basic.Ack(3), 1)
    client.send(spec.Tx.Commit(), 1)
    assert next_close(client) == (406, "PRECONDITION_FAILED - unknown delivery tag 3", (60, 80))


BARE_HEADER = struct.pack(">HHQH", 60, 0, 0, 0)
IN_PUBLISH = marshal(spec.Basic.Publish(), 1)


@pytest.mark.parametrize(
    ("sent", "close"),
    [
        (
            frame(2, 0, BARE_HEADER),
            (505, f"UNEXPECTED_FRAME - type 2, all octets = <<{','.join(map(str, BARE_HEADER))}>>", (0, 0)),
        ),
        (frame(3, 0, b"body"), (505, 'UNEXPECTED_FRAME - type 3, all octets = <<"body">>', (0, 0))),
        (frame(7, 1, b"abc"), (501, 'FRAME_ERROR - type 7, all octets = <<"abc">>: unknown_frame', (0, 0))),
        (frame(7, 1, b"a\1"), (501, "FRAME_ERROR - type 7, all octets = <<97,1>>: unknown_frame", (0, 0))),
        (frame(7, 1, b""), (501, "FRAME_ERROR - type 7, all octets = <<>>: unknown_frame", (0, 0))),
        (
            IN_PUBLISH + frame(2, 1, b"\0\x3c"),
            (501, "FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame", (0, 0)),
        ),
        (
            IN_PUBLISH + frame(2, 1, struct.pack(">HHQH", 60, 5, 0, 0)),
            (
                505,
                "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
                (60, 40),
            ),
        ),
    ],
)
def test_frames_that_make_no_sense_are_shown(raw: OpenRaw, sent: bytes, close: Any) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send_bytes(sent)
    assert next_close(client) == close


def test_an_exchange_type_without_a_name(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send_bytes(frame(1, 1, b"\0\x28\0\x0a" + b"\0\0" + b"\x01e" + b"\0" + b"\0" + b"\0\0\0\0"))
    assert next_close(client) == (503, "COMMAND_INVALID - invalid exchange type ''", (40, 10))


def acked_all_but(channel: BlockingChannel, queue: str, bodies: list[bytes]) -> bool:
    """Whether these are what comes back when the channel lets go of everything."""
    channel.basic_recover(requeue=True)
    return get_all(channel, queue) == bodies


@pytest.mark.parametrize("tag", [2, 4, 99])
def test_ack_multiple_up_to_a_tag_that_is_not_out(channel: BlockingChannel, queue: str, tag: int) -> None:
    put(channel, queue, b"1", b"2", b"3")
    for _ in range(3):
        channel.basic_get(queue)
    channel.basic_ack(2)
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
        channel.basic_ack(tag, multiple=True)
        round_trip(channel)


@pytest.mark.parametrize("method", ["basic_ack", "basic_nack", "basic_reject"])
def test_a_transaction_checks_tags_at_once(channel: BlockingChannel, queue: str, method: str) -> None:
    put(channel, queue, b"1")
    channel.tx_select()
    channel.basic_get(queue)
    channel.basic_ack(1)
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        getattr(channel, method)(1)
        round_trip(channel)


def test_a_transaction_keeps_the_order_of_acks_and_rejects(channel: BlockingChannel, queue: str) -> None:
    put(channel, queue, b"1", b"2", b"3")
    channel.tx_select()
    for _ in range(3):
        channel.basic_get(queue)
    channel.basic_nack(2, requeue=True)
    channel.basic_ack(3, multiple=True)
    channel.tx_commit()
    assert acked_all_but(channel, queue, [b"2"])


def test_recover_leaves_alone_what_a_transaction_has_acked(channel: BlockingChannel, queue: str) -> None:
    put(channel, queue, b"1", b"2")
    channel.tx_select()
    for _ in range(2):
        channel.basic_get(queue)
    channel.basic_ack(1)
    assert acked_all_but(channel, queue, [b"2"])
    channel.tx_rollback()
    assert acked_all_but(channel, queue, [b"1"])


def test_an_uncommitted_ack_frees_no_room(channel: BlockingChannel, queue: str) -> None:
    put(channel, queue, b"1", b"2")
    channel.basic_qos(prefetch_count=1, global_qos=True)
    channel.tx_select()
    inbox = Inbox(channel, queue)
    inbox.wait(1)
    channel.basic_ack(1)
    round_trip(channel)
    channel.tx_rollback()
    round_trip(channel)
    assert inbox.bodies == [b"1"]
    channel.basic_ack(1)
    channel.tx_commit()
    inbox.wait(2)


def test_a_get_takes_no_room_of_the_channel(channel: BlockingChannel, queue: str) -> None:
    put(channel, queue, b"1", b"2", b"3", b"4")
    channel.basic_qos(prefetch_count=1, global_qos=True)
    inbox = Inbox(channel, queue)
    inbox.wait(1)
    channel.basic_get(queue)
    channel.basic_ack(1)
    inbox.wait(2)
    channel.basic_ack(2)
    round_trip(channel)
    assert inbox.bodies == [b"1", b"3"]


def test_without_acks_a_consumer_waits_for_room_of_the_channel(
    channel: BlockingChannel, queue: str, fresh: Fresh
) -> None:
    other = fresh("other")
    channel.queue_declare(other, exclusive=True)
    channel.basic_qos(prefetch_count=1, global_qos=True)
    acked, unacked = Inbox(channel, queue), Inbox(channel, other, auto_ack=True)
    publish_to(channel, queue, b"1")
    acked.wait(1)
    put(channel, other, b"2")
    round_trip(channel)
    assert unacked.bodies == []
    channel.basic_ack(1)
    unacked.wait(1)


def test_queues_take_turns_when_the_channel_has_little_room(channel: BlockingChannel, fresh: Fresh) -> None:
    channel.basic_qos(prefetch_count=1, global_qos=True)
    queues = [fresh(name) for name in "abc"]
    inboxes = []
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
        put(channel, queue, *[b""] * 10)
        inboxes.append(Inbox(channel, queue))
    for tag in range(1, 16):
        wait_until(channel, lambda tag=tag: sum(len(inbox.bodies) for inbox in inboxes) == tag, lambda: "")
        channel.basic_ack(tag)
    assert all(inbox.bodies for inbox in inboxes)


@pytest.mark.parametrize("durable", [False, True])
def test_who_deletes_a_queue_hears_of_that_before_its_consumer_is_cancelled(
    raw: OpenRaw, fresh: Fresh, durable: bool
) -> None:
    """amqplib closes its channel as soon as a consumer is cancelled."""
    name = fresh("queue")
    client = raw()
    client.open(capabilities={"consumer_cancel_notify": True})
    client.open_channel()
    client.send(spec.Queue.Declare(queue=name, durable=durable), 1)
    client.expect(spec.Queue.DeclareOk)
    client.send(spec.Basic.Consume(queue=name, consumer_tag="tag"), 1)
    client.expect(spec.Basic.ConsumeOk)
    client.send(spec.Queue.Delete(queue=name), 1)
    client.expect(spec.Queue.DeleteOk)
    assert client.expect(spec.Basic.Cancel).consumer_tag == "tag"


def test_a_consumer_gets_what_was_published_before_it_is_cancelled(channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(channel, queue, auto_ack=True)
    publish_to(channel, queue, *[b"before"] * 10)
    channel.basic_cancel(inbox.tag)
    publish_to(channel, queue, b"behind")
    round_trip(channel)
    assert get_all(channel, queue) == [b"behind"]
