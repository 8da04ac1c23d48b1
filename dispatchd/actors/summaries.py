"""What an operator sees of a message between actors: what it is and what it is about, never what is in it.

It takes no longer for a message that carries a thousand others, and needs no more than a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import fields, is_dataclass
from typing import Any, Final

from dispatchd.amqp.message import Message
from dispatchd.amqp.methods import Method, method_name
from dispatchd.model.entry import QueueEntry
from dispatchd.model.router import Publishing

SHOWN_CHARACTERS: Final = 500
VALUE_CHARACTERS: Final = 120
_PLAIN: Final = (bool, int, float, str, type(None), BaseException)


def summary(message: Any) -> str:
    """One line about a message, such as `Enqueue(publishing=3 messages of a -> b (1), messages=[3 Message: …])`."""
    if isinstance(message, str):
        return message[:SHOWN_CHARACTERS]
    name = type(message).__name__
    if not is_dataclass(message):
        return name
    shown = (f"{field.name}={_shown(getattr(message, field.name, None))}" for field in fields(message) if field.repr)
    return f"{name}({', '.join(shown)})"[:SHOWN_CHARACTERS]


def weight(message: Any) -> int:
    """About how many octets of clients' messages this message between actors keeps in memory."""
    if not is_dataclass(message):
        return 0
    return sum(_octets(getattr(message, field.name, None)) for field in fields(message))


def count(message: Any) -> int:
    """How many messages, entries or inputs it carries: what the longest list in it has; 0 without a list."""
    if not is_dataclass(message):
        return 0
    lists = (getattr(message, field.name, None) for field in fields(message))
    return max((len(each) for each in lists if isinstance(each, list)), default=0)


def _shown(value: Any) -> str:
    try:
        return _told(value)[:VALUE_CHARACTERS]
    except Exception:  # noqa: BLE001 - whatever a value is, to look at a broken actor must work
        return type(value).__name__


def _told(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} B"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Message):
        return f"Message({value.exchange!r}, {value.routing_key!r}, {value.size} B)"
    if isinstance(value, Publishing):
        return f"{len(value.messages)} messages of {value.channel.name}"
    if isinstance(value, QueueEntry):
        return f"entry {value.position}: {_told(value.message)}"
    if isinstance(value, Method):
        return method_name(value) if _has_secrets(value) else repr(value)
    if isinstance(value, Iterable) and isinstance(value, Sized):
        first = next(iter(value), None)
        return "[]" if first is None else f"[{len(value)} {type(first).__name__}: {_told(first)}]"
    name = getattr(value, "name", None) or getattr(value, "tag", None)
    return f"{type(value).__name__} {name}" if isinstance(name, str) else type(value).__name__


def _has_secrets(method: Method) -> bool:
    return method_name(method).startswith("connection.")


def _octets(value: Any) -> int:
    if isinstance(value, list) and value:
        first = value[0]
        if isinstance(first, Message):
            return int(sum(each.size for each in value))
        if isinstance(first, QueueEntry):
            return int(sum(each.message.size for each in value))
        return sum(_octets(getattr(each, "published", None)) for each in value)
    return 0
