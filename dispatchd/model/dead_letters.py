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
        headers[X_DEATH] = [_counted(death, 1)]
        return
    key = _key(death)
    first, others = _counted(death, 1), []
    for each in _grouped([each for each in history if isinstance(each, dict)]):
        if _key(each) == key:
            first = _once_more(each)
        else:
            others.append(each)
    headers[X_DEATH] = [first, *others]


def _grouped(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One death for each queue and reason, the one that stands first; without a count it gets their number.

    RabbitMQ groups what versions before 3.5 have written, but does it to all that is longer than one, and the result
    is in reverse order: so the order of all but the latest death changes with every hop.
    """
    if len(history) < 2:
        return [_counted(each, None) for each in history]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in history:
        groups.setdefault(_key(each), []).append(each)
    latest_first = list(groups.values())
    latest_first.reverse()
    return [_counted(group[0], len(group)) for group in latest_first]


def _key(death: dict[str, Any]) -> tuple[str, str]:
    """Its queue and reason, in a form that is hashable whatever a client has put there."""
    return repr(death.get("queue")), repr(death.get("reason"))


def _counted(death: dict[str, Any], count: int | None) -> dict[str, Any]:
    """With the count that it has, or else with this one, in 64 bits."""
    own = death.get("count", count)
    return {"count": 0, **death} | {"count": Long(own)} if isinstance(own, int) else death


def _once_more(death: dict[str, Any]) -> dict[str, Any]:
    count = death.get("count")
    return _counted(death | {"count": count + 1 if isinstance(count, int) else 1}, None)


def is_cycle(message: Message, queue: str) -> bool:
    """Whether this dead letter was in `queue` before, and came back without anybody having rejected it since.

    Such a message is dropped: the cycle would be fully automatic and never end.
    """
    if queue.encode() not in message.header:  # decoding takes 5 µs
        return False
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
