"""What is in a redo log and not in LMDB yet, as the difference that it makes: what came and went again is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import Final

import lmdb

from dispatchd.model.checksums import CONTENTS, ENTRIES
from dispatchd.store.batches import TABLES, Batch, Row
from dispatchd.store.layout import NAMES
from dispatchd.store.tables import Tables
from dispatchd.store.writing import delete, put

_PAGE: Final = 4096


class Difference:
    """Of one table: the rows that are to be there, and the keys of those that are not, unless they are in `rows`."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.deleted: set[bytes] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self.rows or key in self.deleted

    def at(self, keys: list[bytes], rows: list[Row]) -> list[Row]:
        """The rows with these keys, as they are to be, if these are there now.

        The one thread may add meanwhile: each row is found as it was at some moment.
        """
        if not self.rows and not self.deleted:
            return rows
        found = {key: value for key, value in rows if key not in self.deleted}
        return [(key, value) for key in keys if (value := self.rows.get(key, found.get(key))) is not None]

    def get(self, key: bytes, otherwise: Callable[[], bytes | None]) -> bytes | None:
        """The value of one row."""
        value = self.rows.get(key)
        return otherwise() if value is None and key not in self.deleted else value

    def over(self, rows: Iterable[Row], prefix: bytes = b"") -> Iterator[Row]:
        """The rows with a prefix of their keys as they are to be, if these are there now; in the order of the keys."""
        new = sorted(row for row in self.rows.items() if row[0].startswith(prefix))
        return merge((row for row in rows if row[0] not in self), new)


class Pending:
    """One thread adds to it, and others may look something up meanwhile.

    With `of_journal` the batches are those of a journal, in their order, all since the last commit to LMDB: of that it
    is known that it adds no entry and no content that is there. So one that goes again leaves nothing to be done.
    `octets` are those of the values that are to be written.
    """

    def __init__(self, *, of_journal: bool) -> None:
        self._parts = {table: Difference() for table in TABLES}
        self._net = (ENTRIES, CONTENTS) if of_journal else ()
        self.octets = 0

    def __getitem__(self, table: int) -> Difference:
        return self._parts[table]

    def __len__(self) -> int:
        """How many rows are to be written or deleted."""
        return sum([len(part.rows) + len(part.deleted) for part in self._parts.values()])

    def rows_with(self, batch: Batch) -> int:
        """How many they are at most if this batch follows."""
        count = len(self)
        for table, (deleted, rows) in batch.items():
            count += len(deleted) + len(rows)
            if deleted and table in self._net:
                count -= 2 * sum(map(self._parts[table].rows.__contains__, deleted))
        return count

    def add(self, batch: Batch) -> None:
        """Let a batch follow."""
        for table, (deleted, rows) in batch.items():
            part = self._parts[table]
            is_net = table in self._net
            for key in deleted:
                value = part.rows.pop(key, None)
                if value is not None:
                    self.octets -= len(value)
                if value is None or not is_net:
                    part.deleted.add(key)
            if rows:
                self.octets += sum([len(value) for _, value in rows])
                part.rows.update(rows)

    def counted(self, counts: dict[str, int], transaction: lmdb.Transaction[bytes], tables: Tables) -> dict[str, int]:
        """The statistics of the tables as they are to be, if these are those of now."""
        counts = {**counts, "bytes_used": counts["bytes_used"] + self.octets}
        for table, part in self._parts.items():
            new, gone = list(part.rows), list(part.deleted)
            if table not in self._net:
                cursor = transaction.cursor(tables.by_number[table])
                gone = [key for key in gone if key not in part.rows and cursor.set_key(key)]
                new = [key for key in new if not cursor.set_key(key)]
            counts[NAMES[table].decode()] += len(new) - len(gone)
        return counts

    def write(self, transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        """Make the difference in LMDB."""
        for table, part in self._parts.items():
            if part.deleted or part.rows:
                cursor = transaction.cursor(tables.by_number[table])
                delete(cursor, sorted(part.deleted - part.rows.keys()))
                put(cursor, sorted(part.rows.items()))


def room_for(rows: int, octets: int) -> int:
    """Octets of pages that LMDB takes at most for rows with so many octets.

    For each row it copies a page and may split it; of values, as they come to lie, pages may be half empty.
    """
    return 2 * _PAGE * rows + 2 * octets
