"""JSON of what actors tell: their facts include tables that clients sent, and those may hold anything AMQP can say."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from dispatchd.actors.breath import in_turns

TEXT_CHARACTERS = 4000


def plain(value: Any) -> Any:
    """Turn `value` into what JSON has: the same for every value that a table of AMQP or a snapshot can hold.

    Bytes become text (UTF-8, else Latin-1), decimals and unknown types their text, dates ISO 8601, numbers that are
    not finite their name. Text is cut at TEXT_CHARACTERS.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if len(value) <= TEXT_CHARACTERS else value[:TEXT_CHARACTERS] + "…"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return plain(text_of(bytes(value)))
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else plain(str(value))


def text_of(octets: bytes) -> str:
    """Decode octets of unknown meaning: as UTF-8 where that is what they are, else as Latin-1, which always works."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def json_list(rows: Iterable[Any]) -> str:
    """Encode plain rows as a JSON array; others have turns meanwhile."""
    return f"[{','.join(json.dumps(row, allow_nan=False) for row in in_turns(rows))}]"
