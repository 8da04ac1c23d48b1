"""What an older version stored is there with this one, whatever happens on the way."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from unit.store import format_1
from unit.store.batches import contents_of, persistent, recovered_and_read

from dispatchd.model.entry import NEVER
from dispatchd.model.records import entry_key, id_key
from dispatchd.store.interface import StoreDamaged, StoreFull
from dispatchd.store.lmdb_store import LmdbStore


def old_tables(messages: int = 3) -> format_1.Tables:
    """Queue 1 with so many messages, and one that it shares with queue 2."""
    rows = {entry_key(1, number): format_1.entry(persistent(b"%d" % number)) for number in range(1, messages + 1)}
    shared = {entry_key(1, messages + 1): format_1.entry(9), entry_key(2, 5): format_1.entry(9, expires_at=1234)}
    return {
        b"definitions": dict([format_1.definition(b"key", b"record"), format_1.definition(b"k" * 1000, b"")]),
        b"entries": rows | shared,
        b"contents": {id_key(9): format_1.content(persistent(b"shared" * 1000))},
        b"marks": {id_key(1): id_key(2)},
    }


def holds_all(directory: Path, messages: int = 3) -> None:
    """Open it twice: migrated, and as it is then."""
    for _ in range(2):
        store = LmdbStore(directory)
        try:
            recovered, queues = recovered_and_read(store)
            found = {
                queue_id: [(position, message.body, expires_at) for position, message, expires_at in rows]
                for queue_id, rows in queues.items()
            }
        finally:
            store.close()
        body = b"shared" * 1000
        assert found[1] == [*((n, b"%d" % n, NEVER) for n in range(1, messages + 1)), (messages + 1, body, NEVER)]
        assert found[2] == [(5, body, 1234)]
        assert (recovered.references, recovered.marks) == ({9: 2}, {1: 2})
        assert recovered.definitions == {b"key": b"record", b"k" * 1000: b""}
        assert (recovered.next_message_id, recovered.next_queue_id) == (10, 3)


def test_a_store_of_format_1_is_taken_over(tmp_path: Path) -> None:
    format_1.write(tmp_path, old_tables())
    before = (tmp_path / "data.mdb").read_bytes()
    holds_all(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() != before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.mdb", "dispatchd.lock", "lock.mdb"]


def test_an_empty_store_of_format_1_is_taken_over(tmp_path: Path) -> None:
    format_1.write(tmp_path, {})
    store = LmdbStore(tmp_path)
    assert contents_of(store) == {}
    store.close()


def test_a_message_at_the_size_limit_of_the_store_is_taken_over(tmp_path: Path) -> None:
    """What fits into a store of format 1 fits into the same with checksums."""
    rows = {entry_key(1, n): format_1.entry(persistent(b"x" * 700)) for n in range(1, 1200)}
    format_1.write(tmp_path, {b"entries": rows})
    store = LmdbStore(tmp_path, map_size=1 << 20)
    assert len(contents_of(store)[1]) == 1199
    store.close()


def test_a_row_without_sense_is_refused_before_anything_changes(tmp_path: Path) -> None:
    tables = old_tables()
    tables[b"entries"][entry_key(7, 5)] = b"\x00\x00"
    format_1.write(tmp_path, tables)
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(StoreDamaged, match="entry 5 of queue 7"):
        LmdbStore(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before
    assert not (tmp_path / "creating").exists()


def test_without_room_for_both_the_old_one_stays(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk."""
    format_1.write(tmp_path, old_tables(20_000))
    before = (tmp_path / "data.mdb").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(StoreFull, match="expected room on its disk"):
            LmdbStore(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "data.mdb").read_bytes() == before
    assert not (tmp_path / "creating").exists()
    holds_all(tmp_path, 20_000)


OPEN = """
import os, sys
from pathlib import Path
from dispatchd.store import lmdb_store, migration
from dispatchd.store.lmdb_store import LmdbStore

def killed(*arguments, fill=migration.fill, **more):
    fill(*arguments, **more)
    if sys.argv[2] == "filled":
        os.kill(os.getpid(), 9)

def renamed(directory, fill, create=migration.create_data_file):
    create(directory, fill)
    os.kill(os.getpid(), 9)

def row(*arguments, at=iter(range(10_000)), with_checksum=migration.with_checksum):
    if sys.argv[2] == "filling" and next(at) > 4_500:
        os.kill(os.getpid(), 9)
    return with_checksum(*arguments)

migration.fill = killed
migration.with_checksum = row
if sys.argv[2] == "renamed":
    migration.create_data_file = renamed
LmdbStore(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("when", ["filling", "filled", "renamed"])
def test_a_kill_on_the_way_loses_nothing(tmp_path: Path, when: str) -> None:
    format_1.write(tmp_path, old_tables(3_000))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", OPEN, str(tmp_path), when], env=environment, check=False, timeout=30)
    assert killed.returncode == -signal.SIGKILL
    holds_all(tmp_path, 3_000)
    assert not (tmp_path / "creating").exists()
