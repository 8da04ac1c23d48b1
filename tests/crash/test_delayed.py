"""Delayed messages and a broker that is killed."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import gevent
import pytest
from broker.clients import depth, get_all, persistent, wait_until
from crash.conftest import Connect
from crash.durable_broker import DurableBroker
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from soak import cases, seeded

ROUNDS = cases(3, 40)
LONG = 600_000


def begin(connect: Connect) -> BlockingChannel:
    """A confirming channel; the exchange x and the queue q are there."""
    channel = connect().channel()
    channel.exchange_declare("x", "x-delayed-message", durable=True, arguments={"x-delayed-type": "topic"})
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "x", "a.*")
    channel.confirm_delivery()
    return channel


def publish(channel: BlockingChannel, body: bytes, delay: int, key: str = "a.b") -> None:
    channel.basic_publish("x", key, body, persistent(headers={"x-delay": delay, "BCC": ["hidden"]}))


def delayed(broker: DurableBroker) -> int:
    [row] = [row for row in broker.api("exchanges") if row["name"] == "x"]
    return int(row["messages_delayed"])


def test_what_is_confirmed_waits_on_and_what_became_due_is_routed(broker: DurableBroker, connect: Connect) -> None:
    channel = begin(connect)
    channel.queue_declare("hidden", durable=True)
    channel.queue_bind("hidden", "x", "hidden")
    publish(channel, b"late", LONG)
    publish(channel, b"later", 2000, "nowhere")
    publish(channel, b"due", 400)
    before = broker.topology()
    broker.kill()
    time.sleep(0.4)  # it becomes due while the broker is down
    broker.start()
    assert broker.topology() == before
    channel = begin(connect)
    wait_until(channel, lambda: depth(channel, "q") == 1)
    method, properties, body = channel.basic_get("q", auto_ack=True)
    assert (body, method.exchange, method.routing_key) == (b"due", "x", "a.b")
    assert properties.headers == {"x-delay": -400}
    wait_until(channel, lambda: depth(channel, "hidden") == 2)
    assert get_all(channel, "hidden") == [b"due", b"later"]
    assert delayed(broker) == 1
    assert broker.trouble_since(0) == []


def test_what_was_routed_or_deleted_stays_away(broker: DurableBroker, connect: Connect) -> None:
    channel = begin(connect)
    publish(channel, b"routed", 1)
    wait_until(channel, lambda: depth(channel, "q") == 1)
    publish(channel, b"waits", LONG)  # its confirm comes after the routed one was written to the queue,
    publish(channel, b"waits", LONG)  # and this one's after that was forgotten
    broker.restart()
    channel = begin(connect)
    assert delayed(broker) == 2
    assert get_all(channel, "q") == [b"routed"]
    channel.exchange_delete("x")
    broker.restart()
    channel = begin(connect)
    assert delayed(broker) == 0
    publish(channel, b"new", LONG)
    broker.restart()
    assert delayed(broker) == 1
    assert broker.trouble_since(0) == []


@pytest.mark.timeout(30 + 20 * ROUNDS)
def test_nothing_confirmed_is_lost(broker: DurableBroker, connect: Connect) -> None:
    """Killed while messages come in, wait and become due. What was on its way to its queue may be there twice."""
    chance = seeded(20240608)
    confirmed: set[bytes] = set()
    number = 0
    for _ in range(ROUNDS):
        channel = begin(connect)
        gevent.spawn_later(chance.uniform(0.2, 1.0), broker.send_signal, signal.SIGKILL)
        with suppress(AMQPError):
            while True:
                number += 1
                publish(channel, b"%d" % number, chance.choice((1, 20, 200, 500)))
                confirmed.add(b"%d" % number)
        broker.wait()
        broker.start()
    channel = begin(connect)
    wait_until(channel, lambda: delayed(broker) == 0)
    found = get_all(channel, "q")
    assert confirmed <= set(found) <= {b"%d" % each for each in range(1, number + 1)}
    print(f"{len(confirmed)} confirmed, {len(found) - len(set(found))} twice")
    assert len(confirmed) > 20 * ROUNDS
    assert broker.trouble_since(0) == []
