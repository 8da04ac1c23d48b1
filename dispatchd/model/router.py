"""Routing of batches: which destinations take which messages of one batch."""

from typing import Any

from mypy_extensions import i64

from dispatchd.amqp.message import Message
from dispatchd.model.binding import Destination
from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.trace import Trace
from dispatchd.model.transaction import Transaction

Routes = list[tuple[Destination, list[Message]]]


class Publishing:
    """What one channel published to one exchange in one go, on its way to queues.

    `cost` is the publish credit that the channel gets back when everything is answered.
    """

    __slots__ = (
        "awaiting",
        "channel",
        "confirm",
        "cost",
        "death",
        "dropped",
        "held",
        "hops",
        "is_accepted",
        "is_settled",
        "messages",
        "refused",
        "remembered_by",
        "trace",
        "transaction",
        "uncommitted",
    )

    def __init__(self, channel: Any, messages: list[Message], cost: i64, confirm: bool) -> None:
        self.channel: Any = channel  # who gets the answers
        self.messages = messages
        self.cost: i64 = cost
        self.confirm = confirm
        self.death: str = ""  # why they died, where a queue publishes dead letters
        self.dropped: i64 = 0  # that found no queue, and are not to be returned
        self.hops: i64 = 1  # exchanges that have yet to route it
        self.awaiting: i64 = 0  # queues that have yet to answer
        self.held: i64 = 0  # queues that keep its credit back
        self.uncommitted: i64 = 0  # commits that have yet to reach the disk
        self.is_accepted = False  # every queue has it
        self.is_settled = False  # and every one that stores it has it on disk
        self.refused: list[Message] = []  # to be confirmed with nack
        self.transaction: Transaction | None = None  # of which it is a part
        self.remembered_by: list[Any] | None = None  # exchanges that would take it for a duplicate if it came again
        self.trace: Trace | None = None  # what the vhost's tracer is to be told of it

    def waits_for_one(self) -> bool:
        """Whether the answer of one queue is the last: its channel hears of it, and not of all those before.

        A queue that has more to say than that it has its messages is heard in any case.
        """
        return self.awaiting <= 1 and self.hops == 0

    def unrouted(self) -> list[Message]:
        """What is to go back to its publisher, now that every exchange has routed all: no queue took it."""
        lost = unroutable(self.messages)
        returned = [message for message in lost if message.mandatory]
        self.dropped = len(lost) - len(returned)
        return returned


class Router:
    """Groups the messages of a batch by destination, as the bindings of one exchange say."""

    __slots__ = ("table",)

    def __init__(self, table: RoutingTable) -> None:
        self.table = table

    def route(self, messages: list[Message], alternate: Destination | None = None) -> Routes:
        """Pairs of destination and the messages for it, in their order; counts the queues in `message.queues`.

        What no binding matches goes to the exchange `alternate`, if there is one. The lists may be shared between
        destinations and with the argument: callers only read them.
        """
        if self.table.leads_to_exchanges:
            return self._route_once_each(messages, alternate)
        for message in messages:
            if message.visited is not None:
                return self._route_once_each(messages, alternate)
        routes = self._route_to_queues(messages)
        if alternate is not None:
            unmatched = unroutable(messages)
            if unmatched:
                for message in unmatched:
                    message.visited = {alternate.number}
                routes.append((alternate, unmatched))
        return routes

    def _route_to_queues(self, messages: list[Message]) -> Routes:
        """Where all destinations are queues, nothing comes back here, and only changes of the result matter."""
        table = self.table
        by_key_only: bool = table.by_key_only
        groups: dict[Destination, list[Message]] = {}
        found: list[Destination] = []
        key: str = ""
        start = 0
        for position, message in enumerate(messages):
            if position == 0 or not by_key_only or message.routing_key != key:
                key = message.routing_key
                matched = table.match(message)
                if matched is not found:
                    if position > start:
                        _extend(groups, found, messages[start:position])
                    found = matched
                    start = position
            message.queues += len(found)
        if start == 0:
            return [(destination, messages) for destination in found]
        _extend(groups, found, messages[start:])
        return list(groups.items())

    def _route_once_each(self, messages: list[Message], alternate: Destination | None) -> Routes:
        """On a way through several exchanges a message visits each destination once: diamonds and loops are legal."""
        groups: dict[Destination, list[Message]] = {}
        for message in messages:
            visited = message.visited
            if visited is None:
                visited = message.visited = set()
            matched = self._match_all_keys(message)
            if not matched and alternate is not None:
                matched = [alternate]
            for destination in matched:
                if destination.number in visited:
                    continue
                visited.add(destination.number)
                if destination.is_queue:
                    message.queues += 1
                taken = groups.get(destination)
                if taken is None:
                    groups[destination] = [message]
                else:
                    taken.append(message)
        return list(groups.items())

    def _match_all_keys(self, message: Message) -> list[Destination]:
        """The destinations for the message and its copies; there may be repetitions."""
        matched = self.table.match(message)
        if message.copy_keys is None or not self.table.by_key_only:
            return matched
        matched = matched.copy()
        for key in message.copy_keys:
            matched.extend(self.table.match(Message(message.exchange, key, message.address, message.header)))
        return matched


def _extend(groups: dict[Destination, list[Message]], destinations: list[Destination], run: list[Message]) -> None:
    for destination in destinations:
        taken = groups.get(destination)
        if taken is None:
            groups[destination] = run if len(destinations) == 1 else run.copy()
        else:
            taken.extend(run)


def unroutable(messages: list[Message]) -> list[Message]:
    """The messages that no queue took, once every exchange on their way has routed them."""
    return [message for message in messages if message.queues == 0]
