"""How the admin answers: plain text or JSON that nobody keeps, or a status alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import bottle

from dispatchd.actors.breath import in_turns

Answer = str | Iterator[bytes]

PART_OCTETS: Final = 1 << 16
"""Of a long list: to join, encode and send nine megabytes at once takes 20 ms."""


def answer_text(text: str) -> str:
    """Make the response plain text that nobody keeps."""
    bottle.response.content_type = "text/plain; charset=UTF-8"
    bottle.response.set_header("Cache-Control", "no-store")
    return text


def answer_json(text: str) -> str:
    """Make the response JSON that nobody keeps."""
    bottle.response.content_type = "application/json"
    bottle.response.set_header("Cache-Control", "no-store")
    return text


def answer_rows(rows: Iterable[Any]) -> Iterator[bytes]:
    """Make the response a JSON array of plain rows that nobody keeps; others have turns while it is made and sent."""
    parts: list[bytes] = []
    some, size = list[str](), 0
    for row in in_turns(rows):
        some.append(json.dumps(row, allow_nan=False))
        size += len(some[-1])
        if size > PART_OCTETS:
            parts.append(",".join(some).encode())
            some, size = [""], 0  # a comma between this part and the next
    parts.append(",".join(some).encode())
    bottle.response.set_header("Content-Length", str(sum(map(len, parts)) + 2))
    answer_json("")
    return in_turns((b"[" + parts[0], *parts[1:], b"]"))


def created(is_new: bool) -> str:
    """Answer a PUT or DELETE with a status alone: 201 if it made something, else 204."""
    bottle.response.status = 201 if is_new else 204
    return ""
