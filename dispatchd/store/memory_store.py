"""A store for as long as the process lives: for tests, and for a broker without a directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dispatchd.model.journal import Changes
from dispatchd.model.records import entry_key, id_key
from dispatchd.model.stored_entries import StoredEntry, read_entries
from dispatchd.store.interface import Dropped, Recovered, StoredHead
from dispatchd.store.recovery import contents_named_by, index, read_head

_QUEUE_KEY_SIZE = 8


class MemoryStore:
    """The records of a store in dictionaries; they outlive `close`, so that `recover` can stand for a restart."""

    kind: Final = "memory"

    def __init__(self) -> None:
        self._definitions: dict[bytes, bytes] = {}
        self._contents: dict[bytes, bytes] = {}
        self._queues: dict[bytes, dict[bytes, bytes]] = {}
        self._marks: dict[bytes, bytes] = {}
        self._bytes = 0

    def recover(self) -> Recovered:
        """See `Store.recover`."""
        entries = (row for queue in sorted(self._queues) for row in sorted(self._queues[queue].items()))
        definitions = dict(self._definitions)
        recovered, orphans = index(definitions, self._contents.items(), entries, self._marks.items())
        for message_id in orphans:
            self._remove(self._contents, id_key(message_id))
        return recovered

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """See `Store.read`."""
        return read_entries(self._rows(queue_id, positions), self._content)

    def heads(self, queue_id: int) -> Iterator[StoredHead]:
        """See `Store.heads`."""
        for key, value in sorted(self._queues.get(id_key(queue_id), {}).items()):
            yield read_head(key, value, self._content)

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """See `Store.shared`."""
        return contents_named_by(self._rows(queue_id, positions))

    def _rows(self, queue_id: int, positions: list[int]) -> Iterator[tuple[bytes, bytes]]:
        queue = self._queues.get(id_key(queue_id), {})
        for position in positions:
            key = entry_key(queue_id, position)
            value = queue.get(key)
            if value is not None:
                yield key, value

    def _content(self, content_id: int) -> bytes | None:
        return self._contents.get(id_key(content_id))

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        """See `Store.commit`."""
        for key in changes.deleted_entries:
            self._remove(self._queues.get(key[:_QUEUE_KEY_SIZE], {}), key)
        released: list[int] = []
        for queue in changes.dropped_queues:
            for key, value in list(self._queues.get(queue, {}).items()):
                released.extend(contents_named_by([(key, value)]))
                self._remove(self._queues[queue], key)
            self._queues.pop(queue, None)
            self._remove(self._marks, queue)
        for key in changes.deleted_contents:
            self._remove(self._contents, key)
        for key, record in changes.definitions.items():
            if record is None:
                self._remove(self._definitions, key)
            else:
                self._put(self._definitions, key, record)
        for key, value in changes.contents:
            self._put(self._contents, key, value)
        for key, value in changes.entries:
            self._put(self._queues.setdefault(key[:_QUEUE_KEY_SIZE], {}), key, value)
        for key, value in changes.marks:
            if key not in changes.dropped_queues:
                self._put(self._marks, key, value)
        return Dropped(released, [])

    def close(self) -> None:
        """See `Store.close`."""

    def unused(self) -> int:
        """See `Store.unused`."""
        return 0

    def statistics(self) -> dict[str, int]:
        """See `Store.statistics`."""
        return {
            "definitions": len(self._definitions),
            "entries": sum(map(len, self._queues.values())),
            "contents": len(self._contents),
            "marks": len(self._marks),
            "bytes_used": self._bytes,
            "bytes_limit": 0,
        }

    def _put(self, table: dict[bytes, bytes], key: bytes, value: bytes) -> None:
        self._remove(table, key)
        table[key] = value
        self._bytes += len(key) + len(value)

    def _remove(self, table: dict[bytes, bytes], key: bytes) -> None:
        value = table.pop(key, None)
        if value is not None:
            self._bytes -= len(key) + len(value)
