"""Which method needs which permission on what: one check for each method, in a table.

The checks, and what goes before them, are those of RabbitMQ 3.10 (rabbit_channel): where another mistake is told first,
it is left to the catalogue to tell.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.access import CONFIGURE, READ, WRITE, Access
from dispatchd.model.arguments import ALTERNATE_EXCHANGE, field_type
from dispatchd.model.binding import EXCHANGE, QUEUE, Kind
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.exchanges.types import check_exchange_type
from dispatchd.model.names import (
    DEFAULT_EXCHANGE,
    QUEUE_NAME_PREFIX,
    RESERVED_PREFIX,
    clean_name,
    refuse_default_exchange,
    refuse_reserved_name,
    server_given_name,
)

DEAD_LETTER_EXCHANGE: Final = "x-dead-letter-exchange"


def check_access(access: Access, method: m.Method, catalogue: Catalogue) -> None:
    """See that a user may do what a method asks for. Raises AccessRefused (403), or what RabbitMQ says before that.

    It has to be asked in the same turn in which the method is carried out: what it needs depends on what there is.
    """
    check = _CHECKS.get(type(method))
    if check is not None:
        check(access, method, catalogue)


def _declare_exchange(access: Access, method: Any, catalogue: Catalogue) -> None:
    if method.passive:
        return
    check_exchange_type(method.type)
    name = clean_name(method.exchange)
    refuse_default_exchange(name)
    access.check(CONFIGURE, EXCHANGE, name)
    alternate = method.arguments.get(ALTERNATE_EXCHANGE)
    if isinstance(alternate, str) and name not in catalogue.exchanges:
        refuse_reserved_name(EXCHANGE, name)
        access.check(READ, EXCHANGE, name)
        access.check(WRITE, EXCHANGE, alternate)


def _delete_exchange(access: Access, method: Any, _catalogue: Catalogue) -> None:
    name = clean_name(method.exchange)
    if name != DEFAULT_EXCHANGE and not name.startswith(RESERVED_PREFIX):
        access.check(CONFIGURE, EXCHANGE, name)


def _declare_queue(access: Access, method: Any, catalogue: Catalogue) -> None:
    if method.passive:
        return
    name = clean_name(method.queue)
    if name:
        refuse_reserved_name(QUEUE, name)
    else:  # one such as it will get
        name = server_given_name(QUEUE_NAME_PREFIX, os.urandom)
    access.check(CONFIGURE, QUEUE, name)
    if DEAD_LETTER_EXCHANGE in method.arguments and name not in catalogue.queues:
        exchange = method.arguments[DEAD_LETTER_EXCHANGE]
        if not isinstance(exchange, str):
            resource, found = catalogue.resource(QUEUE, name), field_type(exchange)
            raise PreconditionFailed(f"invalid type '{found}' for arg '{DEAD_LETTER_EXCHANGE}' in {resource}")
        access.check(READ, QUEUE, name)
        access.check(WRITE, EXCHANGE, exchange)


def _delete_queue(access: Access, method: Any, _catalogue: Catalogue) -> None:
    access.check(CONFIGURE, QUEUE, clean_name(method.queue))


def _read_queue(access: Access, method: Any, _catalogue: Catalogue) -> None:
    access.check(READ, QUEUE, clean_name(method.queue))


def _bind_queue(access: Access, method: Any, catalogue: Catalogue) -> None:
    _bind(access, catalogue, QUEUE, method.queue, method.exchange, method.routing_key)


def _bind_exchange(access: Access, method: Any, catalogue: Catalogue) -> None:
    _bind(access, catalogue, EXCHANGE, method.destination, method.source, method.routing_key)


def _bind(access: Access, catalogue: Catalogue, kind: Kind, destination: str, source: str, routing_key: str) -> None:
    destination, source = clean_name(destination), clean_name(source)
    access.check(WRITE, kind, destination)
    if kind == EXCHANGE:
        refuse_default_exchange(destination)
    refuse_default_exchange(source)
    access.check(READ, EXCHANGE, source)
    exchange = catalogue.exchanges.get(source)
    topic = access.topic_access(exchange) if exchange is not None else None
    if topic is not None:
        topic.check_read(routing_key)


_CHECKS: Final[dict[type, Callable[[Access, Any, Catalogue], None]]] = {
    m.ExchangeDeclare: _declare_exchange,
    m.ExchangeDelete: _delete_exchange,
    m.ExchangeBind: _bind_exchange,
    m.ExchangeUnbind: _bind_exchange,
    m.QueueDeclare: _declare_queue,
    m.QueueDelete: _delete_queue,
    m.QueueBind: _bind_queue,
    m.QueueUnbind: _bind_queue,
    m.QueuePurge: _read_queue,
    m.BasicGet: _read_queue,
    m.BasicConsume: _read_queue,
}
