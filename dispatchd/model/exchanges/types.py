"""The exchange types by name, and what each of them asks for."""

from typing import Any, Final

from dispatchd.amqp.errors import CommandInvalid
from dispatchd.model.exchanges.consistent_hash import (
    CONSISTENT_HASH,
    ConsistentHashTable,
    check_hash_arguments,
    check_weight,
)
from dispatchd.model.exchanges.delayed import DELAYED_MESSAGE, check_delayed_type, routing_type
from dispatchd.model.exchanges.direct import DirectTable
from dispatchd.model.exchanges.fanout import FanoutTable
from dispatchd.model.exchanges.headers import HeadersTable, check_headers_binding
from dispatchd.model.exchanges.modulus_hash import MODULUS_HASH, ModulusHashTable
from dispatchd.model.exchanges.random_choice import RANDOM, RandomTable
from dispatchd.model.exchanges.recent_history import RECENT_HISTORY, check_history_arguments
from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.exchanges.topic import TopicTable

_WITHOUT_ARGUMENTS: Final[dict[str, type[RoutingTable]]] = {
    "direct": DirectTable,
    "fanout": FanoutTable,
    "headers": HeadersTable,
    "topic": TopicTable,
    MODULUS_HASH: ModulusHashTable,
    RANDOM: RandomTable,
    RECENT_HISTORY: FanoutTable,
}
EXCHANGE_TYPES: Final = (*_WITHOUT_ARGUMENTS, CONSISTENT_HASH, DELAYED_MESSAGE)


def check_exchange_type(name: str) -> None:
    """Raises CommandInvalid (503) for a type that does not exist, with RabbitMQ's text."""
    if name not in EXCHANGE_TYPES:
        raise CommandInvalid(f"{'unknown' if name else 'invalid'} exchange type '{name}'")


def check_type_arguments(type_name: str, resource: str, arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for arguments of a new exchange that its type refuses.

    CommandInvalid (503) if they name a type to route by that does not exist.
    """
    if type_name == DELAYED_MESSAGE:
        check_delayed_type(arguments)
        type_name = routing_type(type_name, arguments)
        check_exchange_type(type_name)
    if type_name == CONSISTENT_HASH:
        check_hash_arguments(resource, arguments)
    elif type_name == RECENT_HISTORY:
        check_history_arguments(arguments)


def check_binding(type_name: str, routing_key: str, arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for a binding that the type by which the exchange routes refuses."""
    if type_name == "headers":
        check_headers_binding(arguments)
    elif type_name == CONSISTENT_HASH:
        check_weight(routing_key)


def make_routing_table(type_name: str, arguments: dict[str, Any] | None = None) -> RoutingTable:
    """An empty table for an exchange with these arguments; raises CommandInvalid (503) for an unknown type."""
    arguments = arguments or {}
    type_name = routing_type(type_name, arguments)
    check_exchange_type(type_name)
    if type_name == CONSISTENT_HASH:
        return ConsistentHashTable(arguments)
    return _WITHOUT_ARGUMENTS[type_name]()
