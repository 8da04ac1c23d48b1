"""Checksums of stored records: a value ends with a CRC-32 of all that is before it.

The CRC begins with a number made of the record's table and key, so that a value under another's key does not pass for
its own. A value together with its checksum has the same CRC whatever it says: nothing has to be cut off to check it.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from librt.strings import BytesWriter, read_i64_be, write_i32_le
from mypy_extensions import i32, i64

ENTRIES: Final = 1
CONTENTS: Final = 2
MARKS: Final = 3
DEFINITIONS: Final = 4

CHECKSUM_SIZE: Final = 4
_RESIDUE: Final = 0x2144DF1C
"""The CRC-32 of whatever is followed by its own CRC-32, the lowest octet first."""
_COPIED: Final = 4096
"""A shorter body is cheaper to copy once more than to check in a call of its own."""


def _start(table: i64, first: i64, second: i64) -> i64:
    mixed: i64 = (first ^ (first >> 32)) & 0xFFFFFFFF
    mixed_second: i64 = (second ^ (second >> 32)) & 0xFFFFFFFF
    return (table + mixed * 0x2545F491 + mixed_second * 0x1B873593) & 0xFFFFFFFF


def _start_of(table: i64, key: bytes) -> i64:
    if len(key) < 16:
        return _start(table, read_i64_be(key, 0) if len(key) >= 8 else 0, 0)
    return _start(table, read_i64_be(key, 0), read_i64_be(key, 8))


def is_intact(table: i64, key: bytes, value: bytes) -> bool:
    """Whether the value is the one that was written to this table under this key."""
    return crc32(value, _start_of(table, key)) == _RESIDUE


def check(table: i64, key: bytes, value: bytes) -> None:
    """Raises ValueError if the value is not the one that was written to this table under this key."""
    if not is_intact(table, key, value):
        raise ValueError(f"{len(value)} bytes do not match their checksum")


def finished(table: i64, key: bytes, out: BytesWriter, body: bytes) -> bytes:
    """What `out` has, then the body, then the checksum of both."""
    if len(body) >= _COPIED:
        head = out.getvalue()
        of_both = crc32(body, crc32(head, _start_of(table, key)))
        return b"".join((head, body, of_both.to_bytes(CHECKSUM_SIZE, "little")))
    out.write(body)
    checksum: i64 = crc32(out.getvalue(), _start_of(table, key))
    write_i32_le(out, i32(checksum - ((checksum & 0x80000000) << 1)))
    return out.getvalue()


def with_checksum(table: i64, key: bytes, value: bytes) -> bytes:
    """A value as it is stored."""
    return finished(table, key, BytesWriter(), value)
