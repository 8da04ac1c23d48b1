"""What a queue's arguments ask of it: time to live, length, dead letters, priorities, who is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest
from broker.clients import Inbox, channel_error, get, get_all, publish, put, wait_until
from broker.conftest import Connect
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError

Declare = Callable[..., str]


@pytest.fixture
def declare(channel: BlockingChannel, fresh: Callable[[str], str]) -> Declare:
    """Declare a queue with these arguments, `_` for `-` and without "x-"; returns its name."""

    def declare_queue(label: str = "q", *, durable: bool = False, **arguments: Any) -> str:
        name = fresh(label)
        named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        channel.queue_declare(name, durable=durable, arguments=named)
        return name

    return declare_queue


def depth(channel: BlockingChannel, name: str) -> int:
    count = channel.queue_declare(name, passive=True).method.message_count
    assert isinstance(count, int)
    return count


def deaths(channel: BlockingChannel, name: str) -> list[dict[str, Any]]:
    """The x-death of the next message in a queue, once there is one."""
    wait_until(channel, lambda: depth(channel, name) > 0)
    _, properties, _ = channel.basic_get(name, auto_ack=True)
    history = properties.headers["x-death"]
    assert all(death.pop("time") for death in history)
    assert isinstance(history, list)
    return history


def tag_of(channel: BlockingChannel, name: str) -> int:
    """Get the next message, and return its delivery tag."""
    tag = channel.basic_get(name)[0].delivery_tag
    assert isinstance(tag, int)
    return tag


def expiring(milliseconds: int) -> pika.BasicProperties:
    return pika.BasicProperties(expiration=str(milliseconds))


# Time to live


def test_messages_expire_after_the_queues_time(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(message_ttl=50)
    put(channel, name, b"a", b"b")
    wait_until(channel, lambda: depth(channel, name) == 0)


def test_messages_expire_after_their_own_time_at_the_head_only(channel: BlockingChannel, declare: Declare) -> None:
    name = declare()
    channel.basic_publish("", name, b"stays")
    channel.basic_publish("", name, b"waits behind it", expiring(1))
    other = declare("other")
    channel.basic_publish("", other, b"goes", expiring(1))
    wait_until(channel, lambda: depth(channel, other) == 0)
    assert depth(channel, name) == 2
    assert get(channel, name) == b"stays"
    wait_until(channel, lambda: depth(channel, name) == 0)


def test_no_time_to_live_reaches_a_waiting_consumer_or_nobody(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(message_ttl=0)
    publish(channel, name, b"nobody waits")
    assert depth(channel, name) == 0
    inbox = Inbox(channel, name, auto_ack=True)
    publish(channel, name, b"somebody waits")
    assert [delivery.body for delivery in inbox.wait(1)] == [b"somebody waits"]


def test_what_expired_behind_the_head_reaches_no_consumer(channel: BlockingChannel, declare: Declare) -> None:
    name, other = declare(), declare("other")
    channel.basic_publish("", name, b"first")
    channel.basic_publish("", name, b"expires behind it", expiring(1))
    channel.basic_publish("", name, b"last")
    channel.basic_publish("", other, b"later", expiring(20))
    wait_until(channel, lambda: depth(channel, other) == 0)
    inbox = Inbox(channel, name)
    assert [delivery.body for delivery in inbox.wait(2)] == [b"first", b"last"]


def test_what_comes_back_too_late_expires(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(message_ttl=0)
    inbox = Inbox(channel, name)
    publish(channel, name, b"once")
    [delivery] = inbox.wait(1)
    channel.basic_nack(delivery.tag)
    assert inbox.all() == [b"once"]
    assert depth(channel, name) == 0


def test_an_unused_queue_expires(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(expires=100)
    used = declare("used", expires=100)
    Inbox(channel, used)
    connection = channel.connection
    other = connection.channel()

    def is_gone(queue: str) -> bool:
        nonlocal other
        try:
            other.queue_bind(queue, "amq.direct", "x")
        except pika.exceptions.ChannelClosedByBroker:
            other = connection.channel()
            return True
        return False

    wait_until(channel, lambda: is_gone(name))
    assert not is_gone(used)


# Dead letters


def test_the_rejected_go_to_the_dead_letter_exchange(channel: BlockingChannel, declare: Declare) -> None:
    dead = declare("dead")
    name = declare(dead_letter_exchange="", dead_letter_routing_key=dead)
    put(channel, name, b"bad")
    channel.basic_nack(tag_of(channel, name), requeue=False)
    wait_until(channel, lambda: depth(channel, dead) == 1)
    _, properties, body = channel.basic_get(dead, auto_ack=True)
    assert body == b"bad"
    [death] = properties.headers["x-death"]
    assert death.pop("time")
    assert death == {"count": 1, "reason": "rejected", "queue": name, "exchange": "", "routing-keys": [name]}
    assert properties.headers["x-first-death-queue"] == name
    assert properties.headers["x-first-death-reason"] == "rejected"
    assert properties.headers["x-first-death-exchange"] == ""


def test_the_expired_keep_their_expiration_in_their_history(channel: BlockingChannel, declare: Declare) -> None:
    dead = declare("dead")
    name = declare(dead_letter_exchange="", dead_letter_routing_key=dead)
    channel.basic_publish("", name, b"old", expiring(1))
    [death] = deaths(channel, dead)
    assert (death["reason"], death["original-expiration"]) == ("expired", "1")


def test_an_ack_is_no_death(channel: BlockingChannel, declare: Declare) -> None:
    dead = declare("dead")
    name = declare(dead_letter_exchange="", dead_letter_routing_key=dead)
    put(channel, name, b"good")
    channel.basic_ack(tag_of(channel, name))
    assert depth(channel, name) == depth(channel, dead) == 0


def test_a_second_death_in_the_same_queue_counts(channel: BlockingChannel, declare: Declare) -> None:
    dead = declare("dead")
    name = declare(dead_letter_exchange="", dead_letter_routing_key=dead)
    channel.queue_bind(dead, "amq.fanout")
    put(channel, name, b"bad")
    channel.basic_nack(tag_of(channel, name), requeue=False)
    wait_until(channel, lambda: depth(channel, dead) == 1)
    _, properties, body = channel.basic_get(dead, auto_ack=True)
    channel.basic_publish("", name, body, properties)
    wait_until(channel, lambda: depth(channel, name) == 1)
    channel.basic_nack(tag_of(channel, name), requeue=False)
    [death] = deaths(channel, dead)
    assert death["count"] == 2


def test_an_automatic_cycle_ends(channel: BlockingChannel, declare: Declare, fresh: Callable[[str], str]) -> None:
    name = fresh("cycle")
    arguments = {"x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}
    channel.queue_declare(name, arguments=arguments)
    publish(channel, name, b"round")
    wait_until(channel, lambda: depth(channel, name) == 0)


def test_without_the_exchange_the_dead_are_gone(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(dead_letter_exchange="no-such-exchange", message_ttl=1)
    publish(channel, name, b"lost")
    wait_until(channel, lambda: depth(channel, name) == 0)


def test_what_expires_while_the_broker_is_down(own_broker: BrokerProcess, connect: Connect) -> None:
    broker = own_broker
    channel = connect(broker).channel()
    channel.confirm_delivery()
    channel.queue_declare("dead", durable=True)
    arguments = {"x-message-ttl": 200, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    channel.queue_declare("q", durable=True, arguments=arguments)
    channel.basic_publish("", "q", b"old", pika.BasicProperties(delivery_mode=2))
    broker.kill()
    broker.start()
    channel = connect(broker).channel()
    wait_until(channel, lambda: depth(channel, "dead") == 1)
    assert get_all(channel, "dead") == [b"old"]


def test_what_comes_back_too_often_dies(channel: BlockingChannel, declare: Declare) -> None:
    dead = declare("dead")
    name = declare(delivery_limit=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    put(channel, name, b"poison")
    counted = []
    for _ in range(3):
        wait_until(channel, lambda: depth(channel, name) == 1)
        method, properties, body = channel.basic_get(name)
        assert body == b"poison"
        counted.append((method.redelivered, (properties.headers or {}).get("x-delivery-count")))
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert counted == [(False, None), (True, 1), (True, 2)]
    [death] = deaths(channel, dead)
    assert (death["reason"], death["count"]) == ("delivery_limit", 1)
    assert depth(channel, name) == 0


def test_a_consumer_sees_how_often_it_came_back(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(delivery_limit=5)
    channel.basic_qos(prefetch_count=1)
    inbox = Inbox(channel, name)
    publish(channel, name, b"poison")
    channel.basic_nack(inbox.wait(1)[0].tag, requeue=True)
    assert inbox.wait(2)[1].properties.headers == {"x-delivery-count": 1}


# Length


def test_the_oldest_make_room(channel: BlockingChannel, declare: Declare) -> None:
    dead = declare("dead")
    name = declare(max_length=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    put_all = [b"1", b"2", b"3", b"4"]
    publish(channel, name, *put_all)
    assert get_all(channel, name) == [b"3", b"4"]
    wait_until(channel, lambda: depth(channel, dead) == 2)
    assert get_all(channel, dead) == [b"1", b"2"]


def test_bytes_count_too(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(max_length_bytes=5)
    publish(channel, name, b"123", b"45", b"678")
    assert get_all(channel, name) == [b"45", b"678"]


def test_what_comes_back_is_counted_too(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(max_length=1)
    put(channel, name, b"old")
    tag = tag_of(channel, name)
    put(channel, name, b"new")
    channel.basic_nack(tag)
    wait_until(channel, lambda: depth(channel, name) == 1)
    assert get_all(channel, name) == [b"new"]


def test_a_queue_that_refuses_keeps_all_that_comes_back(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(max_length=1, overflow="reject-publish")
    put(channel, name, b"old")
    tag = tag_of(channel, name)
    put(channel, name, b"new")
    channel.basic_nack(tag)
    wait_until(channel, lambda: depth(channel, name) == 2)
    publish(channel, name, b"refused")
    assert get_all(channel, name) == [b"old", b"new"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_full_queue_refuses(channel: BlockingChannel, declare: Declare, overflow: str) -> None:
    dead = declare("dead")
    name = declare(max_length=1, overflow=overflow, dead_letter_exchange="", dead_letter_routing_key=dead)
    channel.confirm_delivery()
    channel.basic_publish("", name, b"fits")
    with pytest.raises(NackError):
        channel.basic_publish("", name, b"too much")
    assert get_all(channel, name) == [b"fits"]
    if overflow == "reject-publish-dlx":
        [death] = deaths(channel, dead)
        assert death["reason"] == "maxlen"
    assert depth(channel, dead) == 0


def test_a_consumer_keeps_a_short_queue_open(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(max_length=1, overflow="reject-publish")
    inbox = Inbox(channel, name, auto_ack=True)
    sent = [b"%d" % number for number in range(50)]
    publish(channel, name, *sent)
    assert [delivery.body for delivery in inbox.wait(50)] == sent


# Who is served


def test_higher_priorities_go_first(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(max_priority=5)
    for priority, body in ((None, b"none"), (1, b"low"), (9, b"above all"), (5, b"high"), (1, b"low too")):
        channel.basic_publish("", name, body, pika.BasicProperties(priority=priority))
    assert get_all(channel, name) == [b"above all", b"high", b"low", b"low too", b"none"]


def test_a_requeued_message_keeps_its_priority(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(max_priority=5)
    for priority, body in ((1, b"low"), (5, b"high")):
        channel.basic_publish("", name, body, pika.BasicProperties(priority=priority))
    channel.basic_nack(tag_of(channel, name), requeue=True)
    wait_until(channel, lambda: depth(channel, name) == 2)
    assert get_all(channel, name) == [b"high", b"low"]


def test_one_consumer_is_active_until_it_goes(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(single_active_consumer=True)
    first, second = Inbox(channel, name, auto_ack=True), Inbox(channel, name, auto_ack=True)
    publish(channel, name, b"1", b"2")
    assert [delivery.body for delivery in first.wait(2)] == [b"1", b"2"]
    channel.basic_cancel(first.tag)
    publish(channel, name, b"3")
    assert [delivery.body for delivery in second.wait(1)] == [b"3"]


def test_a_single_active_consumer_is_not_exclusive(channel: BlockingChannel, declare: Declare) -> None:
    name = declare(single_active_consumer=True)
    with channel_error(403, f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use"):
        Inbox(channel, name, exclusive=True)


def test_consumers_of_a_higher_priority_are_served_first(channel: BlockingChannel, declare: Declare) -> None:
    name = declare()
    channel.basic_qos(prefetch_count=2)
    low = Inbox(channel, name)
    high = Inbox(channel, name, arguments={"x-priority": 10})
    publish(channel, name, b"1", b"2", b"3")
    assert [delivery.body for delivery in high.wait(2)] == [b"1", b"2"]
    assert [delivery.body for delivery in low.wait(1)] == [b"3"]


# Arguments


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"x-message-ttl": -1}, "'x-message-ttl' for queue '{}' in vhost '/': {{value_negative,-1}}"),
        ({"x-message-ttl": "1"}, "'x-message-ttl' for queue '{}' in vhost '/': \"expected integer, got longstr\""),
        ({"x-expires": 0}, "'x-expires' for queue '{}' in vhost '/': {{value_zero,0}}"),
        ({"x-max-priority": 256}, "'x-max-priority' for queue '{}' in vhost '/': {{max_value_exceeded,256}}"),
        ({"x-overflow": "x"}, "'x-overflow' for queue '{}' in vhost '/': invalid_overflow"),
        (
            {"x-dead-letter-routing-key": "k"},
            "'x-dead-letter-routing-key' for queue '{}' in vhost '/': routing_key_but_no_dlx_defined",
        ),
        (
            {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k" * 256},
            "'x-dead-letter-routing-key' for queue '{}' in vhost '/': {{max_octets_exceeded,255}}",
        ),
        (
            {"x-single-active-consumer": "yes"},
            "'x-single-active-consumer' for queue '{}' in vhost '/': {{unacceptable_type,longstr}}",
        ),
    ],
)
def test_arguments_that_make_no_sense(
    channel: BlockingChannel, fresh: Callable[[str], str], arguments: dict[str, Any], problem: str
) -> None:
    name = fresh("q")
    with channel_error(406, f"PRECONDITION_FAILED - invalid arg {problem.format(name)}"):
        channel.queue_declare(name, arguments=arguments)
