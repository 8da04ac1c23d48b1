"""What a broker has to know of its stored entries at start: where they are and how large, not what they say.

References to shared contents are counted here, never trusted from disk.
"""

from __future__ import annotations

from mypy_extensions import i64

from dispatchd.model.checksums import CONTENTS, ENTRIES, check
from dispatchd.model.places import Places
from dispatchd.model.records import SHARED, body_size, entry_head, read_id, shared_content, split_entry_key

_ID_SIZE = 8
_ENTRY_KEY_SIZE = 16


class QueueIndex:
    """The entries of one queue: their positions in order, and how many octets of bodies they have together."""

    def __init__(self) -> None:
        self.positions: Places = Places()
        self.bytes: i64 = 0


class StoreIndex:
    """Filled row by row, contents first. `references` counts the entries that name a content, by its id."""

    def __init__(self) -> None:
        self.queues: dict[int, QueueIndex] = {}
        self.references: dict[int, int] = {}
        self.last_content: i64 = 0
        self._sizes: dict[int, int] = {}

    def add_contents(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Take in rows of contents. Raises ValueError naming the first that makes no sense."""
        for key, value in rows:
            if len(key) != _ID_SIZE:
                raise ValueError(f"the key of a content has {_ID_SIZE} bytes, got {len(key)}")
            content: i64 = read_id(key)
            try:
                check(CONTENTS, key, value)
                self._sizes[content] = body_size(value, 0)
            except ValueError as error:
                raise ValueError(f"content {content}: {error}") from None
            self.last_content = max(self.last_content, content)

    def add_entries(self, rows: list[tuple[bytes, bytes]]) -> None:
        """Take in rows of entries, in the order of keys. Raises ValueError naming the first that makes no sense."""
        queue_id: i64 = -1
        index = QueueIndex()
        for key, value in rows:
            if len(key) != _ENTRY_KEY_SIZE:
                raise ValueError(f"the key of an entry has {_ENTRY_KEY_SIZE} bytes, got {len(key)}")
            queue, position = split_entry_key(key)
            if queue != queue_id:
                queue_id = queue
                known = self.queues.get(queue)
                if known is None:
                    known = self.queues[queue] = QueueIndex()
                index = known
            try:
                check(ENTRIES, key, value)
                index.bytes += self._size_of(value)
            except ValueError as error:
                raise ValueError(f"entry {position} of queue {queue}: {error}") from None
            index.positions.append(position)

    def _size_of(self, value: bytes) -> int:
        kind, _, at = entry_head(value)
        if kind != SHARED:
            return body_size(value, at)
        content = shared_content(value, at)
        size = self._sizes.get(content)
        if size is None:
            raise ValueError(f"names content {content}, which is missing")
        self.references[content] = self.references.get(content, 0) + 1
        return size

    def orphans(self) -> list[int]:
        """Contents that no entry names."""
        return [content for content in self._sizes if content not in self.references]
