"""Octets that no proper client sends, beside a client that must not notice.

Whatever comes, the broker answers with a close of AMQP, or drops the connection: no actor fails, nothing is logged as
an error, and no memory stays behind.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from actors.harness import wait_until
from broker.raw import HEADER, PLAIN, RawClient
from fuzz.innocent import Innocent
from pamqp import commands as spec
from pamqp.frame import marshal

from dispatchd.config import Config
from dispatchd.server import Server
from dispatchd.store.memory_store import MemoryStore

HANDSHAKE_SECONDS = 0.5
FRAME_MAX = 4096
CHANNEL_MAX = 20
MAX_MESSAGE = 100_000

CONNECTION_CLOSES = {403, 501, 502, 503, 504, 505, 530, 540}
"""541 would be a failure of ours."""

SESSION_END = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\xce"  # connection.close-ok, which nobody asked for


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(
        Config(
            amqp_port=0,
            admin_port=0,
            debug_port=0,
            bind="127.0.0.1",
            handshake_timeout=HANDSHAKE_SECONDS,
            frame_max=FRAME_MAX,
            channel_max=CHANNEL_MAX,
            max_message_size=MAX_MESSAGE,
        ),
        MemoryStore(),
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def innocent(server: Server) -> Iterator[Innocent]:
    innocent = Innocent("127.0.0.1", server.amqp_port)
    yield innocent
    innocent.stop()


@pytest.fixture(autouse=True)
def nothing_fails(server: Server, innocent: Innocent, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test sends, no actor fails, and the connections it made are forgotten."""
    yield
    innocent.expect_progress()
    assert failures(server) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    wait_until(lambda: kinds(server)["connection"] == 1, lambda: f"connections stay: {kinds(server)}")
    wait_until(lambda: kinds(server)["channel"] == 1, lambda: f"channels stay: {kinds(server)}")


def failures(server: Server) -> list[dict[str, Any]]:
    return [vitals for actor in server.system.actors.values() if (vitals := actor.vitals())["failures"]]


def kinds(server: Server) -> dict[str, int]:
    counts = {"connection": 0, "channel": 0}
    for actor in server.system.actors.values():
        counts[actor.kind] = counts.get(actor.kind, 0) + 1
    return counts


@pytest.fixture
def client(server: Server) -> Iterator[RawClient]:
    client = RawClient("127.0.0.1", server.amqp_port)
    yield client
    client.close()


def open_session(client: RawClient) -> RawClient:
    """A client with an open channel 1."""
    client.open(channel_max=CHANNEL_MAX, frame_max=FRAME_MAX)
    client.open_channel()
    return client


def frame(kind: int, channel: int, payload: bytes, size: int | None = None, end: int = 0xCE) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload + bytes([end])


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments)


def content_header(channel: int, size: int, class_id: int = 60, properties: bytes = b"\0\0") -> bytes:
    return frame(2, channel, struct.pack(">HHQ", class_id, 0, size) + properties)


def nested_table(depth: int) -> bytes:
    """A queue.declare whose arguments are a table in a table in a table."""
    table = b""
    for _ in range(depth):
        table = struct.pack(">I", len(table)) + table
        table = b"\x01aF" + table
    return struct.pack(">I", len(table)) + table


PUBLISH = marshal(spec.Basic.Publish(routing_key="nobody"), 1)
OPEN_CHANNEL_2 = marshal(spec.Channel.Open(), 2)

# What comes on a connection with an open channel 1, and the reply code of the close that it earns.
WRONG = {
    "end octet": (frame(1, 1, b"\0\x0a\0\x0a", end=0xCD), 501),
    "size one too small": (frame(8, 0, b"\0", size=0), 501),
    "size one too large": (frame(8, 0, b"", size=1) + frame(8, 0, b""), 501),
    "size of 4 GiB": (frame(1, 1, b"", size=2**32 - 1), 501),
    "size above frame_max": (frame(3, 1, b"x" * (FRAME_MAX + 1)), 501),
    "frame type 0": (frame(0, 1, b""), 501),
    "frame type 255": (frame(255, 1, b"xyz"), 501),
    "heartbeat with a payload": (frame(8, 0, b"x"), 501),
    "heartbeat on a channel": (frame(8, 1, b""), 505),
    "method of 0 octets": (frame(1, 1, b""), 502),
    "method of 3 octets": (frame(1, 1, b"\0\x3c\0"), 502),
    "class 0": (method(1, 0, 0), 540),
    "class 65535": (method(1, 65535, 65535), 540),
    "unknown method of basic": (method(1, 60, 999), 540),
    "arguments missing": (method(1, 50, 10), 502),
    "arguments left over": (method(1, 20, 40, b"\0\xc8\0\0\0\0\0more"), 502),
    "server's method": (method(1, 50, 11, b"\x01q" + b"\0" * 8), 503),
    "deliver from a client": (marshal(spec.Basic.Deliver("tag", 1, False, "", ""), 1), 503),
    "string with a size that lies": (method(1, 40, 10, b"\0\0\xffshort"), 502),
    "string of no text": (method(1, 40, 10, b"\0\0\x02\xff\xfe\x06direct\x02\0\0\0\0"), 502),
    "table with a size that lies": (method(1, 50, 10, b"\0\0\x01q\0\xff\xff\xff\xff"), 502),
    "table with an unknown type": (method(1, 50, 10, b"\0\0\x01q\0\0\0\0\x03\x01a?"), 502),
    "table 100 deep": (method(1, 50, 10, b"\0\0\x01q\0" + nested_table(100)), 502),
    "more channels than channel_max": (
        b"".join(marshal(spec.Channel.Open(), number) for number in range(2, CHANNEL_MAX + 2)),
        530,
    ),
    "channel that is not open": (marshal(spec.Queue.Declare(queue="q"), 2), 504),
    "publish on a channel that is not open": (
        marshal(spec.Basic.Publish(routing_key="q"), 2) + content_header(2, 0),
        504,
    ),
    "publish without a content on a channel that is not open": (marshal(spec.Basic.Publish(routing_key="q"), 2), 504),
    "ack on a channel that is not open": (marshal(spec.Basic.Ack(1), 2), 504),
    "channel opened twice": (marshal(spec.Channel.Open(), 1), 504),
    "channel method on channel 0": (marshal(spec.Queue.Declare(queue="q"), 0), 504),
    "publish on channel 0": (marshal(spec.Basic.Publish(routing_key="q"), 0), 504),
    "ack on channel 0": (marshal(spec.Basic.Ack(1), 0), 504),
    "header on channel 0": (content_header(0, 0), 505),
    "body on channel 0": (frame(3, 0, b"x"), 505),
    "connection method on a channel": (marshal(spec.Connection.Open("/"), 1), 503),
    "connection opened twice": (marshal(spec.Connection.Open("/"), 0), 504),
    "tune-ok at the wrong time": (marshal(spec.Connection.TuneOk(1, 4096, 0), 0), 504),
    "start-ok at the wrong time": (marshal(spec.Connection.StartOk({}, "PLAIN", PLAIN), 0), 504),
    "close-ok that nobody asked for": (SESSION_END, 504),
    "header without a method": (content_header(1, 0), 505),
    "body without a method": (frame(3, 1, b"x"), 505),
    "method instead of a header": (PUBLISH + marshal(spec.Queue.Declare(queue="q"), 1), 505),
    "body instead of a header": (PUBLISH + frame(3, 1, b"x"), 505),
    "second publish instead of a header": (PUBLISH + PUBLISH, 505),
    "header of another class": (PUBLISH + content_header(1, 0, class_id=50), 505),
    "header of 5 octets": (PUBLISH + frame(2, 1, b"\0\x3c\0\0\0"), 501),
    "properties that are cut off": (PUBLISH + content_header(1, 0, properties=b"\x80\0\xff"), 502),
    "second header": (PUBLISH + content_header(1, 5) + content_header(1, 5), 505),
    "method in a body": (PUBLISH + content_header(1, 5) + frame(3, 1, b"ab") + PUBLISH, 505),
    "body longer than announced": (PUBLISH + content_header(1, 2) + frame(3, 1, b"abc"), 501),
    "body after a body of nothing": (PUBLISH + content_header(1, 0) + frame(3, 1, b"a"), 505),
    "immediate": (marshal(spec.Basic.Publish(routing_key="q", immediate=True), 1) + content_header(1, 0), 540),
    "prefetch size": (marshal(spec.Basic.Qos(prefetch_size=1), 1), 540),
    "recover without requeue": (method(1, 60, 110, b"\0"), 540),
    "flow off": (marshal(spec.Channel.Flow(False), 1), 540),
}


@pytest.mark.parametrize(("data", "code"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_closes_the_connection_with_its_code(client: RawClient, data: bytes, code: int) -> None:
    open_session(client).send_bytes(data)
    assert client.expect(spec.Connection.Close).reply_code == code


# And what closes only the channel.
REFUSED = {
    "body larger than allowed": (PUBLISH + content_header(1, MAX_MESSAGE + 1), 406),
    "body of 2^63 octets": (PUBLISH + content_header(1, 2**63), 406),
    "body of 2^64 - 1 octets": (PUBLISH + content_header(1, 2**64 - 1), 406),
    "ack of a tag that nobody has": (marshal(spec.Basic.Ack(2**63 - 1), 1), 406),
    "ack of tag 2^64 - 1": (method(1, 60, 80, b"\xff" * 8 + b"\0"), 406),
    "ack of everything up to 2^64 - 1": (method(1, 60, 80, b"\xff" * 8 + b"\1"), 406),
    "nack of tag 2^64 - 1": (method(1, 60, 120, b"\xff" * 8 + b"\0"), 406),
    "nack of everything up to 2^64 - 1": (method(1, 60, 120, b"\xff" * 8 + b"\1"), 406),
    "reject of tag 2^64 - 1": (method(1, 60, 90, b"\xff" * 8 + b"\1"), 406),
    "reject of tag 2^63": (method(1, 60, 90, b"\x80" + b"\0" * 7 + b"\1"), 406),
    "longest name that is not there": (marshal(spec.Queue.Bind(queue="q" * 255, exchange="e" * 127), 1), 404),
    "name of markup": (method(1, 40, 10, b"\0\0\x0b<img src=x>\0\x01\0\0\0\0"), 404),
}


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_refused_closes_the_channel_alone(client: RawClient, data: bytes, code: int) -> None:
    open_session(client).send_bytes(data)
    assert client.expect(spec.Channel.Close).reply_code == code
    client.send(spec.Channel.CloseOk(), 1)
    client.open_channel(1)


def test_tags_that_nobody_has_in_a_transaction(client: RawClient) -> None:
    open_session(client).send(spec.Tx.Select(), 1)
    client.expect(spec.Tx.SelectOk)
    client.send_bytes(method(1, 60, 90, b"\xff" * 8 + b"\1"))
    client.send(spec.Tx.Commit(), 1)
    assert client.expect(spec.Channel.Close).reply_code == 406
    client.send(spec.Channel.CloseOk(), 1)


def test_tables_nested_as_deep_as_they_fit(client: RawClient) -> None:
    client.start()
    deep = struct.pack(">I", 4000) + b"\x01aF" + nested_table(500)
    client.send_bytes(method(0, 10, 11, deep))
    assert client.expect(spec.Connection.Close).reply_code == 502


def test_nesting_of_ten_thousand_in_one_header(server: Server, client: RawClient) -> None:
    properties = b"\x20\0" + nested_table(500)
    open_session(client)
    client.send(spec.Queue.Declare(queue="deep", exclusive=True), 1)
    client.expect(spec.Queue.DeclareOk)
    client.send(spec.Exchange.Declare(exchange="deep", exchange_type="headers", auto_delete=True), 1)
    client.expect(spec.Exchange.DeclareOk)
    client.send(spec.Queue.Bind(queue="deep", exchange="deep", arguments={"a": 1}), 1)
    client.expect(spec.Queue.BindOk)
    client.send(spec.Basic.Publish(exchange="deep"), 1)
    client.send_bytes(content_header(1, 0, properties=properties))
    client.send(spec.Queue.Declare(queue="deep", passive=True), 1)
    _, answer = client.receive()
    assert isinstance(answer, spec.Queue.DeclareOk | spec.Connection.Close)
    assert failures(server) == []


# Before the login


BEFORE_LOGIN = {
    "open without a login": marshal(spec.Connection.Open("/"), 0),
    "tune-ok without a login": marshal(spec.Connection.TuneOk(0, 0, 0), 0),
    "channel without a login": marshal(spec.Channel.Open(), 1),
    "publish without a login": PUBLISH,
    "publish without a login, with a content": PUBLISH + content_header(1, 1) + frame(3, 1, b"x"),
    "unknown mechanism": marshal(spec.Connection.StartOk({}, "EXTERNAL", PLAIN), 0),
    "response that is none": marshal(spec.Connection.StartOk({}, "PLAIN", "guest"), 0),
    "empty response": marshal(spec.Connection.StartOk({}, "PLAIN", ""), 0),
    "frame above 4096": frame(1, 0, b"\0\x0a\0\x0b" + b"\0" * 5000),
    "secure-ok": marshal(spec.Connection.SecureOk("x"), 0),
}


@pytest.mark.parametrize("data", BEFORE_LOGIN.values(), ids=list(BEFORE_LOGIN))
def test_what_comes_before_the_login(client: RawClient, data: bytes) -> None:
    client.start()
    client.send_bytes(data)
    close = client.expect(spec.Connection.Close)
    assert close.reply_code in CONNECTION_CLOSES
    client.send(spec.Connection.CloseOk())
    client.read_to_end()


@pytest.mark.parametrize(
    "login",
    [
        spec.Connection.StartOk({}, "PLAIN", "\0guest\0wrong"),
        spec.Connection.StartOk({}, "PLAIN", "\0\0"),
        spec.Connection.StartOk({}, "PLAIN", "\0guest\0" + "x" * 73),
        spec.Connection.StartOk({}, "PLAIN", "\0guest\0gue\x01st"),
        spec.Connection.StartOk({}, "PLAIN", "\0" + "u" * 2000 + "\0x"),
    ],
)
def test_wrong_logins_are_dropped(client: RawClient, login: spec.Connection.StartOk) -> None:
    client.start()
    client.send(login)
    client.socket.settimeout(8)
    assert client.read_to_end() == b""


@pytest.mark.parametrize(
    ("channel_max", "frame_max"), [(0, 4096), (CHANNEL_MAX + 1, 4096), (1, 0), (1, 1), (1, 4095), (1, FRAME_MAX + 1)]
)
def test_limits_that_were_not_offered(client: RawClient, channel_max: int, frame_max: int) -> None:
    client.log_in()
    client.send(spec.Connection.TuneOk(channel_max, frame_max, 0))
    client.expect_connection_close(530)


def test_sockets_that_say_nothing_or_too_little_are_closed_in_time(server: Server) -> None:
    clients = [RawClient("127.0.0.1", server.amqp_port, timeout=HANDSHAKE_SECONDS + 5) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send_bytes([b"", b"AMQ", HEADER, HEADER + b"\x01\x00"][number % 4])
    for client in clients:
        client.read_to_end()
        client.close()


def test_a_login_octet_by_octet_is_given_up(client: RawClient) -> None:
    client.start()
    login = marshal(spec.Connection.StartOk({}, "PLAIN", PLAIN), 0)

    def send_slowly() -> None:
        for octet in login:
            client.send_bytes(bytes([octet]))
            gevent.sleep(HANDSHAKE_SECONDS / 10)

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        send_slowly()


def test_a_slow_protocol_header_leaves_less_time_for_the_login(client: RawClient) -> None:
    began = time.monotonic()
    client.send_bytes(HEADER[:-1])
    gevent.sleep(HANDSHAKE_SECONDS * 0.9)
    client.send_bytes(HEADER[-1:])
    client.read_to_end()
    assert time.monotonic() - began < HANDSHAKE_SECONDS * 1.7


def test_a_login_that_stops_half_way_is_given_up(client: RawClient) -> None:
    client.log_in()
    assert client.read_to_end() == b""


# Clients that vanish


IN_THE_MIDDLE = {
    "silence": b"",
    "a frame": PUBLISH[:9],
    "a publish": PUBLISH,
    "a content": PUBLISH + content_header(1, 1000),
    "a body": PUBLISH + content_header(1, 1000) + frame(3, 1, b"x" * 500),
    "a flood": (PUBLISH + content_header(1, 1) + frame(3, 1, b"x")) * 2000,
    "a method": marshal(spec.Queue.Declare(queue="forgotten", exclusive=True), 1),
}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("data", IN_THE_MIDDLE.values(), ids=list(IN_THE_MIDDLE))
def test_clients_that_vanish_leave_nothing(client: RawClient, data: bytes, reset: bool) -> None:
    open_session(client).send_bytes(data)
    if reset:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_half_a_message_reaches_nobody(server: Server, client: RawClient) -> None:
    open_session(client).send(spec.Queue.Declare(queue="whole", auto_delete=True), 1)
    client.expect(spec.Queue.DeclareOk)
    client.send_bytes(marshal(spec.Basic.Publish(routing_key="whole"), 1) + content_header(1, 9) + frame(3, 1, b"half"))
    client.close()
    other = RawClient("127.0.0.1", server.amqp_port)
    open_session(other).send(spec.Queue.Declare(queue="whole", passive=True), 1)
    assert other.expect(spec.Queue.DeclareOk).message_count == 0
    other.close()


def test_a_client_that_is_half_open_is_dropped_after_two_heartbeats(server: Server, client: RawClient) -> None:
    client.open(channel_max=CHANNEL_MAX, frame_max=FRAME_MAX, heartbeat=1)
    assert set(client.read_to_end()) <= set(frame(8, 0, b""))
