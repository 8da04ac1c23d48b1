"""Actors that have ended are freed with all that they held: Python's collector does not look at entries of queues."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from actors.harness import Client, World, failing, wait_until
from pamqp import commands as spec

from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Drained
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor

DEAD_LETTERS: Any = {"x-dead-letter-exchange": "amq.fanout", "x-max-length": 6}


def watched(actor: Actor) -> weakref.ref[Actor]:
    return weakref.ref(actor)


def is_freed(world: World, gone: weakref.ref[Actor]) -> bool:
    world.flush()
    gc.collect()
    return gone() is None


@pytest.fixture
def gone(world: World, client: Client) -> weakref.ref[Actor]:
    """Of a queue with six messages."""
    client.call(1, spec.Queue.Declare(queue="q", durable=True, arguments=DEAD_LETTERS), spec.Queue.DeclareOk)
    for number in range(6):
        client.publish(1, b"%d" % number, persistent=bool(number % 2))
    return watched(world.actor(QueueActor, "q"))


def delete(client: Client) -> None:
    client.open_channel(9)
    client.call(9, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)


def test_a_queue_with_messages(world: World, client: Client, gone: weakref.ref[Actor]) -> None:
    delete(client)
    assert is_freed(world, gone)


@pytest.mark.parametrize("end", [spec.Basic.Ack(0, multiple=True), spec.Basic.Nack(0, multiple=True), None])
def test_a_queue_whose_messages_were_out(world: World, client: Client, gone: weakref.ref[Actor], end: Any) -> None:
    client.get()
    client.call(1, spec.Basic.Qos(prefetch_count=2), spec.Basic.QosOk)
    client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    delete(client)
    assert not is_freed(world, gone)
    if end is None:
        client.disconnect()
    else:
        client.send(1, end)
    assert is_freed(world, gone)


def test_a_queue_whose_dead_letters_were_on_their_way(world: World, client: Client, gone: weakref.ref[Actor]) -> None:
    fanout = world.actor(ExchangeActor, "amq.fanout")
    fanout.actor_inbox.pause()
    client.get()
    client.send(1, spec.Basic.Reject(1, requeue=False))
    for _ in range(3):
        client.publish(1, b"one too many")
    wait_until(lambda: len(fanout.actor_inbox) >= 2)
    delete(client)
    fanout.actor_inbox.resume()
    assert is_freed(world, gone)


def test_an_exchange_that_delays(world: World, client: Client) -> None:
    of_type: Any = {"exchange_type": "x-delayed-message", "arguments": {"x-delayed-type": "direct"}}
    client.call(1, spec.Exchange.Declare(exchange="late", **of_type), spec.Exchange.DeclareOk)
    client.publish(1, b"late", exchange="late", headers={"x-delay": 3_600_000})
    world.settle()
    assert world.actor(ExchangeActor, "late").snapshot()["messages_delayed"] == 1
    freed = watched(world.actor(ExchangeActor, "late"))
    client.call(1, spec.Exchange.Delete(exchange="late"), spec.Exchange.DeleteOk)
    assert is_freed(world, freed)


@pytest.mark.parametrize("end", ["close", "disconnect", "error", "failure"])
def test_a_channel_with_deliveries(world: World, client: Client, gone: weakref.ref[Actor], end: str) -> None:
    client.open_channel(2)
    client.call(2, spec.Basic.Qos(prefetch_count=2), spec.Basic.QosOk)
    client.call(2, spec.Tx.Select(), spec.Tx.SelectOk)
    client.call(2, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    client.send(2, spec.Basic.Ack(1))
    client.publish(2, b"of a transaction", persistent=True)
    client.rest(2)
    channel = next(actor for actor in world.actors(ChannelActor) if actor.name.endswith("(2)"))
    freed = watched(channel)
    if end == "close":
        client.call(2, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
    elif end == "disconnect":
        client.disconnect()
    elif end == "error":
        client.send(2, spec.Basic.Ack(99))
        client.expect(spec.Channel.Close, 2)
        client.send(2, spec.Channel.CloseOk())
    else:
        with failing(channel, Drained, ValueError):
            channel.ref.tell(Drained())
            client.expect(spec.Channel.Close, 2)
        client.send(2, spec.Channel.CloseOk())
    del channel
    assert is_freed(world, freed)
