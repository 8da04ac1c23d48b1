from __future__ import annotations

import re
from typing import Any

from broker.clients import (
    Inbox,
    channel_error,
    connection_error,
    depth,
    get,
    get_all,
    publish,
    round_trip,
    wait_until,
)
from broker.conftest import Connect, Fresh, OpenRaw, rabbitmq_differs
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingChannel


def numbers(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_what_is_there_and_what_comes(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, *numbers(3))
    inbox = Inbox(channel, queue, auto_ack=True)
    publish(channel, queue, b"later")
    inbox.wait(4)
    assert inbox.bodies == [*numbers(3), b"later"]
    first = inbox.deliveries[0]
    assert (first.tag, first.redelivered, first.exchange, first.routing_key) == (1, False, "", queue)
    assert [delivery.tag for delivery in inbox.deliveries] == [1, 2, 3, 4]


def test_deliveries_come_behind_consume_ok(raw: OpenRaw, channel: BlockingChannel, queue: str) -> None:
    client = raw()
    client.open()
    for number in range(1, 51):
        publish(channel, queue, b"x")
        round_trip(channel)
        depth(channel, queue)
        client.open_channel(number)
        client.send(spec.Basic.Consume(queue=queue, no_ack=True), number)
        client.expect(spec.Basic.ConsumeOk)
        client.expect(spec.Basic.Deliver)
        client.content()
        client.send(spec.Channel.Close(200, "", 0, 0), number)
        client.expect(spec.Channel.CloseOk)


def test_consume_of_a_missing_queue(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("missing")
    with channel_error(404, f"NOT_FOUND - no queue '{name}' in vhost '/'"):
        channel.basic_consume(name, print)


def test_consumers_share_evenly(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    inboxes = [Inbox(channel, queue, auto_ack=True) for _ in range(4)]
    publish(channel, queue, *numbers(400))
    wait_until(channel, lambda: sum(len(inbox.deliveries) for inbox in inboxes) == 400)
    assert [len(inbox.deliveries) for inbox in inboxes] == [100] * 4
    assert all(inbox.bodies == sorted(inbox.bodies, key=int) for inbox in inboxes)


def test_a_given_tag(channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(channel, queue, consumer_tag="mine", auto_ack=True)
    publish(channel, queue, b"x")
    assert inbox.wait(1)[0].consumer_tag == inbox.tag == "mine"


def test_server_given_tags(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    tags = set()
    for _ in range(10):
        client.send(spec.Basic.Consume(queue=queue), 1)
        tags.add(client.expect(spec.Basic.ConsumeOk).consumer_tag)
    assert len(tags) == 10
    assert all(re.fullmatch(r"amq\.ctag-[\w-]{22}", tag) for tag in tags)


def test_reuse_of_a_tag(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Consume(queue=queue, consumer_tag="t"), 1)
    client.expect(spec.Basic.ConsumeOk)
    client.send(spec.Basic.Consume(queue=queue, consumer_tag="t"), 1)
    assert client.expect_connection_close(530) == "NOT_ALLOWED - attempt to reuse consumer tag 't'"


def test_a_cancelled_tag_can_be_used_again(channel: BlockingChannel, queue: str) -> None:
    for _ in range(5):
        inbox = Inbox(channel, queue, consumer_tag="t", auto_ack=True)
        channel.basic_cancel(inbox.tag)


def test_other_channels_may_use_the_same_tag(channel: BlockingChannel, queue: str) -> None:
    Inbox(channel, queue, consumer_tag="t")
    Inbox(channel.connection.channel(), queue, consumer_tag="t")


# qos


def test_prefetch_is_for_each_consumer(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, *numbers(10))
    channel.basic_qos(prefetch_count=2)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    assert (len(first.all()), len(second.all())) == (2, 2)
    assert depth(channel, queue) == 6
    channel.basic_ack(first.deliveries[0].tag)
    first.wait(3)
    assert (len(first.all()), len(second.all())) == (3, 2)
    channel.basic_ack(max(first.deliveries[-1].tag, second.deliveries[-1].tag), multiple=True)
    wait_until(channel, lambda: len(first.deliveries) + len(second.deliveries) == 9)
    assert depth(channel, queue) == 1


def test_prefetch_applies_to_consumers_that_come_after_it(channel: BlockingChannel, queue: str) -> None:
    channel.basic_qos(prefetch_count=1)
    one = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=3)
    three = Inbox(channel, queue)
    publish(channel, queue, *numbers(10))
    assert (len(one.all()), len(three.all())) == (1, 3)


def test_global_prefetch_is_shared(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, *numbers(10))
    channel.basic_qos(prefetch_count=3, global_qos=True)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    assert len(first.all()) + len(second.all()) == 3
    tag = (first.deliveries + second.deliveries)[0].tag
    channel.basic_ack(tag)
    wait_until(channel, lambda: len(first.deliveries) + len(second.deliveries) == 4)
    assert len(first.all()) + len(second.all()) == 4


def test_global_prefetch_applies_at_once(channel: BlockingChannel, queue: str) -> None:
    channel.basic_qos(prefetch_count=2, global_qos=True)
    inbox = Inbox(channel, queue)
    publish(channel, queue, *numbers(10))
    assert len(inbox.all()) == 2
    channel.basic_qos(prefetch_count=5, global_qos=True)
    inbox.wait(5)
    assert len(inbox.all()) == 5
    channel.basic_qos(prefetch_count=0, global_qos=True)
    inbox.wait(10)


def test_both_prefetches_hold(channel: BlockingChannel, queue: str) -> None:
    channel.basic_qos(prefetch_count=3)
    channel.basic_qos(prefetch_count=4, global_qos=True)
    first, second = Inbox(channel, queue), Inbox(channel, queue)
    publish(channel, queue, *numbers(10))
    assert len(first.all()) + len(second.all()) == 4
    assert max(len(first.deliveries), len(second.deliveries)) <= 3


def test_prefetch_does_not_hold_for_no_ack(channel: BlockingChannel, queue: str) -> None:
    channel.basic_qos(prefetch_count=1)
    publish(channel, queue, *numbers(10))
    Inbox(channel, queue, auto_ack=True).wait(10)


def test_prefetch_size(channel: BlockingChannel) -> None:
    with connection_error(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1000)"):
        channel.basic_qos(prefetch_size=1000)


def test_a_full_consumer_does_not_stop_others(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    full = connect().channel()
    full.basic_qos(prefetch_count=1)
    held = Inbox(full, queue)
    publish(channel, queue, b"held")
    held.wait(1)
    inbox = Inbox(channel, queue, auto_ack=True)
    publish(channel, queue, *numbers(50))
    inbox.wait(50)
    assert inbox.bodies == numbers(50)
    assert held.all() == [b"held"]


# Exclusive


def test_exclusive_while_there_are_consumers(channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(channel, queue, auto_ack=True)
    with channel_error(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        channel.connection.channel().basic_consume(queue, print, exclusive=True)
    publish(channel, queue, b"x")
    inbox.wait(1)


def test_others_while_there_is_an_exclusive_consumer(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    inbox = Inbox(channel, queue, exclusive=True, auto_ack=True)
    for exclusive in (True, False):
        with channel_error(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
            connect().channel().basic_consume(queue, print, exclusive=exclusive)
    channel.basic_cancel(inbox.tag)
    Inbox(connect().channel(), queue)


# Cancel


@rabbitmq_differs(reason="it may answer what comes behind a cancel first")
def test_no_delivery_after_cancel_ok(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel(1)
    client.open_channel(2)
    for _ in range(30):
        client.send(spec.Basic.Consume(queue=queue, consumer_tag="t", no_ack=True), 1)
        for _ in range(20):
            client.publish(2, queue, b"x")
        client.send(spec.Basic.Cancel("t"), 1)
        client.send(spec.Basic.Get(queue=queue, no_ack=True), 1)
        cancelled = False
        while True:
            _, frame = client.receive()
            if isinstance(frame, spec.Basic.Deliver):
                assert not cancelled
                client.content()
            elif isinstance(frame, spec.Basic.CancelOk):
                cancelled = True
            elif isinstance(frame, spec.Basic.GetOk):
                client.content()
                break
            elif isinstance(frame, spec.Basic.GetEmpty):
                break
        assert cancelled


def test_cancel_keeps_what_is_out(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"1", b"2")
    inbox = Inbox(channel, queue)
    inbox.wait(2)
    assert channel.basic_cancel(inbox.tag) == []
    assert depth(channel, queue) == 0
    channel.basic_ack(inbox.deliveries[0].tag)
    channel.basic_nack(inbox.deliveries[1].tag)
    assert get_all(channel, queue) == [b"2"]


def test_cancel_of_an_unknown_tag(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Cancel("nobody"), 1)
    assert client.expect(spec.Basic.CancelOk).consumer_tag == "nobody"


def test_nowait_is_not_answered(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Consume(queue=queue, consumer_tag="t", no_ack=True, nowait=True), 1)
    client.publish(1, queue, b"x")
    client.expect(spec.Basic.Deliver)
    client.content()
    client.send(spec.Basic.Cancel("t", nowait=True), 1)
    client.publish(1, queue, b"y")
    client.send(spec.Basic.Get(queue=queue, no_ack=True), 1)
    client.expect(spec.Basic.GetOk)


# The queue goes


def test_the_consumer_is_told_when_its_queue_goes(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    cancelled: list[Any] = []
    other = connect().channel()
    other.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    inbox = Inbox(other, queue)
    channel.queue_delete(queue)
    wait_until(other, lambda: cancelled)
    assert cancelled == [inbox.tag]
    round_trip(other)


def test_deliveries_come_before_the_notice(raw: OpenRaw, channel: BlockingChannel, queue: str) -> None:
    client = raw()
    client.open(capabilities={"consumer_cancel_notify": True})
    client.open_channel()
    client.send(spec.Basic.Consume(queue=queue, consumer_tag="t"), 1)
    client.expect(spec.Basic.ConsumeOk)
    publish(channel, queue, b"x")
    channel.queue_delete(queue)
    client.expect(spec.Basic.Deliver)
    client.content()
    notice = client.expect(spec.Basic.Cancel)
    assert (notice.consumer_tag, notice.nowait) == ("t", True)
    client.send(spec.Basic.Ack(1), 1)
    client.send(spec.Basic.Qos(), 1)
    client.expect(spec.Basic.QosOk)


def test_a_client_that_does_not_know_the_notice_gets_none(raw: OpenRaw, channel: BlockingChannel, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Consume(queue=queue, consumer_tag="t"), 1)
    client.expect(spec.Basic.ConsumeOk)
    channel.queue_delete(queue)
    client.send(spec.Basic.Qos(), 1)
    client.expect(spec.Basic.QosOk)


# Slow and gone


def test_a_consumer_that_does_not_read_holds_nobody_up(raw: OpenRaw, channel: BlockingChannel, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Consume(queue=queue, no_ack=True), 1)
    client.expect(spec.Basic.ConsumeOk)
    publish(channel, queue, *(bytes(100_000) for _ in range(300)))
    inbox = Inbox(channel, queue, auto_ack=True)
    publish(channel, queue, b"the last")
    wait_until(channel, lambda: b"the last" in inbox.bodies)
    assert len(inbox.deliveries) > 50
    assert get(channel, queue) is None


def test_what_a_dropped_consumer_had_goes_to_others_in_order(
    connect: Connect, raw: OpenRaw, channel: BlockingChannel, queue: str
) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.send(spec.Basic.Qos(prefetch_count=10), 1)
    client.expect(spec.Basic.QosOk)
    client.send(spec.Basic.Consume(queue=queue), 1)
    client.expect(spec.Basic.ConsumeOk)
    publish(channel, queue, *numbers(20))
    for _ in range(10):
        client.expect(spec.Basic.Deliver)
        client.content()
    client.close()
    wait_until(channel, lambda: depth(channel, queue) == 20)
    inbox = Inbox(channel, queue, auto_ack=True)
    inbox.wait(20)
    assert inbox.bodies == numbers(20)
    assert [delivery.redelivered for delivery in inbox.deliveries] == [True] * 10 + [False] * 10
