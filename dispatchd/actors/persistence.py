"""Persistence: gathers what must change, and has it committed (`committer.py`); reads what is to be in memory again.

What belongs to a transaction is in no batch before all of it can be in one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool

from dispatchd.actors.committer import Committer
from dispatchd.actors.messages import (
    ActorMessage,
    Add,
    CommitDue,
    CommitEnded,
    CommitTransaction,
    Define,
    Delete,
    DeletePlaces,
    Fetch,
    Fetched,
    Flush,
    Mark,
    PlacesDeleted,
    Stage,
    TransactionCommitted,
)
from dispatchd.actors.pressure import Pressure
from dispatchd.actors.runtime import Actor, Ref, System, Told, receives
from dispatchd.model.alarms import FAILING, SCRATCH, STORE
from dispatchd.model.journal import Journal

if TYPE_CHECKING:
    from dispatchd.store.interface import Store

logger = logging.getLogger(__name__)

Read = tuple[Fetch | DeletePlaces, Callable[[int, list[int]], Any]]


@dataclass(frozen=True, slots=True)
class ReadEnded(ActorMessage):
    """The thread that reads to the actor."""

    request: Fetch | DeletePlaces
    result: AsyncResult[Any]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        """Whoever asked is told that there is nothing."""
        self.request.refuse(reason)


class PersistenceActor(Actor):
    """Owns the store. What waits for a commit is told when it is on disk, never before.

    Reads have a thread of their own: they never wait for a commit.
    """

    kind = "persistence"
    full: ClassVar[str] = STORE
    failing: ClassVar[str] = FAILING

    def __init__(self, system: System, parent: Ref, store: Store, coalesce_seconds: float, journal: Journal) -> None:
        super().__init__(system, f"{self.kind} ({store.kind})", parent)
        self.broker = parent
        self._store = store
        self._journal = journal
        self.pressure = Pressure()
        self._committer = Committer(self, store, journal, coalesce_seconds)
        self._reading_thread = ThreadPool(1)
        self._to_be_read: deque[Read] = deque()
        self._reading: AsyncResult[Any] | None = None

    @receives(Add)
    def on_add(self, message: Add) -> None:
        """Store entries."""
        self._journal.add(message.queue_id, message.entries)
        self.answered()
        if self.is_quarantined:
            message.refuse(self._quarantine_reason())
        elif message.publishing is not None:
            self._committer.waiting += [message.publishing]
        self.pressure.update(self._journal)
        self._committer.schedule()

    @receives(Delete)
    def on_delete(self, message: Delete) -> None:
        """Forget entries."""
        self._journal.delete(message.queue_id, message.entries)
        self._committer.schedule()

    @receives(Stage)
    def on_stage(self, message: Stage) -> None:
        """Keep a queue's part of a transaction until the channel says that all parts are here."""
        self._journal.stage(message.transaction, message.queue_id, message.added, message.deleted)
        self._committer.schedule()

    @receives(CommitTransaction)
    def on_commit_transaction(self, message: CommitTransaction) -> None:
        """Write all parts of a transaction in one commit, unless none of them is for the disk."""
        transaction = message.transaction
        answer: Told = [(transaction.channel, TransactionCommitted(transaction))]
        if not self._journal.merge(transaction):
            self.answered(answer)
        elif self.is_quarantined:
            self.answered()
            message.refuse(self._quarantine_reason())
        else:
            self._committer.then += answer
            self.answered()
        self._committer.schedule()

    @receives(Mark)
    def on_mark(self, message: Mark) -> None:
        """Remember what was delivered."""
        self._journal.mark(message.queue_id, message.position)
        self._committer.schedule()

    @receives(Define)
    def on_define(self, message: Define) -> None:
        """Store or remove definitions."""
        for key, record in message.records:
            self._journal.define(key, record)
        for queue_id in message.dropped_queues:
            self._journal.drop_queue(queue_id)
        self.answered()
        if self.is_quarantined:
            message.refuse(self._quarantine_reason())
        elif message.then is not None:
            self._committer.then += [message.then]
        self._committer.schedule()

    @receives(Flush)
    def on_flush(self, _message: Flush) -> Event:
        """Commit everything now; the answer is an event that is set when that is done."""
        if self._committer.flushed is None:
            self._committer.flushed = Event()
        flushed = self._committer.flushed
        self._committer.schedule()
        return flushed

    # Reading

    @receives(Fetch)
    def on_fetch(self, message: Fetch) -> None:
        """Read entries back into memory."""
        self._read(message, self._store.read)

    @receives(DeletePlaces)
    def on_delete_places(self, message: DeletePlaces) -> None:
        """Forget entries of which only the places are known: what contents they name is on disk."""
        self._read(message, self._store.shared)

    def _read(self, request: Fetch | DeletePlaces, read: Callable[[int, list[int]], Any]) -> None:
        self._to_be_read += [(request, read)]
        self.answered()
        self._read_next()

    def _read_next(self) -> None:
        """Begin a read, unless one is under way: the thread takes one at a time, and must not keep us waiting."""
        if self._reading is None and self._to_be_read:
            request, read = self._to_be_read[0]
            result = self._reading_thread.spawn(read, request.queue_id, request.positions)
            result.rawlink(lambda result: self.ref.tell(ReadEnded(request, result)))
            self._reading = result
            del self._to_be_read[0]

    @property
    def reads(self) -> int:
        """How many reads have not ended."""
        return len(self._to_be_read) + (self._reading is not None)

    @receives(ReadEnded)
    def on_read_ended(self, message: ReadEnded) -> None:
        """What was read is here, or could not be read."""
        request, result = message.request, message.result
        if result is self._reading:
            self._reading = None
        if result.exception is not None:
            logger.error("%s could not read entries: %s", self.name, result.exception)
            request.refuse(str(result.exception))
        elif isinstance(request, Fetch):
            self.answered([(request.queue, Fetched(request, result.value))])
        else:
            self._journal.delete_places(request.queue_id, request.positions, result.value or [])
            self.answered([(request.queue, PlacesDeleted(request))])
        self._read_next()
        self._committer.schedule()

    # Committing

    @receives(CommitDue)
    def on_commit_due(self, _message: CommitDue) -> None:
        """The interval is over, or somebody waits."""
        self._committer.begin()

    @receives(CommitEnded)
    def on_commit_ended(self, message: CommitEnded) -> None:
        """The batch is on disk, or has to be tried again."""
        self._committer.end(message.call)

    def restarted(self) -> None:
        """The journal is what must not be lost: a failure leaves it as it is."""
        if self._reading is not None and self._reading.ready():
            self._reading = None
        self._read_next()
        self._committer.restart()

    def on_stop(self) -> None:
        """The threads end when they are done with what they are doing."""
        self._committer.stop()
        gevent.spawn(self._reading_thread.kill)

    def quarantined(self, reason: str) -> None:
        """What is published is refused now, so nobody needs to wait."""
        self.pressure.end()

    def waits_for(self) -> str | None:
        """What its native threads do for it, or when it tries again."""
        if self._committer.running is not None:
            return "the disk, to end a commit"
        if self._committer.is_pausing:
            return "the next try to write"
        return "the disk, to read" if self._reading is not None else None

    def snapshot(self) -> dict[str, Any]:
        """The persistence actor's row in the admin."""
        return {
            "name": self.name,
            **self._committer.figures(),
            "entries_added": self._journal.added,
            "entries_cancelled": self._journal.cancelled,
            "entries_to_write": self._journal.live_adds(),
            "open_transactions": self._journal.open_transactions(),
            "reading": self.reads,
            **self._store.statistics(),
        }


class ScratchActor(PersistenceActor):
    """The same for what only has to leave memory."""

    kind = "scratch"
    full: ClassVar[str] = SCRATCH
    failing: ClassVar[str] = SCRATCH
