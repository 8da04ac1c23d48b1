"""What operators do to queues, exchanges and connections, in the API: as RabbitMQ's management has it, and more."""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from typing import Any, Final

import bottle

from dispatchd.actors import operations
from dispatchd.actors.breath import in_turns
from dispatchd.actors.lookup import find_by_name, find_exchange, find_queue, find_vhost
from dispatchd.actors.messages import CloseConnection
from dispatchd.actors.operations import ACK_MODES
from dispatchd.actors.orders import Peek
from dispatchd.actors.runtime import Ref, System
from dispatchd.web.answers import answer_json, created
from dispatchd.web.details import exchange_name
from dispatchd.web.encoding import plain
from dispatchd.web.meter import figures_of
from dispatchd.web.permits import Permits
from dispatchd.web.requests import body_object, denials, give
from dispatchd.web.roles import current

audit = logging.getLogger("dispatchd.audit")

MOST_MESSAGES: Final = 1000
MOST_MOVED: Final = 10_000
CLOSE_SECONDS: Final = 5.0
REASON_HEADER: Final = "X-Reason"
NO_REASON: Final = "Closed via management plugin"
"""RabbitMQ's, which clients' tests look for."""
ENCODINGS: Final = ("auto", "base64")


class Operations:
    """The handlers. Who did what is written to the log `dispatchd.audit`."""

    def __init__(self, system: System, permits: Permits) -> None:
        self._system = system
        self._permits = permits

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        queue, exchange = "/api/queues/<vhost:name>/<name:name>", "/api/exchanges/<vhost:name>/<name:name>"
        app.delete(queue, callback=self.delete_queue)
        app.delete(f"{queue}/contents", callback=self.purge)
        app.get(f"{queue}/peek", callback=self.peek)
        app.post(f"{queue}/get", callback=self.get)
        app.post(f"{queue}/move", callback=self.move)
        app.delete(exchange, callback=self.delete_exchange)
        app.post(f"{exchange}/publish", callback=self.publish)
        app.delete("/api/connections/<name:name>", callback=self.close_connection)
        app.delete("/api/connections/username/<user:name>", callback=self.close_connections)

    def delete_queue(self, vhost: str, name: str) -> str:
        """Delete a queue; `if-unused` and `if-empty` in the query are conditions. Raises 400 and 404."""
        if_unused, if_empty = _is_asked("if-unused"), _is_asked("if-empty")
        self._permits.require("configure", "queue", vhost, name)
        with denials():
            queue = find_queue(self._system, vhost, name)
            count = operations.delete_queue(queue, name, if_unused=if_unused, if_empty=if_empty)
        note("deleted queue %r of vhost %r with %d messages", name, vhost, count)
        return created(is_new=False)

    def purge(self, vhost: str, name: str) -> str:
        """Remove all that is ready in a queue. Raises 404."""
        self._permits.require("read", "queue", vhost, name)
        with denials():
            count = operations.purge(find_queue(self._system, vhost, name), name)
        note("purged queue %r of vhost %r of %d messages", name, vhost, count)
        return created(is_new=False)

    def peek(self, vhost: str, name: str) -> str:
        """Messages that are ready, left where they are: `count` of them behind the first `skip`. Raises 400 and 404."""
        query = bottle.request.query
        count = _whole(query.get("count", "10"), "count", 1, MOST_MESSAGES)
        skip = _whole(query.get("skip", "0"), "skip", 0, 1 << 30)
        encoding, truncate = _shown(query.get("encoding"), query.get("truncate"))
        rows = give(self._queue(vhost, name), Peek(count, skip, encoding, truncate))
        return _answer_messages(rows)

    def get(self, vhost: str, name: str) -> str:
        """Take messages from a queue; the body says how many, and what becomes of them. Raises 400 and 404."""
        self._permits.require("read", "queue", vhost, name)
        body = body_object()
        count = _whole(body.get("count", 1), "count", 1, MOST_MESSAGES)
        requeues = body.get("requeue", True) in (True, "true")  # what clients say who are older than ackmode
        ack_mode = body.get("ackmode", f"ack_requeue_{str(requeues).lower()}")
        if ack_mode not in ACK_MODES:
            raise bottle.HTTPError(400, f"ackmode is {ack_mode!r}, expected one of {', '.join(ACK_MODES)}")
        encoding, truncate = _shown(body.get("encoding"), body.get("truncate"))
        with denials():
            rows = operations.get(find_queue(self._system, vhost, name), name, count, ack_mode, encoding, truncate)
        if not ack_mode.endswith("true"):
            note("took %d messages from queue %r of vhost %r (%s)", len(rows), name, vhost, ack_mode)
        return _answer_messages(rows)

    def move(self, vhost: str, name: str) -> str:
        """Move messages to the queue `target` of the same vhost, at most `count`. Raises 400 and 404.

        The answer says how many were `moved`, and how many the target `refused`; those stay.
        """
        body = body_object()
        target = body.get("target")
        if not isinstance(target, str) or not target:
            raise bottle.HTTPError(400, "target is missing, expected the name of a queue")
        if target == name:
            raise bottle.HTTPError(400, "target is the queue itself")
        count = _whole(body.get("count", MOST_MOVED), "count", 1, MOST_MOVED)
        with denials():
            find_queue(self._system, vhost, target)
            queue, exchange = find_queue(self._system, vhost, name), find_exchange(self._system, vhost, "")
            moved, refused = operations.move(queue, name, exchange, target, count)
        note("moved %d messages from queue %r to %r in vhost %r", moved, name, target, vhost)
        return answer_json(json.dumps({"moved": moved, "refused": refused}))

    def delete_exchange(self, vhost: str, name: str) -> str:
        """Delete an exchange; `if-unused` in the query is a condition. Raises 400, 403 and 404."""
        self._permits.require("configure", "exchange", vhost, exchange_name(name))
        with denials():
            find_exchange(self._system, vhost, exchange_name(name))
            vhost_ref = find_vhost(self._system, vhost).ref
            operations.delete_exchange(vhost_ref, exchange_name(name), if_unused=_is_asked("if-unused"))
        note("deleted exchange %r of vhost %r", name, vhost)
        return created(is_new=False)

    def publish(self, vhost: str, name: str) -> str:
        """Publish the message in the body; the answer says whether it was `routed` to a queue. Raises 400 and 404."""
        body = body_object()
        missing = [key for key in ("routing_key", "payload") if not isinstance(body.get(key), str)]
        if missing:
            raise bottle.HTTPError(400, f"{missing[0]} is missing, expected a string")
        properties = body.get("properties") or {}
        if not isinstance(properties, dict):
            raise bottle.HTTPError(400, f"properties is {properties!r}, expected an object")
        payload = _octets(body["payload"], body.get("payload_encoding", "string"))
        self._permits.require_publish(vhost, exchange_name(name), body["routing_key"], properties)
        with denials():
            exchange = find_exchange(self._system, vhost, exchange_name(name), to_publish=True)
            routed = operations.publish(exchange, exchange_name(name), body["routing_key"], properties, payload)
        note("published to exchange %r of vhost %r by key %r", name, vhost, body["routing_key"])
        return answer_json(json.dumps({"routed": routed}))

    def close_connection(self, name: str) -> str:
        """Close a connection with 320, and the header X-Reason as its text. Raises 404, and 503 if it stays."""
        reason = _reason()
        with denials():
            actor = find_by_name(self._system, "connection", name)
        actor.ref.tell(CloseConnection(reason))
        note("closed connection %r: %s", name, reason)
        if not actor.actor_stopped.wait(CLOSE_SECONDS):
            raise bottle.HTTPError(503, f"it did not close in {CLOSE_SECONDS:g} s")
        return created(is_new=False)

    def close_connections(self, user: str) -> str:
        """Close all connections of a user, likewise; there need not be any. Nobody waits until they are gone."""
        reason = _reason()
        for actor in in_turns(list(self._system.actors.values())):
            if actor.kind == "connection" and (figures_of(actor) or {}).get("user") == user:
                actor.ref.tell(CloseConnection(reason))
        note("closed the connections of user %r: %s", user, reason)
        return created(is_new=False)

    def _queue(self, vhost: str, name: str) -> Ref:
        with denials():
            return find_queue(self._system, vhost, name)


def _answer_messages(rows: list[dict[str, Any]]) -> str:
    """Bodies are told whole: only their encoding, and `truncate`, change them. rabbitmqadmin's tables take no null."""
    shown = [{**plain(row), "payload": row["payload"]} for row in rows]
    told = [{name: value for name, value in row.items() if value is not None} for row in shown]
    return answer_json(json.dumps(told, allow_nan=False))


def note(what: str, *arguments: Any) -> None:
    """Write down who did what. Names are shown as Python writes them: a line break in one makes no line of its own."""
    request = bottle.request
    audit.info("%r from %s " + what, current().name, request.environ.get("REMOTE_ADDR"), *arguments)


def _reason() -> str:
    return bottle.request.get_header(REASON_HEADER, "").strip() or NO_REASON


def _is_asked(name: str) -> bool:
    return bool(bottle.request.query.get(name) == "true")


def _whole(given: Any, name: str, least: int, most: int) -> int:
    """A whole number, which rabbitmqadmin sends as a string. Raises 400."""
    number = int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 12 else given
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise bottle.HTTPError(400, f"{name} is {given!r}, expected a whole number from {least} to {most}")
    return number


def _shown(encoding: Any, truncate: Any) -> tuple[str, int | None]:
    if encoding not in (None, *ENCODINGS):
        raise bottle.HTTPError(400, f"encoding is {encoding!r}, expected auto or base64")
    return encoding or "auto", None if truncate is None else _whole(truncate, "truncate", 0, 1 << 31)


def _octets(payload: str, encoding: Any) -> bytes:
    if encoding == "string":
        return payload.encode()
    if encoding == "base64":
        try:
            return b64decode(payload, validate=True)
        except ValueError:
            raise bottle.HTTPError(400, "the payload is not base64") from None
    raise bottle.HTTPError(400, f"payload_encoding is {encoding!r}, expected string or base64")
