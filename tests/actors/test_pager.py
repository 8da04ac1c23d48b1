"""Queues whose middle is on disk only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actors.harness import Client, World, failing, make_fail, wait_until
from pamqp import commands as spec

from dispatchd.actors import pager
from dispatchd.actors.messages import Fetch, OnDisk, Restart
from dispatchd.actors.persistence import PersistenceActor, ReadEnded
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor
from dispatchd.actors.storage import RESIDENT
from dispatchd.model.residency import Residency
from dispatchd.model.stored_entries import StoredEntry
from dispatchd.store.interface import StoreError
from dispatchd.store.memory_store import MemoryStore

FEW = Residency(8, 1 << 20)


class UnsteadyStore(MemoryStore):
    """Reads raise while `is_broken`, and leave out what is `missing`."""

    is_broken = False
    missing: frozenset[int] = frozenset()

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        if self.is_broken:
            raise StoreError("broken")
        return [row for row in super().read(queue_id, positions) if row[0] not in self.missing]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "RETRY_SECONDS", 0.01)


@pytest.fixture
def store() -> UnsteadyStore:
    return UnsteadyStore()


@pytest.fixture
def world(store: UnsteadyStore) -> Iterator[World]:
    world = World(store, resident=FEW)
    yield world
    world.end()


@pytest.fixture
def client(world: World) -> Client:
    return Client(world).open().open_channel()


def declare(client: Client, name: str = "q", *, durable: bool = True, **arguments: Any) -> spec.Queue.DeclareOk:
    given: Any = {key.replace("_", "-"): value for key, value in arguments.items()}
    return client.call(1, spec.Queue.Declare(queue=name, durable=durable, arguments=given), spec.Queue.DeclareOk)


def fill(client: Client, count: int, queue: str = "q", *, persistent: bool = True, first: int = 0) -> list[bytes]:
    """Publish so many messages, and return their bodies when the middle of the queue has left memory."""
    bodies = [b"%d" % number for number in range(first, first + count)]
    for body in bodies:
        client.publish(1, body, queue, persistent=persistent)
    world = client.world
    wait_until(lambda: world.actor(QueueActor, queue).snapshot()["messages_paged_out"] > 0)
    return bodies


def paged_out(world: World, queue: str = "q") -> int:
    world.settle()
    return int(world.actor(QueueActor, queue).snapshot()["messages_paged_out"])


def get_all(client: Client, count: int, queue: str = "q") -> list[bytes]:
    return [client.get(queue, no_ack=True)[1] for _ in range(count)]


def is_empty(world: World) -> bool:
    """Whether nothing is left of any message, in memory or in a store."""
    world.flush()
    return world.store.statistics()["entries"] == world.scratch.statistics()["entries"] == 0


@pytest.mark.parametrize(("durable", "persistent"), [(True, True), (True, False), (False, True), (False, False)])
def test_everything_comes_in_order(world: World, client: Client, durable: bool, persistent: bool) -> None:
    declare(client, durable=durable)
    bodies = fill(client, 100, persistent=persistent)
    wait_until(
        lambda: world.scratch.statistics()["entries"] == (0 if durable and persistent else paged_out(world)),
        world.scratch.statistics,
    )
    assert get_all(client, 100) == bodies
    assert is_empty(world)


def test_persistent_and_transient_ones_keep_their_order(world: World, client: Client) -> None:
    declare(client)
    bodies = [b"%d" % number for number in range(100)]
    for number, body in enumerate(bodies):
        client.publish(1, body, persistent=number % 3 == 0)
    wait_until(lambda: paged_out(world) > 80)
    assert get_all(client, 100) == bodies
    assert is_empty(world)


def test_a_consumer_gets_all_of_it_while_more_comes(world: World, client: Client) -> None:
    declare(client)
    bodies = fill(client, 50)
    other = Client(world).open().open_channel()
    other.call(1, spec.Basic.Qos(prefetch_count=7), spec.Basic.QosOk)
    other.call(1, spec.Basic.Consume(queue="q", consumer_tag="c"), spec.Basic.ConsumeOk)
    for number in range(50, 100):
        body = b"%d" % number
        bodies.append(body)
        client.publish(1, body, persistent=True)
    got = []
    for tag in range(1, 101):
        delivery, body = other.delivery()
        assert (delivery.delivery_tag, delivery.redelivered) == (tag, False)
        got.append(body)
        other.send(1, spec.Basic.Ack(tag))
    assert got == bodies
    world.settle()
    assert is_empty(world)


def test_priorities_are_kept(world: World, client: Client) -> None:
    declare(client, x_max_priority=2)
    for number in range(60):
        client.publish(1, b"%d" % number, persistent=True, priority=number % 3)
    wait_until(lambda: paged_out(world) > 30)
    expected = [b"%d" % number for rest in (2, 1, 0) for number in range(60) if number % 3 == rest]
    assert get_all(client, 60) == expected


def test_after_a_restart_only_places_are_in_memory(store: UnsteadyStore) -> None:
    world = World(store, resident=FEW)
    client = Client(world).open().open_channel()
    declare(client)
    declare(client, "high", x_max_priority=2)
    bodies = fill(client, 40)
    for number in range(30):
        client.publish(1, b"%d" % number, "high", persistent=True, priority=number % 3)
    assert client.get()[1] == b"0"
    world.flush()
    world.end()
    world = World(store, resident=FEW)
    client = Client(world).open().open_channel()
    assert declare(client).message_count == 40
    assert paged_out(world) >= 30
    first, body = client.get()
    assert (body, first.redelivered) == (b"0", True)
    assert get_all(client, 39) == bodies[1:]
    assert get_all(client, 30, "high") == [b"%d" % n for rest in (2, 1, 0) for n in range(30) if n % 3 == rest]
    world.end()


def test_what_is_purged_is_gone_from_disk_too(world: World, client: Client) -> None:
    declare(client)
    for persistent in (True, False):
        fill(client, 60, persistent=persistent)
    answer = client.call(1, spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk)
    assert answer.message_count == 120
    assert declare(client).message_count == 0
    client.publish(1, b"after", persistent=True)
    assert client.get(no_ack=True)[1] == b"after"
    world.settle()
    assert is_empty(world)


def test_a_purge_that_a_store_cannot_read_for_is_tried_again(world: World, client: Client) -> None:
    declare(client)
    fill(client, 60)
    with failing(world.persistence, ReadEnded, ValueError, times=2) as failed:
        client.call(1, spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk)
        wait_until(lambda: len(failed) == 2)
    wait_until(lambda: is_empty(world))


def test_contents_go_with_the_last_queue_that_names_them(world: World, client: Client) -> None:
    for queue in ("a", "b"):
        declare(client, queue)
        client.call(1, spec.Queue.Bind(queue=queue, exchange="amq.fanout"), spec.Queue.BindOk)
    bodies = [b"%d" % number for number in range(50)]
    for body in bodies:
        client.publish(1, body, exchange="amq.fanout", persistent=True)
    wait_until(lambda: min(paged_out(world, queue) for queue in "ab") > 30)
    world.flush()
    assert world.store.statistics()["contents"] == 50
    assert get_all(client, 20, "a") == bodies[:20]
    client.call(1, spec.Queue.Delete(queue="a"), spec.Queue.DeleteOk)
    world.flush()
    assert world.store.statistics()["contents"] == 50
    client.call(1, spec.Queue.Purge(queue="b"), spec.Queue.PurgeOk)
    wait_until(lambda: is_empty(world))
    world.flush()
    assert world.store.statistics()["contents"] == 0


def test_a_deleted_queue_leaves_nothing(world: World, client: Client) -> None:
    declare(client)
    for persistent in (True, False):
        fill(client, 60, persistent=persistent)
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)
    wait_until(lambda: is_empty(world))


def test_expired_ones_go_though_they_were_on_disk(world: World, client: Client) -> None:
    declare(client, x_message_ttl=20, x_dead_letter_exchange="", x_dead_letter_routing_key="dead")
    declare(client, "dead")
    bodies = [b"%d" % number for number in range(60)]
    for body in bodies:
        client.publish(1, body, persistent=True)
    wait_until(lambda: world.actor(QueueActor, "dead").snapshot()["messages"] == 60)
    assert get_all(client, 60, "dead") == bodies
    world.settle()
    assert is_empty(world)


def test_the_oldest_make_room_though_they_were_on_disk(world: World, client: Client) -> None:
    declare(client, x_max_length=40)
    bodies = fill(client, 100)
    wait_until(lambda: world.actor(QueueActor, "q").snapshot()["messages"] == 40)
    assert get_all(client, 40) == bodies[60:]
    world.settle()
    assert is_empty(world)


def test_a_failing_queue_keeps_its_places(world: World, client: Client) -> None:
    declare(client)
    bodies = fill(client, 60)
    queue = world.actor(QueueActor, "q")
    for _ in range(3):
        make_fail(queue)
        world.settle()
    assert queue.restarts == 3
    assert get_all(client, 60) == bodies


@pytest.mark.parametrize(("kind", "message_type"), [(QueueActor, OnDisk), (PersistenceActor, Fetch)])
def test_a_failure_on_the_way_is_tried_again(world: World, client: Client, kind: type, message_type: type) -> None:
    declare(client)
    actor: Actor = world.actor(QueueActor, "q") if kind is QueueActor else world.persistence
    with failing(actor, message_type, ValueError, times=2) as failed:
        bodies = fill(client, 60)
        assert get_all(client, 60) == bodies
    assert len(failed) == 2


def test_what_cannot_be_read_now_is_read_later(world: World, client: Client, store: UnsteadyStore) -> None:
    declare(client)
    bodies = fill(client, 60)
    store.is_broken = True
    client.send(1, *[spec.Basic.Get(queue="q", no_ack=True)] * 60)
    world.settle()
    store.is_broken = False
    got = []
    for _ in range(60):
        client.expect(spec.Basic.GetOk, 1)
        got.append(client._body(1))
    assert got == bodies


def test_what_is_missing_on_disk_is_counted_and_holds_up_nobody(
    world: World, client: Client, store: UnsteadyStore
) -> None:
    declare(client)
    bodies = fill(client, 60)
    world.settle()
    store.missing = frozenset({20, 21})
    assert get_all(client, 58) == bodies[:19] + bodies[21:]
    snapshot = world.actor(QueueActor, "q").snapshot()
    assert (snapshot["messages"], snapshot["message_bytes_ready"], snapshot["messages_lost"]) == (0, 0, 2)


def test_a_get_that_waits_for_the_disk_ends_with_its_queue(world: World, client: Client, store: UnsteadyStore) -> None:
    declare(client)
    fill(client, 60)
    store.is_broken = True
    client.send(1, *[spec.Basic.Get(queue="q", no_ack=True)] * 60)
    world.settle()
    other = Client(world).open().open_channel()
    other.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)
    world.settle()
    close = [frame for frame in client.rest() if isinstance(frame, spec.Channel.Close)]
    assert [answer.reply_code for answer in close] == [541]


def test_a_quarantined_store_still_reads(world: World, client: Client) -> None:
    declare(client)
    bodies = fill(client, 60)
    world.flush()
    persistence = world.persistence
    for _ in range(6):
        make_fail(persistence)
        world.settle()
    assert persistence.is_quarantined
    assert get_all(client, 60) == bodies
    persistence.ref.tell(Restart())
    world.settle()
    assert is_empty(world)


def test_a_lazy_queue_has_little_in_memory() -> None:
    world = World()
    client = Client(world).open().open_channel()
    declare(client, x_queue_mode="lazy")
    bodies = [b"%d" % number for number in range(1000)]
    for body in bodies:
        client.publish(1, body, persistent=True)
    wait_until(lambda: paged_out(world) >= 400)
    declare(client, "other")
    for body in bodies:
        client.publish(1, body, "other", persistent=True)
    world.flush()
    assert paged_out(world, "other") == 0
    assert RESIDENT.most > 1000
    assert get_all(client, 1000) == bodies
    world.end()
