"""All definitions in RabbitMQ's format, a row at a time: there may be many, and the loop has other things to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dispatchd import __version__
from dispatchd.actors.directory import Directory, Row
from dispatchd.actors.identity import COMPATIBLE_VERSION
from dispatchd.actors.orders import ShowPolicies, ShowVhost, carry_out
from dispatchd.actors.session import Vhost

SECONDS = 10.0
Rows = Iterator[Row]


class Exporter:
    """What comes with a passage of time may not fit together in all of it: nobody is stopped meanwhile."""

    def __init__(self, directory: Directory, vhosts: Mapping[str, Vhost]) -> None:
        self._directory = directory
        self._vhosts = vhosts

    def facts(self) -> Row:
        """Who wrote it, and the version of RabbitMQ whose format it is."""
        return {
            "rabbit_version": COMPATIBLE_VERSION,
            "rabbitmq_version": COMPATIBLE_VERSION,
            "product_name": "dispatchd",
            "product_version": __version__,
        }

    def has(self, vhost: str) -> bool:
        """Whether there is a vhost of this name."""
        return vhost in self._vhosts

    def of_broker(self) -> Iterator[tuple[str, Rows]]:
        """Everything, by kind; users of the configuration file are not part of it."""
        users = [row for row in self._directory.users() if not row.pop("of_file")]
        yield "users", iter(users)
        yield "vhosts", self._each_vhost(_vhost_row)
        yield "permissions", iter(self._directory.permissions())
        yield "topic_permissions", iter(self._directory.topic_permissions())
        yield "global_parameters", iter(())
        for kind, rows in _OF_VHOSTS.items():
            yield kind, self._each_vhost(rows)

    def of_vhost(self, name: str) -> Iterator[tuple[str, Rows]]:
        """What is in one vhost that there is, likewise, without its name."""
        vhost = self._vhosts[name]
        for kind, rows in _OF_VHOSTS.items():
            yield kind, (_without_vhost(row) for row in rows(vhost))

    def _each_vhost(self, rows: Any) -> Rows:
        for vhost in list(self._vhosts.values()):
            yield from rows(vhost)


def _without_vhost(row: Row) -> Row:
    del row["vhost"]
    return row


def _vhost_row(vhost: Vhost) -> Rows:
    definition = carry_out(vhost.ref, ShowVhost(), SECONDS)
    yield {key: definition[key] for key in ("name", "description", "tags", "tracing")}


def _parameters(vhost: Vhost) -> Rows:
    if vhost.limits:
        limits = dict(vhost.limits)
        yield {"vhost": vhost.name, "component": "vhost-limits", "name": "limits", "value": limits}
    for row in carry_out(vhost.ref, ShowPolicies(is_operator=True), SECONDS):
        value = {key: row[key] for key in ("pattern", "definition", "priority", "apply-to")}
        yield {"vhost": vhost.name, "component": "operator_policy", "name": row["name"], "value": value}


def _policies(vhost: Vhost) -> Rows:
    yield from carry_out(vhost.ref, ShowPolicies(is_operator=False), SECONDS)


def _queues(vhost: Vhost) -> Rows:
    for queue in list(vhost.catalogue.queues.values()):
        if not queue.exclusive:
            yield {
                "name": queue.name,
                "vhost": vhost.name,
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "arguments": queue.arguments,
            }


def _exchanges(vhost: Vhost) -> Rows:
    for exchange in list(vhost.catalogue.exchanges.values()):
        if exchange.name and not exchange.name.startswith("amq."):
            yield {
                "name": exchange.name,
                "vhost": vhost.name,
                "type": exchange.type,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "internal": exchange.internal,
                "arguments": exchange.arguments,
            }


def _bindings(vhost: Vhost) -> Rows:
    catalogue = vhost.catalogue
    for source in list(catalogue.exchanges):
        for binding in catalogue.bindings_from(source):
            queue = catalogue.queues.get(binding.destination.name) if binding.destination.is_queue else None
            if queue is None or not queue.exclusive:
                yield {
                    "source": source,
                    "vhost": vhost.name,
                    "destination": binding.destination.name,
                    "destination_type": binding.destination.kind,
                    "routing_key": binding.routing_key,
                    "arguments": binding.arguments,
                }


_OF_VHOSTS: dict[str, Any] = {
    "parameters": _parameters,
    "policies": _policies,
    "queues": _queues,
    "exchanges": _exchanges,
    "bindings": _bindings,
}
