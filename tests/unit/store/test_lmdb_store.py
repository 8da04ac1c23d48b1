"""What only a store on disk can suffer: damage, other brokers, other versions, kills and full disks."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import lmdb
import pytest
from unit.model.consuming import sealed
from unit.store.batches import adding, contents_of, entries, persistent

from dispatchd.model.checksums import CONTENTS, ENTRIES, MARKS, with_checksum
from dispatchd.model.entry import QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.records import entry_key, id_key, mark_row
from dispatchd.store import lmdb_store, writing
from dispatchd.store.headroom import SPARE_BYTES
from dispatchd.store.interface import StoreDamaged, StoreError, StoreFull, StoreTooNew
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.remains import Remains
from dispatchd.store.scratch_store import ScratchStore
from dispatchd.store.writing import OCTETS_DROPPED_LIKE_A_ROW

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed store with small, large and shared messages in queue 1, all of its file in use."""
    store = LmdbStore(tmp_path)
    for first in range(1, 61, 20):
        store.commit(adding(1, entries([b"x" * size for size in [20, 300, 3000, 20_000] * 5], first)))
    store.commit(adding(1, [QueueEntry(persistent(b"shared", queues=2), None, 61)]))
    store.close()
    cut_spare(tmp_path)
    return tmp_path


def pages_end(directory: Path) -> int:
    """Where the last page that LMDB counts ends."""
    with lmdb.open(str(directory), max_dbs=5) as environment:
        return (environment.info()["last_pgno"] + 1) * PAGE


def cut_spare(directory: Path) -> None:
    """Take from the file what is only kept for later."""
    os.truncate(directory / "data.mdb", pages_end(directory))


def change(directory: Path, database: bytes, row: Callable[[lmdb.Transaction, Any], object]) -> None:
    """Write to a database of the store behind its back."""
    with lmdb.open(str(directory), max_dbs=5) as environment:
        handle = environment.open_db(database)
        with environment.begin(write=True) as transaction:
            row(transaction, handle)


def refused(directory: Path, error: type[StoreError] = StoreDamaged) -> str:
    """Open and recover the store: it must be refused in one line that names it, and left as it was."""
    before = (directory / "data.mdb").read_bytes()
    with pytest.raises(error) as caught:
        open_and_recover(directory)
    assert (directory / "data.mdb").read_bytes() == before
    line = str(caught.value)
    assert line.startswith(str(directory / "data.mdb"))
    assert "expected" in line
    assert "\n" not in line
    return line


def open_and_recover(directory: Path) -> int:
    """How many entries the store gives back."""
    store = LmdbStore(directory)
    try:
        return sum(map(len, contents_of(store).values()))
    finally:
        store.close()


def removing(queue_id: int, positions: range) -> Changes:
    """The batch that deletes these entries."""
    changes = Changes()
    changes.deleted_entries = [entry_key(queue_id, position) for position in positions]
    return changes


def test_everything_is_there_after_opening_again(directory: Path) -> None:
    assert open_and_recover(directory) == 61


def test_a_new_store_is_private(tmp_path: Path) -> None:
    LmdbStore(tmp_path / "made" / "here").close()
    made = tmp_path / "made" / "here"
    assert made.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in made.iterdir())


def test_a_store_that_was_not_finished_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "creating").mkdir()
    (tmp_path / "creating" / "data.mdb").touch()
    assert open_and_recover(tmp_path) == 0
    assert not (tmp_path / "creating").exists()


@pytest.mark.parametrize("size", [0, 1, 100, PAGE, PAGE + 100, 2 * PAGE, 3 * PAGE, 100_000])
def test_a_truncated_file_is_refused(directory: Path, size: int) -> None:
    os.truncate(directory / "data.mdb", size)
    refused(directory)


@pytest.mark.parametrize("missing", [1, PAGE, 3 * PAGE])
def test_a_file_without_its_end_is_refused(directory: Path, missing: int) -> None:
    data = directory / "data.mdb"
    os.truncate(data, data.stat().st_size - missing)
    refused(directory)


def test_a_large_value_without_its_end_is_refused(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.commit(adding(1, entries([b"x" * 10 * PAGE])))
    store.close()
    data = (tmp_path / "data.mdb").read_bytes()
    value_end = data.rindex(b"x" * 1000) + 1000
    os.truncate(tmp_path / "data.mdb", value_end - 2 * PAGE)
    assert "beyond the end" in refused(tmp_path)


def test_free_pages_at_the_end_may_be_missing(directory: Path) -> None:
    """LMDB does not write pages that it took and gave back in one transaction, and counts them all the same."""

    def take_and_give_back(transaction: lmdb.Transaction, handle: Any) -> None:
        transaction.put(b"large", b"x" * 100 * PAGE, db=handle)
        transaction.delete(b"large", db=handle)

    change(directory, b"entries", take_and_give_back)
    assert (directory / "data.mdb").stat().st_size < pages_end(directory)
    assert open_and_recover(directory) == 61


@pytest.mark.parametrize(
    ("at", "what"),
    [
        pytest.param(0, bytes(PAGE), id="first meta page zeroed"),
        pytest.param(PAGE, bytes(PAGE), id="second meta page zeroed"),
        pytest.param(0, bytes(2 * PAGE), id="both meta pages zeroed"),
        pytest.param(0, b"\xa5" * 3 * PAGE, id="garbage in front"),
        pytest.param(2 * PAGE, b"\xa5" * 40 * PAGE, id="garbage behind"),
    ],
)
def test_an_overwritten_file_is_refused(directory: Path, at: int, what: bytes) -> None:
    with (directory / "data.mdb").open("r+b") as data:
        data.seek(at)
        data.write(what)
    refused(directory)


def test_any_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(os.urandom(100_000))
    refused(tmp_path)


def outcomes_of_flips(directory: Path, bits: Iterable[int]) -> list[int]:
    """How many entries the store gives back with each of these bits flipped, -1 where it is refused."""
    data = directory / "data.mdb"
    sound = data.read_bytes()
    outcomes = []
    for bit in bits:
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        data.write_bytes(damaged)
        try:
            outcomes.append(open_and_recover(directory))
        except StoreDamaged:
            outcomes.append(-1)
    return outcomes


def test_a_flipped_bit_in_a_meta_page_never_opens_an_empty_store(directory: Path) -> None:
    """Some bits mean nothing."""
    octets = [page + offset for page in (0, PAGE) for offset in range(144)]
    outcomes = outcomes_of_flips(directory, [8 * octet + octet % 8 for octet in octets])
    assert set(outcomes) == {-1, 61}


def test_the_number_of_a_transaction_is_not_another_unnoticed(directory: Path) -> None:
    """Only 4 could be 2 before 3, which takes back the last commit: 60 entries."""
    numbers = [8 * (page + 144) + bit for page in (0, PAGE) for bit in range(64)]
    outcomes = outcomes_of_flips(directory, numbers)
    assert outcomes.count(-1) >= len(numbers) - 1
    assert set(outcomes) <= {-1, 60}


def test_a_damaged_lock_file_of_lmdb_does_no_harm(directory: Path) -> None:
    (directory / "lock.mdb").write_bytes(os.urandom(8192))
    assert open_and_recover(directory) == 61


@pytest.mark.parametrize(
    ("database", "key", "value", "found"),
    [
        (b"entries", entry_key(7, 5), b"", "entry 5 of queue 7"),
        (b"entries", entry_key(7, 5), b"\x09abc", "entry 5 of queue 7"),
        (b"entries", entry_key(7, 5), b"\x00\x00", "entry 5 of queue 7"),
        (b"entries", entry_key(7, 5), b"\x00\x00\x02\x7f\xff\xff\xff\x00\x00", "entry 5 of queue 7"),
        (b"entries", entry_key(7, 5), b"\x01" + (99).to_bytes(8, "big"), "content 99"),
        (b"contents", id_key(99), b"\x00", "content 99"),
        (b"marks", id_key(9), b"\x00", "mark of queue 9"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(
    directory: Path, database: bytes, key: bytes, value: bytes, found: str
) -> None:
    table = {b"entries": ENTRIES, b"contents": CONTENTS, b"marks": MARKS}[database]
    value = with_checksum(table, key, value)
    change(directory, database, lambda transaction, handle: transaction.put(key, value, db=handle))
    assert found in refused(directory)


@pytest.mark.parametrize(
    ("database", "key", "value", "found"),
    [
        (b"entries", b"short", b"\x00", "key of an entry"),
        (b"contents", b"short", b"\x00", "key of a content"),
        (b"marks", b"short", b"\x00", "key of a mark"),
        (b"definitions", b"key", b"\x00\x00\x00\x09abc", "definition"),
        (b"meta", b"format", b"one", "format"),
        (b"meta", b"format", b"0", "format"),
    ],
)
def test_a_row_that_is_none_is_refused(directory: Path, database: bytes, key: bytes, value: bytes, found: str) -> None:
    change(directory, database, lambda transaction, handle: transaction.put(key, value, db=handle))
    assert found in refused(directory)


@pytest.mark.parametrize("kind", ["entry", "content", "mark", "definition"])
def test_a_flipped_bit_of_a_record_is_refused(directory: Path, kind: str) -> None:
    store = LmdbStore(directory)
    changes = adding(
        2, [QueueEntry(persistent(b"of a content" * 500, queues=2), None, 1), *entries([b"of an entry"], 2)]
    )
    changes.marks = [mark_row(77, 1234567890)]
    changes.definitions = {b"key": b"of a definition"}
    store.commit(changes)
    store.close()
    data = directory / "data.mdb"
    octets = bytearray(data.read_bytes())
    value = id_key(1234567890) if kind == "mark" else f"of a{'n' * (kind == 'entry')} {kind}".encode()
    octets[octets.index(value)] ^= 4
    data.write_bytes(octets)
    assert re.search(f"{kind} .*checksum", refused(directory))


def test_a_newer_format_is_refused(directory: Path) -> None:
    change(directory, b"meta", lambda transaction, handle: transaction.put(b"format", b"4", db=handle))
    assert "format 4, expected format 3" in refused(directory, StoreTooNew)


@pytest.mark.parametrize("database", [b"meta", b"entries"])
def test_a_missing_part_is_refused(directory: Path, database: bytes) -> None:
    change(directory, database, lambda transaction, handle: transaction.drop(handle))
    refused(directory)


def test_data_of_another_program_is_refused(tmp_path: Path) -> None:
    change(tmp_path, b"theirs", lambda transaction, handle: transaction.put(b"k", b"v", db=handle))
    refused(tmp_path)


def test_a_second_broker_is_refused_until_the_first_has_closed(directory: Path) -> None:
    first = LmdbStore(directory)
    with pytest.raises(StoreError, match=f"in use by another broker .process {os.getpid()}."):
        LmdbStore(directory)
    first.commit(adding(2, entries([b"still works"])))
    first.close()
    assert open_and_recover(directory) == 62


def test_a_store_is_closed_after_the_commit_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, has_begun, may_end = LmdbStore(tmp_path), Event(), Event()

    def wait(*_: object) -> None:
        has_begun.set()
        assert may_end.wait(10)

    monkeypatch.setattr(lmdb_store, "keep_spare", wait)
    committing = Thread(target=store.commit, args=[adding(1, entries([b"kept"]))])
    committing.start()
    assert has_begun.wait(10)
    closing = Thread(target=store.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    may_end.set()
    for thread in (committing, closing):
        thread.join(10)
        assert not thread.is_alive()
    with pytest.raises(StoreError, match="closed"):
        store.commit(adding(1, entries([b"too late"], 2)))
    assert open_and_recover(tmp_path) == 1


def test_a_directory_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file: cannot be used as a store: .*expected a directory"):
        LmdbStore(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be used as a store: Permission denied"):
        LmdbStore(tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LmdbStore]:
    """A store of one MiB."""
    store = LmdbStore(tmp_path, map_size=MIB)
    yield store
    store.close()


def test_a_full_store_says_so_and_takes_more_after_deletes(small: LmdbStore) -> None:
    journal = Journal()
    held: list[QueueEntry] = []

    def fill() -> None:
        while len(held) < 10_000:
            added = entries([b"x" * 700] * 10, len(held) + 1)
            small.commit(adding(1, added))
            held.extend(added)

    for _ in range(3):
        with pytest.raises(StoreFull, match=f"full: reached its limit of {MIB} bytes"):
            fill()
        assert small.statistics()["entries"] == len(held)
        assert len(held) > 500
        for gone in range(0, len(held), 10):
            small.commit(removing(1, range(gone + 1, gone + 11)))
        assert small.statistics()["entries"] == 0
        held.clear()
    journal.add(1, entries([b"after"]))
    small.commit(sealed(journal))
    assert contents_of(small) == {1: [(1, b"after")]}


def test_a_batch_that_failed_changes_nothing_and_can_be_committed_again(small: LmdbStore) -> None:
    small.commit(adding(1, entries([b"old"])))
    small.commit(adding(2, entries([b"x" * 700] * 900)))
    changes = adding(3, entries([b"y" * 700] * 600))
    changes.deleted_entries = [entry_key(1, 1)]
    changes.definitions = {b"key": b"record"}
    with pytest.raises(StoreFull):
        small.commit(changes)
    assert small.statistics()["definitions"] == 0
    assert {queue_id: len(found) for queue_id, found in contents_of(small).items()} == {1: 1, 2: 900}
    room = Changes()
    room.dropped_queues = [id_key(2)]
    small.commit(room)
    small.commit(adding(1, entries([b"old"])))
    small.commit(changes)
    recovered = small.recover()
    assert {queue_id: len(found) for queue_id, found in contents_of(small).items()} == {3: 600}
    assert recovered.definitions == {b"key": b"record"}


def test_a_full_disk_takes_no_more_but_lets_go(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk: the same calls fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * SPARE_BYTES + MIB, limits[1]))
    store = LmdbStore(tmp_path)
    held = 0

    def fill() -> None:
        nonlocal held
        while held < 10_000:
            store.commit(adding(1, entries([b"x" * 700] * 20, held + 1)))
            held += 20

    try:
        for _ in range(2):
            with pytest.raises(StoreFull, match="expected room on its disk"):
                fill()
            assert 0 < held == store.statistics()["entries"]
            store.commit(removing(1, range(1, held + 1)))
            held = 0
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        store.commit(adding(2, entries([b"x" * SPARE_BYTES])))
        assert store.statistics()["entries"] == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        store.close()


def test_what_is_not_used_any_more_is_told(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.commit(adding(1, entries([b"x" * MIB] * 20)))
    assert store.unused() < 2 * SPARE_BYTES
    store.commit(removing(1, range(1, 21)))
    assert store.unused() > 20 * MIB
    assert store.unused() <= (tmp_path / "data.mdb").stat().st_size - SPARE_BYTES
    store.close()
    assert store.unused() == 0


def test_large_messages_of_a_deleted_queue_go_in_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROWS_DROPPED_IN_ONE_COMMIT", 10)
    store = LmdbStore(tmp_path)
    room = Changes()
    room.dropped_queues = [id_key(1)]
    for size, left in [(1, [4, 0]), (4 * OCTETS_DROPPED_LIKE_A_ROW, [12, 10, 8])]:
        store.commit(adding(1, entries([b"x" * size] * 14)))
        for count in left:
            assert bool(store.commit(room).unfinished) == (count > 0)
            assert store.statistics()["entries"] == count
    store.close()


def test_scratch_takes_disk_only_while_it_has_something(tmp_path: Path) -> None:
    def files() -> set[str]:
        return {file.name for file in tmp_path.iterdir()}

    store = ScratchStore(tmp_path)
    for _ in range(2):
        assert files() == {"dispatchd.lock"}
        store.commit(adding(1, entries([b"a", b"b"])))
        assert [message.body for _, message, _ in store.read(1, [1, 2])] == [b"a", b"b"]
        store.commit(removing(1, range(1, 2)))
        assert store.statistics()["entries"] == 1
        assert files() == {"dispatchd.lock", "data.mdb", "lock.mdb"}
        for _ in range(2):
            store.commit(removing(1, range(2, 3)))
            assert store.statistics()["entries"] == 0
        assert store.read(1, [1, 2]) == []
        assert store.shared(1, [1, 2]) == []
    store.commit(adding(1, entries([b"a"])))
    store.close()
    ScratchStore(tmp_path).close()
    assert files() == {"dispatchd.lock"}


def test_what_lmdb_raises_names_the_store(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.close()
    with pytest.raises(StoreError, match=r"data.mdb: could not be written: "):
        store.commit(adding(1, entries([b"too late"])))


READ_FOR_EVER = """
import lmdb, sys, time
with lmdb.open(sys.argv[1], readonly=True, max_dbs=5) as environment, environment.begin():
    print(flush=True)
    time.sleep(60)
"""


def test_a_reader_that_was_killed_keeps_no_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_store, "SECONDS_BETWEEN_CHECKS_OF_READERS", 0.0)
    store = LmdbStore(tmp_path)
    store.commit(adding(1, entries([b"x" * 100_000])))

    def replace() -> None:
        for number in range(20):
            changes = adding(1, entries([b"y" * 100_000], number + 2))
            changes.deleted_entries = [entry_key(1, number + 1)]
            store.commit(changes)

    with subprocess.Popen([sys.executable, "-c", READ_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        replace()
        grown = last_page(tmp_path)
        reader.kill()
    replace()
    replace()
    assert last_page(tmp_path) == grown
    store.close()


def last_page(directory: Path) -> int:
    with Remains(directory / "data.mdb") as remains:
        return remains.last_page


COMMIT_FOR_EVER = """
import itertools, sys
from unit.store.batches import adding, entries
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.remains import Remains
store = LmdbStore(sys.argv[1])
last = max((len(found.positions) for found in store.recover().queues.values()), default=0)
for last in itertools.count(last + 10, 10):
    store.commit(adding(1, entries([b"%d" % position for position in range(last - 9, last + 1)], last - 9)))
    print(last, flush=True)
"""


def test_no_commit_is_lost_to_a_kill(tmp_path: Path) -> None:
    for killed_after in (1, 20, 60):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", COMMIT_FOR_EVER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
            assert writer.stdout is not None
            committed = 0
            for _ in range(killed_after):
                committed = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            committed = max([committed, *map(int, writer.stdout.read().split())])
        store = LmdbStore(tmp_path)
        found = contents_of(store)[1]
        store.close()
        assert len(found) in (committed, committed + 10)
        assert found == [(position, b"%d" % position) for position in range(1, len(found) + 1)]
