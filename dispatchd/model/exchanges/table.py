"""What all exchange types have in common."""

from collections.abc import Iterable

from mypy_extensions import i64

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, BindingKey, Destination


def distinct_destinations(bindings: Iterable[Binding]) -> list[Destination]:
    """Each destination once, in the order of its first binding."""
    return list({binding.destination: None for binding in bindings})


class RoutingTable:
    """The bindings of one exchange. Subclasses say what they match by `added`, `removed` and `match`.

    `by_key_only`: the result of `match` depends on nothing of the message but its routing key. Only then do the keys
    of its copies count.
    """

    by_key_only: bool = True

    def __init__(self) -> None:
        self._bindings: dict[BindingKey, Binding] = {}
        self._to_exchanges: i64 = 0

    @property
    def leads_to_exchanges(self) -> bool:
        """Whether any destination is an exchange."""
        return self._to_exchanges > 0

    def bindings(self) -> list[Binding]:
        """The bindings in the order in which they came."""
        return list(self._bindings.values())

    def bind(self, binding: Binding) -> None:
        """Adds a binding; one that is there already changes nothing."""
        if binding.key in self._bindings:
            return
        self._bindings[binding.key] = binding
        if not binding.destination.is_queue:
            self._to_exchanges += 1
        self.added(binding)

    def unbind(self, binding: Binding) -> None:
        """Takes the equal binding away; one that is not there changes nothing."""
        known = self._bindings.pop(binding.key, None)
        if known is None:
            return
        if not known.destination.is_queue:
            self._to_exchanges -= 1
        self.removed(known)

    def added(self, binding: Binding) -> None:
        """Takes note of a new binding."""
        raise NotImplementedError

    def removed(self, binding: Binding) -> None:
        """Takes note that a binding is gone."""
        raise NotImplementedError

    def match(self, message: Message) -> list[Destination]:
        """The destinations for a message, each once. The list may be shared: callers only read it."""
        raise NotImplementedError
