"""From rows of a store back to entries of a queue. Who delivers from disk waits for this, so it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.message import Message
from dispatchd.model.checksums import CONTENTS, ENTRIES, is_intact
from dispatchd.model.records import (
    SHARED,
    decode_content,
    entry_head,
    entry_key,
    id_key,
    shared_content,
    split_entry_key,
)

StoredEntry = tuple[int, Message, int]
"""What the store has of an entry: its position, the message, and when it expires (ms; NEVER)."""
Contents = Callable[[int], bytes | None]
"""From the id of a content to its value."""


def entry_keys(queue_id: int, positions: list[int]) -> list[bytes]:
    """The keys of these entries of a queue."""
    return [entry_key(queue_id, position) for position in positions]


def read_entries(rows: Iterable[tuple[bytes, bytes]], contents: Contents) -> list[StoredEntry]:
    """The entries in these rows, without those that are damaged, or name a content that is damaged or missing."""
    found: list[StoredEntry] = []
    for key, value in rows:
        if is_intact(ENTRIES, key, value):
            try:
                found.append(_read_entry(key, value, contents))
            except (ValueError, AmqpError):
                continue
    return found


def _read_entry(key: bytes, value: bytes, contents: Contents) -> StoredEntry:
    _, position = split_entry_key(key)
    kind, expires_at, at = entry_head(value)
    if kind != SHARED:
        return position, decode_content(value, at), expires_at
    content = shared_content(value, at)
    shared = contents(content)
    if shared is None or not is_intact(CONTENTS, id_key(content), shared):
        raise ValueError(f"names content {content}, which is missing or damaged")
    message = decode_content(shared)
    message.message_id = content
    return position, message, expires_at
