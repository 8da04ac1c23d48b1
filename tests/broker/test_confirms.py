from __future__ import annotations

from typing import Any

import pika
import pytest
from broker.clients import channel_error, depth, get_all
from broker.conftest import Connect, Fresh, OpenRaw
from broker.raw import RawClient
from pamqp import commands as spec
from pamqp.header import ContentHeader
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import UnroutableError


@pytest.fixture
def client(raw: OpenRaw) -> RawClient:
    """With channel 1 in confirm mode."""
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Confirm.Select(), 1)
    client.expect(spec.Confirm.SelectOk)
    return client


def confirmed(client: RawClient, count: int) -> list[int]:
    """The numbers of as many acks, in the order that they came; each may come once only, whatever `multiple` spans."""
    settled: list[int] = []
    while len(settled) < count:
        ack = client.expect(spec.Basic.Ack)
        if ack.multiple:
            settled += [number for number in range(1, ack.delivery_tag + 1) if number not in settled]
        else:
            assert ack.delivery_tag not in settled
            settled.append(ack.delivery_tag)
    return settled


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_each_is_confirmed_once(client: RawClient, fresh: Fresh, durable: bool, persistent: bool) -> None:
    name = fresh("q")
    client.send(spec.Queue.Declare(queue=name, durable=durable), 1)
    client.expect(spec.Queue.DeclareOk)
    properties = spec.Basic.Properties(delivery_mode=1 + persistent)
    for _ in range(500):
        client.publish(1, name, b"x", properties=properties)
    assert sorted(confirmed(client, 500)) == list(range(1, 501))
    client.send(spec.Queue.Delete(queue=name), 1)
    assert client.expect(spec.Queue.DeleteOk).message_count == 500


def test_with_pika(channel: BlockingChannel, queue: str) -> None:
    channel.confirm_delivery()
    for number in range(50):
        channel.basic_publish("", queue, str(number).encode())
    assert depth(channel, queue) == 50


def test_unroutable_ones_are_confirmed(client: RawClient, fresh: Fresh) -> None:
    for _ in range(3):
        client.publish(1, fresh("missing"), b"x")
    assert sorted(confirmed(client, 3)) == [1, 2, 3]


def test_return_comes_before_its_ack(client: RawClient, queue: str, fresh: Fresh) -> None:
    for number in range(30):
        routed = number % 3 == 0
        client.publish(1, queue if routed else fresh("missing"), str(number).encode(), mandatory=True)
    returned: list[int] = []
    acked: set[int] = set()
    while len(acked) < 30:
        _, frame = client.receive()
        if isinstance(frame, spec.Basic.Return):
            assert frame.reply_code == 312
            returned.append(int(b"".join(client.content()[1])))
        else:
            numbers = range(1, frame.delivery_tag + 1) if frame.multiple else [frame.delivery_tag]
            acked |= set(numbers)
            assert all((number - 1) % 3 == 0 or number - 1 in returned for number in numbers)
    assert returned == [number for number in range(30) if number % 3]


def test_an_unroutable_mandatory_one_with_pika(channel: BlockingChannel, fresh: Fresh) -> None:
    channel.confirm_delivery()
    with pytest.raises(UnroutableError):
        channel.basic_publish("", fresh("missing"), b"x", mandatory=True)


def test_confirmed_by_all_queues_of_a_fanout(client: RawClient, fresh: Fresh) -> None:
    name = fresh("x")
    client.send(spec.Exchange.Declare(exchange=name, exchange_type="fanout", auto_delete=True), 1)
    client.expect(spec.Exchange.DeclareOk)
    queues = [fresh(f"q{number}") for number in range(10)]
    for number, queue in enumerate(queues):
        client.send(spec.Queue.Declare(queue=queue, durable=number % 2 == 0), 1)
        client.expect(spec.Queue.DeclareOk)
        client.send(spec.Queue.Bind(queue=queue, exchange=name), 1)
        client.expect(spec.Queue.BindOk)
    for _ in range(100):
        client.publish(1, "", b"x", exchange=name, properties=spec.Basic.Properties(delivery_mode=2))
    assert sorted(confirmed(client, 100)) == list(range(1, 101))
    for queue in queues:
        client.send(spec.Queue.Delete(queue=queue), 1)
        assert client.expect(spec.Queue.DeleteOk).message_count == 100


def test_numbers_begin_with_select(client: RawClient, queue: str) -> None:
    client.open_channel(2)
    client.publish(2, queue, b"before")
    client.send(spec.Confirm.Select(), 2)
    client.expect(spec.Confirm.SelectOk)
    client.publish(2, queue, b"after")
    assert client.expect(spec.Basic.Ack).delivery_tag == 1


def test_numbers_go_on_after_a_second_select(client: RawClient, queue: str) -> None:
    client.publish(1, queue, b"x")
    assert confirmed(client, 1) == [1]
    client.send(spec.Confirm.Select(), 1)
    client.expect(spec.Confirm.SelectOk)
    client.publish(1, queue, b"x")
    assert client.expect(spec.Basic.Ack).delivery_tag == 2


def test_nowait(client: RawClient, queue: str) -> None:
    client.open_channel(2)
    client.send(spec.Confirm.Select(nowait=True), 2)
    client.publish(2, queue, b"x")
    assert client.expect(spec.Basic.Ack).delivery_tag == 1


def test_empty_bodies(client: RawClient, queue: str) -> None:
    for _ in range(3):
        client.publish(1, queue, b"")
    assert sorted(confirmed(client, 3)) == [1, 2, 3]


def test_nothing_is_confirmed_before_it_is_complete(client: RawClient, queue: str) -> None:
    client.send(spec.Basic.Publish(routing_key=queue), 1)
    client.send(ContentHeader(0, 10, spec.Basic.Properties()), 1)
    client.open_channel(2)  # the broker has seen the header now
    client.send(spec.Queue.Purge(queue=queue), 2)
    assert client.expect(spec.Queue.PurgeOk).message_count == 0


def test_a_confirmed_message_is_seen_by_everybody(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    publisher = connect().channel()
    publisher.confirm_delivery()
    for number in range(100):
        publisher.basic_publish("", queue, str(number).encode(), pika.BasicProperties(delivery_mode=2))
        assert get_all(channel, queue) == [str(number).encode()]


def test_confirmed_though_consumed_before(connect: Connect, channel: BlockingChannel, fresh: Fresh) -> None:
    """Its deletion meets it before it is stored, and it never is."""
    channel.queue_declare(fresh("q"), durable=True)
    consumed: list[Any] = []
    consumer = connect().channel()
    consumer.basic_consume(fresh("q"), lambda *delivery: consumed.append(delivery), auto_ack=True)
    channel.confirm_delivery()
    for _ in range(100):
        channel.basic_publish("", fresh("q"), b"x", pika.BasicProperties(delivery_mode=2))
    channel.queue_delete(fresh("q"))


def test_no_confirms_in_a_transaction(channel: BlockingChannel) -> None:
    channel.confirm_delivery()
    with channel_error(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"):
        channel.tx_select()


def test_no_transaction_with_confirms(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Tx.Select(), 1)
    client.expect(spec.Tx.SelectOk)
    client.send(spec.Confirm.Select(), 1)
    close = client.expect(spec.Channel.Close)
    assert (close.reply_code, close.reply_text) == (
        406,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    )
