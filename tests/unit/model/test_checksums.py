from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from librt.strings import BytesWriter

from dispatchd.model.checksums import (
    CHECKSUM_SIZE,
    CONTENTS,
    DEFINITIONS,
    ENTRIES,
    MARKS,
    check,
    finished,
    is_intact,
    with_checksum,
)

tables = st.sampled_from([ENTRIES, CONTENTS, MARKS, DEFINITIONS])
keys = st.binary(min_size=8, max_size=8) | st.binary(min_size=16, max_size=16)
values = st.binary(max_size=200)


@given(tables, keys, values)
@example(ENTRIES, bytes(16), b"")
@example(ENTRIES, b"\xff" * 16, b"x" * 10_000)
def test_what_was_written_is_intact(table: int, key: bytes, value: bytes) -> None:
    stored = with_checksum(table, key, value)
    assert stored[:-CHECKSUM_SIZE] == value
    assert is_intact(table, key, stored)
    check(table, key, stored)


@given(st.binary(max_size=100), st.integers(0, 9000))
@example(b"head", 4095)
@example(b"head", 4096)
def test_the_size_of_a_body_makes_no_difference(head: bytes, size: int) -> None:
    out = BytesWriter()
    out.write(head)
    body = b"x" * size
    assert finished(ENTRIES, bytes(16), out, body) == with_checksum(ENTRIES, bytes(16), head + body)


def test_it_is_a_crc_32_from_a_start_of_its_own() -> None:
    """So that a store outlives changes of this code: what is written here is on disks."""
    assert with_checksum(MARKS, bytes(8), b"abc")[3:] == crc32(b"abc", MARKS).to_bytes(4, "little")
    key = (258).to_bytes(8, "big") + (1 << 40 | 7).to_bytes(8, "big")
    assert with_checksum(ENTRIES, key, b"abc").hex() == "61626367e2fc1f"


@given(tables, keys, values, st.data())
def test_a_changed_octet_shows(table: int, key: bytes, value: bytes, data: st.DataObject) -> None:
    stored = bytearray(with_checksum(table, key, value))
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= data.draw(st.integers(1, 255))
    assert not is_intact(table, key, bytes(stored))
    with pytest.raises(ValueError, match="checksum"):
        check(table, key, bytes(stored))


@given(tables, keys, values, st.data())
def test_a_changed_octet_of_the_key_shows(table: int, key: bytes, value: bytes, data: st.DataObject) -> None:
    other = bytearray(key)
    other[data.draw(st.integers(0, len(key) - 1))] ^= data.draw(st.integers(1, 255))
    assert not is_intact(table, bytes(other), with_checksum(table, key, value))


@given(tables, tables, keys, values)
def test_a_value_of_another_table_shows(table: int, other: int, key: bytes, value: bytes) -> None:
    assert is_intact(other, key, with_checksum(table, key, value)) == (other == table)


@given(tables, keys, st.integers(0, 40))
@example(CONTENTS, bytes(8), 0)
def test_nothing_but_zeros_is_not_intact(table: int, key: bytes, size: int) -> None:
    assert not is_intact(table, key, bytes(size))
