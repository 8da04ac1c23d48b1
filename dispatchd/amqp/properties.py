"""The content header of class basic: its 14 properties, and what can be seen of them without decoding."""

from dataclasses import dataclass, fields
from typing import Any, Final

from librt.strings import BytesWriter, read_i16_be
from mypy_extensions import i64

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.field_table import read_table, write_table
from dispatchd.amqp.wire_types import Reader, write_shortstr, write_unsigned

BASIC_CLASS: Final = 60
HEADER_FIXED_SIZE: Final = 14
"""Octets of a content header before the property list: class, weight, body size, flags."""

FLAG_CONTENT_TYPE: Final = 1 << 15
FLAG_CONTENT_ENCODING: Final = 1 << 14
FLAG_HEADERS: Final = 1 << 13
FLAG_DELIVERY_MODE: Final = 1 << 12
FLAG_PRIORITY: Final = 1 << 11
FLAG_CORRELATION_ID: Final = 1 << 10
FLAG_REPLY_TO: Final = 1 << 9
FLAG_EXPIRATION: Final = 1 << 8
FLAG_MESSAGE_ID: Final = 1 << 7
FLAG_TIMESTAMP: Final = 1 << 6
FLAG_TYPE: Final = 1 << 5
FLAG_USER_ID: Final = 1 << 4
FLAG_APP_ID: Final = 1 << 3
FLAG_CLUSTER_ID: Final = 1 << 2
_UNUSED_FLAGS: Final = 0b11  # bit 0 would announce more flags, which no property of class basic needs

PERSISTENT: Final = 2
"""The delivery mode of messages that survive a restart."""


@dataclass(frozen=True)
class Properties:
    """Class basic's properties in the order of the wire; None = absent. `timestamp` is in seconds since 1970."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: dict[str, Any] | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None
    cluster_id: str | None = None


_NAMES: Final = [field.name for field in fields(Properties)]
_FIELD_NAMES: Final = [bytes([len(name)]) + name.encode() for name in _NAMES]


def property_flags(header: bytes) -> i64:
    """Which properties a content header has: compare with the FLAG_ constants. 0 if the header is too short."""
    if len(header) < HEADER_FIXED_SIZE:
        return 0
    return i64(read_i16_be(header, 12)) & 0xFFFF


def delivery_mode(header: bytes) -> i64:
    """Delivery mode of a content header, 0 if it has none, -1 if its properties do not fill it exactly.

    Properties are stepped over by their sizes, nothing is decoded.
    """
    end: i64 = len(header)
    if end < HEADER_FIXED_SIZE:
        return -1
    flags: i64 = property_flags(header)
    if flags & _UNUSED_FLAGS:
        return -1
    at: i64 = HEADER_FIXED_SIZE
    mode: i64 = 0
    flag: i64 = FLAG_CONTENT_TYPE
    while flags:
        if flags & flag:
            flags -= flag
            if at >= end:
                return -1
            if flag == FLAG_DELIVERY_MODE:
                mode = i64(header[at])
                at += 1
            elif flag == FLAG_PRIORITY:
                at += 1
            elif flag == FLAG_TIMESTAMP:
                at += 8
            elif flag == FLAG_HEADERS:
                if at + 4 > end:
                    return -1
                at += 4 + _long(header, at)
            else:
                at += 1 + i64(header[at])
        flag >>= 1
    return mode if at == end else -1


def _long(data: bytes, at: i64) -> i64:
    return ((i64(read_i16_be(data, at)) & 0xFFFF) << 16) | (i64(read_i16_be(data, at + 2)) & 0xFFFF)


def find_property(header: bytes, wanted: i64) -> i64:
    """Where the property `wanted` begins in a content header that `delivery_mode` has accepted; -1 if it is absent."""
    flags: i64 = property_flags(header)
    if not flags & wanted:
        return -1
    at: i64 = HEADER_FIXED_SIZE
    flag: i64 = FLAG_CONTENT_TYPE
    while flag != wanted:
        if not flags & flag:
            pass
        elif flag in (FLAG_DELIVERY_MODE, FLAG_PRIORITY):
            at += 1
        elif flag == FLAG_TIMESTAMP:
            at += 8
        elif flag == FLAG_HEADERS:
            at += 4 + _long(header, at)
        else:
            at += 1 + i64(header[at])
        flag >>= 1
    return at


def short_property(header: bytes, wanted: i64) -> str | None:
    """The property `wanted`, a short string, of a header that `delivery_mode` has accepted; None if it is absent.

    The others are not decoded. Raises AmqpSyntaxError if it is not UTF-8.
    """
    at = find_property(header, wanted)
    return None if at < 0 else Reader(header, at, len(header)).shortstr()


def timestamp(header: bytes) -> int | None:
    """The property of this name (s since 1970) of a header that `delivery_mode` has accepted; None if it is absent."""
    at = find_property(header, FLAG_TIMESTAMP)
    return None if at < 0 else int.from_bytes(header[at : at + 8], "big")


def headers_table(header: bytes) -> bytes:
    """The property `headers` on the wire, a table, of a header that `delivery_mode` has accepted; b"" if it is absent.

    Raises AmqpSyntaxError if it ends behind the header.
    """
    at = find_property(header, FLAG_HEADERS)
    if at < 0:
        return b""
    reader = Reader(header, at, len(header))
    reader.longstr()
    return header[at : reader.at]


def is_persistent(header: bytes) -> bool:
    """Whether the content header asks for delivery mode 2; False if it is malformed."""
    return delivery_mode(header) == PERSISTENT


def decode_properties(header: bytes) -> Properties:
    """Properties of a whole content header payload. Raises AmqpSyntaxError if it is malformed."""
    reader = Reader(header, 0, len(header))
    reader.advance(HEADER_FIXED_SIZE)
    flags: int = property_flags(header)
    if flags & _UNUSED_FLAGS:
        raise AmqpSyntaxError(f"property flags {flags:016b} of a content header name unknown properties")
    values: dict[str, Any] = {}
    flag = FLAG_CONTENT_TYPE
    for name in _NAMES:
        if flags & flag:
            values[name] = _read_property(reader, flag)
        flag >>= 1
    if reader.at != reader.end:
        raise AmqpSyntaxError(f"{reader.end - reader.at} octets follow the properties of a content header")
    return Properties(**values)


def _read_property(reader: Reader, flag: int) -> Any:
    if flag == FLAG_HEADERS:
        return read_table(reader)
    if flag in (FLAG_DELIVERY_MODE, FLAG_PRIORITY):
        return reader.octet()
    if flag == FLAG_TIMESTAMP:
        return reader.longlong()
    return reader.shortstr()


def property_table(header: bytes) -> bytes:
    """The properties of a content header that `delivery_mode` has accepted, as a table on the wire, in reverse order.

    Integers are `I` (an `l` for a timestamp that needs it), texts `S`; headers are copied without being decoded.
    """
    reader = Reader(header, HEADER_FIXED_SIZE, len(header))
    flags: i64 = property_flags(header)
    written: list[bytes] = []
    flag: i64 = FLAG_CONTENT_TYPE
    for name in _FIELD_NAMES:
        if flags & flag:
            written.append(name + _property_field(reader, flag))
        flag >>= 1
    written.reverse()
    return _sized(b"".join(written))


def _property_field(reader: Reader, flag: i64) -> bytes:
    if flag == FLAG_HEADERS:
        return b"F" + _sized(reader.longstr())
    if flag in (FLAG_DELIVERY_MODE, FLAG_PRIORITY):
        return b"I\0\0\0" + bytes([reader.octet()])
    if flag == FLAG_TIMESTAMP:
        seconds = reader.longlong()
        return b"l" + seconds.to_bytes(8, "big") if seconds >> 31 else b"I" + seconds.to_bytes(4, "big")
    size: i64 = reader.octet()
    at: i64 = reader.advance(size)
    return b"S" + _sized(reader.data[at : at + size])


def _sized(octets: bytes) -> bytes:
    return len(octets).to_bytes(4, "big") + octets


def header_of_fields(body_size: int, table_fields: bytes) -> bytes:
    """Payload of a content header frame with nothing but headers: these fields, which are on the wire already."""
    return _header(body_size, FLAG_HEADERS, _sized(table_fields))


def encode_header(body_size: int, properties: Properties) -> bytes:
    """Payload of a content header frame. Raises ValueError if a property does not fit its wire type."""
    values = BytesWriter()
    flags = 0
    flag = FLAG_CONTENT_TYPE
    for name in _NAMES:
        value = getattr(properties, name)
        if value is not None:
            flags |= flag
            _write_property(values, flag, value)
        flag >>= 1
    return _header(body_size, flags, values.getvalue())


def _header(body_size: int, flags: int, values: bytes) -> bytes:
    out = BytesWriter()
    write_unsigned(out, BASIC_CLASS, 2)
    write_unsigned(out, 0, 2)
    write_unsigned(out, body_size, 8)
    write_unsigned(out, flags, 2)
    out.write(values)
    return out.getvalue()


def _write_property(out: BytesWriter, flag: int, value: Any) -> None:
    if flag == FLAG_HEADERS:
        write_table(out, value)
    elif flag in (FLAG_DELIVERY_MODE, FLAG_PRIORITY):
        write_unsigned(out, value, 1)
    elif flag == FLAG_TIMESTAMP:
        write_unsigned(out, value, 8)
    else:
        write_shortstr(out, value)
