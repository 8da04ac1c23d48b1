from __future__ import annotations

from typing import Any

import pytest
from broker.clients import Inbox, channel_error, depth, exists, get, get_all, publish, wait_until
from broker.conftest import Connect, Fresh, OpenRaw, rabbitmq_differs
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingChannel

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


def missing(name: str) -> tuple[int, str]:
    return 404, f"NOT_FOUND - no queue '{name}' in vhost '/'"


# Declare


@pytest.mark.parametrize("durable", [False, True])
def test_declare(channel: BlockingChannel, fresh: Fresh, durable: bool) -> None:
    name = fresh("q")
    answer = channel.queue_declare(name, durable=durable).method
    assert (answer.queue, answer.message_count, answer.consumer_count) == (name, 0, 0)
    publish(channel, name, b"1", b"2")
    assert channel.queue_declare(name, durable=durable).method.message_count == 2
    channel.queue_delete(name)
    with channel_error(*missing(name)):
        channel.queue_declare(name, passive=True)


def test_declare_tells_ready_messages_and_consumers(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    consumer = connect().channel()
    consumer.basic_qos(prefetch_count=1)
    inbox = Inbox(consumer, queue)
    publish(channel, queue, b"1", b"2", b"3")
    inbox.wait(1)
    answer = channel.queue_declare(queue).method
    assert (answer.message_count, answer.consumer_count) == (2, 1)


def test_server_given_names(channel: BlockingChannel) -> None:
    names = {channel.queue_declare("", exclusive=True).method.queue for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("amq.gen-") for name in names)


def test_the_empty_name_is_the_queue_declared_last(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Queue.Declare(exclusive=True), 1)
    name = client.expect(spec.Queue.DeclareOk).queue
    client.send(spec.Queue.Bind(exchange="amq.direct"), 1)
    client.expect(spec.Queue.BindOk)
    client.publish(1, name, b"bound by its name", exchange="amq.direct")
    client.send(spec.Basic.Get(), 1)
    client.expect(spec.Basic.GetOk)
    client.content()
    client.send(spec.Basic.Consume(), 1)
    client.expect(spec.Basic.ConsumeOk)
    client.send(spec.Queue.Purge(), 1)
    client.expect(spec.Queue.PurgeOk)
    client.send(spec.Queue.Unbind(exchange="amq.direct"), 1)
    client.expect(spec.Queue.UnbindOk)
    client.send(spec.Queue.Delete(), 1)
    client.expect(spec.Queue.DeleteOk)


def test_the_empty_name_when_none_was_declared(channel: BlockingChannel) -> None:
    with channel_error(404, "NOT_FOUND - no previously declared queue"):
        channel.queue_purge("")


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({"durable": True}, "'durable' for queue '{}' in vhost '/': received 'true' but current is 'false'"),
        ({"auto_delete": True}, "'auto_delete' for queue '{}' in vhost '/': received 'true' but current is 'false'"),
    ],
)
def test_declare_otherwise(channel: BlockingChannel, queue: str, declared: dict[str, Any], text: str) -> None:
    with channel_error(406, "PRECONDITION_FAILED - inequivalent arg " + text.format(queue)):
        channel.queue_declare(queue, **declared)


def test_the_reserved_prefix(channel: BlockingChannel) -> None:
    with channel_error(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"):
        channel.queue_declare("amq.mine")


def test_passive_declare_of_a_missing_one(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("missing")
    with channel_error(*missing(name)):
        channel.queue_declare(name, passive=True)


def test_passive_declare_does_not_mind_properties(channel: BlockingChannel, queue: str) -> None:
    channel.queue_declare(queue, passive=True, durable=True, auto_delete=True)


def test_passive_declare_has_no_empty_name(channel: BlockingChannel) -> None:
    channel.queue_declare("", exclusive=True)
    with channel_error(*missing("")):
        channel.queue_declare("", passive=True)


def test_names_may_hold_anything(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("celery@host é-世界 #* /")
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"x")
    assert get(channel, name) == b"x"


def test_the_longest_name(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("q").ljust(255, "x")
    channel.queue_declare(name, exclusive=True)
    publish(channel, name, b"x")
    assert get(channel, name) == b"x"


# Exclusive


def test_exclusive_from_another_connection(connect: Connect, channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("q")
    channel.queue_declare(name, exclusive=True)
    other = connect()
    operations: list[Any] = [
        lambda channel: channel.queue_declare(name, exclusive=True),
        lambda channel: channel.queue_declare(name),
        lambda channel: channel.queue_declare(name, passive=True),
        lambda channel: channel.queue_bind(name, "amq.fanout"),
        lambda channel: channel.queue_purge(name),
        lambda channel: channel.queue_delete(name),
        lambda channel: channel.basic_get(name),
        lambda channel: channel.basic_consume(name, print),
    ]
    for operate in operations:
        with channel_error(405, LOCKED.format(name)):
            operate(other.channel())


def test_anybody_may_publish_to_an_exclusive_one(connect: Connect, channel: BlockingChannel, fresh: Fresh) -> None:
    channel.queue_declare(fresh("q"), exclusive=True)
    inbox = Inbox(channel, fresh("q"), auto_ack=True)
    publish(connect().channel(), fresh("q"), b"x")
    assert inbox.wait(1)[0].body == b"x"


def test_exclusive_is_shared_by_the_channels_of_its_connection(channel: BlockingChannel, fresh: Fresh) -> None:
    channel.queue_declare(fresh("q"), exclusive=True)
    other = channel.connection.channel()
    channel.close()
    assert other.queue_declare(fresh("q"), exclusive=True).method.message_count == 0


def test_exclusive_goes_with_its_connection(connect: Connect, channel: BlockingChannel, fresh: Fresh) -> None:
    owner = connect()
    owner.channel().queue_declare(fresh("q"), exclusive=True)
    owner.close()
    with channel_error(*missing(fresh("q"))):
        channel.queue_declare(fresh("q"), passive=True)


# Auto-delete


def test_auto_delete_goes_with_its_last_consumer(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("q")
    channel.queue_declare(name, auto_delete=True)
    assert get(channel, name) is None
    first, second = Inbox(channel, name), Inbox(channel, name)
    channel.basic_cancel(first.tag)
    assert channel.queue_declare(name, passive=True).method.consumer_count == 1
    channel.basic_cancel(second.tag)
    wait_until(channel, lambda: not exists(channel, name))


def test_auto_delete_goes_when_the_consumers_connection_does(
    connect: Connect, channel: BlockingChannel, fresh: Fresh
) -> None:
    name = fresh("q")
    channel.queue_declare(name, auto_delete=True)
    other = connect()
    Inbox(other.channel(), name)
    other.close()
    wait_until(channel, lambda: not exists(channel, name))


# Bind


def test_bind_and_unbind(channel: BlockingChannel, queue: str) -> None:
    key = queue
    channel.queue_bind(queue, "amq.direct", key)
    channel.queue_bind(queue, "amq.direct", key)
    channel.basic_publish("amq.direct", key, b"1")
    channel.queue_unbind(queue, "amq.direct", key)
    channel.basic_publish("amq.direct", key, b"2")
    channel.queue_unbind(queue, "amq.direct", key)
    assert get_all(channel, queue) == [b"1"]


def test_bindings_differ_by_arguments(channel: BlockingChannel, queue: str) -> None:
    for colour in ("red", "green"):
        channel.queue_bind(queue, "amq.direct", queue, {"colour": colour})
    channel.queue_unbind(queue, "amq.direct", queue, {"colour": "red"})
    channel.basic_publish("amq.direct", queue, b"by the other binding")
    channel.queue_unbind(queue, "amq.direct", queue, {"colour": "green"})
    channel.basic_publish("amq.direct", queue, b"by none")
    assert get_all(channel, queue) == [b"by the other binding"]


def test_bind_to_a_missing_exchange(channel: BlockingChannel, queue: str, fresh: Fresh) -> None:
    name = fresh("x")
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.queue_bind(queue, name)


def test_bind_of_a_missing_queue(channel: BlockingChannel, fresh: Fresh) -> None:
    with channel_error(*missing(fresh("q"))):
        channel.queue_bind(fresh("q"), "amq.direct")


def test_unbind_where_nothing_is(channel: BlockingChannel, queue: str, fresh: Fresh) -> None:
    channel.queue_unbind(queue, "amq.direct", "key")
    channel.queue_unbind(queue, fresh("x"), "key")
    channel.queue_unbind(fresh("q"), "amq.direct", "key")


def test_bindings_go_with_the_queue(channel: BlockingChannel, queue: str) -> None:
    channel.queue_bind(queue, "amq.direct", queue)
    channel.queue_delete(queue)
    channel.queue_declare(queue)
    channel.basic_publish("amq.direct", queue, b"x")
    assert get(channel, queue) is None


# Purge and delete


def test_purge_leaves_what_is_out(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1", b"2", b"3")
    method, _, _ = channel.basic_get(queue)
    assert channel.queue_purge(queue).method.message_count == 2
    assert depth(channel, queue) == 0
    channel.basic_nack(method.delivery_tag)
    assert get_all(channel, queue) == [b"1"]


def test_purge_of_a_missing_one(channel: BlockingChannel, fresh: Fresh) -> None:
    with channel_error(*missing(fresh("q"))):
        channel.queue_purge(fresh("q"))


def test_delete_tells_how_many_messages_went(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1", b"2", b"3")
    assert channel.queue_delete(queue).method.message_count == 3
    assert channel.queue_declare(queue).method.message_count == 0


def test_delete_of_a_missing_one(channel: BlockingChannel, fresh: Fresh) -> None:
    assert channel.queue_delete(fresh("q")).method.message_count == 0


def test_delete_if_empty(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1")
    with channel_error(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"):
        channel.queue_delete(queue, if_empty=True)
    channel = channel.connection.channel()
    assert get(channel, queue) == b"1"
    channel.queue_delete(queue, if_empty=True)
    assert not exists(channel, queue)


def test_delete_if_unused(channel: BlockingChannel, queue: str) -> None:
    consumer = channel.connection.channel()
    inbox = Inbox(consumer, queue, auto_ack=True)
    with channel_error(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"):
        channel.queue_delete(queue, if_unused=True)
    publish(consumer, queue, b"still here")
    assert inbox.wait(1)[0].body == b"still here"
    consumer.basic_cancel(inbox.tag)
    consumer.queue_delete(queue, if_unused=True)
    assert not exists(consumer, queue)


def test_messages_that_are_out_of_a_deleted_queue_can_be_settled(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1", b"2", b"3")
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    channel.queue_delete(queue)
    channel.basic_ack(tags[0])
    channel.basic_nack(tags[1])
    channel.basic_reject(tags[2], requeue=False)
    assert channel.queue_declare(queue).method.message_count == 0


@rabbitmq_differs(reason="it counts messages before it takes in those that came before")
def test_nowait_is_not_answered(raw: OpenRaw, fresh: Fresh) -> None:
    client = raw()
    client.open()
    client.open_channel()
    name = fresh("q")
    client.send(spec.Queue.Declare(queue=name, nowait=True), 1)
    client.send(spec.Queue.Bind(queue=name, exchange="amq.direct", routing_key=name, nowait=True), 1)
    client.publish(1, name, b"purged", exchange="amq.direct")
    client.send(spec.Queue.Purge(queue=name, nowait=True), 1)
    client.publish(1, name, b"kept", exchange="amq.direct")
    client.send(spec.Queue.Declare(queue=name, passive=True), 1)
    assert client.expect(spec.Queue.DeclareOk).message_count == 1
    client.send(spec.Queue.Delete(queue=name, nowait=True), 1)
    client.send(spec.Queue.Declare(queue=name, passive=True), 1)
    assert client.expect(spec.Channel.Close).reply_code == 404
