"""How the admin answers: plain text or JSON that nobody keeps, or a status alone."""

from __future__ import annotations

import bottle


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


def created(is_new: bool) -> str:
    """Answer a PUT or DELETE with a status alone: 201 if it made something, else 204."""
    bottle.response.status = 201 if is_new else 204
    return ""
