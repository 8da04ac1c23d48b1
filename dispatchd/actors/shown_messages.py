"""Messages as operators see them."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.properties import Properties, decode_properties

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.entry import QueueEntry

STRING: Final = "string"
BASE64: Final = "base64"


def summary(entry: QueueEntry) -> dict[str, Any]:
    """Which message this is, without its body. `returns` counts how often it came back, where the queue limits that."""
    message = entry.message
    return {
        "position": int(entry.position),
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "payload_bytes": int(message.size),
        "persistent": message.persistent,
        "redelivered": entry.redelivered,
        "returns": int(entry.returns),
        "message_id": properties_of(message).get("message_id"),
    }


def shown(entry: QueueEntry, encoding: str = "auto", truncate: int | None = None) -> dict[str, Any]:
    """All of a message, as RabbitMQ's management has it; `truncate` is how many octets of the body are wanted.

    With the encoding `auto` a body is a string if it is UTF-8, else base64, as it is with any other encoding.
    """
    message = entry.message
    payload, payload_encoding = _payload(bytes(message.body[:truncate]), encoding)
    return {
        **summary(entry),
        "properties": properties_of(entry.shown or message),
        "payload": payload,
        "payload_encoding": payload_encoding,
    }


def properties_of(message: Message) -> dict[str, Any]:
    """The properties that a message has, by name; none of them if its header is malformed."""
    try:
        found = decode_properties(message.header)
    except AmqpError:
        return {}
    return {name: value for name in _NAMES if (value := getattr(found, name)) is not None}


_NAMES: Final = [field.name for field in fields(Properties)]


def _payload(body: bytes, encoding: str) -> tuple[str, str]:
    if encoding == "auto":
        try:
            return body.decode(), STRING
        except UnicodeDecodeError:
            pass
    return b64encode(body).decode(), BASE64
