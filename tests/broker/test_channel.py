from __future__ import annotations

import pytest
from broker.clients import channel_error, depth, get, publish, round_trip
from broker.conftest import Connect, Fresh, OpenRaw, rabbitmq_differs
from pamqp import commands as spec
from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker


def test_open_and_close(connection: BlockingConnection) -> None:
    channel = connection.channel()
    channel.close()
    assert channel.is_closed
    assert connection.is_open


def test_numbers_can_be_used_again(connection: BlockingConnection, fresh: Fresh) -> None:
    for _ in range(50):
        channel = connection.channel(7)
        channel.queue_declare(fresh("q"), exclusive=True)
        channel.close()


@rabbitmq_differs(reason="it may find the number still in use")
def test_numbers_can_be_used_again_in_the_same_write(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel(3)
    client.send(spec.Channel.Close(200, "", 0, 0), 3)
    client.send(spec.Channel.Open(), 3)
    client.send(spec.Basic.Qos(), 3)
    client.expect(spec.Channel.CloseOk)
    client.expect(spec.Channel.OpenOk)
    client.expect(spec.Basic.QosOk)


def test_a_number_can_be_used_again_after_an_error(connection: BlockingConnection, fresh: Fresh) -> None:
    for _ in range(20):
        channel = connection.channel(9)
        with pytest.raises(ChannelClosedByBroker):
            channel.queue_declare(fresh("missing"), passive=True)
    connection.channel(9).queue_declare(fresh("q"), exclusive=True)


def test_many_channels(connection: BlockingConnection, fresh: Fresh) -> None:
    channels = [connection.channel() for _ in range(400)]
    name = fresh("q")
    channels[0].queue_declare(name, exclusive=True)
    for number, channel in enumerate(channels):
        publish(channel, name, str(number).encode())
    for channel in channels:
        round_trip(channel)
    assert depth(channels[0], name) == 400
    for channel in channels:
        assert get(channel, name) is not None
        channel.close()


def test_every_channel_that_was_offered(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    for number in range(1, 2048):
        client.send(spec.Channel.Open(), number)
    opened = set()
    for _ in range(1, 2048):
        number, answer = client.receive()
        assert isinstance(answer, spec.Channel.OpenOk)
        opened.add(number)
    assert opened == set(range(1, 2048))


def test_a_second_open(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Channel.Open(), 1)
    assert client.expect_connection_close(504) == "CHANNEL_ERROR - second 'channel.open' seen"


def test_a_method_on_a_channel_that_is_not_open(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.send(spec.Queue.Declare(queue="q"), 4)
    assert client.expect_connection_close(504) == "CHANNEL_ERROR - expected 'channel.open'"


def test_a_method_on_a_channel_that_was_closed(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Channel.Close(200, "", 0, 0), 1)
    client.expect(spec.Channel.CloseOk)
    client.send(spec.Basic.Qos(), 1)
    client.expect_connection_close(504)


def test_after_an_error_nothing_is_done_until_close_ok(raw: OpenRaw, channel: BlockingChannel, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Queue.Declare(queue=f"{queue}-missing", passive=True), 1)
    client.publish(1, queue, b"lost")
    client.send(spec.Queue.Declare(queue=queue, passive=True), 1)
    close = client.expect(spec.Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 50, 10)
    client.send(spec.Channel.CloseOk(), 1)
    client.open_channel()
    assert depth(channel, queue) == 0


def test_both_close_at_once(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Queue.Declare(queue="there-is-no-such-queue", passive=True), 1)
    client.send(spec.Channel.Close(200, "", 0, 0), 1)
    client.expect(spec.Channel.Close)
    client.expect(spec.Channel.CloseOk)
    client.send(spec.Channel.CloseOk(), 1)
    client.open_channel()


def test_an_error_on_one_channel_leaves_the_others_alone(connection: BlockingConnection, fresh: Fresh) -> None:
    good, bad = connection.channel(), connection.channel()
    good.queue_declare(fresh("q"), exclusive=True)
    name = fresh("missing")
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        bad.queue_declare(name, passive=True)
    assert depth(good, fresh("q")) == 0


def test_flow(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Channel.Flow(True), 1)
    assert client.expect(spec.Channel.FlowOk).active is True
    client.send(spec.Channel.Flow(False), 1)
    assert client.expect_connection_close(540) == "NOT_IMPLEMENTED - active=false"


@rabbitmq_differs(reason="it takes that for an error")
def test_a_cancel_ok_that_nobody_waits_for(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.CancelOk("tag"), 1)
    client.send(spec.Basic.Qos(), 1)
    client.expect(spec.Basic.QosOk)


def test_a_method_that_only_servers_send(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.QosOk(), 1)
    assert client.expect_connection_close(503) == "COMMAND_INVALID - unimplemented method"


def test_a_content_in_the_wrong_order(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Publish(routing_key="q"), 1)
    client.send(spec.Basic.Qos(), 1)
    assert client.expect_connection_close(505, hang_up=True).startswith("UNEXPECTED_FRAME - expected content header")


def test_closing_a_channel_gives_back_what_it_held(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1", b"2", b"3")
    other = connect().channel()
    for _ in range(3):
        get(other, queue, auto_ack=False)
    assert depth(channel, queue) == 0
    other.close()
    assert depth(channel, queue) == 3
    assert [get(channel, queue) for _ in range(3)] == [b"1", b"2", b"3"]


@rabbitmq_differs(reason="its answer to access.request is version 0-9's")
def test_access_request_is_answered(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    payload = b"\x00\x1e\x00\x0a" + b"\x05/data" + b"\x1f"
    client.send_bytes(b"\x01\x00\x01" + len(payload).to_bytes(4, "big") + payload + b"\xce")
    data = client.socket.recv(100)
    assert data[7:11] == b"\x00\x1e\x00\x0b"
