"""Field tables and arrays with every type that RabbitMQ reads.

The letters mean what RabbitMQ takes them for, not what the specification says (`s` is a 16 bit integer, `l` and `L` are
both signed 64 bit: https://www.rabbitmq.com/amqp-0-9-1-errata). Values keep their meaning, not always their letter: an
integer that came as `b` is sent as `I`.
"""

from calendar import timegm
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from librt.strings import BytesWriter, write_f64_be
from mypy_extensions import i64, mypyc_attr

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.wire_types import Reader, write_longstr, write_shortstr, write_unsigned

MAX_NESTING: Final = 32
"""Tables and arrays within each other, the outermost one included."""


@mypyc_attr(native_class=False)
class Timestamp(int):
    """Seconds since 1970 (UTC), as AMQP's `T` has them: up to 2**64, which no datetime holds."""


@mypyc_attr(native_class=False)
class Long(int):
    """An integer that goes out as `l`, with 64 bits, even if fewer would do. What came as `l` is just an int."""


def decode_table(data: bytes, at: int, end: int) -> tuple[dict[str, Any], int]:
    """Return the table whose size field begins at `at`, and where it ends.

    Raises AmqpSyntaxError if it does not end at or before `end`, or if anything in it is malformed.
    """
    reader = Reader(data, at, end)
    return read_table(reader), reader.at


def read_table(reader: Reader, depth: int = 1) -> dict[str, Any]:
    """Read a table with its size; `depth` counts the tables and arrays around its values."""
    outer_end = _enter(reader, depth)
    table: dict[str, Any] = {}
    while reader.at < reader.end:
        name = reader.shortstr()
        table[name] = _read_value(reader, depth)
    reader.end = outer_end
    return table


def _read_array(reader: Reader, depth: int) -> list[Any]:
    outer_end = _enter(reader, depth)
    array: list[Any] = []
    while reader.at < reader.end:
        array.append(_read_value(reader, depth))
    reader.end = outer_end
    return array


def _enter(reader: Reader, depth: int) -> i64:
    """Let the reader end where the table or array ends that begins here; return where it ended before."""
    if depth > MAX_NESTING:
        raise AmqpSyntaxError(f"tables and arrays are nested deeper than {MAX_NESTING}")
    size: i64 = reader.long()
    start = reader.advance(size)
    outer_end = reader.end
    reader.at, reader.end = start, start + size
    return outer_end


def _read_value(reader: Reader, depth: int) -> Any:
    kind = chr(reader.octet())
    if kind == "S":
        return _text_or_bytes(reader.longstr())
    if kind == "I":
        return reader.signed_long()
    if kind == "t":
        return reader.octet() != 0
    if kind in ("l", "L"):
        return reader.signed_longlong()
    if kind == "T":
        return Timestamp(reader.longlong())
    if kind == "F":
        return read_table(reader, depth + 1)
    if kind == "A":
        return _read_array(reader, depth + 1)
    if kind == "d":
        return reader.float64()
    if kind == "f":
        return reader.float32()
    if kind == "D":
        scale = reader.octet()
        return Decimal(reader.long()).scaleb(-scale)
    if kind == "b":
        return reader.signed_octet()
    if kind == "B":
        return reader.octet()
    if kind == "s":
        return reader.signed_short()
    if kind == "u":
        return reader.short()
    if kind == "i":
        return reader.long()
    if kind == "x":
        return reader.longstr()
    if kind == "V":
        return None
    raise AmqpSyntaxError(f"unknown type {kind!r} in a field table")


def _text_or_bytes(value: bytes) -> str | bytes:
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return value


def encode_table(table: dict[str, Any]) -> bytes:
    """The table on the wire, with its size.

    Raises ValueError if a value does not fit its wire type or is nested too deeply, TypeError if it has no wire type.
    """
    out = BytesWriter()
    write_table(out, table)
    return out.getvalue()


def encode_fields(table: dict[str, Any]) -> bytes:
    """What `encode_table` returns, without the size: such pieces can be joined to one table."""
    return encode_table(table)[4:]


def write_table(out: BytesWriter, table: dict[str, Any], depth: int = 1) -> None:
    """Write what `encode_table` returns."""
    _check_depth(depth)
    content = BytesWriter()
    for name, value in table.items():
        write_shortstr(content, name)
        _write_value(content, value, depth)
    write_longstr(out, content.getvalue())


def _write_array(out: BytesWriter, array: list[Any] | tuple[Any, ...], depth: int) -> None:
    _check_depth(depth)
    content = BytesWriter()
    for value in array:
        _write_value(content, value, depth)
    write_longstr(out, content.getvalue())


def _check_depth(depth: int) -> None:
    if depth > MAX_NESTING:
        raise ValueError(f"tables and arrays are nested deeper than {MAX_NESTING}")


def _write_value(out: BytesWriter, value: Any, depth: int) -> None:
    if isinstance(value, str):
        out.append(ord("S"))
        write_longstr(out, value.encode())
    elif isinstance(value, bool):
        out.append(ord("t"))
        out.append(1 if value else 0)
    elif isinstance(value, Timestamp):
        out.append(ord("T"))
        write_unsigned(out, value, 8)
    elif isinstance(value, Long):  # compiled, an `int` parameter would no longer be one
        _write_long(out, value)
    elif isinstance(value, int):
        _write_integer(out, value)
    elif isinstance(value, float):
        out.append(ord("d"))
        write_f64_be(out, value)
    elif isinstance(value, dict):
        out.append(ord("F"))
        write_table(out, value, depth + 1)
    elif isinstance(value, (list, tuple)):
        out.append(ord("A"))
        _write_array(out, value, depth + 1)
    elif value is None:
        out.append(ord("V"))
    elif isinstance(value, bytes):
        # Octets that are UTF-8 would come back as text from an S, so they can only have come as an x.
        out.append(ord("S" if isinstance(_text_or_bytes(value), bytes) else "x"))
        write_longstr(out, value)
    elif isinstance(value, Decimal):
        _write_decimal(out, value)
    elif isinstance(value, datetime):
        out.append(ord("T"))
        write_unsigned(out, timegm(value.utctimetuple()), 8)
    else:
        raise TypeError(f"no field table type holds a {type(value).__name__}")


def _write_integer(out: BytesWriter, value: int) -> None:
    if -(1 << 31) <= value < 1 << 31:
        out.append(ord("I"))
        out.write(value.to_bytes(4, "big", signed=True))
    else:
        _write_long(out, value)


def _write_long(out: BytesWriter, value: int) -> None:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"expected an integer of at most 64 bits, got {value}")
    out.append(ord("l"))
    out.write(value.to_bytes(8, "big", signed=True))


def _write_decimal(out: BytesWriter, value: Decimal) -> None:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or sign or exponent < -255 or exponent > 9:
        raise ValueError(f"expected a decimal that is not negative with a scale of at most 255, got {value}")
    number = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    out.append(ord("D"))
    write_unsigned(out, max(-exponent, 0), 1)
    write_unsigned(out, number, 4)
