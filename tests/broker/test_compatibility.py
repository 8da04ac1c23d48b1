"""Differences from RabbitMQ that other people's test suites and a comparison with RabbitMQ 3.10 have found."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from broker.conftest import OpenRaw, rabbitmq_differs
from broker.raw import RawClient


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
