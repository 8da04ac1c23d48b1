"""What the broker asks of a store, what it gets back at start, and how a store fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dispatchd.amqp.message import Message
from dispatchd.model.journal import Changes


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

    `queues` maps a queue's id to its entries as (position, message), in order; a message that several queues share is
    one object in all of them. `marks` maps a queue's id to the position up to which it delivered. Both may name
    queues that no definition knows any more. `next_message_id` and `next_queue_id` are above every id found in
    contents, entries and marks; ids inside `definitions` are the caller's to read. `expiries` has, by queue id and
    position, when entries expire that do, in ms since 1970.
    """

    definitions: dict[bytes, bytes]
    queues: dict[int, list[tuple[int, Message]]]
    marks: dict[int, int]
    next_message_id: int
    next_queue_id: int
    expiries: dict[int, dict[int, int]] = field(default_factory=dict)


class Store(Protocol):
    """Where definitions, persistent messages and delivery marks outlive the broker.

    All methods block. `recover` is called once, before the first `commit`; commits come one at a time.
    """

    @property
    def kind(self) -> str:
        """What the administrator calls it: "lmdb" or "memory"."""

    def recover(self) -> Recovered:
        """Read everything, and drop contents that no entry names.

        Raises StoreDamaged if a record cannot be read or names a content that is missing.
        """

    def commit(self, changes: Changes) -> None:
        """Write one batch: all of it, durable when this returns, or nothing.

        Removals come first, so what the same batch adds again stays. Removing what is not there is no error, and the
        same batch may be committed again. Marks of queues that the batch drops are passed over.
        Raises StoreFull, or another StoreError; the store is then unchanged and can still be used.
        """

    def close(self) -> None:
        """Release what the store holds. No commit may be under way."""

    def statistics(self) -> Mapping[str, int]:
        """Sizes now: definitions, entries, contents, marks, bytes_used, and bytes_limit (0 = none)."""
