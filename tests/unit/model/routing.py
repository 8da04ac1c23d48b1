"""Short ways to make what routing tests need."""

from typing import Any

from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.table import RoutingTable


def message(routing_key: str = "", headers: dict[str, Any] | None = None) -> Message:
    return make_message("x", routing_key, Properties(headers=headers), b"")


def queue(name: str) -> Destination:
    return Destination("queue", name)


def bind(
    table: RoutingTable, destination: Destination, routing_key: str = "", arguments: dict[str, Any] | None = None
) -> Binding:
    binding = Binding("x", destination, routing_key, arguments or {})
    table.bind(binding)
    return binding


def names(destinations: list[Destination]) -> list[str]:
    return [destination.name for destination in destinations]
