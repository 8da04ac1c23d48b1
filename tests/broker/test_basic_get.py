from __future__ import annotations

from broker.clients import channel_error, depth, get, get_all, publish
from broker.conftest import Connect, Fresh, OpenRaw
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingChannel


def test_get(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1", b"2", b"3")
    method, _, body = channel.basic_get(queue)
    assert body == b"1"
    assert (method.delivery_tag, method.redelivered, method.exchange, method.routing_key) == (1, False, "", queue)
    assert method.message_count == 2
    assert depth(channel, queue) == 2
    channel.basic_ack(method.delivery_tag)
    assert get_all(channel, queue) == [b"2", b"3"]


def test_get_of_an_empty_queue(channel: BlockingChannel, queue: str) -> None:
    for _ in range(5):
        assert channel.basic_get(queue) == (None, None, None)


def test_get_of_a_missing_queue(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("missing")
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        channel.basic_get(name)


def test_without_acknowledgement_it_is_gone(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1")
    other = connect().channel()
    assert get(other, queue, auto_ack=True) == b"1"
    other.close()
    assert depth(channel, queue) == 0


def test_no_ack_has_no_tag_to_acknowledge(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1")
    method, _, _ = channel.basic_get(queue, auto_ack=True)
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {method.delivery_tag}"):
        channel.basic_ack(method.delivery_tag)
        channel.basic_qos(prefetch_count=1)


def test_unacknowledged_it_comes_back_with_the_channels_end(
    connect: Connect, channel: BlockingChannel, queue: str
) -> None:
    publish(channel, queue, b"1", b"2")
    connection = connect()
    get(connection.channel(), queue, auto_ack=False)
    connection.close()
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"1", True)
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"2", False)


def test_prefetch_does_not_hold_for_get(channel: BlockingChannel, queue: str) -> None:
    channel.basic_qos(prefetch_count=1)
    channel.basic_qos(prefetch_count=1, global_qos=True)
    publish(channel, queue, b"1", b"2", b"3")
    assert [get(channel, queue, auto_ack=False) for _ in range(3)] == [b"1", b"2", b"3"]


def test_tags_go_on_across_gets_and_deliveries(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    for _ in range(4):
        client.publish(1, queue, b"x")
    tags = []
    for no_ack in (False, True):
        client.send(spec.Basic.Get(queue=queue, no_ack=no_ack), 1)
        tags.append(client.expect(spec.Basic.GetOk).delivery_tag)
        client.content()
    client.send(spec.Basic.Consume(queue=queue), 1)
    client.expect(spec.Basic.ConsumeOk)
    for _ in range(2):
        tags.append(client.expect(spec.Basic.Deliver).delivery_tag)
        client.content()
    assert tags == [1, 2, 3, 4]


def test_many_gets_in_one_write(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    for number in range(200):
        client.publish(1, queue, str(number).encode())
    for _ in range(201):
        client.send(spec.Basic.Get(queue=queue, no_ack=True), 1)
    for number in range(200):
        assert client.expect(spec.Basic.GetOk).message_count == 199 - number
        assert client.content()[1] == [str(number).encode()]
    client.expect(spec.Basic.GetEmpty)
