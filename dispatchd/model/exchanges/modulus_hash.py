"""The modulus hash exchange (RabbitMQ's sharding plugin): the key's hash, modulo the number of bindings, says where to.

RabbitMQ's hash is Erlang's own, and its order another, so a key goes to another queue there.
"""

from hashlib import blake2b
from typing import Final

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.direct import NOWHERE
from dispatchd.model.exchanges.table import RoutingTable

MODULUS_HASH: Final = "x-modulus-hash"


def _by_name(binding: Binding) -> tuple[str, str]:
    return binding.destination.kind, binding.destination.name


class ModulusHashTable(RoutingTable):
    """The bindings by the names of their destinations, so that a restart changes nothing; each of them counts.

    What is hashed are all the keys of a message, those of its copies too.
    """

    by_key_only: bool = False  # of copies only the one hash counts

    def __init__(self) -> None:
        super().__init__()
        self._choices: list[list[Destination]] | None = None

    def added(self, binding: Binding) -> None:
        """Drops the row of destinations, to be made again by the next message."""
        self._choices = None

    def removed(self, binding: Binding) -> None:
        """Drops the row of destinations, to be made again by the next message."""
        self._choices = None

    def match(self, message: Message) -> list[Destination]:
        """The one destination that the hash leads to; none while nothing is bound."""
        choices = self._choices
        if choices is None:
            choices = [[binding.destination] for binding in sorted(self._bindings.values(), key=_by_name)]
            self._choices = choices
        if not choices:
            return NOWHERE
        keys = message.routing_key
        if message.copy_keys is not None:
            keys = "\0".join([keys, *message.copy_keys])
        digest = blake2b(keys.encode(), digest_size=8).digest()
        return choices[int.from_bytes(digest, "big") % len(choices)]
