"""A store whose commits wait, and fail, as a test says."""

from __future__ import annotations

import os

from dispatchd.model.journal import Changes
from dispatchd.store.interface import Dropped, StoreFull
from dispatchd.store.memory_store import MemoryStore

QUEUE = 7


class GatedStore(MemoryStore):
    """Commits wait, on their native thread, while the gate is closed; then they raise what is in `errors`, if any."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.batches: list[Changes] = []
        self.removals: list[int] = []
        self.errors: list[Exception] = []
        self.is_full = False
        self.removed_at_most = 1_000_000
        self._is_open = True
        self._wait, self._go = os.pipe()

    def close_gate(self) -> None:
        self._is_open = False

    def open_gate(self) -> None:
        self._is_open = True
        os.write(self._go, b"x")

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        self.begun += 1
        if not self._is_open:
            os.read(self._wait, 1)
        if self.errors:
            raise self.errors.pop(0)
        removals = len(changes.deleted_entries)
        if self.is_full and (changes.entries or changes.contents or removals > self.removed_at_most):
            raise StoreFull("full")
        dropped = super().commit(changes, is_awaited=is_awaited)
        self.batches.append(changes)
        self.removals.append(removals)
        return dropped

    def close(self) -> None:
        os.close(self._wait)
        os.close(self._go)

    def positions(self, queue_id: int = QUEUE) -> list[int]:
        found = self.recover().queues.get(queue_id)
        return found.positions.head(len(found.positions)) if found is not None else []
