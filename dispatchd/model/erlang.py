"""Terms as Erlang's `~p` prints them, for reply texts that are RabbitMQ's."""

import re
from typing import Any, Final

_PLAIN_ATOM: Final = re.compile(r"[a-z][A-Za-z0-9_@]*")
_ESCAPES: Final = {0x22: '\\"', 0x5C: "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 27: "\\e"}


def shown_atom(name: str) -> str:
    """An atom, in quotes where it needs them."""
    return name if _PLAIN_ATOM.fullmatch(name) else f"'{name}'"


def shown_string(text: str) -> str:
    """A list of octets: in quotes if Latin-1 has a sign for each of them, otherwise their numbers in brackets."""
    octets = text.encode()
    return f"[{_numbers(octets)}]" if not octets or not _is_printable(octets) else _quoted(octets)


def shown_binary(text: str) -> str:
    """The same for a binary."""
    octets = text.encode()
    return f"<<{_quoted(octets) if octets and _is_printable(octets) else _numbers(octets)}>>"


def shown_term(value: Any) -> str:
    """A value that came as JSON; always in one line, where RabbitMQ breaks long ones."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _shown_float(value)
    if isinstance(value, str):
        return shown_binary(value)
    if isinstance(value, dict):
        return "#{" + ",".join(f"{shown_binary(key)} => {shown_term(value[key])}" for key in sorted(value)) + "}"
    if not isinstance(value, list):
        return str(value)
    if value and all(type(item) is int and 0 <= item <= 0xFF for item in value) and _is_printable(bytes(value)):
        return f'"{bytes(value).decode("latin-1").translate(_ESCAPES)}"'
    return "[" + ",".join(shown_term(item) for item in value) + "]"


def _shown_float(value: float) -> str:
    """With a point always, and no sign or zero before an exponent."""
    mantissa, _, exponent = repr(value).partition("e")
    if mantissa.lstrip("-").isdecimal():
        mantissa += ".0"
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _is_printable(octets: bytes) -> bool:
    return all(0x20 <= octet <= 0x7E or octet >= 0xA0 or octet in _ESCAPES for octet in octets)


def _numbers(octets: bytes) -> str:
    return ",".join(str(octet) for octet in octets)


def _quoted(octets: bytes) -> str:
    return f'"{octets.decode().translate(_ESCAPES)}"'
