from __future__ import annotations

from typing import Any

import pytest
from actors.harness import Client, World, failing, make_fail, wait_until
from pamqp import commands as spec

from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Define, DeleteQueue, ReleaseOwner, Request
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.vhost import VhostActor
from dispatchd.model.stored_definitions import read_rows
from dispatchd.store.memory_store import MemoryStore


def declare(client: Client, name: str, **options: Any) -> spec.Queue.DeclareOk:
    return client.call(1, spec.Queue.Declare(queue=name, **options), spec.Queue.DeclareOk)


def test_definitions_outlive_the_broker() -> None:
    store = MemoryStore()
    world = World(store)
    client = Client(world).open().open_channel()
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="topic", durable=True), spec.Exchange.DeclareOk)
    declare(client, "q", durable=True)
    declare(client, "gone", durable=True)
    declare(client, "transient")
    client.call(1, spec.Queue.Bind(queue="q", exchange="x", routing_key="a.*"), spec.Queue.BindOk)
    client.call(1, spec.Queue.Delete(queue="gone"), spec.Queue.DeleteOk)
    for number in range(3):
        client.publish(1, b"%d" % number, "a.b", "x", persistent=True)
    world.settle()
    client.get()
    world.flush()
    world.end()
    world = World(store)
    client = Client(world).open().open_channel()
    assert sorted(queue.name for queue in world.actors(QueueActor)) == ["q"]
    got = [client.get() for _ in range(3)]
    assert [(body, answer.redelivered) for answer, body in got] == [(b"0", True), (b"1", False), (b"2", False)]
    client.publish(1, b"new", "a.c", "x")
    assert client.get()[1] == b"new"
    world.end()


def test_a_failure_keeps_everything(world: World, client: Client) -> None:
    declare(client, "q")
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="fanout"), spec.Exchange.DeclareOk)
    client.call(1, spec.Queue.Bind(queue="q", exchange="x"), spec.Queue.BindOk)
    other = Client(world).open().open_channel()
    with failing(world.actor(VhostActor), Request, lambda: ValueError("boom")):
        close = client.call(1, spec.Queue.Declare(queue="r"), spec.Channel.Close)
    assert (close.reply_code, close.reply_text) == (541, "INTERNAL_ERROR - vhost / failed: ValueError: boom")
    other.publish(1, b"a", exchange="x")
    assert other.get()[1] == b"a"
    declare(other, "r")


@pytest.mark.parametrize("message_type", [ReleaseOwner, DeleteQueue])
def test_a_failure_leaves_no_queue_behind(world: World, client: Client, message_type: type) -> None:
    declare(client, "exclusive", exclusive=True)
    declare(client, "auto", auto_delete=True)
    client.call(1, spec.Basic.Consume(queue="auto"), spec.Basic.ConsumeOk)
    with failing(world.actor(VhostActor), message_type, ValueError) as failed:
        client.disconnect()
        wait_until(lambda: client.transport.is_closed)
        world.settle()
    assert len(failed) == 1
    assert world.actors(QueueActor) == []


def test_a_definition_that_could_not_be_stored_at_first_is_stored(world: World, client: Client) -> None:
    with failing(world.persistence, Define, ValueError):
        declare(client, "q", durable=True)
    world.flush()
    [vhost] = read_rows(world.store.recover().definitions).values()
    assert [queue["name"] for queue in vhost.queues] == ["q"]


def test_quarantined_it_refuses_methods_and_messages_still_flow(world: World, client: Client) -> None:
    declare(client, "q")
    vhost = world.actor(VhostActor)
    for _ in range(6):
        make_fail(vhost)
        world.settle()
    assert vhost.is_quarantined
    client.open_channel(2)
    client.call(2, spec.Basic.Consume(queue="q"), spec.Channel.Close)
    client.publish(1, b"a")
    world.settle()
    assert world.actor(QueueActor).snapshot()["messages"] == 1
    client.disconnect()
    wait_until(lambda: client.transport.is_closed)


def test_deleting_an_exchange_deletes_its_bindings_and_actor(world: World, client: Client) -> None:
    client.call(
        1, spec.Exchange.Declare(exchange="x", exchange_type="fanout", auto_delete=True), spec.Exchange.DeclareOk
    )
    declare(client, "q")
    client.call(1, spec.Queue.Bind(queue="q", exchange="x"), spec.Queue.BindOk)
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)
    world.settle()
    assert "x" not in [exchange.name for exchange in world.actors(ExchangeActor)]
