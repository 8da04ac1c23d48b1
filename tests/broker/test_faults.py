"""Actors of a running broker are made to fail while real clients work; only those concerned may notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import gevent
import pika
import pytest
from actors.harness import failing, make_fail, wait_until
from broker.clients import Inbox, get, get_all, persistent, publish
from gevent.event import Event
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, NackError
from soak import cases, seeded
from unit.store.batches import contents_of

from dispatchd.actors import committer, failures
from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import (
    Accepted,
    Add,
    Arrived,
    CommitEnded,
    Deliver,
    Dispatch,
    Enqueue,
    Request,
    Restart,
    Route,
    Settle,
)
from dispatchd.actors.persistence import PersistenceActor
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor
from dispatchd.actors.vhost import VhostActor
from dispatchd.config import Config
from dispatchd.model.journal import Changes
from dispatchd.server import Server
from dispatchd.store.interface import Dropped, StoreFull
from dispatchd.store.memory_store import MemoryStore

STORE = "persistence (memory)"
SomeActor = TypeVar("SomeActor", bound=Actor)

ERRORS = [lambda: ValueError("boom"), gevent.Timeout, gevent.GreenletExit]
ERROR_NAMES = ["ValueError", "Timeout", "GreenletExit"]


class Broker:
    """A broker in the process of the test, with its clients."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.store = UnsteadyStore()
        config = Config(amqp_port=0, admin_port=0, debug_port=0, bind=self.host, coalesce_interval=0.01)
        self.server = Server(config, self.store)
        self.server.start()
        self.connections: list[pika.BlockingConnection] = []

    def connect(self) -> pika.BlockingConnection:
        parameters = pika.ConnectionParameters(self.host, self.server.amqp_port, heartbeat=0)
        self.connections.append(pika.BlockingConnection(parameters))
        return self.connections[-1]

    def channel(self) -> BlockingChannel:
        return self.connect().channel()

    def actor(self, kind: type[SomeActor], name: str = "") -> SomeActor:
        """The newest actor of this kind, or the one with this name."""
        return [
            actor
            for actor in self.server.system.actors.values()
            if isinstance(actor, kind) and name in ("", actor.name)
        ][-1]

    def stop(self) -> None:
        for connection in self.connections:
            if connection.is_open:
                connection.close()
        self.server.stop()


class UnsteadyStore(MemoryStore):
    """Commits raise as long as `is_full`."""

    is_full = False

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        if self.is_full:
            raise StoreFull("no room")
        return super().commit(changes, is_awaited=is_awaited)


@pytest.fixture
def running() -> Iterator[Broker]:
    broker = Broker()
    yield broker
    broker.stop()


class Bystander:
    """A client that publishes to a queue of its own, persistent and confirmed, and gets what it published."""

    def __init__(self, channel: BlockingChannel, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._sent = 0
        channel.queue_declare(queue, durable=True)
        channel.confirm_delivery()
        channel.basic_qos(prefetch_count=1)
        self._inbox = Inbox(channel, queue)

    def works(self) -> None:
        """Two messages go round."""
        for _ in range(2):
            self._sent += 1
            self._channel.basic_publish("", self._queue, b"%d" % self._sent, persistent(), mandatory=True)
            delivery = self._inbox.wait(self._sent)[-1]
            assert (delivery.body, delivery.redelivered) == (b"%d" % self._sent, False)
            self._channel.basic_ack(delivery.tag)


@pytest.fixture
def bystander(running: Broker, fresh: Callable[[str], str]) -> Iterator[Bystander]:
    """Has its connection before the fault, and has to work after it without having noticed."""
    bystander = Bystander(running.channel(), fresh("bystander"))
    bystander.works()
    yield bystander
    bystander.works()


@pytest.fixture
def name(running: Broker, fresh: Callable[[str], str]) -> str:
    """A durable queue."""
    name = fresh("q")
    running.channel().queue_declare(name, durable=True)
    return name


def kill(actor: Actor) -> None:
    failures = actor.failures.total
    make_fail(actor)
    wait_until(lambda: actor.failures.total > failures)


# A queue


@pytest.mark.parametrize("error", ERRORS, ids=ERROR_NAMES)
@pytest.mark.parametrize("message_type", [Enqueue, Settle, Dispatch])
def test_a_failing_queue_keeps_its_messages_and_its_consumers(
    running: Broker, bystander: Bystander, name: str, message_type: type, error: Callable[[], BaseException]
) -> None:
    channel = running.channel()
    channel.basic_qos(prefetch_count=2)
    channel.confirm_delivery()
    inbox = Inbox(channel, name)
    for number in range(4):
        channel.basic_publish("", name, b"%d" % number, persistent())
    inbox.wait(2)
    queue = running.actor(QueueActor, name)
    with failing(queue, message_type, error) as failed:
        queue.ref.tell(Dispatch())
        for delivery in inbox.wait(2)[:2]:
            channel.basic_ack(delivery.tag)
        channel.basic_publish("", name, b"4")
        wait_until(lambda: failed)
    bystander.works()
    for index in range(2, 5):
        channel.basic_ack(inbox.wait(index + 1)[index].tag)
    assert inbox.all() == [b"0", b"1", b"2", b"3", b"4"]
    wait_until(lambda: queue.snapshot()["messages"] == 0)


def test_a_message_that_a_queue_fails_on_twice_is_nacked(running: Broker, bystander: Bystander, name: str) -> None:
    channel = running.channel()
    channel.confirm_delivery()
    with failing(running.actor(QueueActor, name), Enqueue, ValueError, times=2), pytest.raises(NackError):
        channel.basic_publish("", name, b"nacked", persistent())
    channel.basic_publish("", name, b"a", persistent())
    assert get_all(channel, name) == [b"a"]


def test_a_killed_queue(running: Broker, bystander: Bystander, name: str) -> None:
    channel = running.channel()
    publish(channel, name, b"a", b"b")
    inbox = Inbox(channel, name, auto_ack=True)
    inbox.wait(2)
    kill(running.actor(QueueActor, name))
    bystander.works()
    publish(channel, name, b"c")
    assert [delivery.body for delivery in inbox.wait(3)] == [b"a", b"b", b"c"]


def quarantine(actor: Actor, message_type: type, provoke: Callable[[], Any]) -> None:
    with failing(actor, message_type, lambda: ValueError("boom"), times=6):
        while not actor.is_quarantined:
            provoke()
            gevent.sleep(0)


def test_a_quarantined_queue(running: Broker, bystander: Bystander, name: str) -> None:
    consumer, publisher = running.channel(), running.channel()
    publisher.confirm_delivery()
    publish(publisher, name, b"kept")
    consumer.basic_qos(prefetch_count=1)
    cancelled: list[Any] = []
    consumer.add_on_cancel_callback(cancelled.append)
    Inbox(consumer, name).wait(1)
    publish(publisher, name, b"second")
    queue = running.actor(QueueActor, name)
    quarantine(queue, Dispatch, lambda: queue.ref.tell(Dispatch()))
    bystander.works()
    wait_until(lambda: consumer.connection.process_data_events(0) or cancelled)
    with pytest.raises(NackError):
        publisher.basic_publish("", name, b"refused")
    publisher.basic_publish("amq.fanout", "", b"not concerned")
    for method in (
        lambda channel: channel.queue_declare(name, durable=True),
        lambda channel: channel.queue_declare(name, passive=True),
        lambda channel: channel.basic_get(name),
        lambda channel: channel.basic_consume(name, print),
        lambda channel: channel.queue_purge(name),
        lambda channel: channel.queue_delete(name),
    ):
        with pytest.raises(ChannelClosedByBroker) as caught:
            method(publisher.connection.channel())
        assert caught.value.reply_code == 541
        assert caught.value.reply_text == (
            f"INTERNAL_ERROR - queue {name} is quarantined after repeated failures: ValueError: boom"
        )
    consumer.close()
    queue.ref.tell(Restart())
    assert get_all(publisher, name) == [b"kept", b"second"]
    publisher.basic_publish("", name, b"welcome")
    assert get(publisher, name) == b"welcome"


# A channel, a connection


@pytest.mark.parametrize("error", ERRORS, ids=ERROR_NAMES)
@pytest.mark.parametrize("message_type", [Arrived, Deliver, Accepted])
def test_a_failing_channel_closes_for_its_client(
    running: Broker, bystander: Bystander, name: str, message_type: type, error: Callable[[], BaseException]
) -> None:
    connection = running.connect()
    sibling, channel = Bystander(connection.channel(), name + "-sibling"), connection.channel()
    Inbox(channel, name)
    with failing(running.actor(ChannelActor), message_type, error) as failed:
        publish(channel, name, b"kept")
        wait_until(lambda: failed)
    with pytest.raises(ChannelClosedByBroker) as caught:
        channel.basic_qos()
    assert len(failed) == 1
    assert caught.value.reply_code == 541
    bystander.works()
    sibling.works()
    expected = [] if message_type is Arrived else [b"kept"]
    assert get_all(connection.channel(), name) == expected


@pytest.mark.parametrize("error", ERRORS, ids=ERROR_NAMES)
def test_a_failing_connection_closes_alone(
    running: Broker, bystander: Bystander, name: str, error: Callable[[], BaseException]
) -> None:
    channel = running.channel()
    publish(channel, name, b"kept")
    assert channel.basic_get(name)[2] == b"kept"
    actor = running.actor(ConnectionActor)
    with failing(actor, Arrived, error), pytest.raises(ConnectionClosedByBroker) as caught:
        channel.queue_declare(name, passive=True)
    assert caught.value.reply_code == 541
    bystander.works()
    wait_until(lambda: actor.number not in running.server.system.actors)
    assert get_all(running.channel(), name) == [b"kept"]


def test_killed_channels_and_connections(running: Broker, bystander: Bystander, name: str) -> None:
    channel = running.channel()
    channel.queue_declare(name, passive=True)
    kill(running.actor(ChannelActor))
    with pytest.raises(ChannelClosedByBroker):
        channel.queue_declare(name, passive=True)
    kill(running.actor(ConnectionActor))
    with pytest.raises(ConnectionClosedByBroker):
        channel.connection.channel()


# An exchange, a vhost


@pytest.mark.parametrize("error", ERRORS, ids=ERROR_NAMES)
def test_a_failing_exchange_keeps_its_bindings(
    running: Broker, bystander: Bystander, name: str, error: Callable[[], BaseException]
) -> None:
    channel = running.channel()
    channel.confirm_delivery()
    channel.exchange_declare(name, "topic")
    channel.queue_bind(name, name, "a.#")
    with failing(running.actor(ExchangeActor, name), Route, error), pytest.raises(NackError):
        channel.basic_publish(name, "a.b", b"refused")
    kill(running.actor(ExchangeActor, name))
    bystander.works()
    channel.basic_publish(name, "a.b", b"routed", mandatory=True)
    assert get_all(channel, name) == [b"routed"]


@pytest.mark.parametrize("error", ERRORS, ids=ERROR_NAMES)
def test_a_failing_vhost_keeps_everything(
    running: Broker, bystander: Bystander, name: str, error: Callable[[], BaseException]
) -> None:
    channel = running.channel()
    channel.queue_bind(name, "amq.topic", name)
    with failing(running.actor(VhostActor), Request, error), pytest.raises(ChannelClosedByBroker) as caught:
        channel.connection.channel().queue_declare(name + "-new")
    assert caught.value.reply_code == 541
    kill(running.actor(VhostActor))
    bystander.works()
    channel.basic_publish("amq.topic", name, b"routed")
    assert get_all(channel, name) == [b"routed"]
    channel.queue_declare(name + "-new", exclusive=True)


# Persistence


@pytest.mark.parametrize("error", ERRORS, ids=ERROR_NAMES)
@pytest.mark.parametrize("message_type", [Add, CommitEnded])
def test_failing_persistence_loses_nothing(
    running: Broker, bystander: Bystander, name: str, message_type: type, error: Callable[[], BaseException]
) -> None:
    channel = running.channel()
    channel.confirm_delivery()
    with failing(running.actor(PersistenceActor, STORE), message_type, error) as failed:
        for number in range(5):
            channel.basic_publish("", name, b"%d" % number, persistent())
    assert len(failed) == 1
    kill(running.actor(PersistenceActor, STORE))
    bystander.works()
    queue_id = running.actor(QueueActor, name)._definition.queue_id
    assert [body for _, body in contents_of(running.store)[queue_id]] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_message_that_persistence_failed_on_is_nacked(running: Broker, bystander: Bystander, name: str) -> None:
    channel = running.channel()
    channel.confirm_delivery()
    with failing(running.actor(PersistenceActor, STORE), Add, ValueError, times=2), pytest.raises(NackError):
        channel.basic_publish("", name, b"a", persistent())
    assert get_all(channel, name) == [b"a"]


def test_confirms_wait_while_the_store_is_full(running: Broker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.01)
    other = running.channel()
    actor = running.actor(PersistenceActor, STORE)
    running.store.is_full = True
    failed = actor.snapshot()["failed_commits"]
    channel = running.channel()
    channel.confirm_delivery()
    publishing = gevent.spawn(channel.basic_publish, "", name, b"a", persistent())
    wait_until(lambda: actor.snapshot()["failed_commits"] >= failed + 3)
    assert not publishing.ready()
    assert get_all(other, name) == [b"a"]  # consumers go on
    running.store.is_full = False
    publishing.get(timeout=10)


# All of them, again and again


KILLS = cases(12, 100)


@pytest.mark.timeout(60 + KILLS)
def test_killed_under_load_again_and_again(running: Broker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but those that are killed fails, what is confirmed is there, and clients go on."""
    monkeypatch.setattr(failures, "QUARANTINE_SECONDS", -1.0)  # that many would be too many
    chance = seeded(20240623)
    channel = running.channel()
    channel.exchange_declare(name, "fanout", durable=True)
    channel.queue_bind(name, name)
    channel.confirm_delivery()
    targets = [
        running.actor(QueueActor, name),
        running.actor(ExchangeActor, name),
        running.actor(PersistenceActor, STORE),
        running.actor(VhostActor),
    ]
    confirmed: list[bytes] = []
    all_killed = Event()

    def publish_all() -> None:
        number = 0
        while not all_killed.is_set():
            number += 1
            with suppress(NackError):
                channel.basic_publish(name, "", b"%d" % number, persistent())
                confirmed.append(b"%d" % number)

    publishing = gevent.spawn(publish_all)
    for _ in range(KILLS):
        wanted = len(confirmed) + 2
        kill(chance.choice(targets))
        wait_until(partial(lambda count: len(confirmed) >= count, wanted))
    all_killed.set()
    publishing.get(timeout=20)
    assert sum(actor.failures.total for actor in targets) == KILLS
    others = [actor for actor in running.server.system.actors.values() if actor not in targets]
    assert [actor for actor in others if actor.failures.total] == []
    found = get_all(running.channel(), name)
    assert [int(body) for body in found] == sorted(int(body) for body in found)
    assert set(confirmed) <= set(found)


# Pauses


def test_a_paused_queue_holds_only_what_concerns_it(running: Broker, bystander: Bystander, name: str) -> None:
    channel = running.channel()
    publish(channel, name, b"a")
    queue = running.actor(QueueActor, name)
    wait_until(lambda: queue.snapshot()["messages"] == 1)
    queue.actor_inbox.pause()
    getting = gevent.spawn(get_all, channel, name)
    wait_until(lambda: len(queue.actor_inbox) > 0)
    bystander.works()
    assert not getting.ready()
    queue.actor_inbox.resume()
    assert getting.get(timeout=10) == [b"a"]


def test_a_paused_exchange_holds_only_what_concerns_it(running: Broker, bystander: Bystander, name: str) -> None:
    channel = running.channel()
    channel.exchange_declare(name, "fanout")
    channel.queue_bind(name, name)
    exchange = running.actor(ExchangeActor, name)
    exchange.actor_inbox.pause()
    channel.basic_publish(name, "", b"held")
    wait_until(lambda: len(exchange.actor_inbox) == 1)
    publish(channel, name, b"direct")
    other = running.channel()
    assert get_all(other, name) == [b"direct"]
    bystander.works()
    exchange.actor_inbox.step(1)
    assert get_all(channel, name) == [b"held"]
    exchange.actor_inbox.resume()


def test_a_paused_channel_holds_only_what_concerns_it(running: Broker, bystander: Bystander, name: str) -> None:
    connection = running.connect()
    sibling, channel = Bystander(connection.channel(), name + "-sibling"), connection.channel()
    actor = running.actor(ChannelActor)
    actor.actor_inbox.pause()
    publish(channel, name, b"held")
    bystander.works()
    sibling.works()
    assert len(actor.actor_inbox) > 0
    assert get_all(running.channel(), name) == []
    actor.actor_inbox.resume()
    assert get_all(channel, name) == [b"held"]


def test_a_paused_channel_leaves_room_to_its_siblings(running: Broker, name: str) -> None:
    connection = running.connect()
    sibling = Bystander(connection.channel(), name + "-sibling")
    consuming = connection.channel()
    inbox = Inbox(consuming, name, auto_ack=True)
    paused = running.actor(ChannelActor)
    paused.actor_inbox.pause()
    flood = [b"x" * 100_000] * 6  # more than may be on the way to one channel
    try:
        publish(running.channel(), name, *flood)
        queue = running.actor(QueueActor, name)
        wait_until(lambda: queue.snapshot()["published"] == len(flood))
        assert queue.snapshot()["messages_ready"] > 0
        sibling.works()
    finally:
        paused.actor_inbox.resume()
    assert [len(delivery.body) for delivery in inbox.wait(len(flood))] == [100_000] * 6
