"""The default exchange: the routing key is a queue's name."""

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.direct import NOWHERE
from dispatchd.model.exchanges.table import RoutingTable


class DefaultRoutes(RoutingTable):
    """Every queue is bound by its name, without any binding to keep: `queues` is looked into, not copied."""

    def __init__(self, queues: dict[str, Destination]) -> None:
        super().__init__()
        self._queues = queues

    def added(self, binding: Binding) -> None:
        """Never happens: raises ValueError."""
        raise ValueError(f"the default exchange takes no bindings, got {binding!r}")

    def removed(self, binding: Binding) -> None:
        """Never happens: raises ValueError."""
        raise ValueError(f"the default exchange has no bindings, got {binding!r}")

    def match(self, message: Message) -> list[Destination]:
        """The queue with the name, if there is one."""
        queue = self._queues.get(message.routing_key)
        return NOWHERE if queue is None else [queue]
