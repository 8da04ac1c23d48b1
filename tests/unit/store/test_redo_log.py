"""The redo log of a store on disk: what is in it is there after any end, and what makes no sense is never taken in."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.model.consuming import sealed
from unit.store.batches import adding, contents_of, entries, persistent

from dispatchd import cli
from dispatchd.model.entry import QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.records import entry_key, id_key, mark_row
from dispatchd.store import redo, redo_log
from dispatchd.store.batches import by_table, decode, encode
from dispatchd.store.interface import Store, StoreDamaged, StoreFull
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.memory_store import MemoryStore
from dispatchd.store.redo_log import LOG_BYTES, PAGE, read_log
from dispatchd.store.tools import back_up, compact, inspect, restore

MIB = 1 << 20
BATCHES = 5


def log(store: Store, changes: Changes) -> None:
    """Commit a batch for which somebody waits."""
    store.commit(changes, is_awaited=True)


def one(position: int) -> Changes:
    return adding(1, entries([b"%d" % position], position))


def left_by_a_kill(store: LmdbStore, directory: Path, target: Path) -> Path:
    """What is in the folder of a store that is open."""
    target.mkdir()
    for name in ("data.mdb", "redo.log"):
        if (directory / name).exists():
            shutil.copyfile(directory / name, target / name)
    return target


def positions(directory: Path, salvages: bool = False) -> list[int]:
    """Of queue 1, after a start."""
    store = LmdbStore(directory, salvages=salvages)
    try:
        return [position for position, _ in contents_of(store).get(1, [])]
    finally:
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(tmp_path / "data")
    store.recover()
    yield store
    store.close()


@pytest.fixture
def killed(store: LmdbStore, tmp_path: Path) -> Path:
    """The folder of a store that was killed with entry 1 in LMDB, and 2 to 6 in as many records of its log."""
    for position in range(1, 2 + BATCHES):
        log(store, one(position))
    return left_by_a_kill(store, tmp_path / "data", tmp_path / "killed")


def change(file: Path, at: int, octets: bytes) -> None:
    with file.open("r+b") as changed:
        changed.seek(at)
        changed.write(octets)


def flip(file: Path, at: int) -> None:
    change(file, at, bytes([file.read_bytes()[at] ^ 1]))


def test_what_is_logged_is_there_after_a_kill(killed: Path) -> None:
    assert (killed / "redo.log").stat().st_size == LOG_BYTES
    assert (killed / "redo.log").stat().st_blocks * 512 >= LOG_BYTES
    for _ in range(2):
        assert positions(killed) == [1, 2, 3, 4, 5, 6]
        assert not (killed / "redo.log").exists()


def test_what_is_logged_is_not_in_the_data_file(killed: Path) -> None:
    (killed / "redo.log").unlink()
    with pytest.raises(StoreDamaged, match=r"redo.log: damaged: redo.log is missing, .*unknown number of batches"):
        positions(killed)
    assert positions(killed, salvages=True) == [1]
    assert positions(killed) == [1]


def test_what_is_logged_is_found_by_who_looks(store: LmdbStore) -> None:
    shared = persistent(b"shared", queues=2)
    journal = Journal(7)
    kept = entries([b"kept", b"goes"])
    journal.add(1, kept)
    log(store, sealed(journal))
    journal.add(1, [*entries([b"new"], 3), QueueEntry(shared, None, 4)])
    journal.add(2, [QueueEntry(shared, None, 9)])
    journal.delete(1, [kept[1]])
    journal.mark(1, 2)
    journal.define(b"key", b"record")
    log(store, sealed(journal))
    assert [message.body for _, message, _ in store.read(1, [4, 2, 1, 3, 5])] == [b"shared", b"kept", b"new"]
    assert store.shared(1, [1, 3, 4]) == store.shared(2, [9]) == [7]
    found = store.statistics()
    assert [found[name] for name in ("definitions", "entries", "contents", "marks")] == [1, 4, 1, 1]
    assert [head[0] for head in store.heads(1)] == [1, 3, 4]
    assert {name: value for name, value in store.statistics().items() if name not in ("bytes_used", "bytes_limit")} == {
        name: found[name] for name in ("definitions", "entries", "contents", "marks")
    }


def test_a_store_that_was_closed_has_no_log(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data")
    log(store, one(1))
    log(store, one(2))
    assert (tmp_path / "data" / "redo.log").exists()
    store.close()
    assert not (tmp_path / "data" / "redo.log").exists()
    assert b"".join([b"format", b"2"]) in (tmp_path / "data" / "data.mdb").read_bytes()
    assert positions(tmp_path / "data") == [1, 2]


def test_an_entry_that_goes_again_never_reaches_lmdb(store: LmdbStore, tmp_path: Path) -> None:
    log(store, one(1))
    for position in range(2, 20):
        changes = one(position)
        changes.deleted_entries = [entry_key(1, position - 1)]
        log(store, changes)
    assert store.statistics()["entries"] == 1
    store.commit(one(20))
    assert b"\0\0\0\0\0\0\0\x0710" not in (tmp_path / "data" / "data.mdb").read_bytes()
    assert [position for position, _ in contents_of(store)[1]] == [19, 20]


def test_the_log_is_written_over_when_it_is_full(store: LmdbStore, tmp_path: Path) -> None:
    size = MIB // 3
    for position in range(1, 60):
        changes = adding(1, entries([b"x" * size], position))
        changes.deleted_entries = [entry_key(1, position - 1)]
        log(store, changes)
    assert (tmp_path / "data" / "redo.log").stat().st_size == LOG_BYTES
    assert positions(left_by_a_kill(store, tmp_path / "data", tmp_path / "killed")) == [59]
    assert [position for position, _ in contents_of(store)[1]] == [59]


def test_so_many_rows_wait_and_no_more(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redo, "MOST_ROWS", 10)
    log(store, one(1))
    waiting = []
    for position in range(2, 25):
        log(store, one(position))
        waiting.append(len(store._redo.pending))
    assert waiting == [*range(1, 11), 0, *range(1, 11), 0, 1]


@pytest.mark.parametrize("reason", ["dropped queue", "large body", "repeated", "nobody waits"])
def test_what_is_not_logged_takes_with_it_what_is(store: LmdbStore, tmp_path: Path, reason: str) -> None:
    log(store, one(1))
    log(store, one(2))
    changes = one(3)
    if reason == "dropped queue":
        changes.dropped_queues = [id_key(1)]
    elif reason == "large body":
        changes = adding(1, entries([b"x" * 2 * MIB], 3))
    elif reason == "repeated":
        log(store, changes)
    store.commit(changes, is_awaited=reason != "nobody waits")
    assert len(store._redo.pending) == 0
    expected = [3] if reason == "dropped queue" else [1, 2, 3]
    killed = left_by_a_kill(store, tmp_path / "data", tmp_path / "killed")
    assert positions(killed) == [position for position, _ in contents_of(store)[1]] == expected


def test_what_lmdb_has_is_not_taken_from_the_log_again(store: LmdbStore, tmp_path: Path) -> None:
    """Records of the last round are still in the file; what they added was removed since."""
    for position in range(1, 9):
        log(store, one(position))
    changes = Changes()
    changes.deleted_entries = [entry_key(1, position) for position in range(1, 8)]
    store.commit(changes)
    assert positions(left_by_a_kill(store, tmp_path / "data", tmp_path / "first")) == [8]
    log(store, one(9))
    assert positions(left_by_a_kill(store, tmp_path / "data", tmp_path / "second")) == [8, 9]


@pytest.mark.parametrize("at", [0, 8, 12, 16, 20, 40, 70])
def test_a_batch_of_which_a_part_is_missing_was_not_confirmed(killed: Path, at: int) -> None:
    flip(killed / "redo.log", BATCHES * PAGE + at)
    assert positions(killed) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2])
def test_damage_before_the_last_record_is_refused_and_salvaged(
    killed: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(count):
        flip(killed / "redo.log", (2 + number) * PAGE + 40)
    before = [(killed / name).read_bytes() for name in ("data.mdb", "redo.log")]
    told = f"redo.log: damaged: {count} of {BATCHES} records in redo.log are damaged, .*: {count} batch"
    with pytest.raises(StoreDamaged, match=told):
        positions(killed)
    assert cli.main(["store", "check", str(killed)]) == 1
    assert f"damaged: {count} batch" in capsys.readouterr().out
    assert before == [(killed / name).read_bytes() for name in ("data.mdb", "redo.log")]
    rest = [1, 2, *range(3 + count, 7)]
    assert positions(killed, salvages=True) == rest
    assert positions(killed) == rest
    assert (killed / "redo.log.damaged-1").read_bytes() == before[1]


def test_a_log_of_other_data_is_refused(killed: Path, tmp_path: Path) -> None:
    other = LmdbStore(tmp_path / "other")
    for position in range(1, 9):
        log(other, one(position))
    shutil.copyfile(tmp_path / "other" / "redo.log", killed / "redo.log")
    other.close()
    with pytest.raises(StoreDamaged, match=r"redo\.log is that of other data"):
        positions(killed)
    assert positions(killed, salvages=True) == [1]


def test_a_log_that_no_data_file_names_is_not_looked_at(killed: Path, tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "other")
    store.commit(one(77))
    store.close()
    shutil.copyfile(killed / "redo.log", tmp_path / "other" / "redo.log")
    assert inspect(tmp_path / "other").is_sound
    assert positions(tmp_path / "other") == [77]
    store = LmdbStore(tmp_path / "other")
    log(store, one(78))
    log(store, one(79))
    assert positions(left_by_a_kill(store, tmp_path / "other", tmp_path / "again")) == [77, 78, 79]
    store.close()


def test_a_message_that_looks_like_a_record_is_none(killed: Path, store: LmdbStore, tmp_path: Path) -> None:
    """Its sender may have read a log, but not this one."""
    record = (killed / "redo.log").read_bytes()[PAGE : 2 * PAGE]
    log(store, adding(1, entries([record * 4], 7)))
    again = left_by_a_kill(store, tmp_path / "data", tmp_path / "again")
    assert inspect(again).outstanding.records == BATCHES + 1
    assert positions(again) == [1, 2, 3, 4, 5, 6, 7]


def failing(monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Let the next write of the log fail after so many octets."""
    real = os.pwrite

    def pwrite(file: int, data: bytes, at: int) -> int:
        monkeypatch.setattr(os, "pwrite", real)
        real(file, data[:written], at)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("written", [0, 30, PAGE])
def test_a_log_that_cannot_be_written_is_passed_over(
    store: LmdbStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Whether the record is there or not: it is not taken in after what came later."""
    monkeypatch.setattr(redo, "SECONDS_BETWEEN_ATTEMPTS", -1.0)
    for position in (1, 2):
        log(store, one(position))
    failing(monkeypatch, written)
    log(store, one(3))
    assert len(store._redo.pending) == 0
    changes = one(4)
    changes.deleted_entries = [entry_key(1, 3)]
    log(store, changes)
    assert len(store._redo.pending) == 2
    assert positions(left_by_a_kill(store, tmp_path / "data", tmp_path / "killed")) == [1, 2, 4]


def test_where_no_log_can_be_made_lmdb_does_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LmdbStore(tmp_path / "data")
    failing(monkeypatch, PAGE)
    log(store, one(1))
    log(store, one(2))
    assert not (tmp_path / "data" / "redo.log").exists()
    assert positions(left_by_a_kill(store, tmp_path / "data", tmp_path / "killed")) == [1, 2]
    store.close()


def test_a_store_that_is_full_takes_nothing_into_its_log(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "data", map_size=MIB)
    held = 0

    def fill() -> None:
        nonlocal held
        while held < 10_000:
            log(store, adding(1, entries([b"x" * 700] * 10, held + 1)))
            held += 10

    with pytest.raises(StoreFull):
        fill()
    assert 500 < held == store.statistics()["entries"]
    changes = Changes()
    changes.deleted_entries = [entry_key(1, position) for position in range(1, held + 1)]
    store.commit(changes)
    assert store.statistics()["entries"] == 0
    log(store, one(1))
    assert [position for position, _ in contents_of(store)[1]] == [1]
    store.close()


def test_a_backup_has_what_is_logged(killed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(killed).queues[1].messages == 6
    assert cli.main(["store", "check", str(killed)]) == 0
    assert "6 messages" in (out := capsys.readouterr().out)
    assert "5 batches of that in redo.log" in out
    assert back_up(killed, tmp_path / "backup").queues[1].messages == 6
    assert [file.name for file in (tmp_path / "backup").iterdir()] == ["data.mdb"]
    assert positions(tmp_path / "backup") == [1, 2, 3, 4, 5, 6]


def test_what_a_kill_left_is_copied_compacted_and_restored(killed: Path, tmp_path: Path) -> None:
    back_up(killed, tmp_path / "backup")
    restore(killed, tmp_path / "restored", replaces=False)
    compact(killed)
    assert not (killed / "redo.log").exists()
    for directory in (killed, tmp_path / "backup", tmp_path / "restored"):
        assert inspect(directory).is_sound
        assert positions(directory) == [1, 2, 3, 4, 5, 6]


def test_a_restored_store_has_nothing_of_the_log_before(killed: Path, tmp_path: Path) -> None:
    other = LmdbStore(tmp_path / "other")
    other.commit(one(50))
    other.close()
    restore(tmp_path / "other", killed, replaces=True)
    assert not (killed / "redo.log").exists()
    assert positions(killed) == [50]


def test_a_refusal_leaves_the_log_where_it_is(killed: Path) -> None:
    """What is damaged is found when all is read, with what is logged."""
    for at in [match.start() for match in re.finditer(b"events.*?1", (killed / "data.mdb").read_bytes(), re.DOTALL)]:
        flip(killed / "data.mdb", at)
    before = [(killed / name).read_bytes() for name in ("data.mdb", "redo.log")]
    with pytest.raises(StoreDamaged, match="entry 1 of queue 1"):
        positions(killed)
    assert before == [(killed / name).read_bytes() for name in ("data.mdb", "redo.log")]
    assert positions(killed, salvages=True) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("page", [0, 1])
def test_a_damaged_data_file_is_salvaged_with_its_log(killed: Path, page: int) -> None:
    """Also where the damage is to what the file says of the log, or to the meta page that is in force."""
    change(killed / "data.mdb", page * PAGE, bytes(PAGE))
    with pytest.raises(StoreDamaged):
        positions(killed)
    assert positions(killed, salvages=True)[-BATCHES:] == [2, 3, 4, 5, 6]


def test_a_flipped_bit_in_what_the_data_file_says_of_the_log_is_refused(killed: Path) -> None:
    logged = read_log(killed)
    assert logged is not None
    assert logged.identity is not None
    octets = (killed / "data.mdb").read_bytes()
    for at in range(len(logged.identity) + 12):
        (killed / "data.mdb").write_bytes(octets)
        flip(killed / "data.mdb", octets.index(logged.identity) + at)
        with pytest.raises(StoreDamaged, match=r"redo\.log does not match its checksum"):
            positions(killed)
    assert positions(killed, salvages=True) == [1, 2, 3, 4, 5, 6]


batches = st.builds(
    lambda deleted, contents, rows, marks, definitions: (deleted, contents, rows, marks, definitions),
    st.lists(st.binary(min_size=16, max_size=16), max_size=3),
    st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.binary(max_size=50)), max_size=3),
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.binary(max_size=5000)), max_size=3),
    st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.binary(max_size=12)), max_size=3),
    st.dictionaries(st.binary(max_size=20), st.none() | st.binary(max_size=20), max_size=3),
)


@given(batches)
def test_a_batch_comes_back_as_it_was(made: tuple) -> None:
    changes = Changes()
    changes.deleted_entries, changes.contents, changes.entries, changes.marks, changes.definitions = made
    batch = by_table(changes)
    octets = encode(batch)
    assert decode(octets) == batch
    for wrong in (octets[:-1], octets + b"\0", octets[:10]):
        with pytest.raises(ValueError, match=r"."):
            decode(wrong)


queue_ids = st.integers(1, 3)
steps = st.one_of(
    st.tuples(st.just("add"), queue_ids, st.binary(max_size=20)),
    st.tuples(st.just("add large"), queue_ids, st.binary(max_size=2)),
    st.tuples(st.just("share"), st.just(0), st.binary(max_size=20)),
    st.tuples(st.just("settle"), queue_ids, st.booleans()),
    st.tuples(st.just("drop"), queue_ids, st.none()),
    st.tuples(st.just("mark"), queue_ids, st.none()),
    st.tuples(st.just("define"), queue_ids, st.none() | st.binary(max_size=5)),
    st.tuples(st.just("log"), st.just(0), st.booleans()),
    st.tuples(st.just("log"), st.just(0), st.just(False)),
    st.tuples(st.just("commit"), st.just(0), st.booleans()),
    st.tuples(st.just("kill"), st.just(0), st.none()),
    st.tuples(st.just("close"), st.just(0), st.none()),
)


class Twins:
    """A store on disk and one in memory that are told the same; that on disk ends now and then."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = 0
        self.disk = LmdbStore(folder / "0")
        self.memory = MemoryStore()
        self.journal = Journal()
        self.queues: dict[int, list[QueueEntry]] = {1: [], 2: [], 3: []}
        self._position = 0

    def act(self, name: str, queue_id: int, argument: bytes | bool | None) -> None:
        self._position += 1
        if name.startswith("add"):
            assert isinstance(argument, bytes)
            self._add(queue_id, persistent(argument * 10_000 if name == "add large" else argument))
        elif name == "share":
            message = persistent(argument, queues=2)  # type: ignore[arg-type]
            self._add(1, message)
            self._add(2, message)
        elif name == "settle" and self.queues[queue_id]:
            self.journal.delete(queue_id, [self.queues[queue_id].pop(-1 if argument else 0)])
        elif name == "drop":
            self.journal.delete(queue_id, self.queues[queue_id])
            self.journal.drop_queue(queue_id)
            self.queues[queue_id].clear()
        elif name == "mark":
            self.journal.mark(queue_id, self._position)
        elif name == "define":
            self.journal.define(b"%d" % queue_id, argument)  # type: ignore[arg-type]
        elif name in ("log", "commit"):
            changes = sealed(self.journal)
            for _ in range(2 if argument else 1):
                self.disk.commit(changes, is_awaited=name == "log")
                self.memory.commit(changes)
            self._compare()
        elif name in ("kill", "close"):
            self._runs += 1
            if name == "close":
                self.disk.close()
            target = left_by_a_kill(self.disk, self._folder / f"{self._runs - 1}", self._folder / f"{self._runs}")
            if name == "kill":
                self.disk.close()
            self.disk = LmdbStore(target)
            self._compare()
            found, expected = self.disk.recover(), self.memory.recover()
            assert (found.definitions, found.marks, found.references, found.next_queue_id) == (
                expected.definitions,
                expected.marks,
                expected.references,
                expected.next_queue_id,
            )

    def _add(self, queue_id: int, message: object) -> None:
        entry = QueueEntry(message, None, self._position)  # type: ignore[arg-type]
        self.journal.add(queue_id, [entry])
        self.queues[queue_id].append(entry)

    def _compare(self) -> None:
        """What can be seen while the store is open."""
        found, expected = self.disk.statistics(), self.memory.statistics()
        for name in ("definitions", "entries", "contents", "marks"):
            assert found[name] == expected[name], name
        everywhere = list(range(self._position + 1))
        for queue_id in self.queues:
            assert self.disk.shared(queue_id, everywhere) == self.memory.shared(queue_id, everywhere)
            read, there = (
                [(position, message.body) for position, message, _ in store.read(queue_id, everywhere)]
                for store in (self.disk, self.memory)
            )
            assert read == there

    def end(self) -> None:
        self.act("commit", 0, False)
        assert contents_of(self.disk) == {
            queue_id: [(entry.position, entry.message.body) for entry in held]
            for queue_id, held in self.queues.items()
            if held
        }


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=40))
def test_a_store_with_a_log_holds_what_one_in_memory_does(
    tmp_path_factory: pytest.TempPathFactory, todo: list[tuple]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redo_log, "LOG_BYTES", 1 << 16)
        patch.setattr(redo, "MOST_ROWS", 20)
        twins = Twins(tmp_path_factory.mktemp("twins"))
        try:
            for name, queue_id, argument in todo:
                twins.act(name, queue_id, argument)
            twins.end()
        finally:
            twins.disk.close()


def test_marks_are_counted_once(store: LmdbStore) -> None:
    for position in range(1, 4):
        changes = one(position)
        changes.marks = [mark_row(1, position), mark_row(2, position)]
        log(store, changes)
        assert store.statistics()["marks"] == 2
