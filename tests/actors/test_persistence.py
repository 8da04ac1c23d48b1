from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
import pytest
from actors.harness import WAIT_SECONDS, Listener, failing, make_fail, settle, wait_until

from dispatchd.actors import committer, native_thread, pressure
from dispatchd.actors.messages import (
    Add,
    AlarmEnded,
    AlarmRaised,
    CommitDue,
    CommitEnded,
    Committed,
    CommitTransaction,
    Define,
    Delete,
    Denied,
    Done,
    Flush,
    Mark,
    Released,
    Request,
    Restart,
    Stage,
    TransactionCommitted,
)
from dispatchd.actors.persistence import PersistenceActor
from dispatchd.actors.runtime import System
from dispatchd.amqp import methods as m
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.access import unrestricted
from dispatchd.model.alarms import FAILING, STORE
from dispatchd.model.entry import QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.router import Publishing
from dispatchd.model.transaction import Transaction
from dispatchd.store.interface import Dropped, StoreError, StoreFull
from dispatchd.store.memory_store import MemoryStore

A_MINUTE = 60.0
QUEUE = 7


class GatedStore(MemoryStore):
    """Commits wait, on their native thread, while the gate is closed; then they raise what is in `errors`, if any."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.batches: list[Changes] = []
        self.removals: list[int] = []
        self.errors: list[Exception] = []
        self.is_full = False
        self.removed_at_most = 1_000_000
        self._is_open = True
        self._wait, self._go = os.pipe()

    def close_gate(self) -> None:
        self._is_open = False

    def open_gate(self) -> None:
        self._is_open = True
        os.write(self._go, b"x")

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        self.begun += 1
        if not self._is_open:
            os.read(self._wait, 1)
        if self.errors:
            raise self.errors.pop(0)
        removals = len(changes.deleted_entries)
        if self.is_full and (changes.entries or changes.contents or removals > self.removed_at_most):
            raise StoreFull("full")
        dropped = super().commit(changes, is_awaited=is_awaited)
        self.batches.append(changes)
        self.removals.append(removals)
        return dropped

    def close(self) -> None:
        os.close(self._wait)
        os.close(self._go)

    def positions(self, queue_id: int = QUEUE) -> list[int]:
        found = self.recover().queues.get(queue_id)
        return found.positions.head(len(found.positions)) if found is not None else []


@pytest.fixture
def store() -> Iterator[GatedStore]:
    store = GatedStore()
    yield store
    store.close()


Start = Callable[..., PersistenceActor]


@pytest.fixture
def start(store: GatedStore, broker: Listener) -> Iterator[Start]:
    system = System()

    def start(coalesce_seconds: float = A_MINUTE) -> PersistenceActor:
        parent: Any = broker
        actor = PersistenceActor(system, parent, store, coalesce_seconds, Journal())
        actor.begin()
        return actor

    yield start
    for actor in list(system.actors.values()):
        actor.end()
    wait_until(lambda: not system.actors)


@pytest.fixture
def broker() -> Listener:
    return Listener("broker")


@pytest.fixture
def channel() -> Listener:
    return Listener("channel")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.005)


def entry(position: int, message: Message | None = None) -> QueueEntry:
    made = message or make_message("", "q", Properties(delivery_mode=2), b"%d" % position)
    made.queues = max(made.queues, 1)
    return QueueEntry(made, None, position)


def publishing(channel: Listener, *entries: QueueEntry) -> Publishing:
    return Publishing(channel, [entry.message for entry in entries], 0, confirm=True)


def add(actor: PersistenceActor, channel: Listener | None, *positions: int) -> list[QueueEntry]:
    """Have entries stored; with a channel, it wants to know."""
    entries = [entry(position) for position in positions]
    actor.ref.tell(Add(QUEUE, entries, publishing(channel, *entries) if channel else None))
    return entries


def confirmed(channel: Listener) -> list[int]:
    """The positions (as bodies) that the channel was told of so far, in order."""
    assert all(isinstance(message, Committed) for message in channel.told)
    return [
        int(message.body) for told in channel.told for publishing in told.publishings for message in publishing.messages
    ]


def flush(actor: PersistenceActor) -> None:
    flushed: Any = actor.ref.ask(Flush(), timeout=WAIT_SECONDS)
    assert flushed.wait(WAIT_SECONDS)
    settle(actor.system)


# When commits come


def test_with_nobody_waiting_a_batch_is_held_back(start: Start, store: GatedStore) -> None:
    actor = start(0.02)
    add(actor, None, 1)
    add(actor, None, 2)
    settle(actor.system)
    assert store.begun == 0
    wait_until(lambda: store.batches)
    assert (store.begun, store.positions()) == (1, [1, 2])


def test_a_wanted_confirm_ends_the_wait(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start(A_MINUTE)
    add(actor, None, 1)
    settle(actor.system)
    add(actor, channel, 2)
    wait_until(lambda: channel.told)
    assert (store.begun, store.positions()) == (1, [1, 2])


def test_what_waits_in_the_mailbox_goes_into_the_same_commit(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor = start()
    for position in range(1, 11):
        add(actor, channel, position)
    wait_until(lambda: len(confirmed(channel)) == 10)
    assert store.begun == 1
    assert confirmed(channel) == list(range(1, 11))


def test_while_a_commit_runs_the_next_batch_grows(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.close_gate()
    add(actor, channel, 1)
    wait_until(lambda: store.begun)
    for position in range(2, 11):
        add(actor, channel, position)
        settle(actor.system)
    assert store.begun == 1
    store.open_gate()
    wait_until(lambda: len(confirmed(channel)) == 10)
    assert store.begun == 2
    assert confirmed(channel) == list(range(1, 11))


def test_many_entries_go_without_waiting(start: Start, store: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "ENTRIES_HELD_BACK", 5)
    actor = start()
    add(actor, None, 1, 2, 3, 4, 5)
    settle(actor.system)
    assert store.begun == 0
    add(actor, None, 6)
    wait_until(lambda: store.batches)
    assert store.positions() == [1, 2, 3, 4, 5, 6]


def test_a_large_batch_waits_for_acks_even_if_somebody_waits_for_it(
    start: Start, store: GatedStore, channel: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "LARGE", 3)
    monkeypatch.setattr(committer, "SECONDS_BETWEEN_LARGE", A_MINUTE)
    actor = start()
    add(actor, channel, 1)
    wait_until(lambda: confirmed(channel) == [1])
    add(actor, channel, 2, 3, 4)
    wait_until(lambda: confirmed(channel) == [1, 2, 3, 4])
    held = add(actor, channel, 5, 6, 7, 8)
    settle(actor.system)
    assert store.begun == 2
    actor.ref.tell(Delete(QUEUE, held[:2]))
    monkeypatch.setattr(committer, "SECONDS_BETWEEN_LARGE", 0.0)
    add(actor, channel, 9)
    actor.restarted()
    wait_until(lambda: confirmed(channel)[4:] == [5, 6, 7, 8, 9])
    assert store.positions() == [1, 2, 3, 4, 7, 8, 9]


def test_a_large_batch_is_encoded_little_by_little(
    start: Start, store: GatedStore, channel: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "ENTRIES_ENCODED_AT_ONCE", 2)
    actor = start()
    store.errors = [StoreFull("full")]
    add(actor, channel, *range(1, 10))
    shared = [make_message("", "q", Properties(delivery_mode=2), b"%d" % number) for number in range(10, 20)]
    for message in shared:
        message.queues = 2
    for queue_id in (QUEUE, QUEUE + 1):
        actor.ref.tell(Add(queue_id, [entry(int(message.body), message) for message in shared]))
    wait_until(lambda: channel.told)
    for queue_id, first in ((QUEUE, 1), (QUEUE + 1, 10)):
        found = store.read(queue_id, list(range(1, 20)))
        assert [int(message.body) for _, message, _ in found] == list(range(first, 20))
    assert (store.statistics()["contents"], actor.failures.total) == (10, 0)


def test_each_channel_is_told_once(start: Start, channel: Listener) -> None:
    other = Listener("other")
    actor = start()
    for position in (1, 2):
        add(actor, channel, position)
        add(actor, other, position + 10)
    wait_until(lambda: channel.told and other.told)
    assert (len(channel.told), len(other.told)) == (1, 1)
    assert (confirmed(channel), confirmed(other)) == ([1, 2], [11, 12])


# What is confirmed, and when


def test_no_confirm_before_the_commit_has_returned(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.close_gate()
    add(actor, channel, 1)
    wait_until(lambda: store.begun)
    settle(actor.system)
    assert channel.told == []
    store.open_gate()
    wait_until(lambda: channel.told)
    assert store.positions() == [1]


def test_an_add_and_a_delete_that_meet_never_reach_the_store(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor = start()
    actor.ref.tell(Delete(QUEUE, add(actor, channel, 1, 2)))
    wait_until(lambda: channel.told)
    assert (store.begun, confirmed(channel)) == (0, [1, 2])


def test_a_delete_during_the_commit_comes_with_the_next(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.close_gate()
    entries = add(actor, channel, 1, 2)
    wait_until(lambda: store.begun)
    actor.ref.tell(Delete(QUEUE, entries[:1]))
    settle(actor.system)
    store.open_gate()
    flush(actor)
    assert (store.begun, store.positions()) == (2, [2])


def test_a_failing_commit_is_tried_again_and_loses_nothing(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.errors = [StoreFull("full"), StoreError("broken"), OSError("strange")]
    store.close_gate()
    entries = add(actor, channel, 1, 2)
    wait_until(lambda: store.begun)
    add(actor, channel, 3)
    actor.ref.tell(Delete(QUEUE, entries[:1]))
    settle(actor.system)
    store.open_gate()
    wait_until(lambda: len(confirmed(channel)) == 3)
    flush(actor)
    assert store.positions() == [2, 3]
    assert confirmed(channel) == [1, 2, 3]
    snapshot = actor.snapshot()
    assert (snapshot["failed_commits"], snapshot["waiting"], actor.failures.total) == (3, 0, 0)


def test_nobody_is_told_while_commits_fail(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.errors = [StoreFull("full")] * 3
    add(actor, channel, 1)
    wait_until(lambda: actor.snapshot()["failed_commits"] == 2)
    assert channel.told == []


# Transactions

OTHER_QUEUE = 8


def stage(actor: PersistenceActor, channel: Listener) -> Transaction:
    """One that adds to two queues, and deletes what was stored in one of them."""
    transaction = Transaction(channel)
    old = add(actor, None, 1)
    flush(actor)
    actor.ref.tell(Stage(transaction, QUEUE, added=[entry(2)]))
    actor.ref.tell(Stage(transaction, QUEUE, deleted=old))
    actor.ref.tell(Stage(transaction, OTHER_QUEUE, added=[entry(1)]))
    settle(actor.system)
    return transaction


def is_carried_out(store: GatedStore) -> bool:
    """Whether all of what `stage` staged is on disk; it may not be a part of it."""
    found = (store.positions(QUEUE), store.positions(OTHER_QUEUE))
    assert found in (([1], []), ([2], [1]))
    return found == ([2], [1])


def test_a_transaction_waits_for_its_commit_and_holds_nobody_up(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor, other = start(), Listener("other")
    transaction = stage(actor, channel)
    actor.ref.tell(Add(QUEUE + 2, [entry(1)], publishing(other, entry(1))))
    wait_until(lambda: other.told)
    flush(actor)
    assert not is_carried_out(store)
    assert actor.snapshot()["open_transactions"] == 1
    actor.ref.tell(CommitTransaction(transaction))
    wait_until(lambda: channel.told)
    assert channel.take(TransactionCommitted).transaction is transaction
    assert (is_carried_out(store), transaction.is_partial) == (True, False)
    assert actor.snapshot()["open_transactions"] == 0


def test_a_transaction_is_answered_when_it_is_synced(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    acknowledged = Transaction(channel)
    transaction = stage(actor, channel)
    begun = store.begun
    store.close_gate()
    actor.ref.tell(CommitTransaction(transaction))
    wait_until(lambda: store.begun > begun)
    actor.ref.tell(Stage(acknowledged, QUEUE, deleted=add(actor, None, 3)))
    actor.ref.tell(CommitTransaction(acknowledged))
    settle(actor.system)
    assert channel.told == []
    store.open_gate()
    wait_until(lambda: len(channel.told) == 2)
    assert [told.transaction for told in channel.told] == [transaction, acknowledged]


def test_a_transaction_without_anything_for_the_disk_does_not_wait(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor = start()
    store.close_gate()
    add(actor, channel, 1)
    wait_until(lambda: store.begun)
    transaction = Transaction(channel)
    actor.ref.tell(Stage(transaction, QUEUE, deleted=[entry(5)]))
    actor.ref.tell(CommitTransaction(transaction))
    settle(actor.system)
    assert channel.take(TransactionCommitted).transaction is transaction
    store.open_gate()
    flush(actor)


def test_a_part_that_comes_behind_the_commit_is_stored(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start(0.005)
    transaction = stage(actor, channel)
    actor.ref.tell(CommitTransaction(transaction))
    actor.ref.tell(Stage(transaction, QUEUE + 2, added=[entry(1)]))
    wait_until(lambda: store.positions(QUEUE + 2) == [1])
    assert is_carried_out(store)
    assert actor.snapshot()["open_transactions"] == 0


@pytest.mark.parametrize("message_type", [Stage, CommitTransaction])
@pytest.mark.parametrize("times", [1, 2])
def test_a_failure_in_a_transaction(
    start: Start, store: GatedStore, channel: Listener, message_type: type, times: int
) -> None:
    """Once, and it is tried again; twice, and the channel is told."""
    actor = start()
    with failing(actor, message_type, ValueError, times=times):
        transaction = Transaction(channel)
        actor.ref.tell(Stage(transaction, QUEUE, added=[entry(1)]))
        actor.ref.tell(CommitTransaction(transaction))
        wait_until(lambda: channel.told)
    assert channel.take(TransactionCommitted).transaction is transaction
    assert transaction.is_partial == (times == 2)
    flush(actor)
    assert store.positions() == ([1] if times == 1 else [])


def test_a_failure_elsewhere_leaves_what_is_staged(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    transaction = stage(actor, channel)
    make_fail(actor)
    settle(actor.system)
    assert actor.failures.total == 1
    actor.ref.tell(CommitTransaction(transaction))
    wait_until(lambda: channel.told)
    assert is_carried_out(store)


def test_a_transaction_whose_commit_fails_is_tried_again(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    transaction = stage(actor, channel)
    store.errors = [StoreFull("full")] * 2
    actor.ref.tell(CommitTransaction(transaction))
    wait_until(lambda: actor.snapshot()["failed_commits"] == 2)
    assert not is_carried_out(store)
    wait_until(lambda: channel.told)
    assert is_carried_out(store)


# Definitions, marks, flush


def done(channel: Any, method: m.Method | None = None) -> Done:
    request = Request(channel, method or m.QueueDeclare(), 1, unrestricted("guest", "/"))
    return Done(request, m.QueueDeclareOk("q", 0, 0))


def test_a_definition_is_answered_when_it_is_stored(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.close_gate()
    answer = done(channel)
    receiver: Any = channel
    actor.ref.tell(Define([(b"key", b"record")], then=(receiver, answer)))
    wait_until(lambda: store.begun)
    settle(actor.system)
    assert channel.told == []
    store.open_gate()
    wait_until(lambda: channel.told)
    assert channel.told == [answer]
    assert store.recover().definitions == {b"key": b"record"}


def test_a_definition_goes_with_the_entries_of_its_queue(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    actor.ref.tell(Define([(b"key", b"record")]))
    add(actor, channel, 1, 2)
    actor.ref.tell(Mark(QUEUE, 1))
    flush(actor)
    actor.ref.tell(Define([(b"key", None)], dropped_queues=[QUEUE]))
    flush(actor)
    recovered = store.recover()
    assert (recovered.definitions, recovered.queues, recovered.marks) == ({}, {}, {})


def test_the_last_mark_counts(start: Start, store: GatedStore) -> None:
    actor = start()
    for position in (3, 5, 9):
        actor.ref.tell(Mark(QUEUE, position))
    flush(actor)
    assert (store.begun, store.recover().marks) == (1, {QUEUE: 9})


def test_a_flush_with_nothing_to_do(start: Start, store: GatedStore) -> None:
    flush(start())
    assert store.begun == 0


def test_a_flush_waits_for_the_commit_and_what_came_meanwhile(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor = start()
    store.close_gate()
    add(actor, channel, 1)
    wait_until(lambda: store.begun)
    add(actor, None, 2)
    flushed: Any = actor.ref.ask(Flush(), timeout=WAIT_SECONDS)
    settle(actor.system)
    assert not flushed.is_set()
    store.open_gate()
    assert flushed.wait(WAIT_SECONDS)
    assert store.positions() == [1, 2]


# Failures of the actor


def test_killed_in_the_middle_of_a_commit(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    store.close_gate()
    add(actor, channel, 1)
    wait_until(lambda: store.begun)
    add(actor, channel, 2)
    make_fail(actor)
    settle(actor.system)
    assert (actor.failures.total, channel.told) == (1, [])
    store.open_gate()
    wait_until(lambda: len(confirmed(channel)) == 2)
    assert confirmed(channel) == [1, 2]
    assert store.positions() == [1, 2]


@pytest.mark.parametrize(("message_type", "times"), [(CommitDue, 1), (CommitEnded, 2)])
@pytest.mark.parametrize("error", [ValueError, gevent.GreenletExit])
def test_a_failure_around_a_commit_loses_nothing(
    start: Start, store: GatedStore, channel: Listener, message_type: type, times: int, error: type[BaseException]
) -> None:
    actor = start()
    store.errors = [StoreFull("full")]
    with failing(actor, message_type, error, times=times) as failed:
        add(actor, channel, 1)
        wait_until(lambda: store.begun)
        add(actor, channel, 2)
        wait_until(lambda: len(confirmed(channel)) == 2)
    assert len(failed) == times
    assert confirmed(channel) == [1, 2]
    assert store.positions() == [1, 2]
    flush(actor)


# A store that takes no more


def test_a_full_store_is_emptied_first_and_publishers_wait(
    start: Start, store: GatedStore, channel: Listener, broker: Listener
) -> None:
    actor = start()
    old = add(actor, channel, 1, 2)
    wait_until(lambda: channel.told)
    channel.take_all()
    store.removals.clear()
    store.is_full = True
    new = add(actor, channel, 3, 4)
    wait_until(lambda: broker.told)
    assert broker.take_all()[0] == AlarmRaised(STORE, "full")
    actor.ref.tell(Delete(QUEUE, [*old, new[0]]))
    wait_until(lambda: store.positions() == [])
    assert channel.told == []
    store.is_full = False
    wait_until(lambda: channel.told)
    assert (store.positions(), confirmed(channel)) == ([4], [3, 4])
    assert store.removals == [2, 0]
    wait_until(lambda: broker.told[-1:] == [AlarmEnded(STORE)])


def test_a_full_store_makes_room_before_it_waits(
    start: Start, store: GatedStore, channel: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "RETRY_SECONDS", 3600.0)
    actor = start()
    old = add(actor, channel, 1)
    wait_until(lambda: channel.told)
    store.is_full = True
    actor.actor_inbox.pause()
    actor.ref.tell(Delete(QUEUE, old))
    add(actor, channel, 2)
    actor.actor_inbox.resume()
    wait_until(lambda: store.positions() == [])


def test_a_full_store_is_emptied_in_as_small_parts_as_it_has_room_for(
    start: Start, store: GatedStore, channel: Listener, broker: Listener
) -> None:
    actor = start()
    old = add(actor, channel, *range(100))
    wait_until(lambda: channel.told)
    channel.take_all()
    store.removals.clear()
    store.is_full, store.removed_at_most = True, 0
    add(actor, channel, 100)
    actor.ref.tell(Delete(QUEUE, old[:70]))
    wait_until(lambda: actor._committer._removed_at_once == 1)
    assert store.removals == []
    store.removed_at_most = 20
    actor.ref.tell(Delete(QUEUE, old[70:]))
    wait_until(lambda: store.positions() == [])
    assert store.removals[:5] == [1, 2, 4, 8, 16]
    assert max(store.removals) <= 20
    assert channel.told == []
    store.is_full = False
    wait_until(lambda: broker.told[-1:] == [AlarmEnded(STORE)])
    assert (store.positions(), confirmed(channel)) == ([100], [100])


def test_a_failing_disk_is_tried_again_more_and_more_rarely(
    start: Start, store: GatedStore, channel: Listener, broker: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(committer, "LONGEST_PAUSE_SECONDS", 0.004)
    actor = start()
    store.errors = [StoreError("input/output error") for _ in range(5)]
    pauses = []
    add(actor, channel, 1)
    for failed in range(1, 6):
        wait_until(partial(lambda count: actor.snapshot()["failed_commits"] >= count, failed))
        pauses.append(actor._committer.pause)
        add(actor, channel, failed + 1)
    wait_until(lambda: len(confirmed(channel)) == 6)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.004
    assert store.positions() == [1, 2, 3, 4, 5, 6]
    assert broker.told[0] == AlarmRaised(FAILING, "input/output error")
    assert broker.told[-1] == AlarmEnded(FAILING)
    assert actor._committer.pause == 0


def test_publishers_wait_for_a_disk_that_is_behind(
    start: Start, store: GatedStore, channel: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "MOST_ENTRIES", 4)
    actor = start()
    store.close_gate()
    add(actor, None, 1)
    actor.ref.tell(CommitDue())
    wait_until(lambda: store.begun)
    add(actor, None, 2, 3, 4, 5)
    settle(actor.system)
    assert not actor.pressure.is_high
    kept = add(actor, None, 6)
    settle(actor.system)
    assert actor.pressure.is_high
    held = publishing(channel, *kept)
    actor.pressure.held[held] = None
    store.open_gate()
    wait_until(lambda: channel.told)
    assert channel.told == [Released(held)]
    assert not actor.pressure.is_high


def test_nobody_waits_for_a_quarantined_one(start: Start, channel: Listener) -> None:
    actor = start()
    flush(actor)
    held = publishing(channel, entry(1))
    actor.pressure.held[held] = None
    quarantine(actor)
    assert channel.told == [Released(held)]


def test_a_failure_when_the_interval_is_over_loses_nothing(start: Start, store: GatedStore) -> None:
    actor = start(0.005)
    with failing(actor, CommitDue, ValueError):
        add(actor, None, 1)
        wait_until(lambda: store.positions() == [1])


def test_a_thread_that_can_not_be_started(
    start: Start, store: GatedStore, channel: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = native_thread._start_new_thread

    def refuse_once(*_: object) -> None:
        monkeypatch.setattr(native_thread, "_start_new_thread", real)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(native_thread, "_start_new_thread", refuse_once)
    actor = start()
    add(actor, channel, 1)
    wait_until(lambda: channel.told)
    assert (confirmed(channel), store.positions()) == ([1], [1])


def test_an_add_that_fails_is_tried_once_more(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    with failing(actor, Add, ValueError):
        add(actor, channel, 1)
        wait_until(lambda: channel.told)
    assert channel.told[0].refused == []
    assert store.positions() == [1]


def test_an_add_that_fails_twice_is_refused(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    with failing(actor, Add, ValueError, times=2):
        (lost,) = add(actor, channel, 1)
        add(actor, channel, 2)
        wait_until(lambda: len(channel.told) == 2)
    refused, stored = channel.told
    assert refused.refused == [lost.message]
    assert stored.refused == []
    assert store.positions() == [2]


def quarantine(actor: PersistenceActor) -> None:
    for _ in range(6):
        make_fail(actor)
        settle(actor.system)
    assert actor.is_quarantined


def test_quarantined_it_refuses_at_once_and_loses_nothing(start: Start, store: GatedStore, channel: Listener) -> None:
    actor = start()
    old = add(actor, channel, 1, 2)
    wait_until(lambda: channel.told)
    channel.take_all()
    quarantine(actor)
    (refused_entry,) = add(actor, channel, 3)
    actor.ref.tell(Delete(QUEUE, old[:1]))
    actor.ref.tell(Mark(QUEUE, 2))
    receiver: Any = channel
    actor.ref.tell(Define([(b"key", b"record")], then=(receiver, done(channel))))
    settle(actor.system)
    refused, denied = channel.take_all()
    assert refused.refused == [refused_entry.message]
    assert isinstance(denied, Denied)
    assert denied.error.code == 541
    assert "is quarantined" in denied.error.text
    assert store.begun == 1
    actor.ref.tell(Restart())
    flush(actor)
    recovered = store.recover()
    assert store.positions() == [2, 3]
    assert recovered.marks == {QUEUE: 2}
    assert recovered.definitions == {b"key": b"record"}
    assert channel.told == []


def test_quarantined_it_refuses_a_transaction_and_stores_it_later(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor = start()
    add(actor, None, 1)
    flush(actor)
    quarantine(actor)
    transaction, transient = Transaction(channel), Transaction(channel)
    for queue_id in (QUEUE, OTHER_QUEUE):
        actor.ref.tell(Stage(transaction, queue_id, added=[entry(2)]))
    for told in (transaction, transient):
        actor.ref.tell(CommitTransaction(told))
    settle(actor.system)
    assert [told.transaction for told in channel.take_all()] == [transaction, transient]
    assert (transaction.is_partial, transient.is_partial) == (True, False)
    actor.ref.tell(Restart())
    flush(actor)
    assert (store.positions(QUEUE), store.positions(OTHER_QUEUE)) == ([1, 2], [2])
    assert channel.told == []


def test_quarantined_during_a_commit_it_tells_after_the_restart(
    start: Start, store: GatedStore, channel: Listener
) -> None:
    actor = start()
    store.close_gate()
    add(actor, channel, 1)
    wait_until(lambda: store.begun)
    add(actor, channel, 2)
    quarantine(actor)
    store.open_gate()
    wait_until(lambda: store.batches)
    settle(actor.system)
    actor.ref.tell(Restart())
    wait_until(lambda: len(confirmed(channel)) == 2)
    assert confirmed(channel) == [1, 2]
    assert store.positions() == [1, 2]
