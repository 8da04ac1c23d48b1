"""What becomes of a message that a queue gives up: its x-death history, and who must not get it again.

Facts and order of fields are RabbitMQ 3.10's (rabbit_dead_letter).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dispatchd.amqp.field_table import Long, Timestamp
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties, decode_properties

REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
MAXLEN: Final = "maxlen"
DELIVERY_LIMIT: Final = "delivery_limit"

X_DEATH: Final = "x-death"
CC: Final = "CC"


def dead_letter(message: Message, reason: str, queue: str, exchange: str, routing_key: str | None, now: int) -> Message:
    """The message as it is published to the dead letter exchange `exchange`.

    `routing_key` None keeps its own, and those that CC and BCC have named; another one takes its CC header away. `now`
    is Unix time in seconds. The expiration goes, so that the message does not expire again, and is kept in the history.
    """
    properties = decode_properties(message.header)
    headers = dict(properties.headers or {})
    death: dict[str, Any] = {
        "reason": reason,
        "queue": queue,
        "time": Timestamp(now),
        "exchange": message.exchange,
        "routing-keys": [message.routing_key, *_carbon_copies(headers)],
    }
    if properties.expiration is not None:
        death["original-expiration"] = properties.expiration
    _add_death(headers, death)
    if routing_key is not None:
        headers.pop(CC, None)
    changed: Properties = replace(properties, headers=headers, expiration=None)
    if routing_key is not None:
        return make_message(exchange, routing_key, changed, message.body)
    dead = make_message(exchange, message.routing_key, changed, message.body)
    dead.copy_to(_carbon_copies(headers) if message.copy_keys is None else message.copy_keys)
    return dead


def _carbon_copies(headers: dict[str, Any]) -> list[str]:
    copies = headers.get(CC)
    return [key for key in copies if isinstance(key, str)] if isinstance(copies, list) else []


def _add_death(headers: dict[str, Any], death: dict[str, Any]) -> None:
    """Put a death first in the history; a second one in the same queue for the same reason only counts."""
    history = headers.get(X_DEATH)
    if not isinstance(history, list):
        if history is None:
            headers["x-first-death-reason"] = death["reason"]
            headers["x-first-death-queue"] = death["queue"]
            headers["x-first-death-exchange"] = death["exchange"]
        headers[X_DEATH] = [_counted(death)]
        return
    known = [_counted(each) for each in history if isinstance(each, dict)]
    same = [each for each in known if _is_of(each, death["queue"], death["reason"])]
    others = [each for each in known if not _is_of(each, death["queue"], death["reason"])]
    headers[X_DEATH] = [_counted(same[0], 1) if same else _counted(death), *others]


def _is_of(death: dict[str, Any], queue: str, reason: str) -> bool:
    return death.get("queue") == queue and death.get("reason") == reason


def _counted(death: dict[str, Any], more: int = 0) -> dict[str, Any]:
    count = death.get("count")
    return {"count": 1, **death} | {"count": Long((count if isinstance(count, int) else 1) + more)}


def is_cycle(message: Message, queue: str) -> bool:
    """Whether this dead letter was in `queue` before, and came back without anybody having rejected it since.

    Such a message is dropped: the cycle would be fully automatic and never end.
    """
    headers = decode_properties(message.header).headers or {}
    history = headers.get(X_DEATH)
    if not isinstance(history, list):
        return False
    for death in history:
        if not isinstance(death, dict) or death.get("reason") == REJECTED:
            return False
        if death.get("queue") == queue:
            return True
    return False
