import struct
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.field_table import MAX_NESTING, Long, Timestamp, decode_table, encode_table

DECIMALS = st.builds(
    lambda digits, scale: Decimal(digits).scaleb(-scale), st.integers(0, 2**32 - 1), st.integers(0, 255)
)
KEYS = st.text(max_size=30)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 2**64 - 1).map(Timestamp)
    | st.floats(allow_nan=False)
    | DECIMALS
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)


def table_of(kind: bytes, value: bytes) -> bytes:
    content = b"\x01k" + kind + value
    return struct.pack(">I", len(content)) + content


def decode(encoded: bytes) -> dict[str, Any]:
    table, end = decode_table(encoded, 0, len(encoded))
    assert end == len(encoded)
    return table


def types_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: types_of(each) for key, each in value.items()}
    return [types_of(each) for each in value] if isinstance(value, list) else type(value)


@settings(max_examples=150)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_what_is_encoded_decodes_to_the_same(table: dict[str, Any]) -> None:
    decoded = decode(encode_table(table))
    assert decoded == table
    assert types_of(decoded) == types_of(table)


@pytest.mark.parametrize(
    ("kind", "octets", "value"),
    [
        (b"t", b"\0", False),
        (b"t", b"\x02", True),
        (b"b", b"\xff", -1),
        (b"B", b"\xff", 255),
        (b"s", b"\xff\xfe", -2),
        (b"u", b"\xff\xfe", 65534),
        (b"I", b"\xff\xff\xff\xfe", -2),
        (b"i", b"\xff\xff\xff\xfe", 2**32 - 2),
        (b"l", b"\xff" * 8, -1),
        (b"L", b"\xff" * 8, -1),
        (b"f", struct.pack(">f", 1.5), 1.5),
        (b"d", struct.pack(">d", 1e300), 1e300),
        (b"D", b"\x02\0\0\x30\x39", Decimal("123.45")),
        (b"D", b"\0\xff\xff\xff\xff", Decimal(2**32 - 1)),
        (b"S", b"\0\0\0\x02\xc3\xa9", "é"),
        (b"S", b"\0\0\0\x01\xff", b"\xff"),
        (b"x", b"\0\0\0\x02ab", b"ab"),
        (b"A", b"\0\0\0\x03VB\x01", [None, 1]),
        (b"T", b"\xff" * 8, 2**64 - 1),
        (b"F", b"\0\0\0\x03\x01aV", {"a": None}),
        (b"V", b"", None),
    ],
)
def test_every_type_that_rabbitmq_reads(kind: bytes, octets: bytes, value: Any) -> None:
    decoded = decode(table_of(kind, octets))["k"]
    assert decoded == value
    assert decode(encode_table({"k": decoded})) == {"k": value}


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ("a", b"S\0\0\0\x01a"),
        (b"\xff", b"S\0\0\0\x01\xff"),
        (True, b"t\x01"),
        (-1, b"I\xff\xff\xff\xff"),
        (2**31, b"l\0\0\0\0\x80\0\0\0"),
        (Long(-1), b"l" + b"\xff" * 8),
        (1.0, b"d\x3f\xf0" + bytes(6)),
        (Decimal("1.5"), b"D\x01\0\0\0\x0f"),
        (Decimal("2E+2"), b"D\0\0\0\0\xc8"),
        (datetime(1970, 1, 1, 0, 0, 9, tzinfo=UTC), b"T" + bytes(7) + b"\x09"),
        (datetime(1970, 1, 1, 1, 0, 9, tzinfo=timezone(timedelta(hours=1))), b"T" + bytes(7) + b"\x09"),
        (Timestamp(9), b"T" + bytes(7) + b"\x09"),
        ({"a": None}, b"F\0\0\0\x03\x01aV"),
        ([True], b"A\0\0\0\x02t\x01"),
    ],
    ids=repr,
)
def test_types_chosen_for_python_values(value: Any, octets: bytes) -> None:
    assert encode_table({"k": value}) == table_of(octets[:1], octets[1:])


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, Decimal(-1), Decimal("NaN"), Decimal("1E-256"), Decimal(2**32), {"k" * 256: 1}],
    ids=repr,
)
def test_values_that_do_not_fit(value: Any) -> None:
    with pytest.raises(ValueError, match=r"expected|at most"):
        encode_table({"k": value})


def test_values_without_a_wire_type() -> None:
    with pytest.raises(TypeError, match="object"):
        encode_table({"k": object()})


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3), st.data())
def test_a_table_that_ends_too_early(table: dict[str, Any], data: st.DataObject) -> None:
    encoded = encode_table(table)
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(AmqpSyntaxError):
        decode(encoded[:size])
    with pytest.raises(AmqpSyntaxError):
        decode_table(encoded, 0, size)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_random_octets_are_a_table_or_a_syntax_error(octets: bytes) -> None:
    encoded = struct.pack(">I", len(octets)) + octets
    try:
        table = decode(encoded)
    except AmqpSyntaxError:
        return
    assert types_of(decode(encode_table(table))) == types_of(table)


@pytest.mark.parametrize("kind", [b"Z", b"\0", b"n"])
def test_an_unknown_type(kind: bytes) -> None:
    with pytest.raises(AmqpSyntaxError, match="unknown type"):
        decode(table_of(kind, b""))


def test_a_name_that_is_not_utf8() -> None:
    with pytest.raises(AmqpSyntaxError, match="UTF-8"):
        decode(b"\0\0\0\x03\x01\xffV")


def test_a_value_cannot_reach_over_the_end_of_its_own_table() -> None:
    inner = b"\0\0\0\x05\x01aS\0\0"  # the string's size field continues in the outer table
    with pytest.raises(AmqpSyntaxError):
        decode(table_of(b"F", inner + b"\0\0"))


@pytest.mark.parametrize("kind", [b"S", b"x", b"A", b"F"])
def test_nothing_is_allocated_from_an_announced_size(kind: bytes) -> None:
    encoded = table_of(kind, b"\xff\xff\xff\xff")
    tracemalloc.start()
    try:
        with pytest.raises(AmqpSyntaxError):
            decode(encoded)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def nested(levels: int, kind: str) -> Any:
    value: Any = {} if kind == "table" else []
    for _ in range(levels):
        value = {"k": value} if kind == "table" else [value]
    return value


@pytest.mark.parametrize("kind", ["table", "array"])
def test_nesting_has_a_limit(kind: str) -> None:
    allowed = {"k": nested(MAX_NESTING - 2, kind)}
    assert decode(encode_table(allowed)) == allowed
    with pytest.raises(ValueError, match="nested"):
        encode_table({"k": nested(MAX_NESTING - 1, kind)})


@pytest.mark.parametrize("kind", [b"F", b"A"])
def test_a_bomb_of_ten_thousand_levels(kind: bytes) -> None:
    content = b""
    for _ in range(10_000):
        content = (b"\x01k" if kind == b"F" else b"") + kind + struct.pack(">I", len(content)) + content
    with pytest.raises(AmqpSyntaxError, match="nested"):
        decode(table_of(kind, struct.pack(">I", len(content)) + content))
