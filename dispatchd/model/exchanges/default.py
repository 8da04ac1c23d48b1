"""The default exchange: the routing key is a queue's name, or a reply address."""

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.direct_replies import ReplyAddresses
from dispatchd.model.exchanges.direct import NOWHERE
from dispatchd.model.exchanges.table import RoutingTable


class DefaultRoutes(RoutingTable):
    """Every queue is bound by its name, without any binding to keep: `queues` is looked into, not copied."""

    def __init__(self, queues: dict[str, Destination], reply_addresses: ReplyAddresses) -> None:
        super().__init__()
        self._queues = queues
        self._reply_addresses = reply_addresses

    def added(self, binding: Binding) -> None:
        """Never happens: raises ValueError."""
        raise ValueError(f"the default exchange takes no bindings, got {binding!r}")

    def removed(self, binding: Binding) -> None:
        """Never happens: raises ValueError."""
        raise ValueError(f"the default exchange has no bindings, got {binding!r}")

    def match(self, message: Message) -> list[Destination]:
        """The queue with the name, or the channel with the reply address, if there is one."""
        name = message.routing_key
        found = self._queues.get(name) or self._reply_addresses.find(name)
        return NOWHERE if found is None else [found]
