"""Definitions in RabbitMQ's format, read into orders: all that is wrong with a file is told before anything is done."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from dispatchd.actors.limit_requests import user_limit_order, vhost_limit_order
from dispatchd.actors.orders import AddDefinitions, DefineVhost, Order, SetPolicy
from dispatchd.actors.user_requests import permission_order, topic_permission_order, user_order
from dispatchd.amqp.constants import SHORTSTR_MAX
from dispatchd.amqp.errors import AmqpError, PreconditionFailed
from dispatchd.amqp.field_table import encode_table
from dispatchd.model.binding import EXCHANGE, QUEUE

TO_AUTHENTICATOR: Final = "authenticator"
TO_BROKER: Final = "broker"
TO_VHOST: Final = "vhost"

ADDED_IN_ONE_TURN: Final = 20
"""Queues, exchanges or bindings: so many take about a millisecond."""

_IGNORED: Final = frozenset(
    ("global_parameters", "rabbit_version", "rabbitmq_version", "product_name", "product_version")
)
"""Who wrote it, and what is about a cluster."""
_KINDS: Final = (
    "users", "vhosts", "permissions", "topic_permissions", "parameters", "policies", "exchanges", "queues", "bindings",
)  # fmt: skip

Item = dict[str, Any]


@dataclass
class Plan:
    """Orders, each with whom it is for: one of the above and the name of a vhost, in the order to give them in."""

    orders: list[tuple[str, str, Order]] = field(default_factory=list)
    names_users: bool = False


def read_definitions(document: Any, vhost: str | None = None, of_file: Collection[str] = ()) -> Plan:
    """What to do for the definitions of a broker, or (`vhost`) for those of one vhost; users `of_file` are left alone.

    It may take as long as hashing passwords does. Raises PreconditionFailed (406) that names what is wrong where.
    """
    if not isinstance(document, dict):
        raise PreconditionFailed("definitions are a JSON object")
    for key in document:
        if key not in _IGNORED and key not in _KINDS:
            raise PreconditionFailed(f"{key} is not known, expected some of {', '.join(_KINDS)}")
    plan = Plan(names_users=bool(document.get("users")))
    for kind in _KINDS:
        items = document.get(kind, [])
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise PreconditionFailed(f"{kind} is no list of objects")
        if vhost is not None:
            if items and kind in ("users", "vhosts", "permissions", "topic_permissions"):
                raise PreconditionFailed(f"{kind} are not of one vhost")
            items = [{**item, "vhost": vhost} for item in items]
        try:
            if kind in ("exchanges", "queues", "bindings"):
                _add(plan, kind, items)
            else:
                for item in items:
                    if not (kind in ("users", "permissions", "topic_permissions") and _user_of(item) in of_file):
                        plan.orders += _READERS[kind](item)
        except KeyError as missing:
            raise PreconditionFailed(f"{kind}: {missing.args[0]} is missing") from None
        except AmqpError as error:
            raise PreconditionFailed(f"{kind}: {error.text.partition(' - ')[2]}") from None
    return plan


def _user_of(item: Item) -> Any:
    return item.get("user", item.get("name"))


def _text(item: Item, key: str) -> str:
    """A name or a routing key: a short string of AMQP."""
    value = item[key]
    if not isinstance(value, str) or len(value.encode()) > SHORTSTR_MAX:
        raise PreconditionFailed(f"{key} is {value!r}, expected a string of at most {SHORTSTR_MAX} octets")
    return value


Ordered = Iterable[tuple[str, str, Order]]


def _user(item: Item) -> Ordered:
    name = _text(item, "name")
    limits = item.get("limits") or {}
    yield TO_AUTHENTICATOR, "", user_order(name, item)
    for limit, value in limits.items():
        yield TO_AUTHENTICATOR, "", user_limit_order(name, limit, value)


def _vhost(item: Item) -> Ordered:
    tags = item.get("tags")
    description = item.get("description")
    yield (
        TO_BROKER,
        "",
        DefineVhost(
            _text(item, "name"),
            description if isinstance(description, str) else None,
            tags if isinstance(tags, list) else None,
            bool(item["tracing"]) if "tracing" in item else None,
        ),
    )


def _permission(item: Item) -> Ordered:
    yield TO_AUTHENTICATOR, "", permission_order(_text(item, "user"), _text(item, "vhost"), item)


def _topic_permission(item: Item) -> Ordered:
    yield TO_AUTHENTICATOR, "", topic_permission_order(_text(item, "user"), _text(item, "vhost"), item)


def _parameter(item: Item) -> Ordered:
    component, vhost, value = item["component"], _text(item, "vhost"), item["value"]
    if component == "vhost-limits" and isinstance(value, dict):
        for limit, count in value.items():
            yield TO_VHOST, vhost, vhost_limit_order(limit, count)
    elif component == "operator_policy" and isinstance(value, dict):
        yield TO_VHOST, vhost, _policy_order({**value, "name": item["name"]}, is_operator=True)
    else:
        raise PreconditionFailed(f"{component} is not known, expected vhost-limits or operator_policy")


def _policy(item: Item) -> Ordered:
    yield TO_VHOST, _text(item, "vhost"), _policy_order(item, is_operator=False)


def _policy_order(item: Item, *, is_operator: bool) -> SetPolicy:
    return SetPolicy(
        _text(item, "name"), is_operator, item["pattern"], item["definition"], item.get("priority", 0),
        item.get("apply-to", "all"),
    )  # fmt: skip


_READERS: Final = {
    "users": _user,
    "vhosts": _vhost,
    "permissions": _permission,
    "topic_permissions": _topic_permission,
    "parameters": _parameter,
    "policies": _policy,
}


def _add(plan: Plan, kind: str, items: list[Item]) -> None:
    """What is in vhosts, some at a time."""
    by_vhost: dict[str, list[Item]] = {}
    for item in items:
        by_vhost.setdefault(_text(item, "vhost"), []).append(_ADDED[kind](item))
    for vhost, added in by_vhost.items():
        for at in range(0, len(added), ADDED_IN_ONE_TURN):
            plan.orders.append((TO_VHOST, vhost, AddDefinitions(kind, added[at : at + ADDED_IN_ONE_TURN])))


def _exchange(item: Item) -> Item:
    return {
        "name": _text(item, "name"),
        "type": _text(item, "type"),
        "durable": _truth(item, "durable", default=True),
        "auto_delete": _truth(item, "auto_delete", default=False),
        "internal": _truth(item, "internal", default=False),
        "arguments": _arguments(item),
    }


def _queue(item: Item) -> Item:
    return {
        "name": _text(item, "name"),
        "durable": _truth(item, "durable", default=True),
        "auto_delete": _truth(item, "auto_delete", default=False),
        "arguments": _arguments(item),
    }


def _binding(item: Item) -> Item:
    kind = item["destination_type"]
    if kind not in (EXCHANGE, QUEUE):
        raise PreconditionFailed(f"destination_type is {kind!r}, expected {QUEUE!r} or {EXCHANGE!r}")
    return {
        "source": _text(item, "source"),
        "kind": kind,
        "destination": _text(item, "destination"),
        "routing_key": _text(item, "routing_key"),
        "arguments": _arguments(item),
    }


_ADDED: Final = {"exchanges": _exchange, "queues": _queue, "bindings": _binding}


def _truth(item: Item, key: str, *, default: bool) -> bool:
    value = item.get(key, default)
    if not isinstance(value, bool):
        raise PreconditionFailed(f"{key} is {value!r}, expected true or false")
    return value


def _arguments(item: Item) -> Item:
    value = item.get("arguments", {})
    if not isinstance(value, dict):
        raise PreconditionFailed(f"arguments is {value!r}, expected an object")
    try:
        encode_table(value)
    except (AmqpError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise PreconditionFailed(f"arguments {value!r} can't be sent by AMQP: {error}") from None
    return value
