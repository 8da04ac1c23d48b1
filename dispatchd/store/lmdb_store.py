"""The store on disk: an LMDB environment, and a redo log for batches that somebody waits for."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final

import lmdb

from dispatchd.model.checksums import CONTENTS, DEFINITIONS, ENTRIES, MARKS
from dispatchd.model.journal import Changes
from dispatchd.model.records import id_key
from dispatchd.model.stored_entries import Contents, StoredEntry, entry_keys, read_entries
from dispatchd.store.batches import TABLES
from dispatchd.store.damage import explained
from dispatchd.store.data_file import (
    DATA_FILE,
    LOG_FILE,
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
    expect_known,
    read_definition,
)
from dispatchd.store.mapping import Mapping
from dispatchd.store.migration import OLDEST_FORMAT, migrate
from dispatchd.store.pending import Pending
from dispatchd.store.recovery import contents_named_by, index, read_head
from dispatchd.store.redo import Redo
from dispatchd.store.replay import left_behind
from dispatchd.store.salvage import salvage
from dispatchd.store.tables import Tables, open_environment
from dispatchd.store.writing import delete, drop, write

logger = logging.getLogger(__name__)

DEFAULT_MAP_SIZE: Final = 1 << 40
"""Bytes that a store may take. Address space, not memory or disk; growing later would invalidate readers."""

COMMIT_SECONDS: Final = 10.0
"""How long `close` waits for the end of a commit."""
SECONDS_BETWEEN_CHECKS_OF_READERS: Final = 10.0

ROWS_READ_AT_ONCE: Final = 256
"""In compiled code, which keeps the interpreter for itself until it returns."""


class LmdbStore:
    """A directory with an LMDB environment in LMDB's own default durability: every commit is synced.

    The transaction of a commit begins and ends inside the call, because LMDB ties it to its thread. A batch that
    somebody waits for goes to the redo log instead if it can, and to LMDB with a later one.
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
        self._last: Changes | None = None
        self._used = 0
        self._redo = Redo(self._directory)
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
        """Nothing is written before all is known to be sound."""
        pending = self._redo.pending
        with self._reading() as (transaction, tables):
            rows = {table: pending[table].over(transaction.cursor(tables.by_number[table])) for table in TABLES}
            definitions = dict(read_definition(*row) for row in rows[DEFINITIONS])
            recovered, orphans = index(definitions, rows[CONTENTS], rows[ENTRIES], rows[MARKS], tables.mapping.trim)
        changes = Changes()
        changes.deleted_contents = [*map(id_key, orphans)]
        with suppress(StoreFull), self._writing:
            if orphans or self._redo.is_behind:
                self._commit_to_lmdb(changes)
        return recovered

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """See `Store.read`."""
        pending = self._redo.pending  # before the transaction: what is not in it any more is in that
        with self._reading() as (transaction, tables):
            contents = _reader_of_contents(transaction, tables, pending)
            rows = _rows(transaction, tables, pending, queue_id, positions)
            return [entry for some in rows for entry in read_entries(some, contents)]

    def heads(self, queue_id: int) -> Iterator[StoredHead]:
        """See `Store.heads`."""
        prefix = id_key(queue_id)
        pending = self._redo.pending
        with self._reading() as (transaction, tables):
            cursor = transaction.cursor(tables.entries)
            contents = _reader_of_contents(transaction, tables, pending)
            rows = cursor if cursor.set_range(prefix) else ()
            there = takewhile(lambda row: row[0].startswith(prefix), rows)
            for key, value in pending[ENTRIES].over(there, prefix):
                yield read_head(key, value, contents)

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """See `Store.shared`."""
        pending = self._redo.pending
        with self._reading() as (transaction, tables):
            rows = _rows(transaction, tables, pending, queue_id, positions)
            return [content for some in rows for content in contents_named_by(some)]

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        """See `Store.commit`."""
        with self._writing:
            return self._commit(changes, is_awaited=is_awaited)

    def _commit(self, changes: Changes, *, is_awaited: bool) -> Dropped:
        if self._is_closed:
            raise StoreError(f"{self._data}: could not be written: it is closed")
        is_repeated, self._last = changes is self._last, changes
        may_be_logged = is_awaited and not (is_repeated or self._attempts or self._tables is None)
        if may_be_logged and self._redo.log(changes, self._used, self._map_size):
            return Dropped([], [])
        return self._commit_to_lmdb(changes)

    def _commit_to_lmdb(self, changes: Changes, *, ends_log: bool = False) -> Dropped:
        if self._tables is None:
            with self._errors("opened"):
                self._tables = self._open()
        self._forget_dead_readers(self._tables)
        redo = self._redo
        with self._begin("written", write=True) as (transaction, tables):
            self._undo_what_failed(transaction, tables)
            self._attempts.append((transaction.id(), changes))
            (redo.end if ends_log else redo.write)(transaction, tables)
            delete(transaction.cursor(tables.entries), changes.deleted_entries)
            dropped = drop(transaction.cursor(tables.entries), changes.dropped_queues)
            write(transaction, tables, changes)
            used = tables.bytes_used(transaction)
            if adds(changes):
                if used > self._map_size:
                    raise lmdb.MapFullError("commit")
                keep_spare(self._data, used)
        (redo.ended if ends_log else redo.written)()
        self._attempts, self._used = [], used
        tables.mapping.trim()
        return dropped

    def _undo_what_failed(self, transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        """Remove what commits have added that failed with their last write, but came into force all the same.

        What they had to add may be less by now. The number of a transaction that is not in force is used once more.
        """
        self._attempts = [attempt for attempt in self._attempts if attempt[0] < transaction.id()]
        for _, failed in self._attempts:
            delete(transaction.cursor(tables.entries), [key for key, _ in failed.entries])
            delete(transaction.cursor(tables.contents), [key for key, _ in failed.contents])

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
                self._end_log()
            if self._tables is not None:
                self._tables.environment.close()
            self._is_closed = True
            self._writing.release()
        else:
            logger.error("%s: left open: a commit takes longer than %d s", self._data, COMMIT_SECONDS)
        os.close(self._lock)

    def _end_log(self) -> None:
        """Leave no log behind, unless LMDB can't be written: the next start has it then."""
        try:
            if self._redo.is_begun:
                self._commit_to_lmdb(Changes(), ends_log=True)
        except StoreError as error:
            logger.error("%s: left as it is: %s", self._directory / LOG_FILE, error)

    def unused(self) -> int:
        """See `Store.unused`."""
        with suppress(StoreError), self._begin("read") as (transaction, tables):
            return unused(self._data, tables.bytes_used(transaction))
        return 0

    def statistics(self) -> dict[str, int]:
        """See `Store.statistics`."""
        pending = self._redo.pending
        with suppress(StoreError), self._begin("read") as (transaction, tables):
            self._statistics = pending.counted(tables.statistics(transaction), transaction, tables)
        return {**self._statistics, "bytes_limit": self._map_size}

    def _create(self) -> None:
        create_data_file(self._directory, lambda unfinished: fill(unfinished, map_size_for(self._map_size)))

    def _open_verified(self) -> Tables:
        with self._errors("opened"):
            verify_data_file(self._data)
            tables = self._open()
            try:
                found = left_behind(tables, self._directory)
            except BaseException:
                tables.environment.close()
                raise
            self._redo = Redo(self._directory)
            if found is not None:
                self._redo.resume(found)
            return tables

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


def _rows(
    transaction: lmdb.Transaction[bytes], tables: Tables, pending: Pending, queue_id: int, positions: list[int]
) -> Iterator[list[tuple[bytes, bytes]]]:
    cursor = transaction.cursor(tables.entries)
    for start in range(0, len(positions), ROWS_READ_AT_ONCE):
        keys = entry_keys(queue_id, positions[start : start + ROWS_READ_AT_ONCE])
        yield pending[ENTRIES].at(keys, cursor.getmulti(keys))


def _reader_of_contents(transaction: lmdb.Transaction[bytes], tables: Tables, pending: Pending) -> Contents:
    part = pending[CONTENTS]

    def read(content_id: int) -> bytes | None:
        key = id_key(content_id)
        return part.get(key, lambda: transaction.get(key, db=tables.contents))

    return read
