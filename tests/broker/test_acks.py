from __future__ import annotations

from collections.abc import Callable

import pytest
from broker.clients import (
    Inbox,
    channel_error,
    connection_error,
    get_all,
    publish,
    round_trip,
    wait_until,
)
from broker.conftest import Connect, OpenRaw
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingChannel

BODIES = [str(number).encode() for number in range(6)]


def take(channel: BlockingChannel, queue: str, count: int) -> list[int]:
    """Tags of as many messages, all of them out."""
    return [channel.basic_get(queue)[0].delivery_tag for _ in range(count)]


def what_comes_back(channel: BlockingChannel, queue: str) -> list[bytes]:
    """The channel ends, and what it had not settled is ready again."""
    connection = channel.connection
    channel.close()
    return get_all(connection.channel(), queue)


@pytest.fixture
def tags(channel: BlockingChannel, queue: str) -> list[int]:
    """BODIES are out under these."""
    publish(channel, queue, *BODIES)
    return take(channel, queue, len(BODIES))


# ack


def test_ack_one(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_ack(tags[2])
    assert what_comes_back(channel, queue) == BODIES[:2] + BODIES[3:]


def test_ack_multiple(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_ack(tags[3], multiple=True)
    assert what_comes_back(channel, queue) == BODIES[4:]


def test_ack_multiple_spans_what_is_settled(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_ack(tags[3])
    channel.basic_ack(tags[1], multiple=True)
    channel.basic_ack(tags[4], multiple=True)
    assert what_comes_back(channel, queue) == BODIES[5:]


def test_ack_all(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_ack(0, multiple=True)
    assert what_comes_back(channel, queue) == []


def test_ack_all_of_nothing(channel: BlockingChannel) -> None:
    channel.basic_ack(0, multiple=True)
    round_trip(channel)


def test_ack_multiple_spans_queues(channel: BlockingChannel, queue: str) -> None:
    other = channel.queue_declare("", exclusive=True).method.queue
    publish(channel, queue, b"1")
    publish(channel, other, b"2")
    take(channel, queue, 1)
    (tag,) = take(channel, other, 1)
    channel.basic_ack(tag, multiple=True)
    connection = channel.connection
    channel.close()
    channel = connection.channel()
    assert get_all(channel, queue) == get_all(channel, other) == []


@pytest.mark.parametrize("multiple", [False, True])
@pytest.mark.parametrize("tag", [1, 77, 2**40])
def test_ack_of_an_unknown_tag(channel: BlockingChannel, multiple: bool, tag: int) -> None:
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
        channel.basic_ack(tag, multiple)
        round_trip(channel)


@pytest.mark.parametrize("tag", [2**63, 2**64 - 1])
def test_ack_of_a_tag_beyond_all(channel: BlockingChannel, tag: int) -> None:
    with channel_error(406):
        channel.basic_ack(tag)
        round_trip(channel)


def test_ack_of_zero_alone(channel: BlockingChannel, tags: list[int]) -> None:
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 0"):
        channel.basic_ack(0)
        round_trip(channel)


def test_a_second_ack(channel: BlockingChannel, tags: list[int]) -> None:
    channel.basic_ack(tags[0])
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tags[0]}"):
        channel.basic_ack(tags[0])
        round_trip(channel)


def test_a_second_multiple_ack(channel: BlockingChannel, tags: list[int]) -> None:
    channel.basic_ack(tags[2], multiple=True)
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tags[2]}"):
        channel.basic_ack(tags[2], multiple=True)
        round_trip(channel)


def test_acks_before_an_unknown_tag_count(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 99"):
        channel.basic_ack(tags[0])
        channel.basic_ack(99)
        channel.basic_ack(tags[1])
        round_trip(channel)
    assert get_all(channel.connection.channel(), queue) == BODIES[1:]


def test_tags_are_the_channels_own(channel: BlockingChannel, tags: list[int]) -> None:
    other = channel.connection.channel()
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tags[0]}"):
        other.basic_ack(tags[0])
        round_trip(other)


def test_the_close_names_the_method(raw: OpenRaw) -> None:
    client = raw()
    client.open()
    for number, (method, ids) in enumerate(
        [(spec.Basic.Ack(5), (60, 80)), (spec.Basic.Reject(5), (60, 90)), (spec.Basic.Nack(5), (60, 120))], 1
    ):
        client.open_channel(number)
        client.send(method, number)
        close = client.expect(spec.Channel.Close)
        assert (close.class_id, close.method_id) == ids


# reject and nack


Refuse = Callable[[BlockingChannel, int, bool], None]
REFUSALS = pytest.mark.parametrize(
    "refuse",
    [
        pytest.param(lambda channel, tag, requeue: channel.basic_reject(tag, requeue=requeue), id="reject"),
        pytest.param(lambda channel, tag, requeue: channel.basic_nack(tag, requeue=requeue), id="nack"),
    ],
)


@REFUSALS
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5], [2]])
def test_requeued_they_are_back_where_they_were(
    channel: BlockingChannel, queue: str, refuse: Refuse, order: list[int]
) -> None:
    publish(channel, queue, *BODIES, b"behind")
    tags = take(channel, queue, len(BODIES))
    for at in order:
        refuse(channel, tags[at], True)
    back = sorted(order)
    for at in back:
        method, _, body = channel.basic_get(queue)
        assert (body, method.redelivered) == (BODIES[at], True)
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"behind", False)


@REFUSALS
def test_rejected_for_good(channel: BlockingChannel, queue: str, tags: list[int], refuse: Refuse) -> None:
    refuse(channel, tags[1], False)
    assert what_comes_back(channel, queue) == BODIES[:1] + BODIES[2:]


@REFUSALS
@pytest.mark.parametrize("requeue", [False, True])
def test_refusal_of_an_unknown_tag(channel: BlockingChannel, refuse: Refuse, requeue: bool) -> None:
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 9"):
        refuse(channel, 9, requeue)
        round_trip(channel)


def test_nack_multiple(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_nack(tags[1], multiple=True, requeue=False)
    channel.basic_nack(tags[3], multiple=True, requeue=True)
    assert get_all(channel, queue) == BODIES[2:4]
    assert what_comes_back(channel, queue) == BODIES[4:]


def test_nack_all(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_nack(0, multiple=True)
    assert get_all(channel, queue) == BODIES


def test_a_requeued_message_goes_to_another_consumer(connect: Connect, channel: BlockingChannel, queue: str) -> None:
    channel.basic_qos(prefetch_count=1)
    refusing = Inbox(channel, queue)
    publish(channel, queue, b"x")
    refusing.wait(1)
    other_channel = connect().channel()
    other = Inbox(other_channel, queue)
    channel.basic_cancel(refusing.tag)
    channel.basic_reject(refusing.deliveries[0].tag)
    round_trip(channel)
    assert other.wait(1)[0].redelivered


def test_a_message_can_be_requeued_again_and_again(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"first", b"second")
    inbox = Inbox(channel, queue, consumer_tag="c")
    for times in range(1, 50):
        inbox.wait(times + 1)
        delivery = next(found for found in reversed(inbox.deliveries) if found.body == b"first")
        channel.basic_nack(delivery.tag)
        wait_until(channel, lambda: len(inbox.deliveries) > times + 1)  # noqa: B023
    assert inbox.bodies.count(b"first") == 50
    assert inbox.bodies.count(b"second") == 1


# recover


def test_recover(channel: BlockingChannel, queue: str, tags: list[int]) -> None:
    channel.basic_ack(tags[0])
    channel.basic_recover(requeue=True)
    found = [channel.basic_get(queue) for _ in BODIES[1:]]
    assert [body for _, _, body in found] == BODIES[1:]
    assert all(method.redelivered for method, _, _ in found)


def test_recover_to_the_same_consumer(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, *BODIES)
    inbox = Inbox(channel, queue)
    inbox.wait(6)
    channel.basic_recover(requeue=True)
    inbox.wait(12)
    assert inbox.bodies == BODIES * 2
    assert [delivery.redelivered for delivery in inbox.deliveries] == [False] * 6 + [True] * 6


@pytest.mark.filterwarnings("ignore:This command is deprecated")
def test_recover_async_is_not_answered(raw: OpenRaw, queue: str) -> None:
    client = raw()
    client.open()
    client.open_channel()
    client.publish(1, queue, b"x")
    for redelivered in (False, True):
        client.send(spec.Basic.Get(queue=queue), 1)
        assert client.expect(spec.Basic.GetOk).redelivered is redelivered
        client.content()
        client.send(spec.Basic.RecoverAsync(requeue=True), 1)


def test_recover_without_requeue(channel: BlockingChannel) -> None:
    with connection_error(540, "NOT_IMPLEMENTED - requeue=false"):
        channel.basic_recover(requeue=False)
