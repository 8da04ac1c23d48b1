"""From the records of a store back to entries of queues: what there is at start, and single entries later on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from dispatchd.model.checksums import ENTRIES, MARKS, check, is_intact
from dispatchd.model.records import (
    SHARED,
    content_header,
    entry_head,
    marked_position,
    read_id,
    shared_content,
    split_entry_key,
)
from dispatchd.model.store_index import StoreIndex
from dispatchd.model.stored_entries import Contents
from dispatchd.store.interface import Recovered, StoredHead

Rows = Iterable[tuple[bytes, bytes]]
_ID_SIZE: Final = 8
_ROWS_AT_ONCE: Final = 10_000


def index(
    definitions: dict[bytes, bytes],
    contents: Rows,
    entries: Rows,
    marks: Rows,
    between: Callable[[], None] = lambda: None,
) -> tuple[Recovered, list[int]]:
    """What the rows of a store mean, and the ids of the contents that no entry names.

    `entries` come in the order of their keys. `between` is called now and then, since it takes its time.
    Raises ValueError naming the first record that makes no sense.
    """
    found = StoreIndex()
    for rows in _batches(contents):
        found.add_contents(rows)
        between()
    for rows in _batches(entries):
        found.add_entries(rows)
        between()
    delivered = dict(_read_mark(key, value) for key, value in marks)
    next_queue_id = max(max(found.queues, default=0), max(delivered, default=0)) + 1
    recovered = Recovered(
        definitions, found.queues, found.references, delivered, int(found.last_content) + 1, next_queue_id
    )
    return recovered, found.orphans()


def _batches(rows: Rows) -> Iterator[list[tuple[bytes, bytes]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _ROWS_AT_ONCE)):
        yield batch


def contents_named_by(rows: Rows) -> list[int]:
    """The ids of the contents that these entries name, once for each that names one."""
    named = (content_named_by(key, value) for key, value in rows)
    return [content for content in named if content is not None]


def read_head(key: bytes, value: bytes, contents: Contents) -> StoredHead:
    """One entry without its body. Raises ValueError, naming it, if it makes no sense."""
    queue_id, position = split_entry_key(key)
    try:
        kind, expires_at, at = entry_head(value)
        if kind == SHARED:
            header, size = content_header(_content(shared_content(value, at), contents), 0)
        else:
            header, size = content_header(value, at)
    except ValueError as error:
        raise ValueError(f"entry {position} of queue {queue_id}: {error}") from None
    else:
        return position, header, size, expires_at


def content_named_by(key: bytes, value: bytes) -> int | None:
    """The id of the content that an entry names, if it names one; a damaged entry names none."""
    try:
        kind, _, at = entry_head(value)
        return shared_content(value, at) if kind == SHARED and is_intact(ENTRIES, key, value) else None
    except ValueError:
        return None


def _content(content_id: int, contents: Contents) -> bytes:
    value = contents(content_id)
    if value is None:
        raise ValueError(f"names content {content_id}, which is missing")
    return value


def _read_mark(key: bytes, value: bytes) -> tuple[int, int]:
    if len(key) != _ID_SIZE:
        raise ValueError(f"the key of a mark has {_ID_SIZE} bytes, got {len(key)}")
    try:
        check(MARKS, key, value)
        return read_id(key), marked_position(value)
    except ValueError as error:
        raise ValueError(f"mark of queue {read_id(key)}: {error}") from None
