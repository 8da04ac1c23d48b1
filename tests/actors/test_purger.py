"""Purges and deletions of more messages than fit one turn, in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actors.harness import Client, World, failing, published, wait_until
from pamqp import commands as spec

from dispatchd.actors import pager, purger
from dispatchd.actors.messages import Dispatch, PlacesDeleted, Restart
from dispatchd.actors.purger import PurgeMore
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.storage import RESIDENT
from dispatchd.model.residency import Residency

COUNT = 40


@pytest.fixture(autouse=True)
def few_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purger, "ENTRIES_IN_ONE_TURN", 2)
    monkeypatch.setattr(pager, "DELETED_IN_ONE_GO", 2)


@pytest.fixture(params=[RESIDENT, Residency(8, 1 << 20)], ids=["in memory", "on disk"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(resident=request.param)
    yield world
    world.end()


@pytest.fixture
def client(world: World) -> Client:
    return Client(world).open().open_channel()


def declare(client: Client, name: str = "q", *, durable: bool = True) -> QueueActor:
    client.call(1, spec.Queue.Declare(queue=name, durable=durable), spec.Queue.DeclareOk)
    return client.world.actor(QueueActor, name)


def fill(client: Client, exchange: str = "", *, first: int = 0) -> None:
    """Every other message is persistent."""
    for number in range(first, COUNT):
        client.publish(1, b"%d" % number, exchange=exchange, persistent=number % 2 == 0)
    client.world.flush()


def stored(world: World) -> int:
    world.flush()
    statistics: list[Any] = [world.store.statistics(), world.scratch.statistics()]
    return sum(each["entries"] for each in statistics)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("fails", [None, PurgeMore, Dispatch, PlacesDeleted])
def test_nobody_gets_what_was_purged(world: World, client: Client, fails: type | None, durable: bool) -> None:
    queue = declare(client, durable=durable)
    fill(client)
    assert client.get()[1] == b"0"
    with failing(queue, fails or PurgeMore, ValueError, times=int(fails is not None)) as failed:
        client.send(1, spec.Queue.Purge(queue="q"), *published(b"new", persistent=True))
        queue.ref.tell(Dispatch())
        assert client.expect(spec.Queue.PurgeOk, 1).message_count == COUNT - 1
    assert len(failed) <= 1
    assert failed or fails in (None, PlacesDeleted)
    client.send(1, spec.Basic.Nack(1, requeue=True))
    assert [client.get()[1] for _ in range(2)] == [b"0", b"new"]
    assert client.call(1, spec.Queue.Declare(queue="q", passive=True), spec.Queue.DeclareOk).message_count == 0
    assert stored(world) == (2 if durable else 0)


def test_a_purge_is_answered_when_nothing_can_come_back(world: World, client: Client) -> None:
    declare(client)
    fill(client)
    client.call(1, spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk)
    assert stored(world) == 0


def test_others_are_served_during_a_purge(world: World, client: Client) -> None:
    queue = declare(client)
    fill(client)
    client.send(1, spec.Queue.Purge(queue="q"))
    other = Client(world).open().open_channel()
    other.publish(1, b"new")
    wait_until(lambda: len(queue._queue) == 1)
    assert other.get(no_ack=True)[1] == b"new"
    assert client.expect(spec.Queue.PurgeOk, 1).message_count == COUNT


def test_a_quarantined_queue_leaves_nobody_waiting_for_a_purge(world: World, client: Client) -> None:
    queue = declare(client)
    fill(client)
    with failing(queue, PurgeMore, ValueError, times=9) as failed:
        client.send(1, spec.Queue.Purge(queue="q"))
        assert client.expect(spec.Channel.Close, 1).reply_code == 541
    assert queue.is_quarantined
    assert len(failed) == 6
    queue.ref.tell(Restart())
    wait_until(lambda: stored(world) == 0)


@pytest.mark.parametrize("is_purged", [False, True])
def test_a_deleted_queue_leaves_nothing_but_what_others_share(world: World, client: Client, is_purged: bool) -> None:
    for name in ("q", "other"):
        declare(client, name)
        client.call(1, spec.Queue.Bind(queue=name, exchange="amq.fanout"), spec.Queue.BindOk)
    fill(client, "amq.fanout")
    deleting = Client(world).open().open_channel()
    if is_purged:
        client.send(1, spec.Queue.Purge(queue="q"))
    count = deleting.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk).message_count
    if is_purged:
        purged = client.expect(spec.Queue.PurgeOk, 1).message_count
        assert (purged, count) in ((COUNT, 0), (0, COUNT))
    else:
        assert count == COUNT
    bodies = [client.get("other", no_ack=True)[1] for _ in range(COUNT)]
    assert bodies == [b"%d" % number for number in range(COUNT)]
    assert stored(world) == 0
    statistics: Any = world.store.statistics()
    assert statistics["contents"] == 0
