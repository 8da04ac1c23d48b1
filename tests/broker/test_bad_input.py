"""Octets that no proper client sends, beside a client that must not notice.

Whatever comes, the broker answers with a close of AMQP, or drops the connection: no actor fails, nothing is logged as
an error, and no memory stays behind.
"""

from __future__ import annotations

import gc
import logging
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import psutil
import pytest
from broker.raw import HEADER, PLAIN, RawClient
from gevent.event import Event
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from soak import SOAK, cases, seeded

from dispatchd.config import Config
from dispatchd.server import Server
from dispatchd.store.memory_store import MemoryStore

HANDSHAKE_SECONDS = 0.5
FRAME_MAX = 4096
CHANNEL_MAX = 20
MAX_MESSAGE = 100_000
MEMORY_LIMIT = 10 << 20

CHANNEL_CLOSES = {311, 313, 403, 404, 405, 406}
CONNECTION_CLOSES = {403, 501, 502, 503, 504, 505, 530, 540}
"""541 would be a failure of ours."""

SESSION_END = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\xce"  # connection.close-ok, which nobody asked for


class Innocent:
    """Publishes with confirms and consumes what it published, one at a time, all the time."""

    def __init__(self, host: str, port: int) -> None:
        self.done = 0
        self._stopping = False
        self._progressed = Event()
        self._client = client = RawClient(host, port)
        client.open(channel_max=CHANNEL_MAX, frame_max=FRAME_MAX)
        client.open_channel()
        client.send(spec.Queue.Declare(queue="innocent"), 1)
        client.expect(spec.Queue.DeclareOk)
        client.send(spec.Basic.Consume(queue="innocent"), 1)
        client.expect(spec.Basic.ConsumeOk)
        client.send(spec.Confirm.Select(), 1)
        client.expect(spec.Confirm.SelectOk)
        self._greenlet = gevent.spawn(self._work)

    def _work(self) -> None:
        while not self._stopping:
            body = b"%d" % self.done
            self._client.publish(1, "innocent", body)
            kinds: set[type] = set()
            while kinds != {spec.Basic.Ack, spec.Basic.Deliver}:
                _, frame = self._client.receive()
                kinds.add(type(frame))
                if isinstance(frame, spec.Basic.Deliver):
                    assert self._client.content()[1] == [body]
                    self._client.send(spec.Basic.Ack(frame.delivery_tag or 0), 1)
                else:
                    assert isinstance(frame, spec.Basic.Ack)
                    assert frame.delivery_tag == self.done + 1
            self.done += 1
            self._progressed.set()
            gevent.sleep(0.001)

    def expect_progress(self) -> None:
        """It gets through two more messages: one of them was sent after this was called."""
        until = self.done + 2
        while self.done < until:
            self._progressed.clear()
            assert self._progressed.wait(10), "an innocent client waits in vain"
            assert self._greenlet.exception is None, self._greenlet.exception

    def stop(self) -> None:
        self._stopping = True
        self._greenlet.join(10)
        assert self._greenlet.successful(), self._greenlet.exception
        self._client.close()


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


def wait_until(condition: Callable[[], bool], describe: Callable[[], str]) -> None:
    with gevent.Timeout(8, AssertionError(describe())):
        while not condition():
            gevent.sleep(0.01)


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


# By chance


def proper_session(queue: str) -> list[bytes]:
    """The frames of a client that does a little of everything, after its login."""
    frames: list[tuple[int, Any]] = [
        (1, spec.Channel.Open()),
        (
            1,
            spec.Exchange.Declare(
                exchange=f"{queue}-x", exchange_type="topic", auto_delete=True, arguments={"a": [1, {}]}
            ),
        ),
        (1, spec.Queue.Declare(queue=queue, exclusive=True, arguments={"x-note": "text", "n": 1 << 40})),
        (1, spec.Queue.Bind(queue=queue, exchange=f"{queue}-x", routing_key="a.*.#", arguments={"x-match": "any"})),
        (1, spec.Basic.Qos(prefetch_count=3)),
        (1, spec.Confirm.Select()),
        (1, spec.Basic.Consume(queue=queue, consumer_tag="tag")),
        (2, spec.Channel.Open()),
    ]
    for size in (0, 1, 5000):
        frames += [
            (1, spec.Basic.Publish(exchange=f"{queue}-x", routing_key="a.b.c", mandatory=True)),
            (1, ContentHeader(0, size, spec.Basic.Properties(delivery_mode=2, headers={"h": "v"}, message_id="m"))),
        ]
        frames += [(1, ContentBody(b"x" * min(4000, size - at))) for at in range(0, size, 4000)]
    frames += [
        (1, spec.Basic.Ack(1)),
        (1, spec.Basic.Nack(2, multiple=True, requeue=True)),
        (2, spec.Basic.Get(queue=queue)),
        (2, spec.Tx.Select()),
        (2, spec.Basic.Publish(routing_key=queue)),
        (2, ContentHeader(0, 0, spec.Basic.Properties())),
        (2, spec.Tx.Commit()),
        (1, spec.Basic.Recover(requeue=True)),
        (1, spec.Basic.Cancel(consumer_tag="tag")),
        (1, spec.Queue.Unbind(queue=queue, exchange=f"{queue}-x", routing_key="a.*.#", arguments={"x-match": "any"})),
        (1, spec.Queue.Purge(queue=queue)),
        (1, spec.Queue.Delete(queue=queue)),
        (2, spec.Channel.Close(200, "", 0, 0)),
    ]
    return [marshal(value, channel) for channel, value in frames]


def flip_bits(chance: random.Random, frames: list[bytes]) -> bytes:
    data = bytearray(b"".join(frames))
    for _ in range(chance.choice([1, 1, 2, 10])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def change_octets_of_one(chance: random.Random, frames: list[bytes]) -> bytes:
    """Only in a payload, so that it is read."""
    at = chance.randrange(len(frames))
    changed = bytearray(frames[at])
    for _ in range(chance.choice([1, 2, 5])):
        changed[chance.randrange(7, len(changed) - 1)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    return b"".join([*frames[:at], bytes(changed), *frames[at + 1 :]])


def lie_about_a_size(chance: random.Random, frames: list[bytes]) -> bytes:
    at = chance.randrange(len(frames))
    victim = frames[at]
    size = len(victim) - 8
    lie = chance.choice([0, size - 1, size + 1, size * 2, 2**31 - 1, 2**31, 2**32 - 1]) & 0xFFFFFFFF
    return b"".join([*frames[:at], victim[:3] + struct.pack(">I", lie) + victim[7:], *frames[at + 1 :]])


def shuffle(chance: random.Random, frames: list[bytes]) -> bytes:
    opening, others = frames[:1], frames[1:]
    chance.shuffle(others)
    return b"".join(opening + others)


def drop_and_repeat(chance: random.Random, frames: list[bytes]) -> bytes:
    return b"".join(one * chance.choice([0, 1, 1, 1, 1, 2]) for one in frames)


def other_channels(chance: random.Random, frames: list[bytes]) -> bytes:
    channels = [0, 1, 2, 3, CHANNEL_MAX, CHANNEL_MAX + 1, 65535]
    return b"".join(
        one[:1] + struct.pack(">H", chance.choice(channels)) + one[3:] if chance.random() < 0.1 else one
        for one in frames
    )


def other_methods(chance: random.Random, frames: list[bytes]) -> bytes:
    ids = [(class_id, method_id) for class_id in (10, 20, 30, 40, 50, 60, 85, 90) for method_id in range(10, 130, 10)]
    changed = []
    for one in frames:
        if chance.random() < 0.1:
            one = method(
                chance.choice([0, 1, 2]), *chance.choice(ids), chance.randbytes(chance.choice([0, 1, 3, 9, 40]))
            )
        changed.append(one)
    return b"".join(changed)


def random_frames(chance: random.Random, frames: list[bytes]) -> bytes:
    return frames[0] + b"".join(
        frame(
            chance.choice([1, 1, 2, 3, 8, chance.randrange(256)]),
            chance.choice([0, 1]),
            chance.randbytes(chance.randrange(60)),
        )
        for _ in range(20)
    )


def random_octets(chance: random.Random, frames: list[bytes]) -> bytes:
    return b"".join(frames[: chance.randrange(len(frames))]) + chance.randbytes(chance.choice([1, 10, 1000, 20_000]))


def cut(chance: random.Random, frames: list[bytes]) -> bytes:
    data = b"".join(frames)
    return data[: chance.randrange(len(data))]


MUTATIONS = [
    flip_bits,
    change_octets_of_one,
    lie_about_a_size,
    shuffle,
    drop_and_repeat,
    other_channels,
    other_methods,
    random_frames,
    random_octets,
    cut,
]


def play(server: Server, chance: random.Random, data: bytes) -> None:
    """Send the session in pieces, then say goodbye or vanish; check every close that comes."""
    client = RawClient("127.0.0.1", server.amqp_port)
    client.open(channel_max=CHANNEL_MAX, frame_max=FRAME_MAX)
    try:
        for piece in pieces(chance, data):
            client.send_bytes(piece)
        if chance.random() < 0.5:
            client.socket.shutdown(socket.SHUT_WR)
        else:
            client.send(spec.Connection.Close(200, "", 0, 0))
            client.socket.shutdown(socket.SHUT_WR)
        while True:
            _, received = client.receive()
            if isinstance(received, spec.Connection.Close):
                assert received.reply_code in CONNECTION_CLOSES, received.reply_text
            elif isinstance(received, spec.Channel.Close):
                assert received.reply_code in CHANNEL_CLOSES, received.reply_text
    except (OSError, EOFError):
        pass
    finally:
        client.close()


def pieces(chance: random.Random, data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = chance.choice([1, 7, 100, 5000, 100_000])
        yield data[at : at + size]
        at += size


@pytest.mark.parametrize("mutate", MUTATIONS)
@pytest.mark.timeout(1200 if SOAK else 60)
def test_sessions_that_went_wrong(
    server: Server, innocent: Innocent, mutate: Callable[[random.Random, list[bytes]], bytes]
) -> None:
    chance = seeded(20240608)
    for number in range(cases(100, 3000)):
        data = mutate(chance, proper_session(f"q{number}"))
        play(server, chance, data)
        assert failures(server) == [], data.hex()
        if number % 10 == 0:
            innocent.expect_progress()


@pytest.mark.timeout(600 if SOAK else 60)
def test_octets_before_the_login(server: Server) -> None:
    chance = seeded(20240609)
    for _ in range(cases(100, 5000)):
        client = RawClient("127.0.0.1", server.amqp_port)
        login = marshal(spec.Connection.StartOk({"product": "x", "a": {"b": [1]}}, "AMQPLAIN", PLAIN), 0)
        start = chance.choice(
            [b"", HEADER, HEADER + flip_bits(chance, [login]), HEADER + lie_about_a_size(chance, [login])]
        )
        try:
            client.send_bytes(start + chance.randbytes(chance.randrange(200)))
            client.socket.shutdown(socket.SHUT_WR)
            client.read_to_end()
        except OSError:
            pass
        client.close()
        assert failures(server) == []


def test_memory_does_not_grow(server: Server) -> None:
    chance = seeded(20240610)
    sessions = [mutate(chance, proper_session(f"m{at}")) for at, mutate in enumerate(MUTATIONS)]
    heavy = [
        PUBLISH + content_header(1, MAX_MESSAGE) + frame(3, 1, b"x" * 4000) * 20,
        frame(1, 1, b"", size=2**32 - 1) + b"x" * 50_000,
        frame(3, 1, b"", size=FRAME_MAX) + b"x" * 3000,
        PUBLISH + content_header(1, 2**62) + frame(3, 1, b"x" * 4000) * 50,
        b"".join(
            marshal(spec.Channel.Open(), number) + marshal(spec.Basic.Publish(routing_key="x" * 200), number)
            for number in range(2, CHANNEL_MAX)
        ),
    ]
    opened = marshal(spec.Channel.Open(), 1)

    def run() -> int:
        for data in [*sessions, *(opened + one for one in heavy)] * 3:
            play(server, chance, data)
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    run()
    before = run()
    assert run() - before < MEMORY_LIMIT
