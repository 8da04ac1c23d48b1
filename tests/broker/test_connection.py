from __future__ import annotations

import socket
import struct
import time
from typing import Any

import pika
import pytest
from broker.clients import connection_error, exists, wait_until
from broker.conftest import Connect, Fresh, OpenRaw, rabbitmq_differs
from broker.process import BrokerProcess, Oracle
from broker.raw import HEADER, PLAIN
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat
from pika.exceptions import ConnectionWrongStateError, ProbableAccessDeniedError, ProbableAuthenticationError

AMQPLAIN = b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest"
REFUSED = "ACCESS_REFUSED - Login was refused using authentication mechanism {}. For details see the broker logfile."


# Start


def test_start_offers_mechanisms_a_locale_and_capabilities(raw: OpenRaw) -> None:
    start = raw().start()
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {"PLAIN", "AMQPLAIN"} <= set(start.mechanisms.split())
    assert start.locales == "en_US"
    properties = start.server_properties
    assert {"product", "version", "platform", "information", "capabilities"} <= set(properties)
    assert set(properties["capabilities"]) >= {
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "direct_reply_to",
        "exchange_exchange_bindings",
        "per_consumer_qos",
        "publisher_confirms",
    }
    assert all(value is True for value in properties["capabilities"].values())


@pytest.mark.parametrize(
    "header",
    [b"AMQP\x01\x01\x00\x0a", b"AMQP\x00\x00\x09\x00", b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"HTTP/1.1"],
)
def test_another_protocol_is_answered_with_ours_and_closed(raw: OpenRaw, header: bytes) -> None:
    client = raw()
    client.send_bytes(header)
    assert client.read_to_end() == HEADER


def test_a_header_byte_by_byte(raw: OpenRaw) -> None:
    client = raw()
    for at in range(len(HEADER)):
        client.send_bytes(HEADER[at : at + 1])
    client.expect(spec.Connection.Start)


@pytest.mark.parametrize(("mechanism", "response"), [("PLAIN", PLAIN), ("AMQPLAIN", AMQPLAIN.decode())])
def test_log_in(raw: OpenRaw, mechanism: str, response: str) -> None:
    client = raw()
    client.open(mechanism=mechanism, response=response)
    client.open_channel()


@rabbitmq_differs(reason="it wants none")
def test_the_authorization_identity_is_ignored(raw: OpenRaw) -> None:
    raw().open(response="somebody\0guest\0guest")


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
@pytest.mark.parametrize("user", ["guest", "nobody"])
def test_wrong_password_with_authentication_failure_close(raw: OpenRaw, mechanism: str, user: str) -> None:
    client = raw()
    client.start()
    response = f"\0{user}\0wrong" if mechanism == "PLAIN" else AMQPLAIN[:-5].decode() + "wrong"
    properties: dict[str, Any] = {"capabilities": {"authentication_failure_close": True}}
    client.send(spec.Connection.StartOk(properties, mechanism, response))
    assert client.expect_connection_close(403) == REFUSED.format(mechanism)


def test_wrong_password_without_authentication_failure_close_closes_the_socket_and_not_at_once(raw: OpenRaw) -> None:
    client = raw()
    client.start()
    client.send(spec.Connection.StartOk({}, "PLAIN", "\0guest\0wrong"))
    begun = time.monotonic()
    assert client.read_to_end() == b""
    assert time.monotonic() - begun > 0.5


def test_wrong_password_with_pika(connect: Connect) -> None:
    with pytest.raises(ProbableAuthenticationError, match="ACCESS_REFUSED - Login was refused"):
        connect(credentials=pika.PlainCredentials("guest", "wrong"))


@rabbitmq_differs(reason="it closes the socket without a word")
def test_a_mechanism_that_is_not_there(raw: OpenRaw) -> None:
    client = raw()
    client.start()
    client.send(spec.Connection.StartOk({}, "GSSAPI", "x"))
    assert client.expect_connection_close(503) == "COMMAND_INVALID - unknown authentication mechanism 'GSSAPI'"


@rabbitmq_differs(reason="it closes the socket without a word")
def test_a_method_out_of_turn_in_the_handshake(raw: OpenRaw) -> None:
    client = raw()
    client.start()
    client.send(spec.Connection.Open("/"))
    assert client.expect_connection_close(504) == "CHANNEL_ERROR - unexpected method in connection state starting"


# Tune


def test_tune_offers_limits(raw: OpenRaw) -> None:
    tune = raw().log_in()
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@rabbitmq_differs(reason="it closes the socket without a word")
@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ((2048, 131072), "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
        ((0, 131072), "negotiated channel_max = no limit is higher than the maximum allowed value (2047)"),
        ((2047, 131073), "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
        ((2047, 0), "negotiated frame_max = no limit is higher than the maximum allowed value (131072)"),
        ((2047, 4095), "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ],
)
def test_tune_ok_outside_of_the_limits(raw: OpenRaw, limits: tuple[int, int], text: str) -> None:
    client = raw()
    client.log_in()
    client.send(spec.Connection.TuneOk(*limits, 0))
    assert client.expect_connection_close(530) == f"NOT_ALLOWED - {text}"


def test_more_channels_than_the_agreed_channel_max(raw: OpenRaw) -> None:
    client = raw()
    client.open(channel_max=3)
    for number in (1, 2, 65535):
        client.open_channel(number)
    client.send(spec.Channel.Open(), 3)
    text = "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)"
    assert client.expect_connection_close(530) == text


def test_a_closed_channel_makes_room_for_another(raw: OpenRaw) -> None:
    client = raw()
    client.open(channel_max=1)
    for number in (1, 2, 1):
        client.open_channel(number)
        client.send(spec.Channel.Close(200, "", 0, 0), number)
        client.expect(spec.Channel.CloseOk)


def test_a_frame_above_the_agreed_frame_max(raw: OpenRaw) -> None:
    client = raw()
    client.open(frame_max=4096)
    client.open_channel()
    client.send_bytes(struct.pack(">BHI", 1, 1, 5000))
    assert client.expect_connection_close(501, hang_up=True).startswith("FRAME_ERROR - ")


# Open


def test_an_unknown_vhost(connect: Connect) -> None:
    with pytest.raises(ProbableAccessDeniedError, match=r"\(530\) 'NOT_ALLOWED - vhost nowhere not found'"):
        connect(virtual_host="nowhere")


@rabbitmq_differs(reason="it goes on waiting")
def test_a_channel_before_open(raw: OpenRaw) -> None:
    client = raw()
    client.log_in()
    client.send(spec.Connection.TuneOk(2047, 131072, 0))
    client.send(spec.Channel.Open(), 1)
    client.expect_connection_close(503)


def test_a_second_open(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send(spec.Connection.Open("/"))
    assert client.expect_connection_close(504) == "CHANNEL_ERROR - unexpected method in connection state running"


# Close


def test_close_by_the_client(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send(spec.Connection.Close(200, "goodbye", 0, 0))
    client.expect(spec.Connection.CloseOk)
    client.hang_up()


def test_the_client_that_closes_is_the_first_to_close_the_socket(raw: OpenRaw) -> None:
    client = raw(timeout=0.5)
    client.open()
    client.send(spec.Connection.Close(200, "goodbye", 0, 0))
    client.expect(spec.Connection.CloseOk)
    with pytest.raises(TimeoutError):
        client.receive()


@rabbitmq_differs(reason="it waits longer for the client to close the socket")
def test_a_client_that_closes_and_leaves_the_socket_open_is_not_waited_for_long(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send(spec.Connection.Close(200, "goodbye", 0, 0))
    client.expect(spec.Connection.CloseOk)
    assert client.read_to_end() == b""


def test_close_answers_come_behind_what_was_sent_before(raw: OpenRaw, fresh: Fresh) -> None:
    client = raw()
    client.open()
    client.send(spec.Channel.Open(), 1)
    client.send(spec.Queue.Declare(queue=fresh("q"), exclusive=True), 1)
    client.expect(spec.Channel.OpenOk)
    client.expect(spec.Queue.DeclareOk)
    client.send(spec.Connection.Close(200, "goodbye", 0, 0))
    client.expect(spec.Connection.CloseOk)
    client.hang_up()


def test_close_by_the_server_waits_for_close_ok(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send(spec.Basic.Qos(), 7)
    close = client.expect(spec.Connection.Close)
    assert (close.reply_code, close.reply_text) == (504, "CHANNEL_ERROR - expected 'channel.open'")
    client.send(spec.Channel.Open(), 1)  # nothing is done after the close
    client.send(spec.Connection.CloseOk())
    with pytest.raises(EOFError):
        client.receive()


@rabbitmq_differs(reason="it waits for the client to close the socket")
def test_both_close_at_once(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send(spec.Basic.Qos(), 7)
    client.send(spec.Connection.Close(200, "goodbye", 0, 0))
    client.expect(spec.Connection.Close)
    client.expect(spec.Connection.CloseOk)
    client.send(spec.Connection.CloseOk())
    client.read_to_end()


def test_close_releases_exclusive_queues_before_it_is_answered(connect: Connect, fresh: Fresh) -> None:
    name = fresh("exclusive")
    for _ in range(20):
        connection = connect()
        connection.channel().queue_declare(name, exclusive=True)
        connection.close()


def test_a_dropped_socket_releases_exclusive_queues(connect: Connect, raw: OpenRaw, fresh: Fresh) -> None:
    name = fresh("exclusive")
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Queue.Declare(queue=name, exclusive=True), 1)
    client.expect(spec.Queue.DeclareOk)
    client.close()
    channel = connect().channel()
    wait_until(channel, lambda: not exists(channel, name))


def test_update_secret(connection: pika.BlockingConnection) -> None:
    connection.update_secret("guest", "renewed")
    assert connection.is_open


def test_a_stopping_broker_says_so(own_broker: BrokerProcess, connect: Connect) -> None:
    connection = connect(own_broker)
    connection.channel()
    assert own_broker.stop() == 0
    with connection_error(320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"):
        connection.process_data_events(time_limit=5)
    with pytest.raises(ConnectionWrongStateError):
        connection.channel()


# Garbage


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (struct.pack(">BHI", 1, 1, 4) + b"\x00\x14\x00\x0a\x00", 501),  # no frame end
        (struct.pack(">BHI", 9, 1, 1) + b"x\xce", 501),  # unknown kind of frame
        (struct.pack(">BHI", 3, 1, 1) + b"x\xce", 505),  # body without a method
        (struct.pack(">BHI", 8, 1, 0) + b"\xce", 505),  # heartbeat on a channel
        (struct.pack(">BHI", 1, 1, 4) + b"\x00\x63\x00\x63\xce", 540),  # unknown method
    ],
)
@rabbitmq_differs(reason="it closes the socket without a word after an unknown method")
def test_bad_frames(raw: OpenRaw, data: bytes, code: int) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send_bytes(data)
    client.expect_connection_close(code, hang_up=True)


# Heartbeats


def test_heartbeats_come_though_nothing_else_does(raw: OpenRaw) -> None:
    client = raw()
    client.open(heartbeat=1)
    begun = time.monotonic()
    for _ in range(3):
        client.expect(Heartbeat)
        client.send(Heartbeat())
    assert 1 <= time.monotonic() - begun < 4


def test_a_silent_peer_is_dropped_after_two_intervals_unless_there_are_none(raw: OpenRaw) -> None:
    silent, lively, unhurried = raw(), raw(), raw()
    silent.open(heartbeat=1)
    lively.open(heartbeat=1)
    unhurried.open(heartbeat=0)
    begun = time.monotonic()
    while silent.is_open():
        lively.send(Heartbeat())
    assert 1.4 < time.monotonic() - begun < 5
    lively.open_channel()
    unhurried.send(spec.Channel.Open(), 1)
    _, first = unhurried.receive()
    assert isinstance(first, spec.Channel.OpenOk)


def test_a_peer_that_falls_silent_within_a_large_message_is_dropped(raw: OpenRaw) -> None:
    client = raw()
    client.open(heartbeat=1)
    client.open_channel()
    client.send(spec.Basic.Publish(routing_key="nowhere"), 1)
    client.send(ContentHeader(0, 4 << 20, spec.Basic.Properties()), 1)
    for _ in range(20):
        client.send(ContentBody(bytes(131_064)), 1)
    assert set(client.read_to_end()) <= set(b"\x08\x00\xce")


def test_a_peer_that_does_not_read_is_dropped(broker: BrokerProcess | Oracle, raw: OpenRaw, connect: Connect) -> None:
    """It sends nothing either: half-open, as a machine that lost its power."""
    client = raw()
    client.open(heartbeat=1)
    name = f"half-open-{client.socket.getsockname()[1]}"
    client.open_channel()
    client.send(spec.Queue.Declare(queue=name, auto_delete=True), 1)
    client.expect(spec.Queue.DeclareOk)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(spec.Basic.Consume(queue=name, no_ack=True), 1)
    client.expect(spec.Basic.ConsumeOk)
    channel = connect().channel()
    for _ in range(100):
        channel.basic_publish("", name, bytes(100_000))
    wait_until(channel, lambda: not exists(channel, name))


def test_pika_lives_with_short_heartbeats(connect: Connect) -> None:
    connection = connect(heartbeat=1)
    connection.process_data_events(time_limit=3)
    assert connection.channel().is_open
