"""What the broker asks of a store, what it gets back at start, and how a store fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from dispatchd.model.journal import Changes
from dispatchd.model.store_index import QueueIndex
from dispatchd.model.stored_entries import StoredEntry

StoredHead = tuple[int, bytes, int, int]


class StoreError(Exception):
    """The store could not do it and is as it was before. One line: the path, what was found, what was expected."""


class StoreDamaged(StoreError):  # noqa: N818 - reads as what happened
    """What lies on the disk is not a whole store; it is left as it was found."""


class StoreTooNew(StoreError):  # noqa: N818
    """The store was written in a format that this version does not know."""


class StoreFull(StoreError):  # noqa: N818
    """No room left on the disk, or in the size that the store may have."""


@dataclass(slots=True)
class Recovered:
    """What an earlier run left behind.

    `queues` maps a queue's id to its entries, which stay on disk until they are read; `references` maps the id of each
    content that queues share to the number of entries that name it. `marks` maps a queue's id to the position up to
    which it delivered. All may name queues that no definition knows any more. `next_message_id` and `next_queue_id` are
    above every id found in contents, entries and marks; ids inside `definitions` are the caller's to read.
    """

    definitions: dict[bytes, bytes]
    queues: dict[int, QueueIndex]
    references: dict[int, int]
    marks: dict[int, int]
    next_message_id: int
    next_queue_id: int


@dataclass(slots=True)
class Dropped:
    """What a commit came upon in dropped queues.

    `contents` has the ids of those that their entries named, once for each entry; `unfinished` the keys of the queues
    of which more is left than fits one commit: they are to be dropped again.
    """

    contents: list[int]
    unfinished: list[bytes]


class Store(Protocol):
    """Where definitions, persistent messages and delivery marks outlive the broker.

    All methods block. `recover` is called once, before the first `commit`; commits come one at a time. `read`, `heads`,
    `shared`, `unused` and `statistics` may be called from any thread, also during a commit.
    """

    @property
    def kind(self) -> str:
        """What the administrator calls it: "lmdb" or "memory"."""

    def recover(self) -> Recovered:
        """Find out what there is, and drop contents that no entry names.

        Raises StoreDamaged if a record does not match its checksum, makes no sense or names a content that is missing.
        """

    def read(self, queue_id: int, positions: list[int]) -> list[StoredEntry]:
        """The entries at these positions, without those that are missing or damaged."""

    def heads(self, queue_id: int) -> Iterator[StoredHead]:
        """Position, content header, octets of the body and expiry of each entry, in order; not while commits come."""

    def shared(self, queue_id: int, positions: list[int]) -> list[int]:
        """The ids of the contents that the entries at these positions name, as far as they name one."""

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        """Write one batch: all of it, durable when this returns, or nothing; soon if it `is_awaited` by somebody.

        Removals come first, so what the same batch adds again stays. Removing what is not there is no error, and the
        same batch may be committed again. Marks of queues that the batch drops are passed over.
        Raises StoreFull, or another StoreError; the store is then unchanged and can still be used.
        """

    def close(self) -> None:
        """Release what the store holds. No commit may be under way."""

    def unused(self) -> int:
        """How many octets of the disk the store has taken and can add to before it takes more."""

    def statistics(self) -> Mapping[str, int]:
        """Sizes now: definitions, entries, contents, marks, bytes_used, and bytes_limit (0 = none)."""
