"""Sender-selected distribution: the headers CC and BCC hold routing keys beside the message's own (RabbitMQ)."""

from dataclasses import replace
from typing import Any, Final

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import Message
from dispatchd.amqp.properties import FLAG_HEADERS, Properties, decode_properties, encode_header, property_flags
from dispatchd.model.arguments import field_type

CC: Final = "CC"
BCC: Final = "BCC"
_TRACE: Final = b"CC"  # what both of them leave in a header that is not decoded


def address_copies(message: Message) -> None:
    """Note where else the message is to go (`Message.copy_keys`), and take its BCC header away.

    Raises PreconditionFailed (406) with RabbitMQ's text (rabbit_basic) if CC or BCC is no array. What is in an array
    and is no text is ignored.
    """
    if _TRACE not in message.header:
        return
    properties = decode_properties(message.header)
    headers: dict[str, Any] = properties.headers or {}
    message.copy_to(_keys(headers, CC) + _keys(headers, BCC))
    if BCC in headers:
        seen: Properties = replace(properties, headers={name: headers[name] for name in headers if name != BCC})
        message.header = encode_header(message.size, seen)


def hidden_copies(message: Message, headers: dict[str, Any]) -> list[str]:
    """The keys that a BCC has named which is no longer among the message's `headers`."""
    named = _keys(headers, CC)
    return [key for key in message.copy_keys or [] if key not in named]


def routing_keys(message: Message) -> list[str]:
    """All keys that the message is routed by, its own first. Of one read from the store, BCC's are forgotten."""
    copies = message.copy_keys
    if copies is None and property_flags(message.header) & FLAG_HEADERS and _TRACE in message.header:
        copies = _keys(decode_properties(message.header).headers or {}, CC)
    return [message.routing_key, *(copies or [])]


def _keys(headers: dict[str, Any], name: str) -> list[str]:
    if name not in headers:
        return []
    value = headers[name]
    if not isinstance(value, list):
        raise PreconditionFailed(f'invalid message: {{unacceptable_type_in_header,"{name}",{field_type(value)}}}')
    return [key for key in value if isinstance(key, str)]
