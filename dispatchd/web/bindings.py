"""Bindings in the API, read from the catalogues: those of a vhost, of an exchange, of a queue, and between two."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.lookup import find_exchange, find_queue, find_vhost
from dispatchd.actors.runtime import System
from dispatchd.actors.vhost import VhostActor
from dispatchd.web.answers import Answer, answer_json
from dispatchd.web.details import exchange_name
from dispatchd.web.encoding import plain
from dispatchd.web.fields import binding_row
from dispatchd.web.requests import denials
from dispatchd.web.roles import current, sees_vhost
from dispatchd.web.snapshots import Row
from dispatchd.web.tables import answer_table

KINDS: Final = {"e": "exchange", "q": "queue"}
"""What the letters in addresses stand for."""


class Bindings:
    """The handlers."""

    def __init__(self, system: System) -> None:
        self._system = system

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/bindings", callback=self.show_all)
        app.get("/api/bindings/<vhost:name>", callback=self.show_those_of)
        between = "/api/bindings/<vhost:name>/e/<source:name>/<letter:re:[eq]>/<destination:name>"
        app.get(between, callback=self.show_between)
        app.get(f"{between}/<props:name>", callback=self.show)
        app.get("/api/queues/<vhost:name>/<name:name>/bindings", callback=self.show_queue)
        exchange = "/api/exchanges/<vhost:name>/<name:name>/bindings"
        app.get(f"{exchange}/source", callback=self.show_from)
        app.get(f"{exchange}/destination", callback=self.show_to)

    def show_all(self) -> Answer:
        """Those of all vhosts that the user sees."""
        who = current()
        hosts = [actor for actor in in_turns(list(self._system.actors.values())) if isinstance(actor, VhostActor)]
        hosts = sorted((host for host in hosts if sees_vhost(who, host.name)), key=lambda host: host.name)
        return answer_table([row for host in hosts for row in all_bindings(host.catalogue)])

    def show_those_of(self, vhost: str) -> Answer:
        """Those of one vhost. Raises 404."""
        return answer_table(all_bindings(self._catalogue(vhost)))

    def show_between(self, vhost: str, source: str, letter: str, destination: str) -> Answer:
        """Those between an exchange and a queue, or another exchange. Raises 404."""
        source, kind = exchange_name(source), KINDS[letter]
        catalogue = self._catalogue(vhost)
        with denials():
            find_exchange(self._system, vhost, source)
            (find_queue if kind == "queue" else find_exchange)(self._system, vhost, destination)
        return answer_table(find_bindings(catalogue, source, kind, destination))

    def show(self, vhost: str, source: str, letter: str, destination: str, props: str) -> str:
        """One of them. Raises 404."""
        for row in find_bindings(self._catalogue(vhost), exchange_name(source), KINDS[letter], destination):
            if is_called(row, props):
                return answer_json(json.dumps(plain(row), allow_nan=False))
        raise bottle.HTTPError(404, f"no binding '{props}'")

    def show_queue(self, vhost: str, name: str) -> Answer:
        """Those that lead to a queue. Raises 404."""
        with denials():
            find_queue(self._system, vhost, name)
        catalogue = self._catalogue(vhost)
        return answer_table([implied(vhost, name), *_rows(vhost, catalogue.bindings_to("queue", name))])

    def show_from(self, vhost: str, name: str) -> Answer:
        """Those with this source. Raises 404."""
        catalogue, source = self._catalogue(vhost), exchange_name(name)
        with denials():
            find_exchange(self._system, vhost, source)
        if not source:
            return answer_table([implied(vhost, queue) for queue in in_turns(list(catalogue.queues))])
        return answer_table(_rows(vhost, catalogue.bindings_from(source)))

    def show_to(self, vhost: str, name: str) -> Answer:
        """Those that lead to an exchange. Raises 404."""
        with denials():
            find_exchange(self._system, vhost, exchange_name(name))
        return answer_table(_rows(vhost, self._catalogue(vhost).bindings_to("exchange", exchange_name(name))))

    def _catalogue(self, vhost: str) -> Any:
        with denials():
            return find_vhost(self._system, vhost).catalogue


def all_bindings(catalogue: Any) -> list[Row]:
    """Those of a vhost, and of each queue the one of the default exchange, which only its name makes."""
    implied_ones = [implied(catalogue.vhost, queue) for queue in in_turns(list(catalogue.queues))]
    return implied_ones + _rows(catalogue.vhost, catalogue.bindings())


def find_bindings(catalogue: Any, source: str, kind: str, destination: str) -> list[Row]:
    """Those from an exchange to this queue or exchange."""
    if not source:
        is_one = kind == "queue" and destination in catalogue.queues
        return [implied(catalogue.vhost, destination)] if is_one else []
    found = [each for each in catalogue.bindings_to(kind, destination) if each.source == source]
    return _rows(catalogue.vhost, found)


def is_called(row: Row, props: str) -> bool:
    """Whether this is a binding's name; the key in that is quoted, and clients quote it once more, or do not."""
    return props in (row["properties_key"], unquote_plus(row["properties_key"]))


def implied(vhost: str, queue: str) -> Row:
    """How the default exchange leads to a queue."""
    return binding_row(vhost, "", "queue", queue, queue, {}, quote_plus(queue).replace("~", "%7E"))


def _rows(vhost: str, bindings: list[Any]) -> list[Row]:
    return [
        binding_row(
            vhost,
            binding.source,
            binding.destination.kind,
            binding.destination.name,
            binding.routing_key,
            binding.arguments,
            binding.properties_key,
        )
        for binding in in_turns(bindings)
    ]
