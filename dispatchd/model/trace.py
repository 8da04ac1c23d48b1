"""The firehose: copies of what is published and delivered in a vhost, as RabbitMQ's rabbit_trace makes them.

A copy has the message's body, and headers that say what happened to it. Messages of the trace exchange itself are never
copied; keeping them out is for the callers.
"""

from typing import Any, Final

from dispatchd.amqp.constants import SHORTSTR_MAX
from dispatchd.amqp.field_table import encode_fields
from dispatchd.amqp.message import Message, make_address
from dispatchd.amqp.properties import header_of_fields, property_table
from dispatchd.model.copies import routing_keys
from dispatchd.model.direct_replies import ADDRESS_PREFIX
from dispatchd.model.names import DEFAULT_EXCHANGE, TRACE_EXCHANGE

_PROPERTIES: Final = b"\x0apropertiesF"


class Party:
    """The channel that publishes or takes a delivery, as copies name it."""

    __slots__ = ("channel", "connection", "user")

    def __init__(self, connection: str, channel: int, user: str) -> None:
        self.connection = connection
        self.channel = channel
        self.user = user


class Trace:
    """What is noted about a publishing on its way: who published it, and which queues each message went to.

    `tap` is how the tracer is told; the model stores it and never looks inside.
    """

    __slots__ = ("_queues", "party", "tap")

    def __init__(self, tap: Any, party: Party) -> None:
        self.tap: Any = tap
        self.party = party
        self._queues: dict[Message, list[str]] = {}

    def note(self, queue: str, messages: list[Message]) -> None:
        """These went to this queue."""
        for message in messages:
            known = self._queues.get(message)
            if known is None:
                self._queues[message] = [queue]
            else:
                known.append(queue)

    def routed_queues(self, message: Message) -> list[str]:
        """Where a message went, by name. By the default exchange that is any queue named, even if there is none."""
        found = self._queues.get(message, [])
        if message.exchange == DEFAULT_EXCHANGE:
            found = [key for key in set(routing_keys(message)) if not key.startswith(ADDRESS_PREFIX)]
        return sorted(found)


class Firehose:
    """Makes the copies of one vhost."""

    def __init__(self, node: str, vhost: str) -> None:
        self._node: bytes = encode_fields({"node": node})
        self._vhost: bytes = encode_fields({"vhost": vhost})

    def published(self, messages: list[Message], trace: Trace) -> list[Message]:
        """Copies of what a channel has published."""
        party = self._fields_of(trace.party)
        copies = []
        for message in messages:
            routed = encode_fields({"routed_queues": trace.routed_queues(message)})
            copies.append(self._copy("publish." + message.exchange, message, party + routed))
        return copies

    def delivered(self, queue: str, deliveries: list[tuple[Message, bool]], party: Party) -> list[Message]:
        """Copies of what a channel got from a queue: (message, whether it is redelivered)."""
        after = self._fields_of(party)
        copies = []
        for message, redelivered in deliveries:
            before = encode_fields({"redelivered": int(redelivered)})
            copies.append(self._copy("deliver." + queue, message, before + after))
        return copies

    def _fields_of(self, party: Party) -> bytes:
        named = {"connection": party.connection, "channel": party.channel, "user": party.user}
        return self._vhost + encode_fields(named)

    def _copy(self, key: str, message: Message, more: bytes) -> Message:
        names = encode_fields({"exchange_name": message.exchange, "routing_keys": routing_keys(message)})
        fields = names + _PROPERTIES + property_table(message.header) + self._node + more
        header = header_of_fields(len(message.body), fields)
        key = _shortened(key)
        return Message(TRACE_EXCHANGE, key, make_address(TRACE_EXCHANGE, key), header, message.body)


def _shortened(key: str) -> str:
    """A routing key that fits: of very long names the end is left out, where RabbitMQ would end in an error."""
    octets = key.encode()
    return key if len(octets) <= SHORTSTR_MAX else octets[:SHORTSTR_MAX].decode("utf-8", "ignore")
