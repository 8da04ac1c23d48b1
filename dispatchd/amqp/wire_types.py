"""The elementary types of arguments, properties and field tables (AMQP 0-9-1, 4.2.5)."""

from librt.strings import (
    BytesWriter,
    read_f32_be,
    read_f64_be,
    read_i16_be,
    read_i32_be,
    read_i64_be,
)
from mypy_extensions import i64

from dispatchd.amqp.errors import AmqpSyntaxError


class Reader:
    """Reads one value after another from `data[at:end]`.

    Every method raises AmqpSyntaxError where the value would go past `end`: sizes that a peer announces are checked
    before anything is made of them.
    """

    def __init__(self, data: bytes, at: i64, end: i64) -> None:
        self.data: bytes = data
        self.at: i64 = at
        self.end: i64 = end

    def advance(self, size: i64) -> i64:
        """Step over `size` octets and return where they begin."""
        at = self.at
        if size > self.end - at:
            raise AmqpSyntaxError(f"a value of {size} octets begins {self.end - at} octets before the end")
        self.at = at + size
        return at

    def octet(self) -> int:
        """Unsigned, 8 bits."""
        return self.data[self.advance(1)]

    def short(self) -> int:
        """Unsigned, 16 bits."""
        return int(read_i16_be(self.data, self.advance(2))) & 0xFFFF

    def long(self) -> int:
        """Unsigned, 32 bits."""
        return int(read_i32_be(self.data, self.advance(4))) & 0xFFFFFFFF

    def longlong(self) -> int:
        """Unsigned, 64 bits."""
        return int(read_i64_be(self.data, self.advance(8))) & 0xFFFFFFFFFFFFFFFF

    def signed_octet(self) -> int:
        """Signed, 8 bits."""
        value = self.octet()
        return value - 256 if value > 127 else value

    def signed_short(self) -> int:
        """Signed, 16 bits."""
        return read_i16_be(self.data, self.advance(2))

    def signed_long(self) -> int:
        """Signed, 32 bits."""
        return read_i32_be(self.data, self.advance(4))

    def signed_longlong(self) -> int:
        """Signed, 64 bits."""
        return read_i64_be(self.data, self.advance(8))

    def float32(self) -> float:
        """IEEE 754, 32 bits."""
        return read_f32_be(self.data, self.advance(4))

    def float64(self) -> float:
        """IEEE 754, 64 bits."""
        return read_f64_be(self.data, self.advance(8))

    def shortstr(self) -> str:
        """At most 255 octets of UTF-8."""
        size: i64 = self.octet()
        at = self.advance(size)
        try:
            return str(self.data[at : at + size], "utf-8")
        except UnicodeDecodeError:
            raise AmqpSyntaxError("malformed UTF-8 in a short string") from None

    def longstr(self) -> bytes:
        """Octets of any meaning."""
        size: i64 = self.long()
        at = self.advance(size)
        return self.data[at : at + size]


def write_unsigned(out: BytesWriter, value: int, octets: int) -> None:
    """Write `value` big-endian. Raises ValueError if it is negative or too large for that many octets."""
    if value < 0 or value >> (8 * octets):
        raise ValueError(f"expected an unsigned integer of {8 * octets} bits, got {value}")
    out.write(value.to_bytes(octets, "big"))


def write_shortstr(out: BytesWriter, value: str) -> None:
    """Raises ValueError if `value` has more than 255 octets in UTF-8."""
    octets = value.encode()
    if len(octets) > 255:
        raise ValueError(f"a short string has at most 255 octets, got {len(octets)}: {value[:40]!r}...")
    out.append(len(octets))
    out.write(octets)


def write_longstr(out: BytesWriter, value: bytes) -> None:
    """Write the octets after their number."""
    write_unsigned(out, len(value), 4)
    out.write(value)
