"""From the records of a store back to messages in queues. References are counted here, never trusted from disk."""

from __future__ import annotations

from collections.abc import Iterable

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.message import Message
from dispatchd.model.entry import NEVER
from dispatchd.model.records import SHARED, decode_content, entry_head, read_id, split_entry_key
from dispatchd.store.interface import Recovered

Rows = Iterable[tuple[bytes, bytes]]

_ID_SIZE = 8
_ENTRY_KEY_SIZE = 16


def rebuild(definitions: dict[bytes, bytes], contents: Rows, entries: Rows, marks: Rows) -> tuple[Recovered, list[int]]:
    """What the rows of a store mean, and the ids of the contents that no entry names.

    `entries` come in the order of their keys. Raises ValueError naming the first record that makes no sense.
    """
    shared = dict(_read_content(key, value) for key, value in contents)
    next_message_id = max(shared, default=0) + 1
    queues: dict[int, list[tuple[int, Message]]] = {}
    expiries: dict[int, dict[int, int]] = {}
    for key, value in entries:
        queue_id, position = _read_entry_key(key)
        try:
            message, expires_at = _read_entry(value, shared)
        except (ValueError, AmqpError) as error:
            raise ValueError(f"entry {position} of queue {queue_id}: {error}") from None
        message.queues += 1
        message.stored_references += 1
        queues.setdefault(queue_id, []).append((position, message))
        if expires_at != NEVER:
            expiries.setdefault(queue_id, {})[position] = expires_at
    delivered = dict(_read_mark(key, value) for key, value in marks)
    next_queue_id = max(max(queues, default=0), max(delivered, default=0)) + 1
    orphans = [message_id for message_id, message in shared.items() if not message.stored_references]
    return Recovered(definitions, queues, delivered, next_message_id, next_queue_id, expiries), orphans


def _read_content(key: bytes, value: bytes) -> tuple[int, Message]:
    if len(key) != _ID_SIZE:
        raise ValueError(f"the key of a content has {_ID_SIZE} bytes, got {len(key)}")
    message_id = read_id(key)
    try:
        message = decode_content(value)
    except (ValueError, AmqpError) as error:
        raise ValueError(f"content {message_id}: {error}") from None
    message.message_id = message_id
    message.content_stored = True
    return message_id, message


def _read_entry_key(key: bytes) -> tuple[int, int]:
    if len(key) != _ENTRY_KEY_SIZE:
        raise ValueError(f"the key of an entry has {_ENTRY_KEY_SIZE} bytes, got {len(key)}")
    return split_entry_key(key)


def _read_entry(value: bytes, shared: dict[int, Message]) -> tuple[Message, int]:
    kind, expires_at, at = entry_head(value)
    if kind != SHARED:
        return decode_content(value, at), expires_at
    if len(value) != at + _ID_SIZE:
        raise ValueError(f"expected the id of a content, got {len(value) - at} bytes")
    message = shared.get(read_id(value, at))
    if message is None:
        raise ValueError(f"names content {read_id(value, at)}, which is missing")
    return message, expires_at


def _read_mark(key: bytes, value: bytes) -> tuple[int, int]:
    if len(key) != _ID_SIZE or len(value) != _ID_SIZE:
        raise ValueError(f"a mark has {_ID_SIZE} bytes of queue and of position, got {len(key)} and {len(value)}")
    return read_id(key), read_id(value)
