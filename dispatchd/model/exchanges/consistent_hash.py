"""The consistent hash exchange (RabbitMQ's plugin): each message to one destination, the same for equal keys.

The binding key is a weight: a destination of weight 2 gets twice what one of weight 1 gets. If a destination is bound
more than once, its first binding counts, and the next one when that is gone (the plugin sends it nothing more then).
"""

import re
from bisect import bisect_right
from hashlib import blake2b
from typing import Any, Final

from dispatchd.amqp.errors import AmqpSyntaxError, PreconditionFailed
from dispatchd.amqp.message import Message
from dispatchd.amqp.properties import decode_properties
from dispatchd.model.arguments import field_type
from dispatchd.model.binding import Binding, Destination, canonical
from dispatchd.model.erlang import shown_binary
from dispatchd.model.exchanges.table import RoutingTable

CONSISTENT_HASH: Final = "x-consistent-hash"
HASH_HEADER: Final = "hash-header"
HASH_PROPERTY: Final = "hash-property"
PROPERTIES: Final = ("correlation_id", "message_id", "timestamp")

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")


def check_hash_arguments(resource: str, arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for arguments of a new exchange that say no way to hash."""
    for name in (HASH_HEADER, HASH_PROPERTY):
        if name in arguments and not isinstance(arguments[name], str):
            raise PreconditionFailed(f"invalid type '{field_type(arguments[name])}' for arg '{name}' in {resource}")
    if HASH_HEADER in arguments and HASH_PROPERTY in arguments:
        raise PreconditionFailed("hash-header and hash-property are mutually exclusive")
    if HASH_PROPERTY in arguments and arguments[HASH_PROPERTY] not in PROPERTIES:
        raise PreconditionFailed(f"Unsupported property: {arguments[HASH_PROPERTY]}")


def check_weight(routing_key: str) -> None:
    """Raises PreconditionFailed (406) for a binding key that is no weight, with the plugin's texts."""
    if _INTEGER.fullmatch(routing_key) is None:
        raise PreconditionFailed(f"The binding key must be an integer: {shown_binary(routing_key)}")
    if int(routing_key) < 1:
        raise PreconditionFailed("The binding key must be greater than 0")


def jump(seed: int, buckets: int) -> int:
    """The bucket of a 64 bit hash, from 0 (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm").

    With one bucket more, a hash either stays in its bucket or goes to the new one.
    """
    bucket = 0
    following = 0
    while following < buckets:
        bucket = following
        seed = (seed * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        following = ((bucket + 1) << 31) // ((seed >> 33) + 1)
    return bucket


class ConsistentHashTable(RoutingTable):
    """A row of buckets: each destination has as many next to each other as its weight says, in the order of binding.

    `arguments` are the exchange's: they say what is hashed, if it isn't the routing key. Messages without the header or
    property are all alike.
    """

    by_key_only: bool = False  # of copies only the message's own key counts

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        self._header: str | None = arguments.get(HASH_HEADER)
        self._property: str | None = arguments.get(HASH_PROPERTY)
        self._is_current = True
        self._placed: set[Destination] = set()
        self._choices: list[list[Destination]] = []
        self._ends: list[int] = []  # the bucket behind the last one of each choice

    def added(self, binding: Binding) -> None:
        """Puts the destination at the end of the row, unless it has its place."""
        if self._is_current:
            self._place(binding)

    def removed(self, binding: Binding) -> None:
        """Drops the row of buckets, to be made again by the next message."""
        self._is_current = False

    def match(self, message: Message) -> list[Destination]:
        """The one destination that the hash leads to; none while nothing is bound."""
        if not self._is_current:
            self._lay_out()
        if not self._choices:
            return []
        digest = blake2b(self._hashed(message), digest_size=8).digest()
        return self._choices[bisect_right(self._ends, jump(int.from_bytes(digest, "big"), self._ends[-1]))]

    def _lay_out(self) -> None:
        self._placed = set()
        self._choices = []
        self._ends = []
        for binding in self._bindings.values():
            self._place(binding)
        self._is_current = True

    def _place(self, binding: Binding) -> None:
        if binding.destination not in self._placed:
            self._placed.add(binding.destination)
            self._choices.append([binding.destination])
            self._ends.append((self._ends[-1] if self._ends else 0) + int(binding.routing_key))

    def _hashed(self, message: Message) -> bytes:
        if self._header is None and self._property is None:
            return message.routing_key.encode()
        try:
            properties = decode_properties(message.header)
        except AmqpSyntaxError:
            return b""
        if self._header is None:
            value = getattr(properties, self._property or "")
        else:
            value = (properties.headers or {}).get(self._header)
        return b"" if value is None else repr(canonical(value)).encode()
