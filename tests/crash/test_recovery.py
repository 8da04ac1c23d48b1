"""What is there again after a stop and after SIGKILL, and what isn't."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
import pytest
from broker.clients import Delivery, Inbox, depth, get, get_all, persistent, wait_until
from crash.conftest import Connect
from crash.durable_broker import DurableBroker
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

End = Callable[[], None]


@pytest.fixture(params=["stop", "kill"])
def end(request: pytest.FixtureRequest, broker: DurableBroker, connect: Connect) -> End:
    """End the broker, with the goodbye of its clients or by SIGKILL, and start it again."""

    def stop() -> None:
        connect.close_all()
        assert broker.end(signal.SIGTERM) == 0
        broker.start()

    return stop if request.param == "stop" else broker.restart


def confirming(connect: Connect) -> BlockingChannel:
    channel = connect().channel()
    channel.confirm_delivery()
    return channel


def publish(channel: BlockingChannel, queue: str, *bodies: bytes, exchange: str = "") -> None:
    for body in bodies:
        channel.basic_publish(exchange, queue, body, persistent())


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last + 1)]


def flags(deliveries: list[Delivery]) -> list[tuple[bytes, bool]]:
    return [(delivery.body, delivery.redelivered) for delivery in deliveries]


def commit(channel: BlockingChannel) -> None:
    """Return when everything that persistence was told by now is on disk: what is confirmed comes after it."""
    channel.queue_declare("commits", durable=True)
    publish(channel, "commits", b"")


def is_there(connect: Connect, kind: str, name: str) -> bool:
    channel = connect().channel()
    with suppress(ChannelClosedByBroker):
        if kind == "queue":
            channel.queue_declare(name, passive=True)
        else:
            channel.exchange_declare(name, passive=True)
    return channel.is_open


def test_what_is_durable_is_there_again_and_nothing_else(broker: DurableBroker, connect: Connect, end: End) -> None:
    channel = connect().channel()
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(f"{kind}-kept", kind, durable=True, arguments={"note": kind})
        channel.exchange_declare(f"{kind}-lost", kind, durable=False)
    channel.exchange_declare("inside", "fanout", durable=True, internal=True, auto_delete=True)
    channel.queue_declare("kept", durable=True, arguments={"x-note": [1, "two", {"three": True}]})
    channel.queue_declare("kept-until-unused", durable=True, auto_delete=True)
    channel.queue_declare("lost", durable=False)
    channel.queue_declare("mine", durable=True, exclusive=True)
    for queue in ("kept", "lost", "mine"):
        channel.queue_bind(queue, "direct-kept", "key")
        channel.queue_bind(queue, "topic-kept", "a.*.#")
        channel.queue_bind(queue, "fanout-kept", "", {"x-any": 1})
        channel.queue_bind(queue, "headers-kept", "", {"x-match": "any", "a": 1, "b": "two"})
        channel.queue_bind(queue, "direct-lost", "key")
    channel.exchange_bind("inside", "topic-kept", "to.inside")
    channel.exchange_bind("headers-lost", "topic-kept", "to.lost")
    channel.queue_bind("kept", "inside", "")
    before = broker.topology()
    assert sorted(before["queues"]) == ["kept", "kept-until-unused"]
    assert len(before["exchanges"]["topic-kept"][4]) == 2
    end()
    assert broker.topology() == before
    assert not [row["name"] for row in broker.api("queues") if "lost" in row["name"] or row["name"] == "mine"]
    assert not [row["name"] for row in broker.api("exchanges") if "lost" in row["name"]]


def test_bindings_that_are_there_again_route(broker: DurableBroker, connect: Connect, end: End) -> None:
    channel = connect().channel()
    channel.queue_declare("q", durable=True)
    for kind in ("direct", "fanout", "topic", "headers"):
        channel.exchange_declare(kind, kind, durable=True)
    channel.exchange_declare("second", "fanout", durable=True)
    channel.queue_bind("q", "direct", "key")
    channel.queue_bind("q", "topic", "a.*.#")
    channel.queue_bind("q", "headers", "", {"x-match": "all", "a": 1})
    channel.exchange_bind("second", "direct", "other")
    channel.queue_bind("q", "second", "")
    channel.queue_bind("q", "fanout", "")
    channel.queue_unbind("q", "fanout", "")
    end()
    channel = connect().channel()
    for exchange, key, body in (
        ("direct", "key", b"direct"),
        ("direct", "no", b"-"),
        ("direct", "other", b"by another exchange"),
        ("topic", "a.b", b"topic"),
        ("topic", "b.a", b"-"),
        ("fanout", "", b"-"),
    ):
        channel.basic_publish(exchange, key, body)
    channel.basic_publish("headers", "", b"headers", pika.BasicProperties(headers={"a": 1, "b": 2}))
    channel.basic_publish("headers", "", b"-", pika.BasicProperties(headers={"a": 2}))
    # Order is kept on a way through one exchange (AMQP 0-9-1, 4.7).
    assert sorted(get_all(channel, "q")) == [b"by another exchange", b"direct", b"headers", b"topic"]


def test_what_was_removed_stays_away(broker: DurableBroker, connect: Connect, end: End) -> None:
    channel = confirming(connect)
    for name in ("deleted", "emptied", "acked", "rejected", "read", "kept"):
        channel.queue_declare(name, durable=True)
    channel.exchange_declare("deleted", "fanout", durable=True)
    channel.exchange_declare("fan", "fanout", durable=True)
    for name in ("deleted", "emptied", "acked", "rejected", "read", "kept"):
        channel.queue_bind(name, "fan", "")
    publish(channel, "", *numbers(1, 5), exchange="fan")
    channel.queue_delete("deleted")
    channel.exchange_delete("deleted")
    channel.queue_purge("emptied")
    channel.basic_ack(channel.basic_get("acked")[0].delivery_tag)
    channel.basic_reject(channel.basic_get("rejected")[0].delivery_tag, requeue=False)
    get(channel, "read")
    commit(channel)
    end()
    assert not is_there(connect, "queue", "deleted")
    assert not is_there(connect, "exchange", "deleted")
    channel = connect().channel()
    assert depth(channel, "emptied") == 0
    for name in ("acked", "rejected", "read"):
        assert get_all(channel, name) == numbers(2, 5)
    assert get_all(channel, "kept") == numbers(1, 5)


def test_a_deleted_queue_that_is_declared_again_is_empty(broker: DurableBroker, connect: Connect, end: End) -> None:
    channel = confirming(connect)
    for round_number in range(3):
        channel.queue_declare("q", durable=True)
        publish(channel, "q", b"old", b"%d" % round_number)
        assert get(channel, "q") == b"old"
        if round_number < 2:
            channel.queue_delete("q")
    commit(channel)
    end()
    assert get_all(connect().channel(), "q") == [b"2"]


def test_only_persistent_messages_in_durable_queues_are_there_again(
    broker: DurableBroker, connect: Connect, end: End
) -> None:
    channel = confirming(connect)
    channel.queue_declare("q", durable=True)
    properties = [
        persistent(),
        pika.BasicProperties(delivery_mode=1),
        pika.BasicProperties(),
        persistent(
            content_type="text/plain", headers={"a": [1, {"b": None}]}, priority=3, timestamp=7, message_id="id"
        ),
    ]
    for number, one in enumerate(properties):
        channel.basic_publish("", "q", b"%d" % number, one)
    end()
    channel = connect().channel()
    found = Inbox(channel, "q").wait(2)
    assert [delivery.body for delivery in found] == [b"0", b"3"]
    assert found[1].properties == properties[3]
    assert (found[1].exchange, found[1].routing_key) == ("", "q")


def test_order_over_several_restarts(broker: DurableBroker, connect: Connect, end: End) -> None:
    confirming(connect).queue_declare("q", durable=True)
    expected: list[bytes] = []
    for round_number in range(4):
        channel = confirming(connect)
        added = numbers(round_number * 20, round_number * 20 + 19)
        publish(channel, "q", *added)
        expected += added
        inbox = Inbox(channel, "q")
        inbox.wait(len(expected))
        assert inbox.bodies == expected
        for delivery in inbox.deliveries[1::3]:
            channel.basic_ack(delivery.tag)
        del expected[1::3]
        commit(channel)
        end()


def test_what_was_delivered_comes_back_as_redelivered(broker: DurableBroker, connect: Connect, end: End) -> None:
    channel = confirming(connect)
    channel.queue_declare("q", durable=True)
    publish(channel, "q", *numbers(1, 9))
    consuming = connect().channel()
    consuming.basic_qos(prefetch_count=4)
    inbox = Inbox(consuming, "q")
    inbox.wait(4)
    consuming.basic_ack(inbox.deliveries[1].tag)
    inbox.wait(5)
    commit(channel)
    end()
    found = Inbox(connect().channel(), "q").wait(8)
    assert flags(found) == [(body, body in numbers(1, 5)) for body in numbers(1, 9) if body != b"2"]
    end()
    found = Inbox(connect().channel(), "q").wait(8)
    assert {redelivered for _, redelivered in flags(found)[:4]} == {True}


def test_the_interval_is_enough_for_what_nobody_waits_for(broker: DurableBroker, connect: Connect) -> None:
    channel = confirming(connect)
    channel.queue_declare("q", durable=True)
    publish(channel, "q", *numbers(1, 6))
    channel.basic_qos(prefetch_count=3)
    inbox = Inbox(channel, "q")
    inbox.wait(3)
    channel.basic_ack(inbox.deliveries[0].tag)
    inbox.wait(4)
    wait_until(channel, lambda: broker.ask("overview")["persistence"]["entries"] == 5)  # nobody asked for that commit
    broker.restart()
    found = Inbox(connect().channel(), "q").wait(5)
    assert flags(found) == [(body, body in numbers(2, 4)) for body in numbers(2, 6)]


def persistence(broker: DurableBroker) -> dict[str, Any]:
    [row] = [row for row in broker.api("actors") if row["kind"] == "persistence"]
    return row


def test_a_message_in_several_queues_leaves_each_on_its_own(broker: DurableBroker, connect: Connect, end: End) -> None:
    channel = confirming(connect)
    channel.exchange_declare("fan", "fanout", durable=True)
    for name in ("a", "b", "c"):
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "fan", "")
    body = b"x" * 300_000  # more than one frame
    publish(channel, "", b"1", body, exchange="fan")
    assert get_all(channel, "a") == [b"1", body]
    commit(channel)
    end()
    channel = confirming(connect)
    assert get_all(channel, "a") == []
    assert get_all(channel, "b") == [b"1", body]
    channel.queue_delete("b")
    commit(channel)
    end()
    channel = connect().channel()
    assert get_all(channel, "c") == [b"1", body]
    assert broker.trouble_since(0) == []


def test_a_queue_deleted_under_a_flood_of_publishes_leaves_nothing(broker: DurableBroker, connect: Connect) -> None:
    flooding = connect().channel()
    deleting = confirming(connect)
    for _ in range(5):
        deleting.queue_declare("q", durable=True)
        for number in range(200):
            flooding.basic_publish("", "q", b"%d" % number, persistent())
        deleting.queue_delete("q")
    assert is_there(connect, "exchange", "amq.direct")
    commit(deleting)
    broker.restart()
    commit(confirming(connect))
    assert persistence(broker)["failures"] == 0
    assert not [line for line in broker.log if "deleted queues" in line]
