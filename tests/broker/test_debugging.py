"""The stories of docs/debugging.md: something goes wrong, an operator sees it by the API, and does something."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gevent
import pika
import pytest
from actors.harness import wait_until
from broker.admin import api
from broker.clients import Inbox
from gevent import monkey
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ConnectionClosedByBroker, NackError

from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Enqueue, Route
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor
from dispatchd.config import Config
from dispatchd.server import Server
from dispatchd.store.memory_store import MemoryStore

SomeActor = TypeVar("SomeActor", bound=Actor)
SECONDS = 20


class Broker:
    """A broker in the process of the test, so that a test can put a mistake into one of its actors."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        config = Config(amqp_port=0, admin_port=0, debug_port=0, bind=self.host, coalesce_interval=0.01)
        self.server = Server(config, MemoryStore())
        self.server.start()
        self.connections: list[pika.BlockingConnection] = []

    @property
    def admin_port(self) -> int:
        return self.server.admin_port

    def channel(self) -> BlockingChannel:
        parameters = pika.ConnectionParameters(self.host, self.server.amqp_port, heartbeat=0)
        self.connections.append(pika.BlockingConnection(parameters))
        return self.connections[-1].channel()

    def actor(self, kind: type[SomeActor], name: str) -> SomeActor:
        found = (actor for actor in self.server.system.actors.values() if isinstance(actor, kind))
        return next(actor for actor in found if actor.name == name)

    def get(self, path: str) -> Any:
        status, found = api(self, "GET", path)  # type: ignore[arg-type]  # it has what a process has
        assert status == 200, found
        return found

    def act(self, method: str, path: str, **body: Any) -> Any:
        status, found = api(self, method, path, body)  # type: ignore[arg-type]  # likewise
        assert status == 200, found
        return found

    def wait_for(self, path: str, is_there: Callable[[Any], Any]) -> Any:
        """What the API says, once that is so."""
        deadline = time.monotonic() + SECONDS
        while not is_there(found := self.get(path)):
            assert time.monotonic() < deadline, found
            gevent.sleep(0.02)
        return found

    def stop(self) -> None:
        for connection in self.connections:
            if connection.is_open:
                connection.close()
        self.server.stop()


@pytest.fixture
def running() -> Iterator[Broker]:
    running = Broker()
    yield running
    running.stop()


@pytest.fixture
def channel(running: Broker) -> BlockingChannel:
    channel = running.channel()
    channel.queue_declare("orders", durable=True)
    channel.confirm_delivery()
    return channel


@contextmanager
def mistake(kind: type[Actor], message_type: type, makes: Callable[[Any, Any], Any]) -> Iterator[None]:
    """As long as this lasts, actors of this kind do this before they handle a message of this type."""
    handler = kind._handlers[message_type]

    def handle(actor: Any, message: Any) -> Any:
        makes(actor, message)
        return handler(actor, message)

    kind._handlers[message_type] = handle
    try:
        yield
    finally:
        kind._handlers[message_type] = handler


def cannot_read_poison(actor: Any, message: Any) -> None:
    if actor.name == "orders" and any(each.body == b"poison" for each in message.messages):
        raise ValueError("this header makes no sense")


def publish(channel: BlockingChannel, body: bytes) -> bool:
    """Whether it was confirmed."""
    try:
        channel.basic_publish("", "orders", body, pika.BasicProperties(delivery_mode=2))
    except NackError:
        return False
    return True


def test_a_poison_message(running: Broker, channel: BlockingChannel) -> None:
    with mistake(QueueActor, Enqueue, cannot_read_poison):
        assert publish(channel, b"fine")
        assert not publish(channel, b"poison")

        # Which actor, what was it doing, with which message?
        failure = running.get("actors/failures")[0]
        assert failure["actor"]["name"] == "orders"
        assert failure["error"] == "ValueError: this header makes no sense"
        assert "cannot_read_poison" in failure["traceback"]
        assert "Message('', 'orders', 6 B)" in failure["message"]
        number = failure["actor"]["id"]

        # It comes again: have it wait in front of the queue, look at it, and take it out.
        running.act("PUT", f"actors/{number}/pause", **{"for": 600})
        others = [gevent.spawn(publish, confirming_channel(running), body) for body in (b"poison", b"behind it")]
        waiting = running.wait_for(f"actors/{number}/mailbox", lambda found: found["total"] == 2)
        assert {item["octets"] for item in waiting["items"]} == {6, 9}
        if waiting["items"][0]["octets"] == 9:  # they came the other way round
            running.act("PUT", f"actors/{number}/step")
        dropped = running.act("DELETE", f"actors/{number}/mailbox/0", confirm="orders")
        assert dropped["error"] == "dropped by guest"
        running.act("PUT", f"actors/{number}/resume")
        assert sorted(other.get(timeout=SECONDS) for other in others) == [False, True]
        assert running.get(f"actors/{number}")["state"] in ("idle", "running")

    # The mistake is mended: what failed is told once more.
    running.act("POST", f"actors/failures/{dropped['id']}/replay")
    bodies = [channel.basic_get("orders", auto_ack=True)[2] for _ in range(3)]
    assert sorted(bodies) == [b"behind it", b"fine", b"poison"]


def confirming_channel(running: Broker) -> BlockingChannel:
    channel = running.channel()
    channel.confirm_delivery()
    return channel


def test_a_stuck_consumer(running: Broker, channel: BlockingChannel) -> None:
    for number in range(8):
        publish(channel, b"%d" % number)
    stuck = running.channel()
    stuck.basic_qos(prefetch_count=5)
    Inbox(stuck, "orders").wait(5)  # and it never acknowledges

    # The queue holds messages, its actor is idle: somebody has them. Who, and for how long?
    [queue] = running.wait_for("queues", lambda rows: rows[0]["messages_unacknowledged"] == 5)
    assert (queue["messages_ready"], running.get(f"actors/{queue['id']}")["state"]) == (3, "idle")
    unacked = running.get("queues/%2F/orders/unacked")
    assert unacked["total"] == 5
    assert unacked["items"][0]["age_ms"] >= unacked["items"][-1]["age_ms"] >= 0
    [consumer] = queue["consumer_details"]
    assert (consumer["unacked"], consumer["prefetch_count"]) == (5, 5)

    # Its channel is closed: all of it goes back, in its order, to whoever works.
    [holder] = running.get(f"actors?kind=channel&name={consumer['channel'].replace(' ', '%20')}")["items"]
    running.act("PUT", f"actors/{holder['id']}/stop", confirm=holder["name"], reason="you hold 5 and do nothing")
    running.wait_for("queues", lambda rows: rows[0]["messages_ready"] == 8)
    works = Inbox(running.channel(), "orders", auto_ack=True)
    deliveries = works.wait(8)
    assert [delivery.body for delivery in deliveries] == [b"%d" % number for number in range(8)]
    assert [delivery.redelivered for delivery in deliveries] == [True] * 5 + [False] * 3


def computes_for_long(actor: Any, _message: Any) -> None:
    if actor.name == "slow":
        until = time.thread_time() + 0.4
        while time.thread_time() < until:
            pass


def waits_for_long(actor: Any, _message: Any) -> None:
    if actor.name == "slow":
        monkey.get_original("time", "sleep")(0.4)


@pytest.mark.parametrize("slowly", [computes_for_long, waits_for_long])
def test_a_slow_handler(running: Broker, channel: BlockingChannel, slowly: Callable[[Any, Any], Any]) -> None:
    channel.exchange_declare("slow", "fanout")
    channel.queue_bind("orders", "slow")
    with mistake(ExchangeActor, Route, slowly):
        channel.basic_publish("slow", "", b"x")

        # Everybody waits meanwhile. For whom?
        blocks = running.wait_for("actors/blocks", lambda rows: rows)
        assert (blocks[0]["actor"]["kind"], blocks[0]["actor"]["name"]) == ("exchange", "slow")
        assert blocks[0]["message_type"] == "Route"
        assert slowly.__name__ in blocks[0]["stack"]
        [row] = running.get("actors?sort=max_ms&limit=1")["items"]
        assert (row["name"], row["blocks"], row["slow"]) == ("slow", 1, 1)
        assert row["max_ms"] > 300
        assert running.get("overview")["actors"]["blocks"]["longest_ms"] > 100

        # Until it is mended this exchange takes nothing more; all others go on at once.
        running.act("PUT", f"actors/{row['id']}/quarantine", confirm="slow", reason="slows all down")
        running.wait_for(f"actors/{row['id']}", lambda found: found["state"] == "quarantined")
        with pytest.raises(NackError):
            channel.basic_publish("slow", "", b"x")
        assert publish(channel, b"not by way of it")
    running.act("PUT", f"actors/{row['id']}/release")
    running.wait_for(f"actors/{row['id']}", lambda found: found["state"] in ("idle", "running"))
    channel.basic_publish("slow", "", b"x")
    assert channel.queue_declare("orders", passive=True).method.message_count == 3


def test_a_publisher_that_floods(running: Broker, channel: BlockingChannel) -> None:
    flooding = running.channel()
    [flood] = [each for each in running.get("connections") if each["name"] in name_of(running, flooding)]
    consumer = running.channel()
    consumer.basic_qos(prefetch_count=1)
    consumer.basic_consume("orders", lambda *_: None)  # it is slow: it has one for ever

    def publish_without_end() -> None:
        try:
            while True:
                flooding.basic_publish("", "orders", b"x" * 1000)
                gevent.sleep(0)
        except ConnectionClosedByBroker as closed:
            reasons.append(closed.reply_text)

    reasons: list[str] = []
    flooder = gevent.spawn(publish_without_end)

    # The queue grows. Who publishes to it? His actors are the busy ones.
    [queue] = running.wait_for("queues", lambda rows: rows[0]["messages_ready"] > 100)
    channels = running.get("channels")
    most = max(channels, key=lambda row: row["published"])
    assert most["connection"] == flood["name"]

    # Give the others a minute without him. What he sends meanwhile waits in his own socket.
    running.act("PUT", f"actors/{flood['id']}/pause", **{"for": 60})
    wait_until(lambda: not queue_grows(running))
    row = running.get(f"actors/{flood['id']}")
    assert (row["state"], row["resumes_in_ms"] > 0) == ("paused", True)
    assert publish(channel, b"others may")
    [held] = running.get("overview")["actors"]["held"]
    assert held["name"] == flood["name"]

    # Or let him go, and tell him why.
    running.act("PUT", f"actors/{flood['id']}/resume")
    running.act("PUT", f"actors/{flood['id']}/stop", confirm=flood["name"], reason="you flood the queue orders")
    flooder.join(SECONDS)
    assert reasons == ["CONNECTION_FORCED - you flood the queue orders"]
    assert publish(channel, b"others may")
    assert running.get(f"actors/{queue['id']}")["failures"] == 0


def name_of(running: Broker, channel: BlockingChannel) -> str:
    """The connection of a channel, as the broker names it."""
    own = channel.connection._impl._transport._sock.getsockname()
    return next(row["name"] for row in running.get("connections") if row["peer_port"] == own[1])


def queue_grows(running: Broker) -> bool:
    before = running.get("queues")[0]["messages_ready"]
    gevent.sleep(0.05)
    return bool(running.get("queues")[0]["messages_ready"] > before)


def always_fails(actor: Any, _message: Any) -> None:
    if actor.name == "orders":
        raise KeyError("a bug of ours")


def test_a_queue_that_keeps_failing(running: Broker, channel: BlockingChannel) -> None:
    cancelled: list[str] = []
    consuming = running.channel()
    consuming.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = consuming.basic_consume("orders", lambda *_: None)
    assert publish(channel, b"kept")
    with mistake(QueueActor, Enqueue, always_fails):
        while running.actor(QueueActor, "orders").state != "quarantined":
            assert not publish(channel, b"x")

        # Its row is the first of all, and says how it came to that.
        row = running.get("actors")["items"][0]
        assert (row["name"], row["state"], row["restarts"] > 0) == ("orders", "quarantined", True)
        failures = running.get(f"actors/failures?actor={row['id']}")
        assert {failure["error"] for failure in failures} == {"KeyError: 'a bug of ours'"}
        assert "always_fails" in failures[0]["traceback"]
        assert running.get("overview")["actors"]["quarantined"] == 1
        consuming.connection.process_data_events(0.2)
        assert cancelled == [tag]  # consumers know that nothing comes any more, and what they had goes back
        consuming.connection.close()

        # Nobody else notices; whoever publishes to it hears no.
        channel.queue_declare("another")
        channel.basic_publish("", "another", b"x")
        assert not publish(channel, b"x")

    # The mistake is mended: what was in the queue is still there.
    running.act("PUT", f"actors/{row['id']}/release")
    running.wait_for(f"actors/{row['id']}", lambda found: found["state"] in ("idle", "running"))
    assert publish(channel, b"new")
    bodies = [channel.basic_get("orders", auto_ack=True)[2] for _ in range(2)]
    assert bodies == [b"kept", b"new"]
