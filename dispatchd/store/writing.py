"""What a commit does to the tables of LMDB, inside of a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import lmdb

from dispatchd.model.journal import Changes
from dispatchd.store.interface import Dropped
from dispatchd.store.layout import definition_key, definition_row
from dispatchd.store.recovery import content_named_by
from dispatchd.store.tables import Tables

ROWS_DROPPED_IN_ONE_COMMIT: Final = 10_000
"""Of deleted queues: some 20 ms in which nobody else's commit can begin."""
OCTETS_DROPPED_LIKE_A_ROW: Final = 32 << 10
"""The pages of a large message are listed as free, and that takes room: 8 octets for each."""


def drop(cursor: lmdb.Cursor[bytes], queues: list[bytes]) -> Dropped:
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


def write(transaction: lmdb.Transaction[bytes], tables: Tables, changes: Changes) -> None:
    """Make the changes of a batch, but for entries that go."""
    entries = transaction.cursor(tables.entries)
    contents = transaction.cursor(tables.contents)
    marks = transaction.cursor(tables.marks)
    delete(marks, changes.dropped_queues)
    delete(contents, changes.deleted_contents)
    definitions = transaction.cursor(tables.definitions)
    for key, record in changes.definitions.items():
        if record is None:
            delete(definitions, [definition_key(key)])
        else:
            put(definitions, [definition_row(key, record)])
    put(contents, changes.contents)
    put(entries, changes.entries)
    put(marks, [row for row in changes.marks if row[0] not in changes.dropped_queues])


def delete(cursor: lmdb.Cursor[bytes], keys: Iterable[bytes]) -> None:
    """Remove the rows with these keys, as far as they are there."""
    for key in keys:
        if cursor.key() == key or cursor.set_key(key):  # a deletion leaves the cursor at the next row
            cursor.delete()


def put(cursor: lmdb.Cursor[bytes], rows: list[tuple[bytes, bytes]]) -> None:
    """Write these rows, also over others. Raises lmdb.Error if that can't be done."""
    taken, added = cursor.putmulti(rows)
    if taken != len(rows) or added != len(rows):
        raise lmdb.Error(f"took {taken} of {len(rows)} records and added {added}")
