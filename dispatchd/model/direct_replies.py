"""Direct reply-to: a channel receives answers without a queue (RabbitMQ's `amq.rabbitmq.reply-to`)."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final

from mypy_extensions import i64

from dispatchd.amqp.encoder import Frames, Piece, deliver_prefix, write_deliver
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import Message
from dispatchd.amqp.properties import FLAG_REPLY_TO, find_property
from dispatchd.model.binding import QUEUE, Destination

REPLY_TO: Final = "amq.rabbitmq.reply-to"
"""What a requester consumes from and names as `reply_to`; the broker puts its address there."""
ADDRESS_PREFIX: Final = REPLY_TO + "."
TOKEN_OCTETS: Final = 24

_REPLY_TO_OCTETS: Final = bytes([len(REPLY_TO)]) + REPLY_TO.encode()


class ReplyAddresses:
    """Who receives what is published to which reply address of one vhost.

    `random_octets(n)` is the source of addresses that nobody can guess.
    """

    def __init__(self, random_octets: Callable[[int], bytes]) -> None:
        self._random_octets = random_octets
        self._destinations: dict[str, Destination] = {}

    def open(self, channel: Any) -> str:
        """A new address; what is published to it goes to `channel`."""
        address = ADDRESS_PREFIX + urlsafe_b64encode(self._random_octets(TOKEN_OCTETS)).decode()
        self._destinations[address] = Destination(QUEUE, address, channel)
        return address

    def close(self, address: str) -> None:
        """Forget an address."""
        del self._destinations[address]

    def find(self, name: str) -> Destination | None:
        """The destination of an address, None for any other name."""
        return self._destinations.get(name)

    def can_be_declared(self, name: str) -> bool:
        """Whether queue.declare finds this name, which begins as REPLY_TO: it is REPLY_TO itself or an address."""
        return name == REPLY_TO or name in self._destinations


class ReplyConsumer:
    """A basic.consume of REPLY_TO."""

    def __init__(self, tag: str, address: str) -> None:
        self.tag: str = tag
        self.address: str = address
        self._deliver_prefix: bytes = deliver_prefix(tag)

    def encode(self, messages: list[Message], channel: i64, tag: i64, frame_max: i64) -> list[Piece]:
        """The deliveries of answers. All have the tag of the channel's next delivery, as in RabbitMQ."""
        frames = Frames()
        for message in messages:
            write_deliver(frames, channel, self._deliver_prefix, tag, False, message, frame_max)
        return frames.all()


def address_request(message: Message, address: str) -> None:
    """Replace the message's `reply_to`, if that is REPLY_TO, by the channel's address ("" = it has none).

    Raises PreconditionFailed (406) if there is none to replace it by.
    """
    header = message.header
    start: i64 = find_property(header, FLAG_REPLY_TO)
    end: i64 = start + len(_REPLY_TO_OCTETS)
    if start < 0 or header[start:end] != _REPLY_TO_OCTETS:
        return
    if not address:
        raise PreconditionFailed("fast reply consumer does not exist")
    message.header = header[:start] + bytes([len(address)]) + address.encode() + header[end:]


def in_no_queue(messages: list[Message]) -> list[Message]:
    """Those mandatory ones that went to a reply address alone: RabbitMQ, to which that is no queue, returns them."""
    return [message for message in messages if message.mandatory and message.queues == 1]
