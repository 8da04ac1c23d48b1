"""One transaction of a channel (AMQP 0-9-1, class tx), from what it was asked for to its one commit on disk."""

from __future__ import annotations

from typing import Any

from mypy_extensions import i64

from dispatchd.amqp.message import Message
from dispatchd.model.entry import QueueEntry

Staged = tuple[i64, list[QueueEntry]]


class Transaction:
    """Publishes and settlements since the last commit or rollback, in their order; then what became of them.

    `settled` holds what `DeliveryLedger.set_aside` has returned, with the outcome that it asks for: what the queues are
    to be told, which is for the actors to know. `channel` is who gets the answers. `added` and `deleted` are the
    journal's: queue ids and their entries, staged until all of them can be written at once.
    """

    def __init__(self, channel: Any) -> None:
        self.channel: Any = channel
        self.published: list[Message] = []
        self.settled: list[tuple[list[i64], Any]] = []
        self.unsettled: i64 = 0  # settlements that queues have yet to answer
        self.is_complete = False  # persistence was told to commit: no part of it is to come
        self.is_partial = False  # some of it was refused
        self.is_merged = False  # the journal keeps nothing back for it any more
        self.added: list[Staged] = []
        self.deleted: list[Staged] = []

    def settle(self, acks: list[i64], outcome: Any) -> None:
        """Note what to settle; a run of the same outcome is told to the queues as one."""
        if self.settled and self.settled[-1][1] is outcome:
            self.settled[-1][0].extend(acks)
        else:
            self.settled.append((acks, outcome))
