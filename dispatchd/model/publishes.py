"""What a channel does with the messages of one read before they go to their exchanges."""

from __future__ import annotations

from mypy_extensions import i64

from dispatchd.amqp.errors import NotImplementedByServer
from dispatchd.amqp.message import Message


def by_exchange(messages: list[Message]) -> list[tuple[str, list[Message], int]]:
    """Group messages by exchange, in order: (exchange, messages, their cost in publish credit).

    Raises NotImplementedByServer (540) for `immediate`, as RabbitMQ does.
    """
    groups: dict[str, list[Message]] = {}
    costs: dict[str, int] = {}
    exchange: str = ""
    group: list[Message] = []
    cost: i64 = 0
    for message in messages:
        if message.immediate:
            raise NotImplementedByServer("immediate=true")
        if not group or message.exchange != exchange:
            if group:
                costs[exchange] = cost
            exchange = message.exchange
            known = groups.get(exchange)
            if known is None:
                known = groups[exchange] = []
                cost = 0
            else:
                cost = costs[exchange]
            group = known
        group.append(message)
        cost += 1 + (message.size >> 10)
    if group:
        costs[exchange] = cost
    return [(name, group, costs[name]) for name, group in groups.items()]


def mandatory(messages: list[Message]) -> list[Message]:
    """Those that are to be returned to their publisher when no queue takes them."""
    return [message for message in messages if message.mandatory]
