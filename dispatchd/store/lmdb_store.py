"""The store on disk: one LMDB environment, one transaction per commit, synced before it returns."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final

import lmdb

from dispatchd.model.journal import Changes
from dispatchd.model.records import id_key
from dispatchd.model.stored_entries import Contents, StoredEntry, entry_keys, read_entries
from dispatchd.store.damage import explained
from dispatchd.store.data_file import (
    DATA_FILE,
    LMDB_LOCK_FILE,
    claim_directory,
    create_data_file,
    damaged,
    sync_directory,
    verify_data_file,
)
from dispatchd.store.failures import told
from dispatchd.store.filling import fill
from dispatchd.store.headroom import adds, keep_spare, map_size_for, unused
from dispatchd.store.interface import Dropped, Recovered, StoreDamaged, StoredHead, StoreError, StoreFull
from dispatchd.store.layout import (
    FORMAT,
    FORMAT_KEY,
    META_NAME,
    definition_key,
    definition_row,
    expect_known,
    read_definition,
)
from dispatchd.store.mapping import Mapping
from dispatchd.store.migration import OLDEST_FORMAT, migrate
from dispatchd.store.recovery import content_named_by, contents_named_by, index, read_head
from dispatchd.store.salvage import salvage
from dispatchd.store.tables import Tables, open_environment

logger = logging.getLogger(__name__)

DEFAULT_MAP_SIZE: Final = 1 << 40
"""Bytes that a store may take. Address space, not memory or disk; growing later would invalidate readers."""

COMMIT_SECONDS: Final = 10.0
"""How long `close` waits for the end of a commit."""
SECONDS_BETWEEN_CHECKS_OF_READERS: Final = 10.0

ROWS_READ_AT_ONCE: Final = 256
"""In compiled code, which keeps the interpreter for itself until it returns."""
ROWS_DROPPED_IN_ONE_COMMIT: Final = 10_000
"""Of deleted queues: some 20 ms in which nobody else's commit can begin."""
OCTETS_DROPPED_LIKE_A_ROW: Final = 32 << 10
"""The pages of a large message are listed as free, and that takes room: 8 octets for each."""


class LmdbStore:
    """A directory with an LMDB environment in LMDB's own default durability: every commit is synced.

    The transaction of a commit begins and ends inside the call, because LMDB ties it to its thread.
    """

    kind: Final = "lmdb"
    _is_synced: ClassVar[bool] = True

    def __init__(self, directory: str | Path, map_size: int = DEFAULT_MAP_SIZE, salvages: bool = False) -> None:
        """Open the store in `directory`, or make it. Additions end at `map_size` bytes of pages in use.

        One that `salvages` does so when its file is damaged: here, or in `recover`.
        Raises StoreDamaged, StoreTooNew, StoreFull, or StoreError if the directory cannot be had.
        """
        self._directory = Path(directory)
        self._data = self._directory / DATA_FILE
        self._map_size = map_size
        self._salvages = salvages
        self._tables: Tables | None = None
        self._statistics = dict.fromkeys(("definitions", "entries", "contents", "marks", "bytes_used"), 0)
        self._attempts: list[tuple[int, Changes]] = []
        self._readers_checked = time.monotonic()
        self._writing = Lock()
        self._is_closed = False
        self._lock = claim_directory(self._directory)
        try:
            with self._errors("opened"):
                self._begin_with_what_is_there()
        except BaseException:
            os.close(self._lock)
            raise

    def _begin_with_what_is_there(self) -> None:
        if self._data.exists():
            sync_directory(self._directory)  # who made it may have ended before he did that
        else:
            self._create()
        try:
            self._tables = self._open_verified()
        except StoreDamaged as error:
            self._salvage(error)
            self._tables = self._open_verified()

    def recover(self) -> Recovered:
        """See `Store.recover`. A full disk does not stop it: the next start drops the contents then."""
        try:
            return self._recover()
        except StoreDamaged as error:
            self._salvage(error)
            if self._tables is not None:
                self._tables.environment.close()
            self._tables = self._open_verified()
            return self._recover()

    def _salvage(self, error: StoreDamaged) -> None:
        """Have what is damaged replaced by what is intact, or say what is damaged."""
        if not self._salvages:
            raise explained(self._data, error) from error
        logger.warning("%s", error)
        with self._errors("salvaged"):
            salvage(self._directory, map_size_for(self._map_size))

    def _recover(self) -> Recovered:
        with self._reading() as (transaction, tables):
            definitions = dict(read_definition(*row) for row in transaction.cursor(tables.definitions))
            contents = iter(transaction.cursor(tables.contents))
            entries = iter(transaction.cursor(tables.entries))
            marks = iter(transaction.cursor(tables.marks))
            recovered, orphans = index(definitions, contents, entries, marks, tables.mapping.trim)
        with suppress(StoreFull), self._begin("written", write=True) as (transaction, tables):
            _delete(transaction.cursor(tables.contents), map(id_key, orphans))
        return recovered

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """See `Store.read`."""
        with self._reading() as (transaction, tables):
            contents = _reader_of_contents(transaction, tables)
            rows = _rows(transaction, tables, queue_id, positions)
            return [entry for some in rows for entry in read_entries(some, contents)]

    def heads(self, queue_id: int) -> Iterator[StoredHead]:
        """See `Store.heads`."""
        prefix = id_key(queue_id)
        with self._reading() as (transaction, tables):
            cursor = transaction.cursor(tables.entries)
            contents = _reader_of_contents(transaction, tables)
            if cursor.set_range(prefix):
                for key, value in takewhile(lambda row: row[0].startswith(prefix), cursor):
                    yield read_head(key, value, contents)

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """See `Store.shared`."""
        with self._reading() as (transaction, tables):
            rows = _rows(transaction, tables, queue_id, positions)
            return [content for some in rows for content in contents_named_by(some)]

    def commit(self, changes: Changes) -> Dropped:
        """See `Store.commit`."""
        with self._writing:
            return self._commit(changes)

    def _commit(self, changes: Changes) -> Dropped:
        if self._is_closed:
            raise StoreError(f"{self._data}: could not be written: it is closed")
        if self._tables is None:
            with self._errors("opened"):
                self._tables = self._open()
        self._forget_dead_readers(self._tables)
        with self._begin("written", write=True) as (transaction, tables):
            self._undo_what_failed(transaction, tables)
            self._attempts.append((transaction.id(), changes))
            _delete(transaction.cursor(tables.entries), changes.deleted_entries)
            dropped = _drop(transaction.cursor(tables.entries), changes.dropped_queues)
            _write(transaction, tables, changes)
            if adds(changes):
                used = tables.bytes_used(transaction)
                if used > self._map_size:
                    raise lmdb.MapFullError("commit")
                keep_spare(self._data, used)
        self._attempts = []
        tables.mapping.trim()
        return dropped

    def _undo_what_failed(self, transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        """Remove what commits have added that failed with their last write, but came into force all the same.

        What they had to add may be less by now. The number of a transaction that is not in force is used once more.
        """
        self._attempts = [attempt for attempt in self._attempts if attempt[0] < transaction.id()]
        for _, failed in self._attempts:
            _delete(transaction.cursor(tables.entries), [key for key, _ in failed.entries])
            _delete(transaction.cursor(tables.contents), [key for key, _ in failed.contents])

    def _forget_dead_readers(self, tables: Tables) -> None:
        """Let pages be used again that a backup kept, and died; LMDB does not do that by itself."""
        if self._readers_checked + SECONDS_BETWEEN_CHECKS_OF_READERS < time.monotonic():
            self._readers_checked = time.monotonic()
            with suppress(lmdb.Error):
                tables.environment.reader_check()

    def close(self) -> None:
        """See `Store.close`. A commit that is under way ends first, unless it hangs in the system.

        LMDB's own close would make that transaction invalid, so that it never ends, and then wait for its end.
        """
        if self._writing.acquire(timeout=COMMIT_SECONDS):
            if self._tables is not None:
                self._tables.environment.close()
            self._is_closed = True
            self._writing.release()
        else:
            logger.error("%s: left open: a commit takes longer than %d s", self._data, COMMIT_SECONDS)
        os.close(self._lock)

    def unused(self) -> int:
        """See `Store.unused`."""
        with suppress(StoreError), self._begin("read") as (transaction, tables):
            return unused(self._data, tables.bytes_used(transaction))
        return 0

    def statistics(self) -> dict[str, int]:
        """See `Store.statistics`."""
        with suppress(StoreError), self._begin("read") as (transaction, tables):
            self._statistics = tables.statistics(transaction)
        return {**self._statistics, "bytes_limit": self._map_size}

    def _create(self) -> None:
        create_data_file(self._directory, lambda unfinished: fill(unfinished, map_size_for(self._map_size)))

    def _open_verified(self) -> Tables:
        with self._errors("opened"):
            verify_data_file(self._data)
            return self._open()

    def _open(self) -> Tables:
        environment = self._environment()
        try:
            found = self._format(environment)
            if found < FORMAT:
                migrate(environment, self._directory, map_size_for(self._map_size))
                logger.info("%s: written anew in format %d, was in format %d", self._data, FORMAT, found)
                environment.close()
                environment = self._environment()
            return Tables(environment, Mapping(self._data))
        except lmdb.NotFoundError as error:
            environment.close()
            raise damaged(self._data, f"a part is missing ({error})") from error
        except BaseException:
            environment.close()
            raise

    def _environment(self) -> lmdb.Environment:
        return open_environment(self._directory, map_size_for(self._map_size), is_synced=self._is_synced)

    def _format(self, environment: lmdb.Environment) -> int:
        """The format that the file is written in. Raises StoreTooNew for one that this version does not know."""
        meta = environment.open_db(META_NAME, create=False)
        with environment.begin() as transaction:
            found = transaction.get(FORMAT_KEY, db=meta)
        if found is None or not found.isdigit() or int(found) < OLDEST_FORMAT:
            raise damaged(self._data, f"the format of the store is {found!r}")
        expect_known(self._data, int(found))
        return int(found)

    @contextmanager
    def _begin(self, done: str, *, write: bool = False) -> Iterator[tuple[lmdb.Transaction[bytes], Tables]]:
        with self._errors(done):
            tables = self._tables
            if tables is None:
                raise lmdb.Error("it is closed")
            with tables.environment.begin(write=write) as transaction:
                yield transaction, tables

    @contextmanager
    def _reading(self) -> Iterator[tuple[lmdb.Transaction[bytes], Tables]]:
        with self._begin("read") as (transaction, tables):
            yield transaction, tables
        tables.mapping.trim()

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        with told(self._data, done, self._map_size):
            try:
                yield
            except lmdb.PanicError as error:
                self._tables = None  # LMDB gives the environment up when the last write of a commit has failed
                raise StoreError(f"{self._data}: could not be {done}: {error}, it has to be opened anew") from error


class ScratchStore(LmdbStore):
    """The same for what only has to leave memory: never synced, made when it is needed, and gone when it is empty."""

    _is_synced: ClassVar[bool] = False

    def _begin_with_what_is_there(self) -> None:
        self._remove()

    def _open(self) -> Tables:
        if not self._data.exists():
            self._create()
        return super()._open()

    def _commit(self, changes: Changes) -> Dropped:
        if self._tables is None and not adds(changes):
            return Dropped([], [])
        dropped = super()._commit(changes)
        if not self.statistics()["entries"]:
            self._tables = None
            self._remove()
        return dropped

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """See `Store.read`. A queue asks both stores, also while there is no file here."""
        try:
            return super().read(queue_id, positions)
        except StoreError:
            if self._data.exists():
                raise
            return []

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """See `Store.shared`."""
        try:
            return super().shared(queue_id, positions)
        except StoreError:
            if self._data.exists():
                raise
            return []

    def _remove(self) -> None:
        """Others need the room: the file alone would stay as large as it ever was."""
        for file in (self._data, self._directory / LMDB_LOCK_FILE):
            file.unlink(missing_ok=True)


def _rows(
    transaction: lmdb.Transaction[bytes], tables: Tables, queue_id: int, positions: list[int]
) -> Iterator[list[tuple[bytes, bytes]]]:
    cursor = transaction.cursor(tables.entries)
    for start in range(0, len(positions), ROWS_READ_AT_ONCE):
        yield cursor.getmulti(entry_keys(queue_id, positions[start : start + ROWS_READ_AT_ONCE]))


def _reader_of_contents(transaction: lmdb.Transaction[bytes], tables: Tables) -> Contents:
    return lambda content_id: transaction.get(id_key(content_id), db=tables.contents)


def _drop(cursor: lmdb.Cursor[bytes], queues: list[bytes]) -> Dropped:
    """Remove rows of these queues, so many that others do not wait long for their commit."""
    dropped = Dropped([], [])
    left = ROWS_DROPPED_IN_ONE_COMMIT
    for queue in queues:
        found = cursor.set_range(queue)
        while found and left > 0 and cursor.key().startswith(queue):
            key, value = cursor.item()
            content = content_named_by(key, value)
            if content is not None:
                dropped.contents.append(content)
            cursor.delete()
            left -= 1 + len(value) // OCTETS_DROPPED_LIKE_A_ROW
            found = bool(cursor.key())
        if found and cursor.key().startswith(queue):
            dropped.unfinished.append(queue)
    return dropped


def _write(transaction: lmdb.Transaction[bytes], tables: Tables, changes: Changes) -> None:
    entries = transaction.cursor(tables.entries)
    contents = transaction.cursor(tables.contents)
    marks = transaction.cursor(tables.marks)
    _delete(marks, changes.dropped_queues)
    _delete(contents, changes.deleted_contents)
    definitions = transaction.cursor(tables.definitions)
    for key, record in changes.definitions.items():
        if record is None:
            _delete(definitions, [definition_key(key)])
        else:
            _put(definitions, [definition_row(key, record)])
    _put(contents, changes.contents)
    _put(entries, changes.entries)
    _put(marks, [row for row in changes.marks if row[0] not in changes.dropped_queues])


def _delete(cursor: lmdb.Cursor[bytes], keys: Iterable[bytes]) -> None:
    for key in keys:
        if cursor.key() == key or cursor.set_key(key):  # a deletion leaves the cursor at the next row
            cursor.delete()


def _put(cursor: lmdb.Cursor[bytes], rows: list[tuple[bytes, bytes]]) -> None:
    taken, added = cursor.putmulti(rows)
    if taken != len(rows) or added != len(rows):
        raise lmdb.Error(f"took {taken} of {len(rows)} records and added {added}")
