"""What was declared: virtual hosts, exchanges, queues, and their records for the store."""

from base64 import b64decode, b64encode
from typing import Any

from dispatchd.amqp.field_table import decode_table, encode_table
from dispatchd.model.arguments import ALTERNATE_EXCHANGE
from dispatchd.model.binding import EXCHANGE, QUEUE, Binding, Destination
from dispatchd.model.exchanges.delayed import routing_type
from dispatchd.model.policies import UNGOVERNED, Governance, governed_arguments

Record = dict[str, Any]


class VhostDefinition:
    """A virtual host; `description` and `tags` are the operator's own, `tracing` switches the firehose on.

    `limits` are those of `model.limits`.
    """

    __slots__ = ("description", "limits", "name", "tags", "tracing")

    def __init__(self, name: str, description: str = "", tags: list[str] | None = None, tracing: bool = False) -> None:
        self.name = name
        self.description = description
        self.tags: list[str] = tags or []
        self.tracing = tracing
        self.limits: dict[str, int] = {}

    def to_record(self) -> Record:
        """The definition as JSON has it."""
        record: Record = {
            "name": self.name,
            "description": self.description,
            "tags": self.tags,
            "tracing": self.tracing,
        }
        if self.limits:
            record["limits"] = self.limits
        return record

    def __repr__(self) -> str:
        return f"vhost {self.name!r}"


class ExchangeDefinition:
    """A declared exchange; `destination` is what bindings and messages to it hold, `governance` what policies ask.

    `routing_type` is the type by which it routes. `queue_id` is its name in the store, if it is one that keeps
    messages; 0 otherwise.
    """

    __slots__ = (
        "arguments",
        "auto_delete",
        "destination",
        "durable",
        "governance",
        "internal",
        "name",
        "queue_id",
        "routing_type",
        "type",
    )

    def __init__(
        self,
        name: str,
        type: str,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: dict[str, Any] | None = None,
        queue_id: int = 0,
    ) -> None:
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments: dict[str, Any] = arguments or {}
        self.routing_type = routing_type(type, self.arguments)
        self.queue_id = queue_id
        self.destination = Destination(EXCHANGE, name)
        self.governance: Governance = UNGOVERNED

    @property
    def alternate_exchange(self) -> str:
        """Where messages go that find no queue: as declared, or else as a policy says; "" if they go nowhere.

        The default exchange has none, whatever governs it.
        """
        if not self.name:
            return ""
        if ALTERNATE_EXCHANGE in self.arguments:
            return str(self.arguments[ALTERNATE_EXCHANGE])
        return str(self.governance.definition.get(ALTERNATE_EXCHANGE, ""))

    def to_record(self) -> Record:
        """The definition as JSON has it; `arguments` are a field table in base64."""
        record: Record = {
            "name": self.name,
            "type": self.type,
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            "internal": self.internal,
            "arguments": arguments_to_text(self.arguments),
        }
        if self.queue_id:
            record["queue_id"] = self.queue_id
        return record

    def __repr__(self) -> str:
        return f"exchange {self.name!r}"


class QueueDefinition:
    """A declared queue; `destination` is what bindings and messages to it hold, `governance` what policies ask.

    `owner` is the connection of an exclusive queue, None otherwise. `queue_id` is the queue's name in the store.
    """

    __slots__ = (
        "arguments",
        "auto_delete",
        "destination",
        "durable",
        "exclusive",
        "governance",
        "name",
        "owner",
        "queue_id",
    )

    def __init__(
        self,
        name: str,
        queue_id: int,
        durable: bool = False,
        auto_delete: bool = False,
        arguments: dict[str, Any] | None = None,
        owner: Any = None,
    ) -> None:
        self.name = name
        self.queue_id = queue_id
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments: dict[str, Any] = arguments or {}
        self.owner: Any = owner
        self.exclusive: bool = owner is not None
        self.destination = Destination(QUEUE, name)
        self.governance: Governance = UNGOVERNED

    @property
    def governed_arguments(self) -> dict[str, Any]:
        """The declared arguments with what policies ask: by these it behaves."""
        return governed_arguments(self.arguments, self.governance.definition)

    def to_record(self) -> Record:
        """The definition as JSON has it; `arguments` are a field table in base64. An owner is not recorded."""
        return {
            "name": self.name,
            "queue_id": self.queue_id,
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            "arguments": arguments_to_text(self.arguments),
        }

    def __repr__(self) -> str:
        return f"queue {self.name!r}"


def vhost_from_record(record: Record) -> VhostDefinition:
    """The reverse of `VhostDefinition.to_record`; KeyError for a damaged one."""
    vhost = VhostDefinition(record["name"], record["description"], record["tags"], record["tracing"])
    vhost.limits = dict(record.get("limits", {}))
    return vhost


def exchange_from_record(record: Record) -> ExchangeDefinition:
    """The reverse of `ExchangeDefinition.to_record`; KeyError, ValueError or AmqpSyntaxError for a damaged one."""
    return ExchangeDefinition(
        record["name"],
        record["type"],
        record["durable"],
        record["auto_delete"],
        record["internal"],
        arguments_from_text(record["arguments"]),
        record.get("queue_id", 0),
    )


def queue_from_record(record: Record) -> QueueDefinition:
    """The reverse of `QueueDefinition.to_record`; KeyError, ValueError or AmqpSyntaxError for a damaged one."""
    return QueueDefinition(
        record["name"],
        record["queue_id"],
        record["durable"],
        record["auto_delete"],
        arguments_from_text(record["arguments"]),
    )


def binding_to_record(binding: Binding) -> Record:
    """A binding as JSON has it; `Catalogue.restore_binding` is the reverse."""
    return {
        "source": binding.source,
        "kind": binding.destination.kind,
        "destination": binding.destination.name,
        "routing_key": binding.routing_key,
        "arguments": arguments_to_text(binding.arguments),
    }


def arguments_to_text(arguments: dict[str, Any]) -> str:
    """A field table as text, which keeps bytes, decimals and timestamps."""
    return b64encode(encode_table(arguments)).decode()


def arguments_from_text(text: str) -> dict[str, Any]:
    """The reverse of `arguments_to_text`; raises ValueError or AmqpSyntaxError if it isn't one."""
    data = b64decode(text, validate=True)
    table, _end = decode_table(data, 0, len(data))
    return table
