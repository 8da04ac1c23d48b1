"""What a delayed exchange holds back: how long each message has to wait, and which is due next.

What counts as a delay, and what becomes of the header, is as in RabbitMQ's plugin (rabbit_delayed_message_utils).
"""

from __future__ import annotations

import re
from heapq import heapify, heappop, heappush
from typing import Any, Final

from mypy_extensions import i64

from dispatchd.amqp.errors import AmqpSyntaxError
from dispatchd.amqp.field_table import Timestamp, decode_table, encode_table
from dispatchd.amqp.message import Message, bare_copy
from dispatchd.amqp.properties import FLAG_HEADERS, find_property
from dispatchd.model.copies import BCC, address_copies, hidden_copies
from dispatchd.model.entry import NEVER, QueueEntry

X_DELAY: Final = "x-delay"
LONGEST_MS: Final = (1 << 32) - 1
"""What asks for more is not delayed at all."""

_TRACE: Final = X_DELAY.encode()  # what it leaves in a header that is not decoded
_INTEGER: Final = re.compile(r"\+?0*([0-9]{1,10})")


def delay_of(value: Any) -> int:
    """Milliseconds that an `x-delay` of this value asks for; 0 if it asks for none, or for nothing that can be."""
    delay: int | float = 0
    if isinstance(value, str):
        digits = _INTEGER.fullmatch(value)
        delay = 0 if digits is None else int(digits.group(1))
    elif isinstance(value, int | float) and not isinstance(value, bool | Timestamp):
        delay = value
    return int(delay) if 0 < delay <= LONGEST_MS else 0


def postpone(message: Message) -> tuple[Message, int] | None:
    """The message as it is kept, and for how many ms; None if it is to be routed at once.

    Its `x-delay` is negated, which tells consumers how long it waited and keeps the next exchange from delaying it
    again. BCC is back in it: the store has no other place for these keys.
    """
    header = message.header
    start = find_property(header, FLAG_HEADERS) if _TRACE in header else -1
    if start < 0:
        return None
    try:
        headers, end = decode_table(header, start, len(header))
    except AmqpSyntaxError:
        return None
    delay = delay_of(headers.get(X_DELAY))
    if not delay:
        return None
    headers[X_DELAY] = -delay
    hidden = hidden_copies(message, headers)
    if hidden:
        headers[BCC] = hidden
    kept = bare_copy(message)
    kept.header = header[:start] + encode_table(headers) + header[end:]
    kept.sequence = message.sequence  # the store may refuse it
    return kept, delay


def resume(kept: Message) -> Message:
    """The message as it is routed when it is due: a new one each time, since routing leaves its notes in it."""
    message = bare_copy(kept)
    address_copies(message)
    return message


class Delays:
    """Entries by when they are due (`expires_at`, ms since 1970), those of one moment in the order that they came.

    They name no queue, and not the exchange that keeps them: the two go together.
    """

    def __init__(self, entries: list[QueueEntry], last_position: i64 = 0) -> None:
        self._heap: list[tuple[int, int, QueueEntry]] = []
        self.last_position: i64 = last_position
        self.put_back(entries)

    def __len__(self) -> int:
        return len(self._heap)

    def take_in(self, messages: list[Message], now: i64) -> tuple[list[Message], list[QueueEntry]]:
        """Split messages that come at `now` (ms): those to route at once, and the new entries of those that are kept.

        A kept message counts as one that a queue took. If this raises, nothing was kept.
        """
        at_once: list[Message] = []
        entries: list[QueueEntry] = []
        position = self.last_position
        for message in messages:
            postponed = postpone(message)
            if postponed is None:
                at_once.append(message)
                continue
            kept, delay = postponed
            position += 1
            entry = QueueEntry(kept, None, position)
            entry.expires_at = now + delay
            entries.append(entry)
            message.queues += 1
        for entry in entries:
            heappush(self._heap, (entry.expires_at, entry.position, entry))
        self.last_position = position
        return at_once, entries

    def take_due(self, now: i64, limit: i64) -> list[QueueEntry]:
        """Remove at most `limit` entries that are due at `now` (ms), in their order."""
        due: list[QueueEntry] = []
        while self._heap and len(due) < limit and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2])
        return due

    def put_back(self, entries: list[QueueEntry]) -> None:
        """Take entries in that have their position and their time already."""
        for entry in entries:
            self._heap.append((entry.expires_at, entry.position, entry))
            self.last_position = max(self.last_position, entry.position)
        heapify(self._heap)

    def next_due(self) -> int:
        """When the next entry is due, in ms since 1970; NEVER if there is none."""
        return self._heap[0][0] if self._heap else NEVER

    def entries(self) -> list[QueueEntry]:
        """All that wait, in no order."""
        return [entry for _, _, entry in self._heap]
