"""How much of a queue is in memory: the head, which is needed soon, and what came lately. The middle is on disk."""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import i64

from dispatchd.amqp.message import Message
from dispatchd.model.entry import STORED, STORED_SHARED, QueueEntry
from dispatchd.model.queue import Queue
from dispatchd.model.stock import Stock
from dispatchd.model.stored_entries import StoredEntry

MOST_CHOSEN: Final = 16_384
"""Entries that leave memory together: choosing them takes about half a millisecond."""
PAGED_OUT_IN_ONE_TURN: Final = 4_096
READ_IN_ONE_GO: Final = 2_048


class Residency:
    """The limits of one queue: above `most` ready entries, or `most_bytes` of bodies, the middle goes to disk.

    A quarter of that stays in front, shared by the lines of a queue with priorities.
    """

    def __init__(self, most: i64, most_bytes: i64) -> None:
        self.most: i64 = most
        self.most_bytes: i64 = most_bytes

    def is_exceeded(self, queue: Queue) -> bool:
        """Whether entries should leave memory."""
        count, size = resident(queue)
        return count > self.most or size > self.most_bytes

    def choose(self, queue: Queue) -> list[QueueEntry]:
        """Entries that should leave memory, so that half of what is allowed is left; those of low priority first.

        They stay until `page_out`, which is to follow when they are on disk.
        """
        count, size = resident(queue)
        over: i64 = count - self.most // 2
        over_bytes: i64 = size - self.most_bytes // 2
        lines: i64 = len(queue.lines)
        keep: i64 = max(self.most // 4 // lines, 1)
        keep_bytes: i64 = self.most_bytes // 4 // lines
        chosen: list[QueueEntry] = []
        for line in queue.lines:
            if (over <= 0 and over_bytes <= 0) or len(chosen) >= MOST_CHOSEN:
                break
            some = line.choose(keep, keep_bytes, over, over_bytes, MOST_CHOSEN - len(chosen))
            for entry in some:
                over_bytes -= entry.message.size
            over -= len(some)
            chosen.extend(some)
        return chosen

    def wanted(self, queue: Queue) -> tuple[int, list[int]] | None:
        """Which line (its priority) needs entries back soon, and the positions of these; None if none does."""
        lines: i64 = len(queue.lines)
        for priority in range(len(queue.lines) - 1, -1, -1):
            line = queue.lines[priority]
            if not len(line.paged):
                continue
            average: i64 = line.away.octets // len(line.paged) + 1
            # Less than what `choose` leaves in front, in either measure: else it would go to and fro for ever.
            least_bytes: i64 = self.most_bytes // 5 // lines
            least: i64 = min(self.most // 5 // lines, least_bytes // average)
            if len(line.ready) < max(least, 1) and line.is_short(least_bytes):
                count: i64 = min(max(self.most_bytes // 8 // lines // average, 1), self.most // 4 + 1, READ_IN_ONE_GO)
                return priority, line.paged.head(count)
        return None


def resident(queue: Queue) -> tuple[i64, i64]:
    """How many ready entries are in memory, and octets of their bodies."""
    count: i64 = len(queue)
    size: i64 = queue.ready_bytes
    for line in queue.lines:
        count -= len(line.paged)
        size -= line.away.octets
    return count, size


def page_out(queue: Queue, also_in_front: bool = True) -> bool:
    """Let go of chosen entries, as far as they are stored. Whether more is to be done in another turn.

    `also_in_front` has to be false while some of them are being read back.
    """
    left: i64 = PAGED_OUT_IN_ONE_TURN
    for line in queue.lines:
        if line.leaving:
            left -= line.page_out(left, also_in_front)
            if left == 0:
                return True
    return False


def page_in(queue: Queue, priority: int, count: i64, found: list[StoredEntry]) -> None:
    """Take back what was read of the first `count` places of a line; what is missing there could not be read."""
    entries: list[QueueEntry] = []
    for position, message, expires_at in found:
        entry = stored_entry(queue.ref, position, message, expires_at)
        entry.redelivered = position <= queue.delivered_before
        entries.append(entry)
    line = queue.lines[priority]
    line.page_in(entries, count)
    if not len(line.paged):
        queue.waiting.remove_all(line.away)
        line.away = Stock()


def stored_entry(ref: Any, position: int, message: Message, expires_at: int) -> QueueEntry:
    """An entry that was read back: of the queue `ref`, None if it is of none."""
    entry = QueueEntry(message, ref, position)
    entry.slot = STORED_SHARED if message.message_id else STORED
    entry.expires_at = expires_at
    return entry
