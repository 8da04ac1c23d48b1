"""The definitions of one vhost, and what AMQP and RabbitMQ allow to do with them.

Reply codes and texts are RabbitMQ 3.10's (rabbit_channel, rabbit_amqqueue, rabbit_exchange, rabbit_binding).
"""

from collections.abc import Callable
from typing import Any, Final

from dispatchd.amqp.errors import AccessRefused, NotFound, PreconditionFailed, ResourceLocked
from dispatchd.model.arguments import (
    EXCHANGE_ARGUMENTS,
    QUEUE_ARGUMENTS,
    check_exchange_arguments,
    check_same_arguments,
    check_same_field,
)
from dispatchd.model.binding import EXCHANGE, QUEUE, Binding, BindingKey, Destination, Kind, binding_key
from dispatchd.model.definitions import ExchangeDefinition, QueueDefinition, Record, arguments_from_text
from dispatchd.model.direct_replies import ReplyAddresses
from dispatchd.model.erlang import shown_atom
from dispatchd.model.exchanges.delayed import DELAYED_MESSAGE, DELAYED_TYPE
from dispatchd.model.exchanges.types import check_binding, check_exchange_type, check_type_arguments
from dispatchd.model.names import (
    DEFAULT_EXCHANGE,
    QUEUE_NAME_PREFIX,
    RESERVED_PREFIX,
    TRACE_EXCHANGE,
    clean_name,
    refuse_default_exchange,
    refuse_reserved_name,
    server_given_name,
)
from dispatchd.model.queue_rules import check_deduplication_arguments, check_queue_arguments

PREDECLARED: Final = (
    (DEFAULT_EXCHANGE, "direct", False),
    ("amq.direct", "direct", False),
    ("amq.fanout", "fanout", False),
    ("amq.headers", "headers", False),
    ("amq.match", "headers", False),
    (TRACE_EXCHANGE, "topic", True),
    ("amq.topic", "topic", False),
)  # name, type, internal


class Removed:
    """What an operation took away, for those who have to be told: a removed exchange may take others with it."""

    __slots__ = ("bindings", "exchanges", "queues")

    def __init__(self) -> None:
        self.queues: list[QueueDefinition] = []
        self.exchanges: list[ExchangeDefinition] = []
        self.bindings: list[Binding] = []


class Catalogue:
    """Exchanges, queues and bindings of one vhost; every change keeps them consistent or raises and changes nothing.

    `random_octets(n)` is the source of server-given names; `new_queue_id()` gives ids that no queue has or had.
    """

    def __init__(self, vhost: str, random_octets: Callable[[int], bytes], new_queue_id: Callable[[], int]) -> None:
        self.vhost = vhost
        self._random_octets = random_octets
        self._new_queue_id = new_queue_id
        self.exchanges: dict[str, ExchangeDefinition] = {}
        self.queues: dict[str, QueueDefinition] = {}
        self.queue_destinations: dict[str, Destination] = {}  # by name, for the default exchange
        self.reply_addresses = ReplyAddresses(random_octets)  # likewise; channels open and close them
        self.tap: Any = None  # the way to the vhost's tracer, while it is traced
        self._owned: dict[Any, dict[str, QueueDefinition]] = {}  # exclusive queues by their connection
        self._from: dict[str, dict[BindingKey, Binding]] = {}
        self._to: dict[Destination, dict[BindingKey, Binding]] = {}
        for name, type_name, internal in PREDECLARED:
            self._add_exchange(ExchangeDefinition(name, type_name, durable=True, internal=internal))

    # Exchanges

    def declare_exchange(
        self,
        name: str,
        type_name: str,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: dict[str, Any],
    ) -> tuple[ExchangeDefinition, bool]:
        """The exchange, and whether it is new.

        Raises CommandInvalid (503) for an unknown type, also to route by; AccessRefused (403) for a reserved name; and
        PreconditionFailed (406) for bad arguments and for an exchange that exists and differs.
        """
        check_exchange_type(type_name)
        name = clean_name(name)
        refuse_default_exchange(name)
        resource = self.resource(EXCHANGE, name)
        existing = self.exchanges.get(name)
        if existing is not None:
            check_same_field(resource, "type", shown_atom(type_name), shown_atom(existing.type))
            check_same_field(resource, "durable", durable, existing.durable)
            check_same_field(resource, "auto_delete", auto_delete, existing.auto_delete)
            check_same_field(resource, "internal", internal, existing.internal)
            check_same_arguments(resource, EXCHANGE_ARGUMENTS, arguments, existing.arguments)
            if type_name == DELAYED_MESSAGE:  # the plugin doesn't compare it, and goes on routing as before
                check_same_arguments(resource, (DELAYED_TYPE,), arguments, existing.arguments)
            return existing, False
        refuse_reserved_name(EXCHANGE, name)
        check_exchange_arguments(resource, arguments)
        check_deduplication_arguments(resource, arguments)
        check_type_arguments(type_name, resource, arguments)
        queue_id = self._new_queue_id() if type_name == DELAYED_MESSAGE else 0
        created = ExchangeDefinition(name, type_name, durable, auto_delete, internal, arguments, queue_id)
        self._add_exchange(created)
        return created, True

    def passive_exchange(self, name: str) -> ExchangeDefinition:
        """The exchange that a passive declare asks for; raises AccessRefused (403) for the default one, or NotFound."""
        name = clean_name(name)
        refuse_default_exchange(name)
        return self.existing_exchange(name)

    def existing_exchange(self, name: str) -> ExchangeDefinition:
        """The exchange; raises NotFound (404)."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise self._missing(EXCHANGE, name)
        return exchange

    def exchange_to_publish_to(self, name: str) -> ExchangeDefinition:
        """The exchange; raises NotFound (404), or AccessRefused (403) for an internal one."""
        exchange = self.existing_exchange(name)
        if exchange.internal:
            raise AccessRefused(f"cannot publish to internal {self.resource(EXCHANGE, name)}")
        return exchange

    def delete_exchange(self, name: str, if_unused: bool) -> Removed | None:
        """What went with the exchange, or None if there was none, which is no error.

        Raises AccessRefused (403) for a predeclared one and PreconditionFailed (406) if it is in use and must not be.
        """
        name = clean_name(name)
        refuse_default_exchange(name)
        if name.startswith(RESERVED_PREFIX):
            raise AccessRefused(f"deletion of system {self.resource(EXCHANGE, name)} not allowed")
        exchange = self.exchanges.get(name)
        if exchange is None:
            return None
        if if_unused and self._from.get(name):
            raise in_use(self.resource(EXCHANGE, name))
        removed = Removed()
        self._remove_exchange(exchange, removed)
        return removed

    def drop_exchange(self, name: str) -> Removed:
        """What went with the exchange, predeclared or not: the vhost itself goes."""
        removed = Removed()
        self._remove_exchange(self.exchanges[name], removed)
        return removed

    # Queues

    def declare_queue(
        self,
        name: str,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: dict[str, Any],
        connection: Any,
    ) -> tuple[QueueDefinition, bool]:
        """The queue, and whether it is new. An empty name asks for one of ours; an exclusive queue is never durable.

        Raises AccessRefused (403) for a reserved name, ResourceLocked (405) for a queue that is exclusive and was not
        declared so on this `connection`, or the other way round, and PreconditionFailed (406) for bad arguments and
        for a queue that exists and differs.
        """
        name = clean_name(name)
        if name:
            refuse_reserved_name(QUEUE, name)
        else:
            name = server_given_name(QUEUE_NAME_PREFIX, self._random_octets)
        resource = self.resource(QUEUE, name)
        durable = durable and not exclusive
        owner = connection if exclusive else None
        existing = self.queues.get(name)
        if existing is not None:
            if existing.owner != owner:
                raise self._locked(name)
            check_same_field(resource, "durable", durable, existing.durable)
            check_same_field(resource, "auto_delete", auto_delete, existing.auto_delete)
            check_same_arguments(resource, QUEUE_ARGUMENTS, arguments, existing.arguments)
            return existing, False
        check_queue_arguments(resource, arguments)
        created = QueueDefinition(name, self._new_queue_id(), durable, auto_delete, arguments, owner)
        self._add_queue(created)
        return created, True

    def existing_queue(self, name: str, connection: Any) -> QueueDefinition:
        """The queue that a passive declare, get, consume, purge or delete names.

        Raises NotFound (404), or ResourceLocked (405) if it is exclusive to another connection.
        """
        name = clean_name(name)
        queue = self.queues.get(name)
        if queue is None:
            raise self._missing(QUEUE, name)
        self._check_access(queue, connection)
        return queue

    def delete_queue(self, name: str) -> Removed | None:
        """What went with the queue, or None if there was none, which is no error.

        Whether this connection may, and if-unused and if-empty, are for the caller to see to: `existing_queue`,
        `in_use`, `not_empty`.
        """
        queue = self.queues.pop(clean_name(name), None)
        if queue is None:
            return None
        del self.queue_destinations[queue.name]
        if queue.exclusive:
            owned = self._owned[queue.owner]
            del owned[queue.name]
            if not owned:
                del self._owned[queue.owner]
        removed = Removed()
        removed.queues.append(queue)
        self._remove_bindings_to(queue.destination, removed)
        return removed

    def queues_of(self, connection: Any) -> list[QueueDefinition]:
        """The exclusive queues of a connection: they go when it goes."""
        return list(self._owned.get(connection, {}).values())

    # Bindings

    def bind(
        self,
        source: str,
        kind: Kind,
        destination: str,
        routing_key: str,
        arguments: dict[str, Any],
        connection: Any,
    ) -> Binding | None:
        """The new binding, or None if it was there already.

        Raises AccessRefused (403) for the default exchange, NotFound (404), PreconditionFailed (406) for a binding that
        the exchange type refuses, ResourceLocked (405) for a queue of another connection.
        """
        source, destination = clean_name(source), clean_name(destination)
        refuse_default_exchange(source)
        if kind == EXCHANGE:
            refuse_default_exchange(destination)
        exchange = self.existing_exchange(source)
        target = self._destination(kind, destination)
        if target is None:
            raise self._missing(kind, destination)
        check_binding(exchange.routing_type, routing_key, arguments)
        if kind == QUEUE:
            self._check_access(self.queues[destination], connection)
        return self._add_binding(source, target, routing_key, arguments)

    def unbind(
        self,
        source: str,
        kind: Kind,
        destination: str,
        routing_key: str,
        arguments: dict[str, Any],
        connection: Any,
    ) -> Removed | None:
        """What went with the binding, or None if it, its source or its destination was missing, which is no error.

        Raises AccessRefused (403) for the default exchange and ResourceLocked (405) for a queue of another connection.
        """
        source, destination = clean_name(source), clean_name(destination)
        refuse_default_exchange(source)
        if kind == EXCHANGE:
            refuse_default_exchange(destination)
        key = binding_key(source, kind, destination, routing_key, arguments)
        binding = self._from.get(source, {}).get(key)
        if binding is None:
            return None
        if kind == QUEUE:
            self._check_access(self.queues[destination], connection)
        removed = Removed()
        self._remove_binding(binding, removed)
        self._remove_if_unused(source, removed)
        return removed

    def bindings(self) -> list[Binding]:
        """All bindings; those of the default exchange are implied by the queues' names and not among them."""
        return [binding for bindings in self._from.values() for binding in bindings.values()]

    def count_bindings(self) -> int:
        """How many there are."""
        return sum([len(bindings) for bindings in self._from.values()])

    def bindings_from(self, exchange: str) -> list[Binding]:
        """The bindings with this source."""
        return list(self._from.get(exchange, {}).values())

    def bindings_to(self, kind: Kind, name: str) -> list[Binding]:
        """The bindings with this destination."""
        destination = self._destination(kind, name)
        return [] if destination is None else list(self._to[destination].values())

    # Definitions of another broker, which may have given names that clients may not give

    def add_exchange(
        self, name: str, type: str, durable: bool, auto_delete: bool, internal: bool, arguments: dict[str, Any]
    ) -> ExchangeDefinition | None:
        """The new exchange, or None if there is one of this name, however it was declared.

        Raises CommandInvalid (503) for an unknown type and PreconditionFailed (406) for bad arguments.
        """
        check_exchange_type(type)
        if name in self.exchanges:
            return None
        resource = self.resource(EXCHANGE, name)
        check_exchange_arguments(resource, arguments)
        check_deduplication_arguments(resource, arguments)
        check_type_arguments(type, resource, arguments)
        queue_id = self._new_queue_id() if type == DELAYED_MESSAGE else 0
        created = ExchangeDefinition(name, type, durable, auto_delete, internal, arguments, queue_id)
        self._add_exchange(created)
        return created

    def add_queue(
        self, name: str, durable: bool, auto_delete: bool, arguments: dict[str, Any]
    ) -> QueueDefinition | None:
        """The new queue, or None if there is one of this name. Raises PreconditionFailed (406) for bad arguments."""
        if name in self.queues:
            return None
        check_queue_arguments(self.resource(QUEUE, name), arguments)
        created = QueueDefinition(name, self._new_queue_id(), durable, auto_delete, arguments)
        self._add_queue(created)
        return created

    # The store

    def restore_exchange(self, exchange: ExchangeDefinition) -> None:
        """Adds a recorded exchange. The predeclared ones are there already, and stay."""
        if exchange.name not in self.exchanges:
            self._add_exchange(exchange)

    def restore_queue(self, queue: QueueDefinition) -> None:
        """Adds a recorded queue; raises ValueError if there is one with its name."""
        if queue.name in self.queues:
            raise ValueError(f"{self.resource(QUEUE, queue.name)} is recorded twice")
        self._add_queue(queue)

    def restore_binding(self, record: Record) -> Binding | None:
        """Adds a recorded binding; None if it was there already. Raises NotFound if one of its ends is missing."""
        self.existing_exchange(record["source"])
        target = self._destination(record["kind"], record["destination"])
        if target is None:
            raise self._missing(record["kind"], record["destination"])
        arguments = arguments_from_text(record["arguments"])
        return self._add_binding(record["source"], target, record["routing_key"], arguments)

    # Inside

    def resource(self, kind: str, name: str) -> str:
        """A queue or an exchange as RabbitMQ's reply texts name it."""
        return f"{kind} '{name}' in vhost '{self.vhost}'"

    def _missing(self, kind: str, name: str) -> NotFound:
        return NotFound(f"no {self.resource(kind, name)}")

    def _locked(self, name: str) -> ResourceLocked:
        return ResourceLocked(
            f"cannot obtain exclusive access to locked {self.resource(QUEUE, name)}. "
            "It could be originally declared on another connection "
            "or the exclusive property value does not match that of the original declaration."
        )

    def _check_access(self, queue: QueueDefinition, connection: Any) -> None:
        if queue.exclusive and queue.owner != connection:
            raise self._locked(queue.name)

    def _destination(self, kind: Kind, name: str) -> Destination | None:
        if kind == QUEUE:
            return self.queue_destinations.get(name)
        exchange = self.exchanges.get(name)
        return None if exchange is None else exchange.destination

    def _add_exchange(self, exchange: ExchangeDefinition) -> None:
        self.exchanges[exchange.name] = exchange
        self._from[exchange.name] = {}
        self._to[exchange.destination] = {}

    def _add_queue(self, queue: QueueDefinition) -> None:
        self.queues[queue.name] = queue
        self.queue_destinations[queue.name] = queue.destination
        if queue.exclusive:
            self._owned.setdefault(queue.owner, {})[queue.name] = queue
        self._to[queue.destination] = {}

    def _add_binding(
        self, source: str, destination: Destination, routing_key: str, arguments: dict[str, Any]
    ) -> Binding | None:
        name = destination.name
        target_durable = self.queues[name].durable if destination.is_queue else self.exchanges[name].durable
        durable = self.exchanges[source].durable and target_durable
        binding = Binding(source, destination, routing_key, arguments, durable)
        bindings = self._from[source]
        if binding.key in bindings:
            return None
        bindings[binding.key] = binding
        self._to[destination][binding.key] = binding
        return binding

    def _remove_binding(self, binding: Binding, removed: Removed) -> None:
        del self._from[binding.source][binding.key]
        del self._to[binding.destination][binding.key]
        removed.bindings.append(binding)

    def _remove_bindings_to(self, destination: Destination, removed: Removed) -> None:
        """Forgets a destination that is gone, and the exchanges that only led there and delete themselves."""
        sources: dict[str, None] = {}
        for binding in list(self._to[destination].values()):
            self._remove_binding(binding, removed)
            sources[binding.source] = None
        del self._to[destination]
        for source in sources:
            self._remove_if_unused(source, removed)

    def _remove_if_unused(self, name: str, removed: Removed) -> None:
        """An auto-delete exchange goes with the last binding that it is the source of."""
        exchange = self.exchanges.get(name)
        if exchange is not None and exchange.auto_delete and not self._from[name]:
            self._remove_exchange(exchange, removed)

    def _remove_exchange(self, exchange: ExchangeDefinition, removed: Removed) -> None:
        del self.exchanges[exchange.name]
        removed.exchanges.append(exchange)
        for binding in list(self._from[exchange.name].values()):
            self._remove_binding(binding, removed)
        del self._from[exchange.name]
        self._remove_bindings_to(exchange.destination, removed)


def in_use(resource: str) -> PreconditionFailed:
    """The answer to a delete with if-unused."""
    return PreconditionFailed(f"{resource} in use")


def not_empty(resource: str) -> PreconditionFailed:
    """The answer to a queue.delete with if-empty."""
    return PreconditionFailed(f"{resource} not empty")
