"""How messages look at rest: keys and values of the store, the same for every kind of store.

Keys are big-endian, so that the order of keys is the order of the queue. A message that went to one queue is stored
inside its entry; one that several queues share is stored once, as a content, and its entries name it. Each value ends
with its checksum.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i16_be, write_i32_be, write_i64_be
from mypy_extensions import i16, i32, i64

from dispatchd.amqp.message import Message, split_address
from dispatchd.amqp.properties import is_persistent
from dispatchd.model.checksums import CHECKSUM_SIZE, CONTENTS, ENTRIES, MARKS, finished, with_checksum
from dispatchd.model.entry import NEVER, QueueEntry

WHOLE: Final = 0
SHARED: Final = 1
EXPIRING: Final = 2  # beside one of the two
_EXPIRING_HEAD_SIZE: Final = 9
_ID_SIZE: Final = 8
_ADDRESS_AND_HEADER_SIZES: Final = 6


def id_key(number: i64) -> bytes:
    """The key of a queue or of a content: 8 bytes."""
    out = BytesWriter()
    write_i64_be(out, number)
    return out.getvalue()


def entry_key(queue_id: i64, position: i64) -> bytes:
    """The key of an entry: 16 bytes, ordered by queue, then by position."""
    out = BytesWriter()
    write_i64_be(out, queue_id)
    write_i64_be(out, position)
    return out.getvalue()


def split_entry_key(key: bytes) -> tuple[int, int]:
    """The queue id and the position in an entry's key."""
    return read_i64_be(key, 0), read_i64_be(key, 8)


def read_id(data: bytes, at: i64 = 0) -> int:
    """The 8-byte number at `at`."""
    return read_i64_be(data, at)


def _write_head(out: BytesWriter, message: Message) -> None:
    write_i16_be(out, i16(len(message.address)))
    write_i32_be(out, i32(len(message.header)))
    out.write(message.address)
    out.write(message.header)


def content_row(message: Message) -> tuple[bytes, bytes]:
    """A content: under its id, sizes of address and header, address, content header, body."""
    key = id_key(message.message_id)
    out = BytesWriter()
    _write_head(out, message)
    return key, finished(CONTENTS, key, out, message.body)


def entry_row(queue_id: i64, entry: QueueEntry, content: i64 = 0) -> tuple[bytes, bytes]:
    """An entry: its kind, when it expires if it does, and its message, or the id of its shared `content`."""
    key = entry_key(queue_id, entry.position)
    kind = SHARED if content else WHOLE
    out = BytesWriter()
    if entry.expires_at == NEVER:
        out.append(kind)
    else:
        out.append(kind | EXPIRING)
        write_i64_be(out, entry.expires_at)
    if content:
        write_i64_be(out, content)
        return key, finished(ENTRIES, key, out, b"")
    _write_head(out, entry.message)
    return key, finished(ENTRIES, key, out, entry.message.body)


def mark_row(queue_id: i64, position: i64) -> tuple[bytes, bytes]:
    """A mark: under the queue's id, the position up to which it delivered."""
    key = id_key(queue_id)
    return key, with_checksum(MARKS, key, id_key(position))


def entry_head(data: bytes) -> tuple[int, int, int]:
    """In an entry's value: its kind, when it expires, and where the message or its id begins.

    Raises ValueError if there is no such head.
    """
    if not data or data[0] & ~(SHARED | EXPIRING):
        raise ValueError(f"expected an entry, got {len(data)} bytes of kind {data[0] if data else None}")
    kind = data[0] & SHARED
    if not data[0] & EXPIRING:
        return kind, NEVER, 1
    if len(data) < _EXPIRING_HEAD_SIZE:
        raise ValueError(f"an entry of {len(data)} bytes is too short")
    return kind, read_i64_be(data, 1), _EXPIRING_HEAD_SIZE


def _body_at(data: bytes, at: i64) -> i64:
    size: i64 = len(data) - CHECKSUM_SIZE
    if size < at + _ADDRESS_AND_HEADER_SIZES:
        raise ValueError(f"a stored message of {size} bytes is too short")
    header_size: i64 = i64(read_i32_be(data, at + 2))
    body_at: i64 = at + _ADDRESS_AND_HEADER_SIZES + _address_size(data, at) + header_size
    if header_size < 0 or body_at > size:
        raise ValueError(f"a stored message of {size} bytes claims more than it has")
    return body_at


def _address_size(data: bytes, at: i64) -> i64:
    return i64(read_i16_be(data, at)) & 0xFFFF


def body_size(data: bytes, at: i64) -> int:
    """How many octets the body of the message at `at` has. Raises ValueError when the sizes in it don't fit."""
    return len(data) - CHECKSUM_SIZE - _body_at(data, at)


def content_header(data: bytes, at: i64) -> tuple[bytes, int]:
    """The content header of the message at `at`, and how many octets its body has. Raises ValueError as above."""
    body_at = _body_at(data, at)
    header = data[at + _ADDRESS_AND_HEADER_SIZES + _address_size(data, at) : body_at]
    return header, len(data) - CHECKSUM_SIZE - body_at


def decode_content(data: bytes, at: i64 = 0) -> Message:
    """The message in a content's value, or in a whole entry's behind its head.

    Raises ValueError when the sizes in it don't fit.
    """
    body_at = _body_at(data, at)
    header_at: i64 = at + _ADDRESS_AND_HEADER_SIZES + _address_size(data, at)
    address = data[at + _ADDRESS_AND_HEADER_SIZES : header_at]
    header = data[header_at:body_at]
    exchange, routing_key = split_address(address)
    message = Message(exchange, routing_key, address, header, data[body_at : len(data) - CHECKSUM_SIZE])
    message.persistent = is_persistent(header)
    return message


def shared_content(data: bytes, at: i64) -> int:
    """The id of the content that an entry names behind its head. Raises ValueError if there is none."""
    if len(data) != at + _ID_SIZE + CHECKSUM_SIZE:
        raise ValueError(f"expected the id of a content, got {len(data) - CHECKSUM_SIZE - at} bytes")
    return read_i64_be(data, at)


def marked_position(value: bytes) -> int:
    """The position in a mark. Raises ValueError if there is none."""
    if len(value) != _ID_SIZE + CHECKSUM_SIZE:
        raise ValueError(f"expected a position, got {len(value) - CHECKSUM_SIZE} bytes")
    return read_i64_be(value, 0)
