"""Where messages go (`Destination`) and why (`Binding`)."""

from base64 import urlsafe_b64encode
from hashlib import blake2b
from itertools import count
from typing import Any, Final, Literal
from urllib.parse import quote_plus

QUEUE: Final = "queue"
EXCHANGE: Final = "exchange"

Kind = Literal["queue", "exchange"]
BindingKey = tuple[object, ...]

_numbers = count(1)


class Destination:
    """A queue or an exchange as routing sees it. There is one for each entity, so they are compared by identity.

    `ref` is whatever the caller sends messages to; the model stores it and never looks inside. `number` is that of no
    other.
    """

    __slots__ = ("is_queue", "kind", "name", "number", "ref")

    def __init__(self, kind: Kind, name: str, ref: Any = None) -> None:
        self.kind = kind
        self.name = name
        self.ref: Any = ref
        self.is_queue: bool = kind == QUEUE
        self.number: int = next(_numbers)

    def __repr__(self) -> str:
        return f"{self.kind} {self.name!r}"


def canonical(value: Any) -> object:
    """A hashable stand-in for a field value: equal for equal values of the same type, whatever the order of a table."""
    if isinstance(value, dict):
        return ("table", tuple((name, canonical(value[name])) for name in sorted(value)))
    if isinstance(value, list):
        return ("array", tuple(canonical(item) for item in value))
    return (type(value).__name__, repr(value))


def binding_key(source: str, kind: Kind, name: str, routing_key: str, arguments: dict[str, Any]) -> BindingKey:
    """What makes a binding the same binding (AMQP 0-9-1, queue.bind: duplicates are ignored)."""
    return (source, kind, name, routing_key, canonical(arguments))


class Binding:
    """Messages of the exchange `source` go to `destination` when they match `routing_key` and `arguments`.

    It is durable, and belongs in the store, when both its ends are.
    """

    __slots__ = ("arguments", "destination", "durable", "key", "routing_key", "source")

    def __init__(
        self,
        source: str,
        destination: Destination,
        routing_key: str,
        arguments: dict[str, Any],
        durable: bool = False,
    ) -> None:
        self.source = source
        self.destination = destination
        self.routing_key = routing_key
        self.arguments = arguments
        self.durable = durable
        self.key: BindingKey = binding_key(source, destination.kind, destination.name, routing_key, arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Binding) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{self.source!r} -> {self.destination!r} by {self.routing_key!r} {self.arguments!r}"

    @property
    def properties_key(self) -> str:
        """The binding's name in RabbitMQ's management: the quoted routing key, then `~` and a hash of the arguments.

        `~` alone stands for an empty key without arguments. Our hash differs from RabbitMQ's, which is Erlang's own.
        """
        key = quote_plus(self.routing_key).replace("~", "%7E")
        if not self.arguments:
            return key or "~"
        digest = blake2b(repr(canonical(self.arguments)).encode(), digest_size=6).digest()
        return f"{key}~{urlsafe_b64encode(digest).decode()}"
