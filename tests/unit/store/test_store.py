"""What every kind of store must do."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.model.consuming import sealed
from unit.store.batches import adding, contents_of, entries, persistent, recovered_and_read

from dispatchd.model.entry import NEVER, STORED_SHARED, QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.records import content_row, entry_key, id_key, mark_row
from dispatchd.store.interface import Store
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.memory_store import MemoryStore

Restart = Callable[[], Store]


@pytest.fixture(params=["lmdb", "memory"])
def restart(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restart]:
    """Close the store, if it is open, and open it again."""
    memory = MemoryStore()
    opened: list[Store] = []

    def open_again() -> Store:
        if opened:
            opened.pop().close()
        opened.append(LmdbStore(tmp_path / "data") if request.param == "lmdb" else memory)
        return opened[0]

    yield open_again
    if opened:
        opened[0].close()


def test_a_new_store_is_empty(restart: Restart) -> None:
    recovered = restart().recover()
    assert (recovered.definitions, recovered.queues, recovered.marks) == ({}, {}, {})
    assert (recovered.next_message_id, recovered.next_queue_id) == (1, 1)


def test_a_message_comes_back_as_it_was(restart: Restart) -> None:
    added = entries([b"body"], first=7)
    store = restart()
    store.commit(adding(3, added))
    recovered, queues = recovered_and_read(restart())
    ((position, message, expires_at),) = queues[3]
    original = added[0].message
    assert position == 7
    assert (message.exchange, message.routing_key, message.address) == ("events", "a.key", original.address)
    assert (message.header, message.body, message.persistent) == (original.header, b"body", True)
    assert (message.message_id, expires_at) == (0, NEVER)
    assert (recovered.queues[3].bytes, recovered.references) == (4, {})
    assert (recovered.next_message_id, recovered.next_queue_id) == (1, 4)


def test_entries_come_back_in_the_order_of_their_queue(restart: Restart) -> None:
    store = restart()
    store.commit(adding(2, entries([b"300", b"301"], first=300)))
    store.commit(adding(2, entries([b"255", b"256"], first=255)))
    store.commit(adding(1, entries([b"other"], first=1000)))
    assert contents_of(restart()) == {
        1: [(1000, b"other")],
        2: [(255, b"255"), (256, b"256"), (300, b"300"), (301, b"301")],
    }


def test_a_shared_content_is_stored_once_and_goes_with_its_last_entry(restart: Restart) -> None:
    message = persistent(b"shared", queues=3)
    journal = Journal(next_message_id=41)
    journal.add(1, [QueueEntry(message, None, 1)])
    journal.add(2, [QueueEntry(message, None, 9)])
    store = restart()
    store.commit(sealed(journal))
    store = restart()
    recovered, queues = recovered_and_read(store)
    ((_, found, _),) = queues[1]
    ((_, other, _),) = queues[2]
    assert (found.body, found.message_id, recovered.next_message_id) == (b"shared", 41, 42)
    assert (other.body, other.message_id) == (b"shared", 41)
    assert (recovered.references, recovered.queues[1].bytes) == ({41: 2}, 6)
    assert store.shared(1, [1, 2]) == [41]

    journal = Journal(recovered.next_message_id, recovered.references)
    for queue_id, position, held, contents_left in [(1, 1, found, 1), (2, 9, other, 0)]:
        entry = QueueEntry(held, None, position)
        entry.slot = STORED_SHARED
        journal.delete(queue_id, [entry])
        store.commit(sealed(journal))
        assert store.statistics()["contents"] == contents_left
    assert restart().recover().queues == {}


def test_entries_can_be_read_one_by_one_and_missing_ones_are_left_out(restart: Restart) -> None:
    store = restart()
    store.commit(adding(1, entries([b"a", b"b", b"c"], first=5)))
    assert [(position, message.body) for position, message, _ in store.read(1, [4, 5, 7, 8])] == [(5, b"a"), (7, b"c")]
    assert store.read(2, [5]) == []


def test_a_damaged_entry_is_left_out_and_names_nothing(restart: Restart) -> None:
    store = restart()
    journal = Journal()
    journal.add(1, [*entries([b"a", b"b"]), *(QueueEntry(persistent(body, queues=2), None, n) for n, body in SHARED)])
    changes = sealed(journal)
    changes.entries = [(key, damaged(value) if key in DAMAGED else value) for key, value in changes.entries]
    changes.contents = [changes.contents[0], (changes.contents[1][0], damaged(changes.contents[1][1]))]
    store.commit(changes)
    assert [(position, message.body) for position, message, _ in store.read(1, [1, 2, 3, 4, 5])] == [(1, b"a")]
    assert store.shared(1, [1, 2, 3, 4, 5]) == [2]
    changes = Changes()
    changes.dropped_queues = [id_key(1)]
    assert store.commit(changes).contents == [2]
    assert store.statistics()["entries"] == 0


SHARED = [(3, b"of a damaged entry"), (4, b"damaged"), (5, b"of an entry under another's key")]
DAMAGED = [entry_key(1, position) for position in (2, 3, 5)]


def damaged(value: bytes) -> bytes:
    """One bit of it is another."""
    return value[:-6] + bytes([value[-6] ^ 1]) + value[-5:]


def test_heads_tell_all_but_the_bodies(restart: Restart) -> None:
    store = restart()
    journal = Journal()
    one, other = entries([b"whole"])[0], QueueEntry(persistent(b"sha", queues=2), None, 9)
    other.expires_at = 1234
    journal.add(3, [one, other])
    journal.add(4, entries([b"not this"]))
    store.commit(sealed(journal))
    assert list(store.heads(3)) == [(1, one.message.header, 5, NEVER), (9, other.message.header, 3, 1234)]
    assert list(store.heads(5)) == []


def test_content_that_was_removed_and_added_again_in_one_batch_stays(restart: Restart) -> None:
    message = persistent(b"slow second queue", queues=2)
    fast, slow = QueueEntry(message, None, 1), QueueEntry(message, None, 1)
    journal = Journal()
    store = restart()
    journal.add(1, [fast])
    store.commit(sealed(journal))
    journal.delete(1, [fast])
    journal.add(2, [slow])
    store.commit(sealed(journal))
    assert contents_of(restart()) == {2: [(1, b"slow second queue")]}


def test_contents_without_entries_go_at_recovery(restart: Restart) -> None:
    changes, orphan = Changes(), persistent(b"orphan")
    orphan.message_id = 5
    changes.contents = [content_row(orphan)]
    store = restart()
    store.commit(changes)
    store = restart()
    assert store.recover().next_message_id == 6
    assert store.statistics()["contents"] == 0
    assert restart().recover().next_message_id == 1


def test_definitions_are_kept_replaced_and_removed(restart: Restart) -> None:
    long_key = b"k" * 1000
    store = restart()
    changes = Changes()
    changes.definitions = {b"stays": b"1", b"changes": b"old", b"goes": b"2", long_key: b"3", b"": b""}
    store.commit(changes)
    changes = Changes()
    changes.definitions = {b"changes": b"new", b"goes": None, b"never was": None}
    store.commit(changes)
    assert restart().recover().definitions == {b"stays": b"1", b"changes": b"new", long_key: b"3", b"": b""}


def test_marks_are_kept_and_count_for_the_next_queue_id(restart: Restart) -> None:
    store = restart()
    for position in (4, 300):
        journal = Journal()
        journal.mark(8, position)
        store.commit(sealed(journal))
    recovered = restart().recover()
    assert recovered.marks == {8: 300}
    assert recovered.next_queue_id == 9


def test_a_dropped_queue_takes_its_entries_and_its_mark_only(restart: Restart) -> None:
    store = restart()
    for queue_id in (1, 2, 3, 256):
        changes = adding(queue_id, entries([b"a", b"b", b"c"]))
        changes.marks = [mark_row(queue_id, 2)]
        store.commit(changes)
    changes = adding(2, entries([b"new"], first=9))
    changes.dropped_queues = [id_key(2), id_key(256), id_key(77)]
    changes.marks = [mark_row(2, 5), mark_row(3, 3)]
    store.commit(changes)
    recovered = restart().recover()
    rows = [(1, b"a"), (2, b"b"), (3, b"c")]
    assert contents_of(restart()) == {1: rows, 2: [(9, b"new")], 3: rows}
    assert recovered.marks == {1: 2, 3: 3}


def test_removing_what_is_not_there_is_no_error(restart: Restart) -> None:
    store = restart()
    store.commit(adding(1, entries([b"stays"])))
    changes = Changes()
    changes.deleted_entries = [entry_key(1, 2), entry_key(9, 1)]
    changes.deleted_contents = [id_key(1)]
    store.commit(changes)
    assert contents_of(restart()) == {1: [(1, b"stays")]}


def test_statistics_count_what_is_stored(restart: Restart) -> None:
    store = restart()
    empty = store.statistics()
    journal = Journal()
    added = entries([b"x" * 5000] * 10)
    journal.add(1, added)
    journal.add(1, [QueueEntry(persistent(b"s", queues=2), None, 11)])
    journal.define(b"key", b"record")
    journal.mark(1, 1)
    store.commit(sealed(journal))
    full = store.statistics()
    assert {name: full[name] for name in ("definitions", "entries", "contents", "marks")} == {
        "definitions": 1,
        "entries": 11,
        "contents": 1,
        "marks": 1,
    }
    assert full["bytes_used"] > empty["bytes_used"] + 50_000
    journal.delete(1, added)
    store.commit(sealed(journal))
    assert store.statistics()["bytes_used"] < empty["bytes_used"] + 20_000


queue_ids = st.integers(1, 3)
steps = st.one_of(
    st.tuples(st.just("add"), queue_ids, st.binary(max_size=20)),
    st.tuples(st.just("share"), st.just(0), st.binary(max_size=20)),
    st.tuples(st.just("settle"), queue_ids, st.booleans()),
    st.tuples(st.just("drop"), queue_ids, st.none()),
    st.tuples(st.just("mark"), queue_ids, st.none()),
    st.tuples(st.just("commit"), st.just(0), st.booleans()),
)


@settings(max_examples=40)
@given(st.lists(steps, max_size=40))
def test_both_kinds_hold_what_the_queues_hold(tmp_path_factory: pytest.TempPathFactory, todo: list[tuple]) -> None:
    disk, memory, journal = LmdbStore(tmp_path_factory.mktemp("store")), MemoryStore(), Journal()
    queues: dict[int, list[QueueEntry]] = {1: [], 2: [], 3: []}
    position = 0

    def add(queue_id: int, entry: QueueEntry) -> None:
        journal.add(queue_id, [entry])
        queues[queue_id].append(entry)

    try:
        for name, queue_id, argument in [*todo, ("commit", 0, False)]:
            position += 1
            if name == "add":
                add(queue_id, QueueEntry(persistent(argument), None, position))
            elif name == "share":
                message = persistent(argument, queues=2)
                for shared_by in (1, 2):
                    add(shared_by, QueueEntry(message, None, position))
            elif name == "settle" and queues[queue_id]:
                journal.delete(queue_id, [queues[queue_id].pop(-1 if argument else 0)])
            elif name == "drop":
                journal.delete(queue_id, queues[queue_id])
                journal.drop_queue(queue_id)
                queues[queue_id].clear()
            elif name == "mark":
                journal.mark(queue_id, position)
            elif name == "commit":
                changes = sealed(journal)
                for _ in range(2 if argument else 1):
                    disk.commit(changes)
                    memory.commit(changes)
        on_disk, in_memory = disk.recover(), memory.recover()
        found, expected = contents_of(disk), contents_of(memory)
    finally:
        disk.close()
    held = {
        queue_id: [(entry.position, entry.message.body) for entry in held] for queue_id, held in queues.items() if held
    }
    assert found == expected == held
    assert on_disk.references == in_memory.references
    assert on_disk.marks == in_memory.marks
    assert on_disk.next_queue_id == in_memory.next_queue_id
