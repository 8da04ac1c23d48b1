"""The direct exchange: the binding's key is the message's key."""

from typing import Final

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, BindingKey, Destination
from dispatchd.model.exchanges.table import RoutingTable, distinct_destinations

NOWHERE: Final[list[Destination]] = []


class DirectTable(RoutingTable):
    """Every destination bound with exactly the routing key."""

    def __init__(self) -> None:
        super().__init__()
        self._by_key: dict[str, dict[BindingKey, Binding]] = {}
        self._matched: dict[str, list[Destination]] = {}

    def added(self, binding: Binding) -> None:
        """Files the binding under its key."""
        self._by_key.setdefault(binding.routing_key, {})[binding.key] = binding
        self._matched.pop(binding.routing_key, None)

    def removed(self, binding: Binding) -> None:
        """Forgets the binding, and its key with the last one."""
        self._matched.pop(binding.routing_key, None)
        bindings = self._by_key[binding.routing_key]
        del bindings[binding.key]
        if not bindings:
            del self._by_key[binding.routing_key]

    def match(self, message: Message) -> list[Destination]:
        """The destinations of the bindings with the message's key."""
        key = message.routing_key
        found = self._matched.get(key)
        if found is not None:
            return found
        bindings = self._by_key.get(key)
        if bindings is None:
            return NOWHERE
        found = distinct_destinations(bindings.values())
        self._matched[key] = found
        return found
