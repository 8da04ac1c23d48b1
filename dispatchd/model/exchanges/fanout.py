"""The fanout exchange: everything goes everywhere."""

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.table import RoutingTable, distinct_destinations


class FanoutTable(RoutingTable):
    """Every bound destination, whatever the keys say."""

    def __init__(self) -> None:
        super().__init__()
        self._everywhere: list[Destination] | None = None

    def added(self, binding: Binding) -> None:
        """Drops the list of destinations, to be made again by the next message."""
        self._everywhere = None

    def removed(self, binding: Binding) -> None:
        """Drops the list of destinations, to be made again by the next message."""
        self._everywhere = None

    def match(self, message: Message) -> list[Destination]:
        """All destinations."""
        found = self._everywhere
        if found is None:
            found = self._everywhere = distinct_destinations(self._bindings.values())
        return found
