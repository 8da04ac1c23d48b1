"""A batch by the tables that it changes, and the same as one piece of octets, as a redo log has it."""

from __future__ import annotations

from itertools import accumulate, pairwise
from struct import Struct, error, pack, unpack_from
from typing import Final

from dispatchd.model.checksums import CONTENTS, DEFINITIONS, ENTRIES, MARKS
from dispatchd.model.journal import Changes
from dispatchd.store.layout import KEY_SIZES, definition_key, definition_row

Row = tuple[bytes, bytes]

TABLES: Final = (DEFINITIONS, CONTENTS, ENTRIES, MARKS)
_COUNTS: Final = Struct("<8I")  # of each table: rows that go, and rows that come


Part = tuple[list[bytes], list[Row]]
"""Of one table: the keys of rows that go, and after them the rows that come."""

Batch = dict[int, Part]


def by_table(changes: Changes) -> Batch:
    """What a batch that drops no queue changes in each of `TABLES`."""
    definitions = changes.definitions
    return {
        DEFINITIONS: (
            [definition_key(key) for key, record in definitions.items() if record is None],
            [definition_row(key, record) for key, record in definitions.items() if record is not None],
        ),
        CONTENTS: (changes.deleted_contents, changes.contents),
        ENTRIES: (changes.deleted_entries, changes.entries),
        MARKS: ([], changes.marks),
    }


def encode(batch: Batch) -> bytes:
    """The counts, then for each table the keys that go, the keys that come, and the sizes and octets of values."""
    counts: list[int] = []
    pieces: list[bytes] = []
    for table in TABLES:
        deleted, rows = batch[table]
        counts += (len(deleted), len(rows))
        pieces += deleted
        if rows:
            pieces += [key for key, _ in rows]
            pieces.append(pack(f"<{len(rows)}I", *[len(value) for _, value in rows]))
            pieces += [value for _, value in rows]
    return b"".join([_COUNTS.pack(*counts), *pieces])


def decode(data: bytes) -> Batch:
    """The batch again. Raises ValueError if this is none."""
    try:
        counts = iter(_COUNTS.unpack_from(data))
        at = _COUNTS.size
        batch: Batch = {}
        for table in TABLES:
            deleted, at = _cut(data, at, [KEY_SIZES[table]] * next(counts))
            count = next(counts)
            keys, at = _cut(data, at, [KEY_SIZES[table]] * count)
            sizes = unpack_from(f"<{count}I", data, at)
            values, at = _cut(data, at + 4 * count, sizes)
            batch[table] = (deleted, list(zip(keys, values, strict=True)))
    except error as wrong:
        raise ValueError(str(wrong)) from None
    if at != len(data):
        raise ValueError(f"a batch of {at} bytes in {len(data)}")
    return batch


def _cut(data: bytes, at: int, sizes: list[int] | tuple[int, ...]) -> tuple[list[bytes], int]:
    ends = list(accumulate(sizes, initial=at))
    return [data[begin:end] for begin, end in pairwise(ends)], ends[-1]
