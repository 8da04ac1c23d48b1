"""Short ways to make what queues, ledgers and journals work on."""

from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.consumer import Consumer
from dispatchd.model.entry import QueueEntry
from dispatchd.model.flow import ChannelWindow, Outlet
from dispatchd.model.journal import Changes, Journal


def message(body: bytes = b"", persistent: bool = True, exchange: str = "x", mandatory: bool = False) -> Message:
    made = make_message(exchange, "key", Properties(delivery_mode=2 if persistent else 1), body)
    made.mandatory = mandatory
    return made


def messages(*bodies: bytes) -> list[Message]:
    return [message(body) for body in bodies]


def consumer(
    tag: str = "tag",
    *,
    prefetch: int = 0,
    no_ack: bool = False,
    exclusive: bool = False,
    window: ChannelWindow | None = None,
    outlet: Outlet | None = None,
) -> Consumer:
    return Consumer(
        tag,
        "channel",
        "queue",
        no_ack=no_ack,
        exclusive=exclusive,
        prefetch=prefetch,
        window=window or ChannelWindow(),
        outlet=outlet or Outlet(),
        arguments={},
    )


def sealed(journal: Journal) -> Changes:
    """The next batch, as it is written."""
    changes = journal.seal()
    while changes.encode(2):
        pass
    return changes


def bodies(entries: list[QueueEntry]) -> list[bytes]:
    return [entry.message.body for entry in entries]


def positions(entries: list[QueueEntry]) -> list[int]:
    return [entry.position for entry in entries]
