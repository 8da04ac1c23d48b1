"""Whatever happened to a file: nothing is served that was not stored, and with `salvages` everything intact is."""

import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from soak import cases, seeded
from unit.store import format_1
from unit.store.batches import contents_of, persistent

from dispatchd.model.definitions import QueueDefinition, VhostDefinition
from dispatchd.model.entry import QueueEntry
from dispatchd.model.journal import Journal
from dispatchd.model.records import entry_key, id_key
from dispatchd.model.stored_definitions import owners, queue_row, vhost_row
from dispatchd.store.inspection import Inspection
from dispatchd.store.interface import StoreDamaged, StoreFull, StoreTooNew
from dispatchd.store.lmdb_store import LmdbStore
from dispatchd.store.pages import PageFile
from dispatchd.store.remains import Remains

PAGE = os.sysconf("SC_PAGE_SIZE")
MESSAGES = 700
QUEUES = {1: "first", 2: "second", 3: "third"}

Contents = dict[int, list[tuple[int, bytes]]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Contents, Contents]:
    """The octets of a store with three queues, in a file with free pages too; what is in it, and what ever was."""
    directory = tmp_path_factory.mktemp("sound")
    store, journal, chance = LmdbStore(directory), Journal(), random.Random(1)
    journal.define(*vhost_row(VhostDefinition("/")))
    for queue_id, name in QUEUES.items():
        journal.define(*queue_row("/", QueueDefinition(name, queue_id, durable=True)))
        journal.mark(queue_id, 3)
    gone: list[tuple[int, QueueEntry]] = []
    for position in range(1, MESSAGES + 1):
        shared = persistent(b"shared %d " % position * chance.randrange(20), queues=2)
        for queue_id in QUEUES:
            body = b"%d of queue %d " % (position, queue_id) * chance.choice([1, 2, 5, 20, 500 * (position % 100 == 0)])
            message = shared if position % 10 == 0 and queue_id > 1 else persistent(body)
            entry = QueueEntry(message, None, position)
            journal.add(queue_id, [entry])
            if position % 7 == 0:
                gone.append((queue_id, entry))
        if position % 100 == 0:
            commit(store, journal)
    for queue_id, entry in gone:
        journal.delete(queue_id, [entry])
    commit(store, journal)
    journal.mark(3, 3)
    commit(store, journal)
    contents = contents_of(store)
    ever = {queue_id: list(rows) for queue_id, rows in contents.items()}
    for queue_id, entry in gone:
        ever[queue_id].append((entry.position, entry.message.body))
    store.close()
    octets = (directory / "data.mdb").read_bytes()
    inspection = inspect(directory)
    assert inspection.is_sound
    assert inspection.remains.free_pages > 20
    return octets[: (inspection.remains.last_page + 1) * PAGE], contents, ever


def inspect(directory: Path) -> Inspection:
    with Remains(directory / "data.mdb") as remains:
        return Inspection(remains)


def commit(store: LmdbStore, journal: Journal) -> None:
    changes = journal.seal()
    while changes.encode(1000):
        pass
    store.commit(changes)


def damaged(directory: Path, octets: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "data.mdb").write_bytes(octets)
    return directory


def salvaged(directory: Path) -> Contents:
    """What a store has that is opened so; and then when it is opened as ever."""
    found = opened(directory, salvages=True)
    assert opened(directory) == found
    return found


def opened(directory: Path, salvages: bool = False) -> Contents:
    store = LmdbStore(directory, salvages=salvages)
    try:
        return contents_of(store)
    finally:
        store.close()


def is_part_of(found: Contents, whole: Contents) -> bool:
    return all(set(rows) <= set(whole.get(queue_id, [])) and rows == sorted(rows) for queue_id, rows in found.items())


def zeroed(octets: bytearray, chance: random.Random) -> None:
    at = chance.randrange(2, len(octets) // PAGE) * PAGE
    octets[at : at + PAGE] = bytes(PAGE)


def overwritten(octets: bytearray, chance: random.Random) -> None:
    at = chance.randrange(2 * PAGE, len(octets) - 512)
    octets[at : at + 512] = chance.randbytes(512)


def flipped(octets: bytearray, chance: random.Random) -> None:
    octets[chance.randrange(2 * PAGE, len(octets))] ^= 1 << chance.randrange(8)


def swapped(octets: bytearray, chance: random.Random) -> None:
    """Two pages changed places."""
    one, other = (chance.randrange(2, len(octets) // PAGE) * PAGE for _ in range(2))
    octets[one : one + PAGE], octets[other : other + PAGE] = octets[other : other + PAGE], octets[one : one + PAGE]


def head_flipped(octets: bytearray, chance: random.Random) -> None:
    """A bit in the first octets of a page, by which all the others are found."""
    at = chance.randrange(2, len(octets) // PAGE) * PAGE
    octets[at + chance.randrange(40)] ^= 1 << chance.randrange(8)


def cut(octets: bytearray, chance: random.Random) -> None:
    del octets[-chance.randrange(1, len(octets) // 2) :]


@pytest.mark.timeout(60 + 2 * cases(0, 300))
@pytest.mark.parametrize("change", [zeroed, overwritten, flipped, swapped, head_flipped, cut])
def test_all_that_is_intact_is_served_and_nothing_else(
    sound: tuple[bytes, Contents, Contents], tmp_path: Path, change: Callable[[bytearray, random.Random], None]
) -> None:
    octets, whole, ever = sound
    total = sum(map(len, whole.values()))
    chance = seeded(3)
    for number in range(cases(12, 300)):
        changed = bytearray(octets)
        change(changed, chance)
        directory = damaged(tmp_path / f"{number}", bytes(changed))
        if is_refused(directory):
            assert (directory / "data.mdb").read_bytes() == changed
            inspection = inspect(directory)
            found = salvaged(directory)
            assert (directory / "data.mdb.damaged-1").read_bytes() == changed
            count = sum(map(len, found.values()))
            if not inspection.remains.free_are_known:
                assert is_part_of(found, ever)  # pages that were let go of are intact too
            else:
                assert is_part_of(found, whole)
                lost = sum(queue.damaged for queue in inspection.queues.values()) + (inspection.lost or 0)
                assert inspection.lost is None or count + lost == total
            assert count > total - 120 or change is cut
        else:
            assert opened(directory) == whole


def is_refused(directory: Path) -> bool:
    try:
        opened(directory)
    except StoreDamaged as error:
        return "Concerned: " in str(error)
    return False


def with_page(octets: bytes, number: int, page: bytes) -> bytes:
    return octets[: number * PAGE] + page + octets[(number + 1) * PAGE :]


def main_page(octets: bytes, directory: Path) -> int:
    """The number of the page that leads to all tables."""
    pages = PageFile(damaged(directory, octets) / "data.mdb")
    number = pages.metas()[0].main.root
    pages.close()
    return number


def test_without_the_page_that_leads_to_all_tables_everything_is_found(
    sound: tuple[bytes, Contents, Contents], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    octets, whole, _ = sound
    directory = damaged(tmp_path, with_page(octets, main_page(octets, tmp_path), bytes(PAGE)))
    with pytest.raises(StoreDamaged, match="Concerned: an unknown number of messages of queue 'first' in vhost '/', "):
        opened(directory)
    assert salvaged(directory) == whole
    assert "lost: an unknown number of messages" in caplog.text


@pytest.mark.parametrize("number", [0, 1])
def test_without_one_meta_page_at_most_the_last_commit_is_lost(
    sound: tuple[bytes, Contents, Contents], tmp_path: Path, number: int
) -> None:
    """The last commit of this store changed no message."""
    octets, whole, _ = sound
    octets = with_page(octets, number, bytes(PAGE))
    assert is_refused(damaged(tmp_path, octets))
    assert salvaged(tmp_path) == whole


def test_without_both_meta_pages_all_that_ever_was_comes_back(
    sound: tuple[bytes, Contents, Contents], tmp_path: Path
) -> None:
    octets, whole, ever = sound
    directory = damaged(tmp_path, bytes(2 * PAGE) + octets[2 * PAGE :])
    assert is_refused(directory)
    found = salvaged(directory)
    assert is_part_of(whole, found)
    assert is_part_of(found, ever)


@pytest.mark.parametrize("octets", [b"", bytes(20 * PAGE), b"\xa5" * 20 * PAGE])
def test_a_file_in_which_nothing_can_be_read_is_left_alone(tmp_path: Path, octets: bytes) -> None:
    with pytest.raises(StoreDamaged, match="nothing in it can be read"):
        opened(damaged(tmp_path, octets), salvages=True)
    assert (tmp_path / "data.mdb").read_bytes() == octets
    assert not (tmp_path / "data.mdb.damaged-1").exists()


def test_a_sound_store_is_not_salvaged(sound: tuple[bytes, Contents, Contents], tmp_path: Path) -> None:
    octets, whole, _ = sound
    assert opened(damaged(tmp_path, octets), salvages=True) == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.mdb", "dispatchd.lock", "lock.mdb"]


def rewritten(directory: Path, database: bytes, change: Callable[[bytes, bytes], bytes]) -> None:
    """Change the values of a table behind its back."""
    with lmdb.open(str(directory), max_dbs=5) as environment:
        table = environment.open_db(database)
        with environment.begin(write=True) as transaction:
            for key, value in list(transaction.cursor(table)):
                transaction.put(key, change(key, value), db=table)


def test_a_damaged_content_is_missing_in_each_queue_that_shared_it(
    sound: tuple[bytes, Contents, Contents], tmp_path: Path
) -> None:
    octets, whole, _ = sound
    directory = damaged(tmp_path, octets)
    rewritten(directory, b"contents", lambda key, value: value[:-1] + b"?" if b"shared 20 " in value else value)
    with pytest.raises(StoreDamaged, match=r"1 message of queue 'second' in vhost '/', 1 message of queue 'third'"):
        opened(directory)
    found = salvaged(directory)
    assert found == {queue: [row for row in rows if b"shared 20 " not in row[1]] for queue, rows in whole.items()}
    assert [len(found[queue]) - len(whole[queue]) for queue in QUEUES] == [0, -1, -1]


def test_of_a_queue_whose_mark_was_lost_everything_counts_as_delivered(
    sound: tuple[bytes, Contents, Contents], tmp_path: Path
) -> None:
    octets, whole, _ = sound
    directory = damaged(tmp_path, octets)
    rewritten(directory, b"marks", lambda key, value: value[:-1] if key == id_key(2) else value)
    store = LmdbStore(directory, salvages=True)
    assert store.recover().marks == {1: 3, 2: whole[2][-1][0], 3: 3}
    store.close()


def test_messages_whose_queue_was_lost_get_another(sound: tuple[bytes, Contents, Contents], tmp_path: Path) -> None:
    octets, whole, _ = sound
    directory = damaged(tmp_path, octets)
    rewritten(directory, b"definitions", lambda key, value: value[:-1] if b"second" in value else value)
    with pytest.raises(StoreDamaged, match=r"Concerned: 1 definition\. "):
        opened(directory)
    store = LmdbStore(directory, salvages=True)
    names = {queue_id: owner.name for queue_id, owner in owners(store.recover().definitions.values()).items()}
    assert names == {1: "first", 2: "salvaged-2", 3: "third"}
    assert contents_of(store) == whole
    store.close()


def test_a_later_format_is_not_salvaged(sound: tuple[bytes, Contents, Contents], tmp_path: Path) -> None:
    octets, _, _ = sound
    directory = damaged(tmp_path, octets)
    rewritten(directory, b"meta", lambda key, value: b"4")
    cut = (directory / "data.mdb").read_bytes()[:-PAGE]
    with pytest.raises(StoreTooNew):
        opened(damaged(directory, cut), salvages=True)
    assert (directory / "data.mdb").read_bytes() == cut


def test_a_damaged_store_of_format_1_is_salvaged(tmp_path: Path) -> None:
    rows = {entry_key(1, number): format_1.entry(persistent(b"%d" % number * 100)) for number in range(1, 301)}
    format_1.write(tmp_path, {b"entries": rows})
    data = tmp_path / "data.mdb"
    octets = bytearray(data.read_bytes())
    at = octets.index(b"200" * 100) // PAGE * PAGE
    octets[at : at + PAGE] = bytes(PAGE)
    data.write_bytes(octets)
    assert is_refused(tmp_path)
    [found] = salvaged(tmp_path).values()
    assert 270 < len(found) < 300
    assert all(body == b"%d" % position * 100 for position, body in found)


SALVAGE = """
import os, sys
from dispatchd.store import salvage
from dispatchd.store.lmdb_store import LmdbStore

def killed(name):
    original = getattr(salvage, name)
    def call(*arguments, **more):
        original(*arguments, **more)
        os.kill(os.getpid(), 9)
    setattr(salvage, name, call)

killed(sys.argv[2])
LmdbStore(sys.argv[1], salvages=True)
"""


@pytest.mark.parametrize("after", ["fill", "_keep", "create_data_file"])
def test_a_kill_on_the_way_loses_nothing(sound: tuple[bytes, Contents, Contents], tmp_path: Path, after: str) -> None:
    octets, whole, _ = sound
    octets = with_page(octets, main_page(octets, tmp_path), bytes(PAGE))
    directory = damaged(tmp_path, octets)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", SALVAGE, str(directory), after]
    killed = subprocess.run(command, env=environment, check=False, timeout=30, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if after == "create_data_file":
        assert opened(directory) == whole
    else:
        assert (directory / "data.mdb").read_bytes() == octets
        assert salvaged(directory) == whole
    assert (directory / "data.mdb.damaged-1").read_bytes() == octets


def test_without_room_the_damaged_file_stays(sound: tuple[bytes, Contents, Contents], tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk."""
    octets, _, _ = sound
    octets = with_page(octets, main_page(octets, tmp_path), bytes(PAGE))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    damaged(tmp_path, octets)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(octets) // 2, limits[1]))
    try:
        with pytest.raises(StoreFull):
            opened(tmp_path, salvages=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "data.mdb").read_bytes() == octets
    assert not (tmp_path / "creating").exists()
