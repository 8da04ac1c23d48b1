"""RabbitMQ's fields in the rows of our actors, beside our own: what its tools look for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dispatchd.web.node import NODE
from dispatchd.web.snapshots import Row

DEFAULT_CONSUMER_TIMEOUT: Final = 0
"""Without `x-consumer-timeout` a consumer may take as long as it likes."""


def completed(kind: str, row: Row) -> Row:
    """A row of this kind of actors, with all that RabbitMQ's has of what we know."""
    return {**_COMPLETE[kind](row), **row} if kind in _COMPLETE else row


def _queue(row: Row) -> Row:
    has_one_active = row.get("arguments", {}).get("x-single-active-consumer")  # which no policy can ask
    return {
        "node": NODE,
        "type": "classic",
        "consumer_details": [],
        "exclusive_consumer_tag": _tag(row, lambda consumer: consumer["exclusive"]),
        "single_active_consumer_tag": _tag(row, lambda consumer: bool(consumer["active"] and has_one_active)),
    }


def _tag(row: Row, is_it: Callable[[Row], bool]) -> str | None:
    """That of the consumer for which this is so."""
    return next((each["consumer_tag"] for each in row.get("consumer_details", ()) if is_it(each)), None)


def _connection(_row: Row) -> Row:
    return {"node": NODE, "type": "network"}


def _channel(row: Row) -> Row:
    return {"node": NODE, "connection_details": connection_of(row.get("name", ""))}


_COMPLETE: Final[dict[str, Any]] = {"queue": _queue, "connection": _connection, "channel": _channel}


def connection_of(channel: str) -> Row:
    """The connection of a channel: its name is that of the connection, which begins with the client's address."""
    name = channel.rpartition(" (")[0]
    host, _, port = name.partition(" -> ")[0].rpartition(":")
    return {"name": name, "peer_host": host, "peer_port": int(port) if port.isdigit() else 0}


def channel_of(name: str, user: str) -> Row:
    """A channel as the rows of consumers have it."""
    connection = connection_of(name)
    number = name.rpartition(" (")[2].rstrip(")")
    return {
        "name": name,
        "number": int(number) if number.isdigit() else 0,
        "connection_name": connection["name"],
        "peer_host": connection["peer_host"],
        "peer_port": connection["peer_port"],
        "node": NODE,
        "user": user,
    }


def consumer_row(queue: Row, told: Row, user: str) -> Row:
    """A consumer, of what its queue tells of it."""
    asked = (
        queue.get("arguments", {}).get("x-consumer-timeout"),
        queue.get("effective_policy_definition", {}).get("consumer-timeout"),
    )
    is_active = bool(told.get("active", True))
    return {
        "consumer_tag": told["consumer_tag"],
        "active": is_active,
        "activity_status": "up" if is_active else "waiting",
        "ack_required": told["ack_required"],
        "exclusive": told["exclusive"],
        "prefetch_count": told["prefetch_count"],
        "arguments": told.get("arguments", {}),
        "consumer_timeout": min((each for each in asked if each is not None), default=DEFAULT_CONSUMER_TIMEOUT),
        "queue": {"name": queue["name"], "vhost": queue["vhost"]},
        "channel_details": channel_of(told["channel"], user),
    }


def binding_row(vhost: str, source: str, kind: str, destination: str, key: str, arguments: Any, props: str) -> Row:
    """A binding; `props` is its name among those of the same ends."""
    return {
        "source": source,
        "vhost": vhost,
        "destination": destination,
        "destination_type": kind,
        "routing_key": key,
        "arguments": arguments,
        "properties_key": props,
    }
