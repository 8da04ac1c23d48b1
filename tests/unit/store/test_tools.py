"""What operators do to a store that no broker works with; `crash/test_store_tools.py` has what works beside one."""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.store import format_1
from unit.store.batches import adding, contents_of, entries, persistent

from dispatchd import cli
from dispatchd.model.definitions import QueueDefinition
from dispatchd.model.entry import QueueEntry
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.records import entry_key, mark_row
from dispatchd.model.stored_definitions import queue_row
from dispatchd.store.interface import StoreDamaged, StoreError, StoreFull
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.tools import back_up, compact, inspect, restore

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed store with two queues, which share a message, and free pages."""
    store = LmdbStore(tmp_path / "data")
    changes = adding(1, [*entries([b"x" * 700] * 500), QueueEntry(persistent(b"shared", queues=2), None, 501)])
    changes.definitions = dict(queue_row("/", QueueDefinition(name, number)) for number, name in ((1, "a"), (2, "b\n")))
    changes.marks = [mark_row(1, 7)]
    store.commit(changes)
    journal = Journal(7)
    journal.add(2, [QueueEntry(persistent(b"s", queues=2), None, n) for n in (1, 2)])
    journal.seal()
    changes = Changes()
    changes.deleted_entries = [entry_key(1, position) for position in range(1, 450)]
    store.commit(changes)
    store.commit(adding(2, entries([b"y" * 20_000, b"z"])))
    store.close()
    return tmp_path / "data"


def everything(directory: Path) -> tuple[dict, dict, dict]:
    """What a broker would find."""
    store = LmdbStore(directory)
    try:
        recovered = store.recover()
        return contents_of(store), recovered.definitions, recovered.marks
    finally:
        store.close()


def change_octets(directory: Path, found: bytes) -> None:
    data = directory / "data.mdb"
    octets = bytearray(data.read_bytes())
    octets[octets.index(found)] ^= 1
    data.write_bytes(octets)


def test_a_sound_store_is_found_sound(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (directory / "data.mdb").read_bytes()
    assert cli.main(["store", "check", "--persist-dir", str(directory)]) == 0
    assert cli.main(["store", "check", str(directory)]) == 0
    assert cli.main([f"-persist-dir={directory}", "store", "check"]) == 0
    out, err = capsys.readouterr()
    assert "2 queues, 54 messages, 2 definitions" in out
    assert (out.splitlines()[-1], err) == ("sound", "")
    assert (directory / "data.mdb").read_bytes() == before
    assert sorted(file.name for file in directory.iterdir()) == ["data.mdb", "dispatchd.lock", "lock.mdb"]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (b"x" * 700, "1 message of queue 'a' in vhost '/'"),
        (b"y" * 20_000, r"1 message of queue 'b\n' in vhost '/'"),
        (b"shared", "1 message of queue 'a' in vhost '/'"),
        (b"\\n", "1 definition"),
        ((7).to_bytes(8, "big"), "1 mark of what was delivered"),
    ],
)
def test_damage_is_told_with_the_queue_and_the_number_of_messages(
    directory: Path, capsys: pytest.CaptureFixture[str], found: bytes, line: str
) -> None:
    compact(directory)  # so that nothing is in the file twice
    change_octets(directory, found)
    assert cli.main(["store", "check", str(directory)]) == 1
    out, _ = capsys.readouterr()
    assert [text for text in out.splitlines() if text.startswith("damaged: ")] == [f"damaged: {line}"]
    assert out.splitlines()[-1].startswith("damaged; ")


def test_where_there_is_no_store_none_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in (["check"], ["stats"], ["backup", str(tmp_path / "to")], ["restore", str(tmp_path / "from")]):
        status = cli.main(["store", *action, "--persist-dir", str(tmp_path / "none")])
        assert status == (2 if action == ["check"] else 1)
        assert "no store, expected a folder with data.mdb in it" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_statistics_are_by_queue(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["store", "stats", "--json", "--persist-dir", str(directory)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["queues"] == [
        {"vhost": "/", "kind": "queue", "name": "a", "messages": 52, "octets": 51 * 700 + 6, "damaged": 0},
        {"vhost": "/", "kind": "queue", "name": "b\n", "messages": 2, "octets": 20_001, "damaged": 0},
    ]
    assert (figures["messages"], figures["definitions"], figures["contents_shared"]) == (54, 2, 1)
    assert figures["file_bytes"] == (directory / "data.mdb").stat().st_size
    assert figures["file_bytes"] == figures["used_bytes"] + figures["free_bytes"]
    assert figures["free_bytes"] > 300 * 700
    assert cli.main(["store", "stats", "--persist-dir", str(directory)]) == 0
    assert "/      queue  b\\n" in capsys.readouterr().out


def test_a_compacted_store_is_the_same_and_smaller(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, size = everything(directory), (directory / "data.mdb").stat().st_size
    assert cli.main(["store", "compact", "--persist-dir", str(directory)]) == 0
    after = (directory / "data.mdb").stat().st_size
    assert f"{size:,} bytes before, {after:,} bytes now" in capsys.readouterr().out
    assert after < 120_000 < size
    assert (directory / "data.mdb").stat().st_mode & 0o777 == 0o600
    assert everything(directory) == before


def test_a_broker_can_start_with_a_backup(directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "backups" / "today"
    back_up(directory, target)
    assert [file.name for file in target.iterdir()] == ["data.mdb"]
    assert (target / "data.mdb").stat().st_mode & 0o777 == 0o600
    assert everything(target) == everything(directory)


def test_a_backup_goes_where_nothing_is(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="has files in it"):
        back_up(directory, tmp_path)
    with pytest.raises(StoreError, match="file: could not be made"):
        back_up(directory, tmp_path / "file")


def test_a_backup_is_put_where_a_broker_looks(directory: Path, tmp_path: Path) -> None:
    back_up(directory, tmp_path / "backup")
    before = everything(directory)
    restore(tmp_path / "backup", tmp_path / "new" / "data", replaces=False)
    assert everything(tmp_path / "new" / "data") == before
    store = LmdbStore(directory)
    store.commit(adding(3, entries([b"later"])))
    store.close()
    with pytest.raises(StoreError, match="has data in it"):
        restore(tmp_path / "backup", directory, replaces=False)
    assert everything(directory) != before
    assert cli.main(["store", "restore", str(tmp_path / "backup"), "--force", "--persist-dir", str(directory)]) == 0
    assert everything(directory) == before


def test_a_damaged_store_is_not_copied_anywhere(directory: Path, tmp_path: Path) -> None:
    back_up(directory, tmp_path / "backup")
    sound = (directory / "data.mdb").read_bytes()
    for damaged in (directory, tmp_path / "backup"):
        change_octets(damaged, b"y" * 20_000)
    before = (directory / "data.mdb").read_bytes()
    told = r"damaged: 1 message of queue 'b\\n' in vhost '/', expected"
    with pytest.raises(StoreDamaged, match=told):
        back_up(directory, tmp_path / "another")
    with pytest.raises(StoreDamaged, match=told):
        compact(directory)
    with pytest.raises(StoreDamaged, match=told):
        restore(tmp_path / "backup", directory, replaces=True)
    with pytest.raises(StoreDamaged, match=told):
        restore(tmp_path / "backup", tmp_path / "new", replaces=False)
    assert (directory / "data.mdb").read_bytes() == before != sound
    assert list((tmp_path / "another").iterdir()) == []
    assert not (tmp_path / "new").exists()


def test_nobody_writes_to_a_store_that_somebody_has(directory: Path, tmp_path: Path) -> None:
    back_up(directory, tmp_path / "backup")
    store = LmdbStore(directory)
    try:
        with pytest.raises(StoreError, match="in use by another broker"):
            compact(directory)
        with pytest.raises(StoreError, match="in use by another broker"):
            restore(tmp_path / "backup", directory, replaces=True)
        with pytest.raises(StoreError, match="in use by a broker, expected a backup"):
            restore(directory, tmp_path / "new", replaces=False)
    finally:
        store.close()


@pytest.fixture
def small_disk(directory: Path) -> Iterator[None]:
    """The limit on the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * PAGE, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_disk")
def test_without_room_everything_is_as_it_was(directory: Path, tmp_path: Path) -> None:
    before = (directory / "data.mdb").read_bytes()
    with pytest.raises((StoreFull, StoreError), match=r"data.mdb: (full|could not be written): "):
        compact(directory)
    with pytest.raises((StoreFull, StoreError), match=r"data.mdb: (full|could not be written): "):
        back_up(directory, tmp_path / "backup")
    with pytest.raises((StoreFull, StoreError), match=r"data.mdb: (full|could not be written): "):
        restore(directory, tmp_path / "new", replaces=False)
    assert (directory / "data.mdb").read_bytes() == before
    assert list((tmp_path / "backup").iterdir()) == []
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["dispatchd.lock"]
    assert not (directory / "creating").exists()


def test_format_1_can_be_looked_at_and_copied(tmp_path: Path) -> None:
    rows = {entry_key(1, number): format_1.entry(persistent(b"%d" % number)) for number in range(1, 4)}
    format_1.write(tmp_path / "old", {b"entries": rows, b"definitions": dict([format_1.definition(b"k", b"r")])})
    assert inspect(tmp_path / "old").queues[1].messages == 3
    back_up(tmp_path / "old", tmp_path / "backup")
    assert compact(tmp_path / "old")
    for store in ("old", "backup"):
        assert everything(tmp_path / store)[0] == {1: [(1, b"1"), (2, b"2"), (3, b"3")]}
