from __future__ import annotations

import signal
from collections.abc import Iterator

import pika
import pytest
from broker.clients import Inbox, get_all, persistent
from broker.raw import RawClient
from crash.conftest import Connect
from crash.durable_broker import DurableBroker
from pamqp import commands as spec
from pika.exceptions import ConnectionClosedByBroker


@pytest.fixture
def raw(broker: DurableBroker) -> Iterator[RawClient]:
    client = RawClient(broker.host, broker.port)
    yield client
    client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clients_are_told_and_the_broker_ends(broker: DurableBroker, raw: RawClient, number: signal.Signals) -> None:
    raw.open()
    broker.send_signal(number)
    assert (
        raw.expect_connection_close(320)
        == "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    )
    assert broker.wait() == 0
    assert not broker.trouble_since(0)


def test_what_nobody_waits_for_is_committed(broker: DurableBroker, connect: Connect) -> None:
    broker.end(signal.SIGTERM)
    broker = DurableBroker(broker.persist_dir, "--coalesce-interval", "60s")
    broker.start()
    try:
        connection = pika.BlockingConnection(pika.ConnectionParameters(broker.host, broker.port))
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        for number in range(50):
            channel.basic_publish("", "q", b"%d" % number, persistent())
        for _ in range(10):
            method, _, _ = channel.basic_get("q")
            assert method is not None
            channel.basic_ack(method.delivery_tag)
        channel.basic_qos(prefetch_count=5)
        inbox = Inbox(channel, "q")
        inbox.wait(5)
        assert broker.end(signal.SIGTERM) == 0
        with pytest.raises(ConnectionClosedByBroker, match="320"):
            connection.process_data_events(time_limit=5)
        broker.start()
        channel = pika.BlockingConnection(pika.ConnectionParameters(broker.host, broker.port)).channel()
        found = Inbox(channel, "q").wait(40)
        assert [(one.body, one.redelivered) for one in found] == [(b"%d" % n, n < 15) for n in range(10, 50)]
    finally:
        broker.kill()


def test_a_client_that_never_answers_is_not_waited_for(broker: DurableBroker, raw: RawClient) -> None:
    raw.open()
    raw.open_channel()
    assert broker.end(signal.SIGTERM) == 0
    assert raw.expect(spec.Connection.Close).reply_code == 320
    assert raw.read_to_end() == b""


def test_a_client_that_stopped_reading_is_not_waited_for(
    broker: DurableBroker, raw: RawClient, connect: Connect
) -> None:
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    for _ in range(64):
        channel.basic_publish("", "q", b"x" * 131072, persistent())
    raw.open()
    raw.open_channel()
    raw.send(spec.Basic.Consume(queue="q"), 1)
    raw.expect(spec.Basic.ConsumeOk)
    raw.expect(spec.Basic.Deliver)
    assert broker.end(signal.SIGTERM) == 0
    broker.start()
    assert len(get_all(connect().channel(), "q")) == 64


def test_clients_in_the_middle_of_the_handshake_are_not_waited_for(broker: DurableBroker) -> None:
    silent, started, logged_in = (RawClient(broker.host, broker.port) for _ in range(3))
    started.start()
    logged_in.log_in()
    assert broker.end(signal.SIGTERM) == 0
    for client in (silent, started, logged_in):
        client.read_to_end()
        client.close()


def test_a_client_that_publishes_all_the_time_does_not_keep_the_broker(broker: DurableBroker, raw: RawClient) -> None:
    raw.open()
    raw.open_channel()
    raw.send(spec.Queue.Declare(queue="q", durable=True), 1)
    raw.expect(spec.Queue.DeclareOk)
    raw.send(spec.Confirm.Select(), 1)
    raw.expect(spec.Confirm.SelectOk)
    published = 0
    broker.send_signal(signal.SIGTERM)
    try:
        while True:
            raw.publish(1, "q", b"%d" % published, properties=spec.Basic.Properties(delivery_mode=2))
            published += 1
    except OSError:
        pass
    assert broker.wait() == 0
