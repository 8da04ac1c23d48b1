"""The exchange types by name."""

from typing import Final

from dispatchd.amqp.errors import CommandInvalid
from dispatchd.model.exchanges.direct import DirectTable
from dispatchd.model.exchanges.fanout import FanoutTable
from dispatchd.model.exchanges.headers import HeadersTable
from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.exchanges.topic import TopicTable

EXCHANGE_TYPES: Final[dict[str, type[RoutingTable]]] = {
    "direct": DirectTable,
    "fanout": FanoutTable,
    "headers": HeadersTable,
    "topic": TopicTable,
}


def check_exchange_type(name: str) -> None:
    """Raises CommandInvalid (503) for a type that does not exist, with RabbitMQ's text."""
    if name not in EXCHANGE_TYPES:
        raise CommandInvalid(f"{'unknown' if name else 'invalid'} exchange type '{name}'")


def make_routing_table(type_name: str) -> RoutingTable:
    """An empty table of an exchange type; raises CommandInvalid (503) for a type that does not exist."""
    check_exchange_type(type_name)
    return EXCHANGE_TYPES[type_name]()
