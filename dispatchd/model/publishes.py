"""What a channel does with the messages of one read before they go to their exchanges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from dispatchd.amqp.errors import AmqpError, NotImplementedByServer, PreconditionFailed
from dispatchd.amqp.properties import (
    FLAG_DELIVERY_MODE,
    FLAG_EXPIRATION,
    FLAG_HEADERS,
    FLAG_REPLY_TO,
    FLAG_USER_ID,
    delivery_mode,
    property_flags,
    short_property,
)
from dispatchd.model.copies import address_copies
from dispatchd.model.direct_replies import address_request
from dispatchd.model.expiration import check_expiration

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.access import Access, TopicAccess
    from dispatchd.model.catalogue import Catalogue
    from dispatchd.model.router import Publishing

TRANSIENT: Final = 1


def publishable(
    messages: list[Message], access: Access, catalogue: Catalogue, reply_address: str
) -> tuple[list[Message], AmqpError | None]:
    """The messages before the first that can't be published by whose `access` it is, and what is wrong with that one.

    Their CC and BCC headers are taken note of, and those that ask for direct answers get the channel's `reply_address`
    ("" = it has none). Checks are made in RabbitMQ's order and have its texts (rabbit_channel).
    """
    exchange: str | None = None
    topic: TopicAccess | None = None
    checked: bytes | None = None
    flags: i64 = 0
    position: i64 = 0
    try:
        for message in messages:
            if message.immediate:
                raise NotImplementedByServer("immediate=true")
            if message.exchange != exchange:
                access.check_publish(message.exchange)
                topic = access.topic_access(catalogue.exchange_to_publish_to(message.exchange))
                exchange = message.exchange
            if topic is not None:
                topic.check_write(message.routing_key)
            header = message.header
            if header is not checked:  # equal ones that follow one another are one object
                flags = property_flags(header)
            if flags & FLAG_REPLY_TO:
                address_request(message, reply_address)
            if header is not checked:
                _check_header(message, flags, access)
                checked = header
            if flags & FLAG_HEADERS:
                address_copies(message)
            position += 1
    except AmqpError as error:
        return messages[:position], error
    return messages, None


def _check_header(message: Message, flags: i64, access: Access) -> None:
    if flags & FLAG_USER_ID:
        _check_user_id(message.header, access)
    if flags & FLAG_EXPIRATION:
        check_expiration(message.header)
    if flags & FLAG_DELIVERY_MODE and not message.persistent:
        _check_delivery_mode(message)


def _check_user_id(header: bytes, access: Access) -> None:
    claimed = short_property(header, FLAG_USER_ID)
    if claimed is not None and claimed != access.user and not access.may_impersonate:
        raise PreconditionFailed(f"user_id property set to '{claimed}' but authenticated user was '{access.user}'")


def _check_delivery_mode(message: Message) -> None:
    mode = delivery_mode(message.header)
    if mode != TRANSIENT:
        raise PreconditionFailed(f"invalid message: {{delivery_mode_unknown,{mode}}}")


def by_exchange(messages: list[Message]) -> list[tuple[str, list[Message], int]]:
    """Group messages by exchange, in order: (exchange, messages, their cost in publish credit)."""
    groups: dict[str, list[Message]] = {}
    costs: dict[str, int] = {}
    exchange: str = ""
    group: list[Message] = []
    cost: i64 = 0
    for message in messages:
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


def by_channel(publishings: list[Publishing]) -> list[tuple[Any, list[Publishing]]]:
    """Group publishings by the reference of the channel that they come from, in order."""
    groups: dict[Any, list[Publishing]] = {}
    for publishing in publishings:
        group = groups.get(publishing.channel)
        if group is None:
            groups[publishing.channel] = [publishing]
        else:
            group.append(publishing)
    return list(groups.items())
