"""The store on disk: one LMDB environment, one transaction per commit, synced before it returns."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import ClassVar, Final

import lmdb

from dispatchd.model.journal import Changes
from dispatchd.model.records import id_key
from dispatchd.model.stored_entries import Contents, StoredEntry, entry_keys, read_entries
from dispatchd.store.data_file import DATA_FILE, claim_directory, create_data_file, damaged, verify_data_file
from dispatchd.store.filling import fill
from dispatchd.store.headroom import adds, keep_spare, map_size_for
from dispatchd.store.interface import Dropped, Recovered, StoredHead, StoreError, StoreFull, StoreTooNew
from dispatchd.store.layout import (
    CONTENTS_NAME,
    DATABASES,
    DEFINITIONS_NAME,
    ENTRIES_NAME,
    FORMAT,
    FORMAT_KEY,
    MARKS_NAME,
    META_NAME,
    definition_key,
    definition_row,
    read_definition,
)
from dispatchd.store.mapping import Mapping
from dispatchd.store.migration import OLDEST_FORMAT, migrate
from dispatchd.store.recovery import content_named_by, contents_named_by, index, read_head

logger = logging.getLogger(__name__)

DEFAULT_MAP_SIZE: Final = 1 << 40
"""Bytes that a store may take. Address space, not memory or disk; growing later would invalidate readers."""

ROWS_READ_AT_ONCE: Final = 256
"""In compiled code, which keeps the interpreter for itself until it returns."""
ROWS_DROPPED_IN_ONE_COMMIT: Final = 10_000
"""Of deleted queues: some 20 ms in which nobody else's commit can begin."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CORRUPT: Final = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)


class LmdbStore:
    """A directory with an LMDB environment in LMDB's own default durability: every commit is synced.

    The transaction of a commit begins and ends inside the call, because LMDB ties it to its thread.
    """

    kind: Final = "lmdb"
    _is_synced: ClassVar[bool] = True
    _begins_empty: ClassVar[bool] = False

    def __init__(self, directory: str | Path, map_size: int = DEFAULT_MAP_SIZE) -> None:
        """Open the store in `directory`, or make it. Additions end at `map_size` bytes of pages in use.

        Raises StoreDamaged, StoreTooNew, StoreFull, or StoreError if the directory cannot be had.
        """
        self._directory = Path(directory)
        self._data = self._directory / DATA_FILE
        self._map_size = map_size
        self._lock = claim_directory(self._directory)
        try:
            with self._errors("opened"):
                if self._begins_empty:
                    self._data.unlink(missing_ok=True)
                if not self._data.exists():
                    create_data_file(self._directory, lambda unfinished: fill(unfinished, map_size_for(map_size)))
                verify_data_file(self._data)
                self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def recover(self) -> Recovered:
        """See `Store.recover`. A full disk does not stop it: the next start drops the contents then."""
        with self._reading() as transaction:
            definitions = dict(read_definition(*row) for row in transaction.cursor(self._definitions))
            contents = iter(transaction.cursor(self._contents))
            entries = iter(transaction.cursor(self._entries))
            marks = iter(transaction.cursor(self._marks))
            recovered, orphans = index(definitions, contents, entries, marks, self._mapping.trim)
        with suppress(StoreFull), self._errors("written"), self._environment.begin(write=True) as transaction:
            _delete(transaction.cursor(self._contents), map(id_key, orphans))
        return recovered

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """See `Store.read`."""
        with self._reading() as transaction:
            contents = self._reader_of_contents(transaction)
            return [
                entry for rows in self._rows(transaction, queue_id, positions) for entry in read_entries(rows, contents)
            ]

    def heads(self, queue_id: int) -> Iterator[StoredHead]:
        """See `Store.heads`."""
        prefix = id_key(queue_id)
        with self._reading() as transaction:
            cursor = transaction.cursor(self._entries)
            contents = self._reader_of_contents(transaction)
            if cursor.set_range(prefix):
                for key, value in takewhile(lambda row: row[0].startswith(prefix), cursor):
                    yield read_head(key, value, contents)

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """See `Store.shared`."""
        with self._reading() as transaction:
            return [
                content for rows in self._rows(transaction, queue_id, positions) for content in contents_named_by(rows)
            ]

    def _rows(
        self, transaction: lmdb.Transaction[bytes], queue_id: int, positions: list[int]
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        cursor = transaction.cursor(self._entries)
        for start in range(0, len(positions), ROWS_READ_AT_ONCE):
            yield cursor.getmulti(entry_keys(queue_id, positions[start : start + ROWS_READ_AT_ONCE]))

    def _reader_of_contents(self, transaction: lmdb.Transaction[bytes]) -> Contents:
        return lambda content_id: transaction.get(id_key(content_id), db=self._contents)

    def commit(self, changes: Changes) -> Dropped:
        """See `Store.commit`."""
        with self._errors("written"), self._environment.begin(write=True) as transaction:
            _delete(transaction.cursor(self._entries), changes.deleted_entries)
            dropped = self._drop(transaction, changes.dropped_queues)
            self._write(transaction, changes)
            if adds(changes):
                used = self._bytes_used(transaction)
                if used > self._map_size:
                    raise lmdb.MapFullError("commit")
                keep_spare(self._data, used)
        self._mapping.trim()
        return dropped

    def close(self) -> None:
        """See `Store.close`."""
        self._environment.close()
        os.close(self._lock)

    def statistics(self) -> dict[str, int]:
        """See `Store.statistics`. `bytes_used` counts pages in use, so it falls when messages go; the file stays."""
        with self._errors("read"), self._environment.begin() as transaction:
            return {
                "definitions": transaction.stat(self._definitions)["entries"],
                "entries": transaction.stat(self._entries)["entries"],
                "contents": transaction.stat(self._contents)["entries"],
                "marks": transaction.stat(self._marks)["entries"],
                "bytes_used": self._bytes_used(transaction),
                "bytes_limit": self._map_size,
            }

    def _bytes_used(self, transaction: lmdb.Transaction[bytes]) -> int:
        used = 0
        for database in (self._definitions, self._entries, self._contents, self._marks):
            table = transaction.stat(database)
            used += table["psize"] * (table["branch_pages"] + table["leaf_pages"] + table["overflow_pages"])
        return used

    def _open(self) -> None:
        self._environment = self._environment_at(self._directory)
        try:
            found = self._format()
            if found < FORMAT:
                migrate(self._environment, self._directory, map_size_for(self._map_size))
                logger.info("%s: written anew in format %d, was in format %d", self._data, FORMAT, found)
                self._environment.close()
                self._environment = self._environment_at(self._directory)
            self._definitions, self._entries, self._contents, self._marks = (
                self._environment.open_db(name, create=False)
                for name in (DEFINITIONS_NAME, ENTRIES_NAME, CONTENTS_NAME, MARKS_NAME)
            )
        except lmdb.NotFoundError as error:
            self._environment.close()
            raise damaged(self._data, f"a part is missing ({error})") from error
        except BaseException:
            self._environment.close()
            raise
        self._mapping = Mapping(self._data)

    def _environment_at(self, directory: Path) -> lmdb.Environment:
        return lmdb.open(
            str(directory),
            map_size=map_size_for(self._map_size),
            max_dbs=len(DATABASES),
            mode=0o600,
            sync=self._is_synced,
        )

    def _format(self) -> int:
        """The format that the file is written in. Raises StoreTooNew for one that this version does not know."""
        meta = self._environment.open_db(META_NAME, create=False)
        with self._environment.begin() as transaction:
            found = transaction.get(FORMAT_KEY, db=meta)
        if found is None or not found.isdigit() or int(found) < OLDEST_FORMAT:
            raise damaged(self._data, f"the format of the store is {found!r}")
        if int(found) > FORMAT:
            wrong = f"{self._data}: written in format {found.decode()}, expected format {FORMAT} or an older one"
            raise StoreTooNew(f"{wrong}; use the version of dispatchd that wrote it")
        return int(found)

    def _drop(self, transaction: lmdb.Transaction[bytes], queues: list[bytes]) -> Dropped:
        """Remove rows of these queues, so many that others do not wait long for their commit."""
        cursor = transaction.cursor(self._entries)
        dropped = Dropped([], [])
        left = ROWS_DROPPED_IN_ONE_COMMIT
        for queue in queues:
            found = cursor.set_range(queue)
            while found and left and cursor.key().startswith(queue):
                content = content_named_by(*cursor.item())
                if content is not None:
                    dropped.contents.append(content)
                cursor.delete()
                left -= 1
                found = bool(cursor.key())
            if found and cursor.key().startswith(queue):
                dropped.unfinished.append(queue)
        return dropped

    def _write(self, transaction: lmdb.Transaction[bytes], changes: Changes) -> None:
        entries = transaction.cursor(self._entries)
        contents = transaction.cursor(self._contents)
        marks = transaction.cursor(self._marks)
        _delete(marks, changes.dropped_queues)
        _delete(contents, changes.deleted_contents)
        definitions = transaction.cursor(self._definitions)
        for key, record in changes.definitions.items():
            if record is None:
                _delete(definitions, [definition_key(key)])
            else:
                _put(definitions, [definition_row(key, record)])
        _put(contents, changes.contents)
        _put(entries, changes.entries)
        _put(marks, [row for row in changes.marks if row[0] not in changes.dropped_queues])

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction[bytes]]:
        with self._errors("read"), self._environment.begin() as transaction:
            yield transaction
        self._mapping.trim()

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Turn what LMDB, the system or a record raises into the store's own errors."""
        try:
            yield
        except lmdb.MapFullError as error:
            found = f"{self._data}: full: reached its limit of {self._map_size} bytes"
            raise StoreFull(f"{found}, expected room for this batch") from error
        except _CORRUPT as error:
            raise damaged(self._data, str(error)) from error
        except (lmdb.Error, OSError) as error:
            # LMDB's errors have a code, py-lmdb's own have none.
            code = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
            if code in _FULL:
                raise StoreFull(f"{self._data}: full: {error}, expected room on its disk") from error
            raise StoreError(f"{self._data}: could not be {done}: {error}") from error
        except ValueError as error:
            raise damaged(self._data, str(error)) from error


class ScratchStore(LmdbStore):
    """The same for what only has to leave memory: empty whenever it is opened, and never synced."""

    _is_synced: ClassVar[bool] = False
    _begins_empty: ClassVar[bool] = True


def _delete(cursor: lmdb.Cursor[bytes], keys: Iterable[bytes]) -> None:
    for key in keys:
        if cursor.set_key(key):
            cursor.delete()


def _put(cursor: lmdb.Cursor[bytes], rows: list[tuple[bytes, bytes]]) -> None:
    taken, added = cursor.putmulti(rows)
    if taken != len(rows) or added != len(rows):
        raise lmdb.Error(f"took {taken} of {len(rows)} records and added {added}")
