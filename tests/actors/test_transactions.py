"""Transactions through real actors, and what of them is in each commit of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actors.harness import Client, World, failing, published, wait_until
from pamqp import commands as spec
from unit.store.batches import contents_of

from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.messages import CommitTransaction, Drained, Enqueue, Settlement, Stage
from dispatchd.actors.queue import QueueActor
from dispatchd.model.journal import Changes
from dispatchd.store.interface import Dropped
from dispatchd.store.memory_store import MemoryStore


class Disk(MemoryStore):
    """Knows what it held after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[dict[int, list[bytes]]] = []

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        dropped = super().commit(changes, is_awaited=is_awaited)
        self.states.append(self.bodies())
        return dropped

    def bodies(self) -> dict[int, list[bytes]]:
        return {queue_id: [body for _, body in rows] for queue_id, rows in contents_of(self).items()}


class Rig:
    """Durable queues a, b and c, a client with a transaction on channel 1, and another one."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.world = World(self.disk, coalesce_seconds=60)
        self.client, self.other = Client(self.world).open(), Client(self.world).open().open_channel()
        self.client.open_channel()
        for queue in "abc":
            self.declare(queue)
        self.other.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        self.client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)

    def declare(self, queue: str, **arguments: Any) -> None:
        self.other.call(1, spec.Queue.Declare(queue=queue, durable=True, arguments=arguments), spec.Queue.DeclareOk)

    def put(self, *bodies: bytes, queue: str = "c") -> None:
        """Have messages on disk."""
        for body in bodies:
            self.other.publish(1, body, queue, persistent=True)
        self.world.flush()
        self.other.rest()
        self.disk.states.clear()

    def queue(self, name: str) -> QueueActor:
        return self.world.actor(QueueActor, name)

    @property
    def channel(self) -> ChannelActor:
        (found,) = [each for each in self.world.actors(ChannelActor) if each.parent is self.client.connection]
        return found

    def commit(self) -> None:
        self.client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)

    def begin_commit(self, *frames: Any) -> None:
        """Let the queues do their parts, of which the channel hears nothing yet."""
        self.channel.actor_inbox.pause()
        self.client.send(1, *frames, spec.Tx.Commit())
        self.channel.actor_inbox.step()
        self.world.settle()

    def end_commit(self) -> None:
        self.channel.actor_inbox.resume()
        self.client.expect(spec.Tx.CommitOk, 1)

    def open_transactions(self) -> int:
        return int(self.world.persistence.snapshot()["open_transactions"])

    def named(self, bodies: dict[int, list[bytes]]) -> dict[str, list[bytes]]:
        """With the names of the queues that there are."""
        names = {actor._definition.queue_id: actor.name for actor in self.world.actors(QueueActor)}
        return {names.get(queue_id, f"deleted {queue_id}"): found for queue_id, found in bodies.items()}

    def on_disk(self) -> dict[str, list[bytes]]:
        return self.named(self.disk.bodies())

    def states(self) -> list[dict[str, list[bytes]]]:
        """What was on disk after each commit since the last `put`, once all is there."""
        self.world.flush()
        return [self.named(state) for state in self.disk.states]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.world.settle()
    assert rig.open_transactions() == 0
    rig.world.end()


TO_BOTH = [*published(b"1", "a", persistent=True), *published(b"2", "b", persistent=True)]


def test_publishes_and_acks_are_one_commit(rig: Rig) -> None:
    rig.put(b"old", b"kept")
    rig.client.get("c")
    rig.client.send(1, *TO_BOTH, spec.Basic.Ack(1))
    rig.world.flush()
    assert rig.on_disk() == {"c": [b"old", b"kept"]}
    rig.disk.states.clear()
    rig.commit()
    assert rig.on_disk() == {"a": [b"1"], "b": [b"2"], "c": [b"kept"]}
    assert rig.states() == [{"a": [b"1"], "b": [b"2"], "c": [b"kept"]}]


@pytest.mark.parametrize(
    "settlement", [spec.Basic.Ack(1), spec.Basic.Reject(1, requeue=False), spec.Basic.Nack(1, requeue=False)]
)
def test_a_commit_of_settlements_alone_waits_for_the_disk(rig: Rig, settlement: Any) -> None:
    rig.put(b"old")
    rig.client.get("c")
    rig.client.send(1, settlement)
    rig.commit()
    assert rig.on_disk() == {}


def test_what_is_requeued_stays_on_disk(rig: Rig) -> None:
    rig.put(b"old")
    rig.client.get("c")
    rig.client.send(1, *TO_BOTH, spec.Basic.Reject(1, requeue=True))
    rig.commit()
    assert rig.on_disk() == {"a": [b"1"], "b": [b"2"], "c": [b"old"]}
    assert rig.client.get("c")[0].redelivered


def test_what_came_back_too_often_goes_with_the_commit(rig: Rig) -> None:
    rig.declare("limited", **{"x-delivery-limit": 1})
    rig.put(b"poison", queue="limited")
    for tag in (1, 2):
        rig.client.get("limited")
        rig.client.send(1, *TO_BOTH, spec.Basic.Reject(tag, requeue=True))
        rig.commit()
    limited_with_a = [(state.get("limited"), state["a"]) for state in rig.states()]
    assert limited_with_a == [([b"poison"], [b"1"]), (None, [b"1", b"1"])]


def test_what_has_to_make_room_goes_with_the_commit(rig: Rig) -> None:
    rig.declare("short", **{"x-max-length": 1})
    rig.put(b"old", queue="short")
    rig.client.send(1, *TO_BOTH)
    for body in (b"new", b"newer"):
        rig.client.send(1, *published(body, "short", persistent=True))
    rig.commit()
    assert rig.states() == [{"a": [b"1"], "b": [b"2"], "short": [b"newer"]}]


def test_dead_letters_are_on_disk_before_what_died_is_not(rig: Rig) -> None:
    rig.declare("dying", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    rig.declare("dead")
    rig.put(b"old", queue="dying")
    rig.client.get("dying")
    rig.client.send(1, *TO_BOTH, spec.Basic.Reject(1, requeue=False))
    rig.commit()
    rig.world.flush()  # the dead letter
    rig.world.flush()  # what died
    assert rig.on_disk() == {"a": [b"1"], "b": [b"2"], "dead": [b"old"]}
    assert all(state.get("dead") or state.get("dying") for state in rig.states())


def test_the_same_message_in_several_queues(rig: Rig) -> None:
    for queue in "ab":
        rig.other.call(1, spec.Queue.Bind(queue=queue, exchange="amq.fanout"), spec.Queue.BindOk)
    rig.put()
    rig.client.send(1, *published(b"shared", exchange="amq.fanout", persistent=True))
    rig.commit()
    assert rig.states() == [{"a": [b"shared"], "b": [b"shared"]}]
    for tag, queue in enumerate("ab", 1):
        rig.client.get(queue)
        rig.client.send(1, spec.Basic.Ack(tag))
    rig.commit()
    statistics = rig.disk.statistics()
    assert (statistics["entries"], statistics["contents"]) == (0, 0)


def test_what_is_not_for_the_disk_does_not_go_there(rig: Rig) -> None:
    rig.put()
    rig.client.send(1, *published(b"x", "c"), *published(b"y", "missing", persistent=True))
    rig.commit()
    rig.client.get("c")
    rig.client.send(1, spec.Basic.Ack(1))
    rig.commit()
    assert rig.on_disk() == {}
    rig.other.call(1, spec.Queue.Declare(queue="a", passive=True), spec.Queue.DeclareOk)


# Before the commit


def test_others_are_confirmed_while_a_commit_is_open(rig: Rig) -> None:
    rig.begin_commit(*TO_BOTH)
    assert rig.open_transactions() == 1
    rig.other.publish(1, b"other", "a", persistent=True)
    rig.other.expect(spec.Basic.Ack, 1)
    assert rig.on_disk() == {"a": [b"other"]}
    rig.end_commit()
    assert rig.on_disk() == {"a": [b"1", b"other"], "b": [b"2"]}


@pytest.mark.parametrize("no_ack", [False, True])
def test_a_message_that_is_consumed_before_its_commit(rig: Rig, no_ack: bool) -> None:
    rig.begin_commit(*TO_BOTH)
    answer, body = rig.other.get("a", no_ack=no_ack)
    if not no_ack:
        rig.other.send(1, spec.Basic.Ack(answer.delivery_tag or 0))
    assert body == b"1"
    rig.world.flush()
    rig.end_commit()
    assert rig.states()[-1] == {"b": [b"2"]}


def test_a_message_that_is_consumed_by_another_transaction(rig: Rig) -> None:
    rig.begin_commit(*TO_BOTH)
    third = Client(rig.world).open().open_channel()
    third.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    third.get("a")
    third.send(1, *published(b"3", "c", persistent=True), spec.Basic.Ack(1))
    third.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)
    assert rig.on_disk() == {"c": [b"3"]}
    rig.end_commit()
    assert rig.on_disk() == {"b": [b"2"], "c": [b"3"]}


@pytest.mark.parametrize("how", ["deleted", "purged"])
def test_a_queue_that_loses_its_messages_before_the_commit(rig: Rig, how: str) -> None:
    for queue in "ab":
        rig.other.call(1, spec.Queue.Bind(queue=queue, exchange="amq.fanout"), spec.Queue.BindOk)
    rig.begin_commit(*TO_BOTH, *published(b"shared", exchange="amq.fanout", persistent=True))
    if how == "deleted":
        rig.other.call(1, spec.Queue.Delete(queue="a"), spec.Queue.DeleteOk)
    else:
        rig.other.call(1, spec.Queue.Purge(queue="a"), spec.Queue.PurgeOk)
    rig.end_commit()
    rig.world.flush()
    assert rig.on_disk() == {"b": [b"2", b"shared"]}
    for tag in (1, 2):
        rig.client.get("b")
        rig.client.send(1, spec.Basic.Ack(tag))
    rig.commit()
    statistics = rig.disk.statistics()
    assert (statistics["entries"], statistics["contents"]) == (0, 0)


def test_an_ack_to_a_queue_that_was_deleted(rig: Rig) -> None:
    rig.put(b"old")
    rig.client.get("c")
    rig.other.call(1, spec.Queue.Delete(queue="c"), spec.Queue.DeleteOk)
    rig.client.send(1, *TO_BOTH, spec.Basic.Ack(1))
    rig.commit()
    assert rig.on_disk() == {"a": [b"1"], "b": [b"2"]}


# Failures


def expect_partial(rig: Rig) -> None:
    close = rig.client.expect(spec.Channel.Close, 1)
    assert (close.reply_code, close.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")


def test_what_a_failing_queue_refuses_is_missing_and_the_rest_is_stored(rig: Rig) -> None:
    with failing(rig.queue("a"), Enqueue, ValueError, times=2):
        rig.client.send(1, *TO_BOTH, spec.Tx.Commit())
        expect_partial(rig)
    assert rig.on_disk() == {"b": [b"2"]}


def test_a_queue_that_rejects_publishes(rig: Rig) -> None:
    rig.declare("full", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    for body in (b"first", b"second"):
        rig.client.send(1, *published(body, "full", persistent=True))
    rig.client.send(1, *TO_BOTH, spec.Tx.Commit())
    expect_partial(rig)
    assert rig.on_disk() == {"a": [b"1"], "b": [b"2"], "full": [b"first"]}


@pytest.mark.parametrize("times", [1, 2])
def test_a_settlement_that_fails(rig: Rig, times: int) -> None:
    rig.put(b"old")
    rig.client.get("c")
    with failing(rig.queue("c"), Settlement, ValueError, times=times):
        rig.client.send(1, *TO_BOTH, spec.Basic.Ack(1), spec.Tx.Commit())
        if times == 1:
            rig.client.expect(spec.Tx.CommitOk, 1)
        else:
            expect_partial(rig)
    kept = {} if times == 1 else {"c": [b"old"]}
    assert rig.on_disk() == {"a": [b"1"], "b": [b"2"], **kept}


@pytest.mark.parametrize("message_type", [Stage, CommitTransaction])
def test_a_failure_of_persistence_is_no_failure_of_a_transaction(rig: Rig, message_type: type) -> None:
    rig.put(b"old")
    rig.client.get("c")
    with failing(rig.world.persistence, message_type, ValueError):
        rig.client.send(1, *TO_BOTH, spec.Basic.Ack(1))
        rig.commit()
    assert rig.states() == [{"a": [b"1"], "b": [b"2"]}]


@pytest.mark.parametrize("end", ["stop", "quarantine", "disconnect"])
def test_a_channel_that_ends_with_its_commit_leaves_nothing_staged(rig: Rig, end: str) -> None:
    rig.put(b"old")
    rig.client.get("c")
    rig.begin_commit(*TO_BOTH, spec.Basic.Ack(1))
    assert (rig.open_transactions(), rig.on_disk()) == (1, {"c": [b"old"]})
    channel = rig.channel
    if end == "stop":
        channel.end()
    elif end == "disconnect":
        rig.client.disconnect()
    else:
        with failing(channel, Drained, ValueError, times=6):
            for _ in range(6):
                channel.ref.tell(Drained())
            channel.actor_inbox.resume()
            wait_until(lambda: channel.is_quarantined)
    channel.actor_inbox.resume()
    rig.world.settle()
    assert rig.states()[-1] == {"a": [b"1"], "b": [b"2"]}
