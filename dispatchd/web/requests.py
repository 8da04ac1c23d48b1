"""What a request of the API brings: names in its path, JSON in its body, and orders that come of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import bottle

from dispatchd.actors.orders import Order, carry_out
from dispatchd.actors.runtime import Ref
from dispatchd.amqp.errors import (
    AccessRefused,
    AmqpError,
    CommandInvalid,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)

ORDER_SECONDS = 10.0
MOST_DIGITS = 15

_STATUS: dict[type[AmqpError], int] = {
    AccessRefused: 403,
    CommandInvalid: 400,
    NotAllowed: 400,
    NotFound: 404,
    PreconditionFailed: 400,
    ResourceLocked: 400,
}


def name_filter(_config: str | None) -> tuple[str, Any, Any]:
    """Bottle's filter `name`: one segment of a path that may have any character of a name, `%2F` among them.

    It expects the path as it was sent (`server.Handler` sees to that): decoded, the vhost / would be no segment.
    """
    return r"[^/]+", unquote, lambda name: quote(name, safe="")


def body_object() -> dict[str, Any]:
    """The JSON object in the body; an empty body is an empty one. Raises 400 for anything else."""
    body = bottle.request.body.read()
    found = json_of(body, "The body") if body else {}
    if not isinstance(found, dict):
        raise bottle.HTTPError(400, "The body is JSON, but no object")
    return found


def json_of(text: str | bytes, what: str) -> Any:
    """The value of a JSON text. Raises 400, for numbers that are none and half characters too."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise bottle.HTTPError(400, f"{what} is not JSON") from None
    return found


def text_of_body(body: dict[str, Any], key: str) -> str | None:
    """The text at `key`, None if it is missing. Raises 400 for another type."""
    value = body.get(key)
    if value is None or isinstance(value, str):
        return value
    raise bottle.HTTPError(400, f"{key} is {value!r}, expected a string")


def truth_of_body(body: dict[str, Any], key: str) -> bool | None:
    """Whether `key` is true, None if it is missing; rabbitmqadmin sends it as a string. Raises 400 for others."""
    value = body.get(key)
    if value is None or isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise bottle.HTTPError(400, f"{key} is {value!r}, expected true or false")


def number_of_query(key: str, default: int, most: int | None = None) -> int:
    """The whole number at `key` of the query, 0 or more, of which `most` is taken. Raises 400 for another text."""
    text = bottle.request.query.getunicode(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise bottle.HTTPError(400, f"{key} is {text!r}, expected a whole number")
    return int(text) if most is None else min(int(text), most)


def words_of_query(key: str) -> list[str]:
    """The words at `key` of the query, with commas between them."""
    return [word for word in bottle.request.query.getunicode(key, "").split(",") if word]


@contextmanager
def denials() -> Iterator[None]:
    """Turn the error with which an actor denies something into an answer with a status; 503 where an actor failed."""
    try:
        yield
    except AmqpError as error:
        raise bottle.HTTPError(_STATUS.get(type(error), 503), error.text.partition(" - ")[2]) from None


def give(actor: Ref, order: Order) -> Any:
    """Give an order to an actor; returns its answer. Raises the HTTPError for what it was denied with."""
    with denials():
        return carry_out(actor, order, ORDER_SECONDS)
