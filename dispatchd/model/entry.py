"""One message in one queue: the unit that queues order, ledgers track and the journal stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64, mypyc_attr

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer

NOT_STORED: Final = -1
STORED: Final = -2
STORED_SHARED: Final = -3
STAGED: Final = -4
NEVER: Final = (1 << 62) - 1
"""An expiry that does not come."""


@mypyc_attr(acyclic=True)
class QueueEntry:
    """A message's place in a queue.

    `position` grows by one with each message that the queue takes; a requeued entry goes back to it.
    `is_out`: it was delivered and is not settled; `consumer` is who holds it then (None after a basic.get).
    `returns` counts how often it came back, where the queue limits that; `shown` is then the message with that count
    in its headers. `expires_at` is in ms since 1970, or NEVER. `slot` is the journal's: NOT_STORED, STORED with its
    message, STORED_SHARED naming a content, STAGED for a transaction, or its index in the batch to be written next.

    Python's collector does not look at entries (see `Message`): queues and channels that end have to let go of theirs.
    """

    __slots__ = (
        "consumer",
        "expires_at",
        "is_out",
        "message",
        "position",
        "queue",
        "redelivered",
        "returns",
        "shown",
        "slot",
    )

    def __init__(self, message: Message, queue: Any, position: i64) -> None:
        self.message: Message = message
        self.queue: Any = queue
        self.position: i64 = position
        self.redelivered: bool = False
        self.expires_at: i64 = NEVER
        self.is_out: bool = False
        self.consumer: Consumer | None = None
        self.returns: i64 = 0
        self.shown: Message | None = None
        self.slot: i64 = NOT_STORED

    def is_stored(self) -> bool:
        """Whether a batch that was sealed has it."""
        return self.slot == STORED or self.slot == STORED_SHARED
