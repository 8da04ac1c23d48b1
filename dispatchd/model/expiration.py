"""The property `expiration`: milliseconds that a message may wait, as text."""

import re
from typing import Final

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.erlang import shown_string

LONGEST_MS: Final = 315_360_000_000
"""Ten years of 365 days."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


def parse_expiration(text: str) -> int:
    """Milliseconds. Raises PreconditionFailed (406) with RabbitMQ's text (rabbit_basic) if it isn't that."""
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
