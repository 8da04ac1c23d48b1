"""Queues, exchanges and bindings made with the API, as far as the user may make them with AMQP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import bottle

from dispatchd.actors import operations
from dispatchd.actors.lookup import find_vhost
from dispatchd.actors.operations import BindingArguments
from dispatchd.actors.runtime import System
from dispatchd.actors.vhost import VhostActor
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.field_table import encode_table
from dispatchd.web.answers import created
from dispatchd.web.bindings import KINDS, find_bindings, is_called
from dispatchd.web.details import exchange_name
from dispatchd.web.operations import note
from dispatchd.web.permits import Permits, refusals
from dispatchd.web.requests import body_object, denials, text_of_body, truth_of_body


class Declarations:
    """The handlers. To declare what is there with other properties is a 400, as RabbitMQ answers it."""

    def __init__(self, system: System, permits: Permits) -> None:
        self._system = system
        self._permits = permits

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.put("/api/queues/<vhost:name>/<name:name>", callback=self.declare_queue)
        app.put("/api/exchanges/<vhost:name>/<name:name>", callback=self.declare_exchange)
        binding = "/api/bindings/<vhost:name>/e/<source:name>/<letter:re:[eq]>/<destination:name>"
        app.post(binding, callback=self.bind)
        app.delete(f"{binding}/<props:name>", callback=self.unbind)

    def declare_queue(self, vhost: str, name: str) -> str:
        """Declare a queue: `durable`, `auto_delete` and `arguments` are in the body. Raises 400, 401 and 404."""
        body = body_object()
        method = m.QueueDeclare(
            queue=name,
            durable=truth_of_body(body, "durable") or False,
            auto_delete=truth_of_body(body, "auto_delete") or False,
            arguments=_arguments(body),
        )
        host = self._vhost(vhost)
        is_new = name not in host.catalogue.queues
        self._order(host, method)
        if is_new:
            note("declared queue %r in vhost %r", name, vhost)
        return created(is_new)

    def declare_exchange(self, vhost: str, name: str) -> str:
        """Declare an exchange, likewise, with its `type`, and `internal`. Raises 400, 401 and 404."""
        body = body_object()
        method = m.ExchangeDeclare(
            exchange=exchange_name(name),
            type=text_of_body(body, "type") or "direct",
            durable=truth_of_body(body, "durable") or False,
            auto_delete=truth_of_body(body, "auto_delete") or False,
            internal=truth_of_body(body, "internal") or False,
            arguments=_arguments(body),
        )
        host = self._vhost(vhost)
        is_new = name not in host.catalogue.exchanges
        self._order(host, method)
        if is_new:
            note("declared exchange %r in vhost %r", name, vhost)
        return created(is_new)

    def bind(self, vhost: str, source: str, letter: str, destination: str) -> str:
        """Bind: `routing_key` and `arguments` are in the body. Raises 400, 401 and 404.

        The header Location ends in the name that the binding has among those of the same ends.
        """
        body, kind = body_object(), KINDS[letter]
        key, arguments = text_of_body(body, "routing_key") or "", _arguments(body)
        self._bind(vhost, (exchange_name(source), kind, destination, key, arguments))
        for binding in find_bindings(self._vhost(vhost).catalogue, exchange_name(source), kind, destination):
            if (binding["routing_key"], binding["arguments"]) == (key, arguments):
                props = quote(binding["properties_key"], safe="")
                bottle.response.set_header("Location", f"{quote(destination, safe='')}/{props}")
        note("bound %s %r to exchange %r of vhost %r by key %r", kind, destination, source, vhost, key)
        return created(is_new=True)

    def unbind(self, vhost: str, source: str, letter: str, destination: str, props: str) -> str:
        """Take a binding away. Raises 401 and 404."""
        kind = KINDS[letter]
        catalogue = self._vhost(vhost).catalogue
        for binding in find_bindings(catalogue, exchange_name(source), kind, destination):
            if is_called(binding, props):
                key, arguments = binding["routing_key"], binding["arguments"]
                self._bind(vhost, (exchange_name(source), kind, destination, key, arguments), undo=True)
                note("unbound %s %r from exchange %r of vhost %r by key %r", kind, destination, source, vhost, key)
                return created(is_new=False)
        raise bottle.HTTPError(404, f"no binding '{props}'")

    def _bind(self, vhost: str, binding: BindingArguments, *, undo: bool = False) -> None:
        host, access = self._vhost(vhost), self._permits.access(vhost)
        with denials(), refusals(access):
            operations.bind(host.ref, binding, access, undo=undo)

    def _order(self, host: VhostActor, method: m.QueueDeclare | m.ExchangeDeclare) -> None:
        access = self._permits.access(host.name)
        with denials(), refusals(access):
            operations.declare(host.ref, method, access)

    def _vhost(self, name: str) -> VhostActor:
        with denials():
            return find_vhost(self._system, name)


def _arguments(body: dict[str, Any]) -> dict[str, Any]:
    """The arguments in a body. Raises 400 for what AMQP can't send. Old clients send no arguments as []."""
    found = body.get("arguments") or {}
    if not isinstance(found, dict):
        raise bottle.HTTPError(400, f"arguments is {found!r}, expected an object")
    try:
        encode_table(found)
    except (AmqpError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise bottle.HTTPError(400, f"arguments can't be sent by AMQP: {error}") from None
    return found
