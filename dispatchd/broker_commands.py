"""`dispatchd list queues`, `publish`, `get` and the like: what is in a running broker, and messages by hand."""

from __future__ import annotations

import sys
from base64 import b64encode
from functools import partial
from typing import Any, Final

from dispatchd.commands import COLUMNS, LIST_VHOSTS, VHOST, Argument, Command, Given, as_json
from dispatchd.remote import Api, RemoteError

Row = dict[str, Any]

DEFAULT_EXCHANGE: Final = "amq.default"
"""As the API has it, where a name can't be empty."""


def _listed(kind: str, api: Api, given: Given) -> list[Row]:
    """All of a kind, of one vhost or of all."""
    rows: list[Row] = api.ask("GET", kind, *([given.vhost] if given.vhost and kind in ("exchanges", "queues") else []))
    return [row for row in rows if given.vhost in (None, row.get("vhost"))]


def _consumers(api: Api, given: Given) -> list[Row]:
    return [
        {"vhost": queue["vhost"], "queue": queue["name"], **consumer}
        for queue in _listed("queues", api, given)
        for consumer in queue["consumer_details"]
    ]


def _bindings(api: Api, given: Given) -> list[Row]:
    rows: list[Row] = api.ask("GET", "bindings", *([given.vhost] if given.vhost else []))
    return rows


def _publish(api: Api, given: Given) -> None:
    octets = sys.stdin.buffer.read() if given.body is None else given.body.encode(errors="surrogateescape")
    body = {
        "routing_key": given.routing_key,
        "payload": b64encode(octets).decode(),
        "payload_encoding": "base64",
        "properties": as_json("--properties", given.properties),
    }
    answer = api.ask("POST", "exchanges", given.vhost, given.exchange or DEFAULT_EXCHANGE, "publish", body=body)
    if not answer["routed"]:
        raise RemoteError("no queue took the message")


def _get(api: Api, given: Given) -> list[Row]:
    body = {
        "count": given.count,
        "ackmode": "ack_requeue_false" if given.ack else "ack_requeue_true",
        "encoding": given.encoding,
    }
    rows: list[Row] = api.ask("POST", "queues", given.vhost, given.queue, "get", body=body)
    return rows


def _peek(api: Api, given: Given) -> list[Row]:
    query = {"count": given.count, "skip": given.skip, "encoding": given.encoding}
    rows: list[Row] = api.ask("GET", "queues", given.vhost, given.queue, "peek", query=query)
    return rows


def _purge(api: Api, given: Given) -> None:
    api.ask("DELETE", "queues", given.vhost, given.queue, "contents")


def _move(api: Api, given: Given) -> list[Row]:
    body = {"target": given.target, **({} if given.count is None else {"count": given.count})}
    return [api.ask("POST", "queues", given.vhost, given.queue, "move", body=body)]


def _delete(kind: str, api: Api, given: Given) -> None:
    conditions = [name for name in ("if-unused", "if-empty") if getattr(given, name.replace("-", "_"), False)]
    api.ask("DELETE", kind, given.vhost, given.name, query=dict.fromkeys(conditions, "true"))


def _close(api: Api, given: Given) -> None:
    api.ask("DELETE", "connections", given.name, headers={} if given.reason is None else {"X-Reason": given.reason})


_QUEUE: Final = Argument("queue", "name of the queue")
_OF_VHOST: Final = Argument("--vhost", "only those of this vhost (default: of all)")
_ENCODING: Final = Argument("--encoding", "base64, or auto, which is text where it is text", "auto", ("auto", "base64"))
_COUNT: Final = Argument("--count", "how many, at most (default: 1)", "1")
_IF_UNUSED: Final = Argument("--if-unused", "only if nobody uses it", is_flag=True)
_GOVERNED: Final = ("policy", "operator_policy")
_MESSAGE: Final = ("exchange", "routing_key", "redelivered", "payload_bytes", "payload")


def _list(kind: str, *columns: str, sparse: tuple[str, ...] = ()) -> Command:
    return Command(f"show all {kind}", partial(_listed, kind), (_OF_VHOST, COLUMNS), columns, sparse)


BROKER_COMMANDS: Final[dict[str, tuple[str, dict[str, Command]]]] = {
    "list": (
        "as tables,",
        {
            "queues": _list(
                "queues",
                "vhost",
                "name",
                "state",
                "messages_ready",
                "messages_unacknowledged",
                "consumers",
                sparse=("exclusive_consumer_tag", "single_active_consumer_tag", "head_message_timestamp", *_GOVERNED),
            ),
            "exchanges": _list(
                "exchanges", "vhost", "name", "type", "durable", "auto_delete", "internal", sparse=_GOVERNED
            ),
            "connections": _list(
                "connections", "name", "user", "vhost", "state", "channels", "ssl", sparse=("user_provided_name",)
            ),
            "channels": _list(
                "channels",
                "name",
                "user",
                "vhost",
                "state",
                "consumer_count",
                "prefetch_count",
                "messages_unacknowledged",
                sparse=("waiting_for",),
            ),
            "vhosts": LIST_VHOSTS,
            "consumers": Command(
                "show all consumers",
                _consumers,
                (_OF_VHOST, COLUMNS),
                ("vhost", "queue", "consumer_tag", "channel", "ack_required", "prefetch_count", "unacked"),
            ),
            "bindings": Command(
                "show all bindings",
                _bindings,
                (_OF_VHOST, COLUMNS),
                ("vhost", "source", "destination", "destination_type", "routing_key", "arguments"),
            ),
        },
    ),
    "queue": (
        "a queue",
        {
            "peek": Command(
                "show messages that are ready, and leave them as they are",
                _peek,
                (_QUEUE, _COUNT, Argument("--skip", "how many to leave out (default: 0)", "0"), _ENCODING, VHOST),
                ("position", *_MESSAGE),
            ),
            "move": Command(
                "move messages to another queue",
                _move,
                (_QUEUE, Argument("target", "name of the other"), Argument("--count", "how many, at most"), VHOST),
                ("moved", "refused"),
            ),
            "delete": Command(
                "delete a queue with its messages",
                partial(_delete, "queues"),
                (
                    Argument("name", "name of the queue"),
                    _IF_UNUSED,
                    Argument("--if-empty", "only if it has no messages", is_flag=True),
                    VHOST,
                ),
            ),
        },
    ),
    "exchange": (
        "an exchange",
        {
            "delete": Command(
                "delete an exchange",
                partial(_delete, "exchanges"),
                (Argument("name", "name of the exchange"), _IF_UNUSED, VHOST),
            ),
        },
    ),
    "connection": (
        "a connection",
        {
            "close": Command(
                "close a connection",
                _close,
                (Argument("name", "its name, as in the list"), Argument("--reason", "what the client is told")),
            ),
        },
    ),
}
"""As the other commands for a running broker."""

SINGLE_COMMANDS: Final[dict[str, Command]] = {
    "publish": Command(
        "publish one message, whose body is the standard input",
        _publish,
        (
            Argument("routing_key", "with the default exchange: the name of a queue"),
            Argument("--exchange", "name of the exchange (default: the default exchange)", ""),
            Argument("--body", "the body, in the place of the standard input"),
            Argument("--properties", 'JSON object, such as {"delivery_mode": 2, "headers": {"x": 1}}', "{}"),
            VHOST,
        ),
    ),
    "get": Command(
        "show messages of a queue, which then are redelivered, or removed with --ack",
        _get,
        (_QUEUE, _COUNT, Argument("--ack", "remove them from the queue", is_flag=True), _ENCODING, VHOST),
        _MESSAGE,
    ),
    "purge": Command("remove all messages of a queue that are ready", _purge, (_QUEUE, VHOST)),
}
"""Likewise, by one word."""
