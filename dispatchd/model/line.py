"""The line in which entries of one priority wait.

Entries leave a line from its head only, so whatever was delivered once stands before everything that never was.
Requeued entries therefore wait in a small sorted list of their own in front: each is back at its original place.
"""

from __future__ import annotations

from collections import deque

from dispatchd.model.entry import QueueEntry


def _by_position_from_last(entry: QueueEntry) -> int:
    return -entry.position


class Line:
    """Entries in the order of their positions."""

    def __init__(self) -> None:
        self.ready: deque[QueueEntry] = deque()
        self.returned: list[QueueEntry] = []

    def __len__(self) -> int:
        return len(self.ready) + len(self.returned)

    def head(self) -> QueueEntry | None:
        """The entry whose turn is next."""
        if self.returned:
            return self.returned[-1]
        return self.ready[0] if self.ready else None

    def pop(self) -> QueueEntry | None:
        """Remove the head; None when nothing waits."""
        if self.returned:
            return self.returned.pop()
        return self.ready.popleft() if self.ready else None

    def put_back(self, entries: list[QueueEntry]) -> None:
        """Take entries in that were here before."""
        self.returned.extend(entries)
        self.returned.sort(key=_by_position_from_last)

    def entries(self) -> list[QueueEntry]:
        """What waits, from the head."""
        return [*reversed(self.returned), *self.ready]

    def clear(self) -> None:
        """Remove everything."""
        self.returned.clear()
        self.ready.clear()
