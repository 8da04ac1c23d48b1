"""What the next commit must change, gathered so that an add and a delete that meet in it cost nothing.

The idea is the seed's: most persistent messages are acknowledged before the next write is due, and those never reach
the disk. Content that several queues share is written with the first entry that survives, and removed with the last.
What belongs to a transaction is staged, and becomes a part of one batch when all of it is there: all or nothing.
"""

from __future__ import annotations

from mypy_extensions import i64

from dispatchd.amqp.message import Message
from dispatchd.model.entry import NOT_STORED, STAGED, STORED, STORED_SHARED, QueueEntry
from dispatchd.model.records import content_row, entry_key, entry_row, id_key, mark_row, read_id
from dispatchd.model.transaction import Transaction


class Changes:
    """One batch as the store writes it: keys and values, in the order of the keys of each queue but for transactions.

    `definitions` maps a key to its new record, or to None where it is to be removed. `dropped_queues` are queue keys
    whose entries and mark go; what `entries` adds comes after them.

    `entries` and `contents` are not there before `encode` has made them, which any thread may do: what they will be is
    settled by then.
    """

    def __init__(self) -> None:
        self._taken: list[QueueEntry | None] = []
        self._queue_ids: list[i64] = []
        self._shared: set[QueueEntry] = set()
        self._new_contents: list[Message] = []
        self._encoded: i64 = 0
        self.body_bytes: i64 = 0  # of all that is to be encoded
        self.entries: list[tuple[bytes, bytes]] = []
        self.contents: list[tuple[bytes, bytes]] = []
        self.deleted_entries: list[bytes] = []
        self.deleted_contents: list[bytes] = []
        self.bound_entries: list[bytes] = []
        self.bound_contents: list[bytes] = []
        self.marks: list[tuple[bytes, bytes]] = []
        self.dropped_queues: list[bytes] = []
        self.definitions: dict[bytes, bytes | None] = {}

    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self._taken
            or self.deleted_entries
            or self.deleted_contents
            or self.marks
            or self.dropped_queues
            or self.definitions
        )

    def take(self, entries: list[QueueEntry | None], queue_ids: list[i64]) -> None:
        """These are the entries to be written: each with its message, unless it is `shared`."""
        self._taken = entries
        self._queue_ids = queue_ids

    def share(self, entry: QueueEntry, is_first: bool) -> None:
        """Have an entry name its message, and that written too if it is the first to do so."""
        self._shared.add(entry)
        if is_first:
            self._new_contents.append(entry.message)

    def bind(self, entries: list[bytes], contents: list[bytes]) -> None:
        """Delete these as well, in no other batch than that of what they are deleted for."""
        self.bound_entries, self.bound_contents = entries, contents
        self.deleted_entries = self.deleted_entries + entries
        self.deleted_contents = self.deleted_contents + contents

    def unbound(self) -> tuple[list[bytes], list[bytes]]:
        """The entries and contents to be deleted that any batch may delete."""
        entries, contents = set(self.bound_entries), set(self.bound_contents)
        return (
            [key for key in self.deleted_entries if key not in entries],
            [key for key in self.deleted_contents if key not in contents],
        )

    def taken(self) -> list[tuple[QueueEntry, int]]:
        """The entries to be written, with the ids of their queues."""
        pairs: list[tuple[QueueEntry, int]] = []
        for index, entry in enumerate(self._taken):
            if entry is not None:
                pairs.append((entry, self._queue_ids[index]))
        return pairs

    def encode(self, limit: i64) -> bool:
        """Make the rows of more contents and entries: so many of them, or KiB of bodies; whether there are more.

        That takes a microsecond for each.
        """
        left = limit
        while left > 0 and len(self.contents) < len(self._new_contents):
            message = self._new_contents[len(self.contents)]
            self.contents.append(content_row(message))
            left -= 1 + (message.size >> 10)
        while left > 0 and self._encoded < len(self._taken):
            entry = self._taken[self._encoded]
            if entry is not None:
                content = entry.message.message_id if entry in self._shared else 0
                self.entries.append(entry_row(self._queue_ids[self._encoded], entry, content))
                left -= 1 + (entry.message.size >> 10)
            self._encoded += 1
        return self._encoded < len(self._taken) or len(self.contents) < len(self._new_contents)

    def free(self, limit: i64) -> bool:
        """Let go of so many entries and rows that are written; whether there are more."""
        del self._taken[-limit:]
        del self._new_contents[-limit:]
        del self.entries[-limit:]
        del self.contents[-limit:]
        del self.deleted_entries[-limit:]
        del self.deleted_contents[-limit:]
        return bool(self._taken or self.deleted_entries or self.deleted_contents)


class Journal:
    """Adds, deletes and marks since the last `seal`. Queue ids and positions are the queues' own.

    `references` has how many stored entries name each shared content; it is kept up to date from then on. With `shares`
    false every entry gets its message written with it, whoever else has that.
    """

    def __init__(self, next_message_id: i64 = 1, references: dict[int, int] | None = None, shares: bool = True) -> None:
        self._next_message_id: i64 = next_message_id
        self._shares: bool = shares
        self._references: dict[int, int] = references if references is not None else {}
        self._adds: list[QueueEntry | None] = []
        self._queue_ids: list[i64] = []
        self._live_adds: i64 = 0
        self.live_bytes: i64 = 0  # of the bodies that the next commit has to write
        self._deleted_entries: list[bytes] = []
        self._deleted_contents: list[bytes] = []
        self._bound_entries: list[bytes] = []  # to be deleted in one batch with what their transaction adds
        self._bound_contents: list[bytes] = []
        self._marks: dict[i64, i64] = {}
        self._dropped_queues: list[i64] = []
        self._definitions: dict[bytes, bytes | None] = {}
        self._staged: set[Transaction] = set()
        self.added: i64 = 0
        self.cancelled: i64 = 0

    def add(self, queue_id: i64, entries: list[QueueEntry]) -> None:
        """Store these entries of a durable queue."""
        slot: i64 = len(self._adds)
        size: i64 = 0
        for entry in entries:
            entry.slot = slot
            slot += 1
            size += entry.message.size
            self._adds.append(entry)
            self._queue_ids.append(queue_id)
        self._live_adds += len(entries)
        self.live_bytes += size
        self.added += len(entries)

    def delete(self, queue_id: i64, entries: list[QueueEntry]) -> None:
        """Forget these entries; those that were never stored are passed over."""
        for entry in entries:
            slot = entry.slot
            if slot == NOT_STORED:
                continue
            entry.slot = NOT_STORED
            if slot == STAGED:
                continue
            if slot >= 0:
                self._adds[slot] = None
                self._live_adds -= 1
                self.live_bytes -= entry.message.size
                self.cancelled += 1
                continue
            self._deleted_entries.append(entry_key(queue_id, entry.position))
            if slot == STORED_SHARED:
                self._release(entry.message.message_id)

    def delete_places(self, queue_id: i64, positions: list[int], contents: list[int]) -> None:
        """Forget stored entries that nobody has in memory; `contents` are those that they name."""
        for position in positions:
            self._deleted_entries.append(entry_key(queue_id, position))
        self.release(contents)

    def release(self, contents: list[int]) -> None:
        """Entries that named these contents are gone, with the queues that they were in."""
        for content in contents:
            self._release(content)

    def _release(self, content: i64) -> None:
        left = self._references[content] - 1
        if left:
            self._references[content] = left
        else:
            del self._references[content]
            self._deleted_contents.append(id_key(content))

    def stage(
        self, transaction: Transaction, queue_id: i64, added: list[QueueEntry], deleted: list[QueueEntry]
    ) -> None:
        """Keep back what a transaction changes; what comes after its merge is changed like anything else.

        The entries live on meanwhile: one that is deleted before the merge will never have been added. To stage the
        same again changes nothing.
        """
        if transaction.is_merged:
            self.add(queue_id, [entry for entry in added if entry.slot == NOT_STORED])
            self.delete(queue_id, deleted)
            return
        stored = [entry for entry in deleted if entry.slot != NOT_STORED]
        for entry in added:
            entry.slot = STAGED
        if added:
            transaction.added.append((queue_id, added))
        if stored:
            transaction.deleted.append((queue_id, stored))
        if added or stored:
            self._staged.add(transaction)

    def merge(self, transaction: Transaction) -> bool:
        """Make all that was staged for a transaction a part of this batch; False if nothing was."""
        transaction.is_merged = True
        end_of_entries, end_of_contents = len(self._deleted_entries), len(self._deleted_contents)
        for queue_id, entries in transaction.deleted:
            self.delete(queue_id, entries)
        if transaction.added:
            self._bound_entries += self._deleted_entries[end_of_entries:]
            self._bound_contents += self._deleted_contents[end_of_contents:]
            del self._deleted_entries[end_of_entries:]
            del self._deleted_contents[end_of_contents:]
        for queue_id, entries in transaction.added:
            self.add(queue_id, [entry for entry in entries if entry.slot == STAGED])
        transaction.added = []
        transaction.deleted = []
        was_staged = transaction in self._staged
        self._staged.discard(transaction)
        return was_staged

    def open_transactions(self) -> int:
        """How many transactions have something staged."""
        return len(self._staged)

    def mark(self, queue_id: i64, position: i64) -> None:
        """Note that this queue delivered everything up to `position` at least once."""
        self._marks[queue_id] = position

    def drop_queue(self, queue_id: i64) -> None:
        """Forget all that is stored of a queue, whoever still holds entries of it."""
        for slot in range(len(self._adds)):
            entry = self._adds[slot]
            if entry is not None and self._queue_ids[slot] == queue_id:
                self.delete(queue_id, [entry])
        for transaction in self._staged:
            for staged_id, entries in transaction.added:
                if staged_id == queue_id:
                    self.delete(queue_id, entries)
        self._marks.pop(queue_id, None)
        self._dropped_queues.append(queue_id)

    def define(self, key: bytes, record: bytes | None) -> None:
        """Store a definition, or remove it with None."""
        self._definitions[key] = record

    def live_adds(self) -> int:
        """How many entries the next commit has to write, if nothing else happens."""
        return self._live_adds

    def is_empty(self) -> bool:
        """Whether a commit would change nothing."""
        return not (self._live_adds or self._bound_entries or self._marks or self._definitions or self.has_removals())

    def has_removals(self) -> bool:
        """Whether a commit would make room."""
        return bool(
            self._deleted_entries
            or self._deleted_contents
            or self._dropped_queues
            or None in self._definitions.values()
        )

    def seal_removals(self, most: i64) -> Changes:
        """Close a batch of nothing but what makes room, so many entries and contents at most; the rest is for the next.

        Contents go when all entries that may name them have gone.
        """
        changes = Changes()
        if len(self._deleted_entries) + len(self._deleted_contents) <= most:
            self._take_removals(changes)
            for key in [key for key, record in self._definitions.items() if record is None]:
                changes.definitions[key] = self._definitions.pop(key)
        elif self._deleted_entries:
            changes.deleted_entries = _take_last(self._deleted_entries, most)
        else:
            changes.deleted_contents = _take_last(self._deleted_contents, most)
        return changes

    def _take_removals(self, changes: Changes) -> None:
        changes.deleted_entries = self._deleted_entries
        changes.deleted_contents = self._deleted_contents
        changes.dropped_queues = [id_key(queue_id) for queue_id in self._dropped_queues]
        self._deleted_entries = []
        self._deleted_contents = []
        self._dropped_queues = []

    def reopen(self, failed: Changes) -> None:
        """Take a batch back that could not be written, as if it had not been sealed; all the rest comes behind it."""
        behind, queue_ids = self._adds, self._queue_ids
        dropped = set(self._dropped_queues)  # since then
        self._adds, self._queue_ids = [], []
        self._live_adds = self.live_bytes = 0
        for entry, queue_id in failed.taken():
            if entry.slot == STORED_SHARED:
                self._name_no_more(entry.message.message_id)
            if queue_id in dropped:
                entry.slot = NOT_STORED
            elif entry.is_stored():
                self._add_again(entry, queue_id)
        for index, later in enumerate(behind):
            if later is not None:
                self._add_again(later, queue_ids[index])
        entries, contents = failed.unbound()
        self._deleted_entries = entries + self._deleted_entries
        self._deleted_contents = contents + self._deleted_contents
        self._bound_entries = failed.bound_entries + self._bound_entries
        self._bound_contents = failed.bound_contents + self._bound_contents
        self._dropped_queues = [read_id(key) for key in failed.dropped_queues] + self._dropped_queues
        marks = [(read_id(key), read_id(position)) for key, position in failed.marks]
        self._marks = {queue_id: position for queue_id, position in marks if queue_id not in dropped} | self._marks
        self._definitions = failed.definitions | self._definitions

    def _name_no_more(self, content: i64) -> None:
        """Undo what `_is_first_to_name` did; the content is not on disk if nobody else names it."""
        left = self._references[content] - 1
        if left:
            self._references[content] = left
        else:
            del self._references[content]

    def _add_again(self, entry: QueueEntry, queue_id: i64) -> None:
        entry.slot = len(self._adds)
        self._adds.append(entry)
        self._queue_ids.append(queue_id)
        self._live_adds += 1
        self.live_bytes += entry.message.size

    def seal(self) -> Changes:
        """Close the batch, count its entries as stored, and begin the next one."""
        changes = Changes()
        if self._live_adds:
            changes.take(self._adds, self._queue_ids)
            changes.body_bytes = self.live_bytes
            for entry in self._adds:
                if entry is None:
                    continue
                if entry.message.queues > 1 and self._shares:
                    entry.slot = STORED_SHARED
                    changes.share(entry, self._is_first_to_name(entry.message))
                else:
                    entry.slot = STORED
        self._take_removals(changes)
        changes.bind(self._bound_entries, self._bound_contents)
        changes.marks = [mark_row(queue_id, position) for queue_id, position in self._marks.items()]
        changes.definitions = self._definitions
        self._adds = []
        self._queue_ids = []
        self._live_adds = self.live_bytes = 0
        self._bound_entries = []
        self._bound_contents = []
        self._marks = {}
        self._definitions = {}
        return changes

    def _is_first_to_name(self, message: Message) -> bool:
        if not message.message_id:
            message.message_id = self._next_message_id
            self._next_message_id += 1
        references = self._references.get(message.message_id, 0)
        self._references[message.message_id] = references + 1
        return references == 0


def _take_last(keys: list[bytes], most: i64) -> list[bytes]:
    taken = keys[-most:]
    del keys[-most:]
    return taken
