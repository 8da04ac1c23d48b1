"""What a data file has: its queues with their messages, as far as they are intact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dispatchd.model.checksums import CONTENTS, DEFINITIONS, ENTRIES, MARKS
from dispatchd.model.records import (
    SHARED,
    body_size,
    entry_head,
    marked_position,
    read_id,
    shared_content,
    split_entry_key,
)
from dispatchd.model.stored_definitions import Owner, owners
from dispatchd.store.batches import TABLES
from dispatchd.store.layout import read_definition
from dispatchd.store.pending import Pending
from dispatchd.store.redo import Outstanding, State, outstanding, state_of_unknown
from dispatchd.store.redo_log import Logged
from dispatchd.store.remains import Remains

_QUEUE_ID_SIZE: Final = 8


@dataclass(slots=True)
class QueueContents:
    """Of one queue: its messages, the octets of their bodies, the last position, and how many messages are damaged.

    A deleted queue may have left some, which have no `owner` then.
    """

    owner: Owner | None = None
    messages: int = 0
    octets: int = 0
    last_position: int = 0
    damaged: int = 0


class Inspection:
    """Of a file, whose `remains` are all read. `queues` and `marks` are by the ids of queues.

    `contents` has the octets of the body of each shared content that is intact. `lost` messages were in pages that are
    damaged, None if nobody can know how many; they were in queues of `lost_in`. What is `outstanding` in the redo log
    counts as if it were in the file.
    """

    def __init__(self, remains: Remains, logged: Logged | None = None) -> None:
        self.remains = remains
        self.outstanding = of_remains(remains, logged)
        remains.note(*self.outstanding.faults)
        self.queues: dict[int, QueueContents] = {}
        self.contents: dict[int, int] = {}
        self.marks: dict[int, int] = {}
        self.definitions: dict[bytes, bytes] = {}
        self._perhaps_without_content: list[tuple[bytes, bytes]] = []
        for table, key, value in _all_rows(remains, self.outstanding.pending):
            if table == DEFINITIONS:
                name, record = read_definition(key, value)
                self.definitions[name] = record
            elif table == CONTENTS:
                self._take_content(key, value)
            elif table == MARKS:
                self._take_mark(key, value)
            elif not self._take_entry(key, value):
                self._perhaps_without_content.append((key, value))
        self._finish()

    def _take_content(self, key: bytes, value: bytes) -> None:
        try:
            self.contents[read_id(key)] = body_size(value, 0)
        except ValueError:
            self.remains.findings[CONTENTS].damaged.append(key)

    def _take_mark(self, key: bytes, value: bytes) -> None:
        try:
            self.marks[read_id(key)] = marked_position(value)
        except ValueError:
            self.remains.findings[MARKS].damaged.append(key)

    def size_of(self, value: bytes) -> int | None:
        """The octets of the body of an entry; None if it makes no sense, or names a content that is not intact."""
        try:
            kind, _, at = entry_head(value)
            return self.contents.get(shared_content(value, at)) if kind == SHARED else body_size(value, at)
        except ValueError:
            return None

    def _take_entry(self, key: bytes, value: bytes) -> bool:
        octets = self.size_of(value)
        if octets is None:
            return False
        queue_id, position = split_entry_key(key)
        queue = self.queue(queue_id)
        queue.messages += 1
        queue.octets += octets
        queue.last_position = max(queue.last_position, position)
        return True

    def queue(self, queue_id: int) -> QueueContents:
        """The queue with this id."""
        return self.queues.setdefault(queue_id, QueueContents())

    def _finish(self) -> None:
        for key, value in self._perhaps_without_content:  # which may be a stray
            if not self._take_entry(key, value):
                self.queue(split_entry_key(key)[0]).damaged += 1
        for queue_id, owner in owners(self.definitions.values()).items():
            self.queue(queue_id).owner = owner
        entries = self.remains.findings[ENTRIES]
        for key in entries.damaged:
            queue_id = int.from_bytes(key[:_QUEUE_ID_SIZE], "big")
            self.queue(queue_id if queue_id in self.queues else 0).damaged += 1
        self.lost = entries.missing
        self.lost_in = sorted(
            queue_id for queue_id in self.queues if any(_may_have(gap, queue_id) for gap in entries.gaps)
        )
        if self.lost and len(self.lost_in) == 1:
            self.queue(self.lost_in[0]).damaged += self.lost
            self.lost = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with the file, or missing."""
        findings = self.remains.findings.values()
        return not (
            self.remains.faults
            or any(found.damaged or found.gaps for found in findings)
            or any(queue.damaged for queue in self.queues.values())
        )


def of_remains(remains: Remains, logged: Logged | None) -> Outstanding:
    """What a redo log has that the file beside it does not."""
    if remains.log_state is None:
        return Outstanding() if remains.knows_of_log else outstanding(state_of_unknown(logged), logged)
    try:
        state = State.unpack(remains.log_state)
    except ValueError as error:
        found = outstanding(state_of_unknown(logged), logged)
        found.faults.insert(0, str(error))
        return found
    return outstanding(state, logged)


def _all_rows(remains: Remains, pending: Pending) -> Iterator[tuple[int, bytes, bytes]]:
    for table in TABLES:
        for key, value in pending[table].over(remains.rows(table)):
            yield table, key, value
    for table, key, value in remains.strays():
        if key not in pending[table]:
            yield table, key, value


def _may_have(gap: tuple[bytes, bytes | None], queue_id: int) -> bool:
    """Whether some of a queue's entries may have been in a gap."""
    first, end = gap
    begin = int.from_bytes(first[:_QUEUE_ID_SIZE], "big")
    return begin <= queue_id and (end is None or queue_id <= int.from_bytes(end[:_QUEUE_ID_SIZE], "big"))
