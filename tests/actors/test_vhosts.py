"""Virtual hosts that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actors.harness import Client, World, failing, wait_until
from pamqp import commands as spec

from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Define, Request, Retire
from dispatchd.actors.orders import DefineVhost, DeleteVhost, Order, carry_out
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.vhost import VhostActor
from dispatchd.amqp.errors import AmqpError, NotFound, Unavailable
from dispatchd.model.definitions import VhostDefinition
from dispatchd.model.stored_definitions import read_rows, vhost_row
from dispatchd.store.memory_store import MemoryStore

SECONDS = 10


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def world(store: MemoryStore) -> Iterator[World]:
    world = World(store)
    yield world
    world.end()


def order(world: World, order: Order) -> Any:
    return carry_out(world.ref, order, SECONDS)


def declare(client: Client, name: str, **options: Any) -> spec.Queue.DeclareOk:
    return client.call(1, spec.Queue.Declare(queue=name, **options), spec.Queue.DeclareOk)


def names(world: World) -> list[str]:
    return sorted(vhost.name for vhost in world.actors(VhostActor))


def test_a_vhost_that_is_made_takes_clients(world: World) -> None:
    assert order(world, DefineVhost("v", "for v", ["a"])) is True
    client = Client(world).open(vhost="v").open_channel()
    declare(client, "q")
    client.publish(1, b"1")
    assert client.get()[1] == b"1"
    assert world.actor(VhostActor, "v").snapshot() == {
        "name": "v", "description": "for v", "tags": ["a"], "tracing": False, "limits": {},
        "exchanges": 7, "queues": 1, "bindings": 0,
    }  # fmt: skip


def test_vhosts_share_nothing(world: World) -> None:
    order(world, DefineVhost("v"))
    one, other = Client(world).open().open_channel(), Client(world).open(vhost="v").open_channel()
    declare(one, "q")
    close = other.call(1, spec.Queue.Declare(queue="q", passive=True), spec.Channel.Close)
    assert close.reply_text == "NOT_FOUND - no queue 'q' in vhost 'v'"
    other.open_channel(2)
    other.call(2, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    one.publish(1, b"for one")
    other.publish(2, b"for the other")
    assert one.get()[1] == b"for one"
    assert other.get(channel=2)[1] == b"for the other"


def test_a_failure_in_one_is_invisible_in_others(world: World) -> None:
    order(world, DefineVhost("v"))
    one, other = Client(world).open().open_channel(), Client(world).open(vhost="v").open_channel()
    with failing(world.actor(VhostActor, "v"), Request, ValueError, times=6):
        for number in range(2, 8):
            other.open_channel(number)
            other.call(number, spec.Queue.Declare(queue="q"), spec.Channel.Close)
    assert world.actor(VhostActor, "v").is_quarantined
    declare(one, "q")
    one.publish(1, b"1")
    assert one.get()[1] == b"1"
    assert world.actor(VhostActor, "/").failures.total == 0


def test_what_an_operator_says_of_it_can_be_changed(world: World) -> None:
    order(world, DefineVhost("v", "old", ["a"]))
    assert order(world, DefineVhost("v", tracing=True)) is False
    assert order(world, DefineVhost("v", description="new")) is False
    definition = read_rows(world.store.recover().definitions)["v"].definition
    assert definition is not None
    assert definition.to_record() == {"name": "v", "description": "new", "tags": ["a"], "tracing": True}


def test_vhosts_outlive_the_broker(store: MemoryStore) -> None:
    world = World(store)
    order(world, DefineVhost("v"))
    client = Client(world).open(vhost="v").open_channel()
    declare(client, "q", durable=True)
    client.publish(1, b"1", persistent=True)
    world.flush()
    world.end()
    world = World(store)
    assert names(world) == ["/", "v"]
    assert Client(world).open(vhost="v").open_channel().get()[1] == b"1"
    world.end()


def test_a_deleted_vhost_takes_everything_with_it(world: World, store: MemoryStore) -> None:
    order(world, DefineVhost("v"))
    client = Client(world).open(vhost="v").open_channel()
    for number in range(120):
        declare(client, f"q{number}", durable=number % 2 == 0)
    client.call(
        1,
        spec.Exchange.Declare(exchange="x", exchange_type="fanout", durable=True, auto_delete=True),
        spec.Exchange.DeclareOk,
    )
    client.call(1, spec.Queue.Bind(queue="q0", exchange="x"), spec.Queue.BindOk)
    client.publish(1, b"1", "q0", persistent=True)
    kept = Client(world).open().open_channel()
    declare(kept, "kept", durable=True)
    order(world, DeleteVhost("v"))
    close = client.expect(spec.Connection.Close)
    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - vhost 'v' is deleted")
    client.send(0, spec.Connection.CloseOk())
    wait_until(lambda: len(world.actors(ConnectionActor)) == 1)
    assert names(world) == ["/"]
    assert [queue.name for queue in world.actors(QueueActor)] == ["kept"]
    assert len(world.actors(ExchangeActor)) == 7
    world.flush()
    recovered = store.recover()
    assert list(read_rows(recovered.definitions)) == ["/"]
    assert list(recovered.queues) == []
    declare(kept, "kept", durable=True)


def test_a_deleted_vhost_lets_nobody_in(world: World) -> None:
    order(world, DefineVhost("v"))
    order(world, DeleteVhost("v"))
    client = Client(world)
    client.log_in()
    close = client.call(0, spec.Connection.Open("v"), spec.Connection.Close)
    assert (close.reply_code, close.reply_text) == (530, "NOT_ALLOWED - vhost v not found")


def test_its_name_can_be_used_again_at_once(world: World) -> None:
    order(world, DefineVhost("v"))
    client = Client(world).open(vhost="v").open_channel()
    for number in range(120):
        declare(client, f"q{number}", durable=True)
    deletion, creation = DeleteVhost("v"), DefineVhost("v")
    world.ref.tell(deletion)
    world.ref.tell(creation)
    assert creation.outcome.get(timeout=SECONDS) is True
    assert deletion.outcome.ready()
    world.flush()
    vhost = read_rows(world.store.recover().definitions)["v"]
    assert vhost.definition is not None
    assert vhost.queues == []
    declare(Client(world).open(vhost="v").open_channel(), "q0")


def test_what_is_not_there_cannot_be_deleted(world: World) -> None:
    with pytest.raises(NotFound, match="no vhost 'v'"):
        order(world, DeleteVhost("v"))


def test_the_default_vhost_can_go_and_does_not_come_back_beside_others(store: MemoryStore) -> None:
    world = World(store)
    order(world, DefineVhost("v"))
    order(world, DeleteVhost("/"))
    world.end()
    world = World(store)
    assert names(world) == ["v"]
    world.end()


def test_an_interrupted_deletion_is_finished_at_the_next_start(store: MemoryStore) -> None:
    world = World(store)
    order(world, DefineVhost("v"))
    client = Client(world).open(vhost="v").open_channel()
    declare(client, "q", durable=True)
    client.publish(1, b"1", persistent=True)
    world.flush()
    key, _ = vhost_row(VhostDefinition("v"))
    world.broker.persistence.tell(Define([(key, None)]))
    world.flush()
    world.end()
    world = World(store)
    assert names(world) == ["/"]
    world.flush()
    recovered = store.recover()
    assert list(read_rows(recovered.definitions)) == ["/"]
    assert recovered.queues == {}
    world.end()


def test_a_failure_while_it_goes_does_not_keep_it(world: World) -> None:
    order(world, DefineVhost("v"))
    with failing(world.actor(VhostActor, "v"), Retire, ValueError):
        order(world, DeleteVhost("v"))
    assert names(world) == ["/"]


def test_an_order_that_fails_is_denied(world: World) -> None:
    with failing(world.broker, DefineVhost, lambda: ValueError("boom")), pytest.raises(Unavailable, match="boom"):
        order(world, DefineVhost("v"))


def test_an_order_that_nobody_carries_out_is_given_up(world: World) -> None:
    world.broker.actor_inbox.pause()
    with pytest.raises(AmqpError, match=r"dispatchd did not answer in 0\.01 s"):
        carry_out(world.ref, DefineVhost("v"), 0.01)
    world.broker.actor_inbox.resume()
