"""The property `expiration`: milliseconds that a message may wait, as text."""

import re
from typing import Final

from mypy_extensions import i64

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.properties import FLAG_EXPIRATION, short_property
from dispatchd.model.erlang import shown_string

LONGEST_MS: Final = 315_360_000_000
"""Ten years of 365 days."""

_SURELY_SHORT: Final = 12  # digits of the longest
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


def check_expiration(header: bytes) -> None:
    """Raises PreconditionFailed (406) with RabbitMQ's text for a content header whose expiration is no such number."""
    text = short_property(header, FLAG_EXPIRATION)
    if text is not None:
        parse_expiration(text)


def expiration_of(header: bytes) -> i64:
    """Milliseconds of a content header that `check_expiration` has accepted, -1 if it has none."""
    text = short_property(header, FLAG_EXPIRATION)
    return -1 if text is None else parse_expiration(text)


def parse_expiration(text: str) -> int:
    """Milliseconds. Raises PreconditionFailed (406) with RabbitMQ's text (rabbit_basic) if it isn't that."""
    if len(text) < _SURELY_SHORT and text.isascii() and text.isdecimal():
        return int(text)
    number = _INTEGER.match(text)
    if number is None:
        raise _invalid(text, "no_integer")
    if number.end() < len(text):
        raise _invalid(text, f"{{leftover_string,{shown_string(text[number.end() :])}}}")
    milliseconds = int(number.group())
    if milliseconds < 0:
        raise _invalid(text, f"{{value_negative,{milliseconds}}}")
    if milliseconds > LONGEST_MS:
        raise _invalid(text, f"{{value_too_large,{milliseconds}}}")
    return milliseconds


def _invalid(text: str, problem: str) -> PreconditionFailed:
    return PreconditionFailed(f"invalid expiration '{text}': {problem}")
