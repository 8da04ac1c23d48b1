"""Persistence: gathers what must change and has it committed, one batch after the other, on one native thread.

While a batch is written and synced the next one grows: group commit without a timer. With nobody waiting for it a batch
is held back for the coalescing interval, so that adds and deletes meet and never reach the disk; a publish that wants a
confirm ends that wait. What belongs to a transaction is in no batch before all of it can be in one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool

from dispatchd.actors.messages import (
    ActorMessage,
    Add,
    AlarmEnded,
    AlarmRaised,
    Committed,
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
from dispatchd.actors.native_thread import Call, NativeThread
from dispatchd.actors.pressure import Pressure
from dispatchd.actors.runtime import Actor, Ref, System, Told, receives, tell_all
from dispatchd.model.alarms import FAILING, SCRATCH, STORE
from dispatchd.model.journal import Changes, Journal
from dispatchd.model.publishes import by_channel
from dispatchd.model.records import read_id
from dispatchd.store.interface import Dropped, StoreFull

if TYPE_CHECKING:
    from dispatchd.model.router import Publishing
    from dispatchd.store.interface import Store

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""Between attempts to write to a disk that fails: the pauses double."""
FEW_TURNS = 1
"""So many others may have something to say when a commit begins that is waited for: it does not wait for them."""
ENTRIES_HELD_BACK = 5000
"""Above this a batch goes without waiting for the interval: encoding it must not hold up the loop."""

ENTRIES_ENCODED_AT_ONCE = 500
"""The rest of a batch is encoded by the thread that writes it, so many at a time, and the loop goes on in between. Of a
million messages from one flood 250,000 came together while one commit was slow: that took 260 ms, and to free the rows
44 ms."""

LARGE = 200
"""Entries in a batch that comes no sooner than so long after the one before, also if somebody waits for it."""
SECONDS_BETWEEN_LARGE = 0.0015
"""Most of what is consumed at once is acknowledged by then, and never written: with a window of 500 that saves a
quarter of the CPU time. A window of 200 still leaves more to be had than the loop can do."""

REMOVED_AT_ONCE = 1000
"""From a full store. It takes room to make room: with none left for so many, half as many are tried, and so on."""

MOST_BYTES_ENCODED_HERE = 1 << 20
"""A batch with large bodies is for the thread alone: 16 MiB took the loop 19 ms."""


Read = tuple[Fetch | DeletePlaces, Callable[[int, list[int]], Any]]


@dataclass(frozen=True, slots=True)
class CommitDue(ActorMessage):
    """To itself: the interval is over, or somebody waits."""


@dataclass(slots=True)
class CommitEnded(ActorMessage):
    """The native thread to the actor."""

    call: Call


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
        self._broker = parent
        self._store = store
        self._coalesce_seconds = coalesce_seconds
        self._thread = NativeThread(lambda call: self.ref.tell(CommitEnded(call)))
        self._reading_thread = ThreadPool(1)
        self._journal = journal
        self._waiting: list[Publishing] = []
        self._then: Told = []
        self._committing: Changes | None = None
        self._running: Call | None = None
        self._committing_for: tuple[list[Publishing], Told] = ([], [])
        self._dropped: list[Dropped] = []
        self._commit_is_due = False
        self._timer: gevent.Greenlet[..., None] | None = None
        self._flushed: Event | None = None
        self._to_be_read: deque[Read] = deque()
        self._reading: AsyncResult[Any] | None = None
        self.pressure = Pressure()
        self._is_full = False
        self._removes_only = False
        self._made_room = False
        self._removed_at_once = REMOVED_AT_ONCE
        self._is_pausing = False
        self._pause = 0.0
        self._alarm = ""
        self._is_well = True
        self._commits = 0
        self._failed_commits = 0
        self._commit_started = 0.0
        self._last_commit_ms = 0.0
        self._commit_seconds = 0.0

    @receives(Add)
    def on_add(self, message: Add) -> None:
        """Store entries."""
        self._journal.add(message.queue_id, message.entries)
        self.answered()
        if self.is_quarantined:
            message.refuse(self._quarantine_reason())
        elif message.publishing is not None:
            self._waiting += [message.publishing]
        self.pressure.update(self._journal)
        self._schedule()

    @receives(Delete)
    def on_delete(self, message: Delete) -> None:
        """Forget entries."""
        self._journal.delete(message.queue_id, message.entries)
        self._schedule()

    @receives(Stage)
    def on_stage(self, message: Stage) -> None:
        """Keep a queue's part of a transaction until the channel says that all parts are here."""
        self._journal.stage(message.transaction, message.queue_id, message.added, message.deleted)
        self._schedule()

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
            self._then += answer
            self.answered()
        self._schedule()

    @receives(Mark)
    def on_mark(self, message: Mark) -> None:
        """Remember what was delivered."""
        self._journal.mark(message.queue_id, message.position)
        self._schedule()

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
            self._then += [message.then]
        self._schedule()

    @receives(Flush)
    def on_flush(self, _message: Flush) -> Event:
        """Commit everything now; the answer is an event that is set when that is done."""
        if self._flushed is None:
            self._flushed = Event()
        flushed = self._flushed
        self._schedule()
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
        self._schedule()

    # Committing

    def _schedule(self) -> None:
        """See that a commit comes: when nobody else has anything to say if somebody waits, else within the interval."""
        if self._committing is not None or self._commit_is_due or self._is_pausing or self.is_quarantined:
            return
        if self._is_urgent():
            self._commit_is_due = True
            self._go_soon()
        elif self._timer is None and not self._journal.is_empty():
            self._timer = gevent.spawn_later(self._coalesce_seconds, self.ref.tell, CommitDue())

    def _go_soon(self) -> None:
        early = 0.0
        if self._journal.live_adds() > LARGE:
            early = self._commit_started + SECONDS_BETWEEN_LARGE - time.perf_counter()
        if early > 0:
            self._stop_timer()
            self._timer = gevent.spawn_later(early, self.ref.tell, CommitDue())
        elif self.actor_inbox or len(self.system.turns) > FEW_TURNS:
            self.ref.tell(CommitDue())
        else:
            self._begin_commit()

    def _is_urgent(self) -> bool:
        return (
            self._is_full
            or bool(self._waiting)
            or bool(self._then)
            or self._flushed is not None
            or self.pressure.is_high
            or self._journal.live_adds() > ENTRIES_HELD_BACK
        )

    @receives(CommitDue)
    def on_commit_due(self, _message: CommitDue) -> None:
        """It is time."""
        self._begin_commit()

    def _begin_commit(self) -> None:
        """Begin a commit, unless one is under way."""
        self._commit_is_due = self._is_pausing = False
        if self._timer is not None:
            self._stop_timer()
        if self._committing is not None:
            return
        self._removes_only = self._is_full and not self._made_room and self._journal.has_removals()
        if self._removes_only:
            self._committing = self._journal.seal_removals(self._removed_at_once)
            self._made_room = not self._journal.has_removals()
        else:
            self._made_room = False
            self._committing = self._journal.seal()
            self._committing_for = (self._waiting, self._then)
            self._waiting, self._then = [], []
        self._commit()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.kill(block=False)
            self._timer = None

    def _commit(self) -> None:
        changes = self._committing
        if changes is None or self._running is not None:
            return
        self._commit_started = time.perf_counter()
        if changes.is_empty():
            self._committed(Dropped([], []))
        else:
            if changes.body_bytes < MOST_BYTES_ENCODED_HERE:
                changes.encode(ENTRIES_ENCODED_AT_ONCE)
            self._running = self._thread.spawn(_write, self._store, changes, any(self._committing_for))

    @receives(CommitEnded)
    def on_commit_ended(self, message: CommitEnded) -> None:
        """The batch is on disk, or has to be tried again."""
        if message.call is self._running:
            self._end_commit(message.call)

    def _end_commit(self, call: Call) -> None:
        if call.error is None:
            self._committed(call.value)
        else:
            self._failed(call.error)

    def _committed(self, dropped: Dropped) -> None:
        publishings, then = self._committing_for
        told: Told = []
        for channel, committed in by_channel(publishings):
            told.append((channel, Committed(committed)))
        told += then
        self._committing = self._running = None
        self._committing_for = ([], [])
        if dropped.contents or dropped.unfinished:
            self._dropped += [dropped]
        self._is_well = not self._removes_only
        self._commits += 1
        tell_all(told)
        seconds = time.perf_counter() - self._commit_started
        self._last_commit_ms = seconds * 1000
        self._commit_seconds += seconds
        if self._removes_only:
            self._removed_at_once = min(self._removed_at_once * 2, REMOVED_AT_ONCE)
        self._go_on()

    def _go_on(self) -> None:
        """Do what follows a commit, as far as it is not done, and see that the next one comes."""
        while self._dropped:
            self._let_go_of(self._dropped[0])
            del self._dropped[0]
        if self._is_well and (self._alarm or self._is_full):
            self._end_alarm()
        if self.pressure.is_high:
            self.pressure.update(self._journal)
        if self._flushed is not None and self._journal.is_empty() and not self._waiting and not self._then:
            self._flushed.set()
            self._flushed = None
        self._schedule()

    def _let_go_of(self, dropped: Dropped) -> None:
        self._journal.release(dropped.contents)
        del dropped.contents[:]
        for queue in dropped.unfinished:
            self._journal.drop_queue(read_id(queue))

    def _failed(self, error: BaseException) -> None:
        """Nothing of the batch is written: it goes back to the journal, and is tried again with what came since.

        When the store is full, what makes room goes alone before that, in as small parts as there is room for.
        """
        self._failed_commits += 1
        if self._committing is not None:
            self._journal.reopen(self._committing)
        publishings, then = self._committing_for
        self._committing = self._running = None
        self._committing_for = ([], [])
        self._is_well = False
        self._waiting[:0] = publishings
        self._then[:0] = then
        self._is_full = isinstance(error, StoreFull)
        self._raise_alarm(self.full if self._is_full else self.failing, str(error))
        if self._is_full and self._can_make_room():
            self.ref.tell(CommitDue())
            return
        self._made_room = False
        self._pause = RETRY_SECONDS if self._is_full else min(2 * self._pause or RETRY_SECONDS, LONGEST_PAUSE_SECONDS)
        self._is_pausing = True
        self._timer = gevent.spawn_later(self._pause, self.ref.tell, CommitDue())
        logger.error("%s: a commit failed and will be tried again in %s s: %s", self.name, self._pause, error)

    def _can_make_room(self) -> bool:
        """Whether there are removals, or fewer of them, to be tried after a batch for which there was no room."""
        if not self._removes_only:
            return self._journal.has_removals()
        if self._removed_at_once == 1:
            return False
        self._made_room = False
        self._removed_at_once //= 2
        return True

    def _raise_alarm(self, cause: str, detail: str) -> None:
        told: Told = [(self._broker, AlarmEnded(self._alarm))] if self._alarm not in ("", cause) else []
        self._alarm = cause
        tell_all([*told, (self._broker, AlarmRaised(cause, detail))])

    def _end_alarm(self) -> None:
        self._pause, self._is_full = 0.0, False
        if self._alarm:
            told: Told = [(self._broker, AlarmEnded(self._alarm))]
            self._alarm = ""
            tell_all(told)

    def restarted(self) -> None:
        """The journal is what must not be lost: a failure leaves it as it is, and whatever is due stays due.

        How a commit ended may be what the failure lost, but the same batch may be committed again.
        """
        self._commit_is_due = self._is_pausing = False
        self._stop_timer()
        if self._reading is not None and self._reading.ready():
            self._reading = None
        self._read_next()
        running = self._running
        if running is not None:
            if running.is_over:
                self._end_commit(running)
        elif self._committing is not None:
            self._commit()
        else:
            self._go_on()

    def on_stop(self) -> None:
        """The threads end when they are done with what they are doing."""
        self._thread.end()
        gevent.spawn(self._reading_thread.kill)

    def quarantined(self, reason: str) -> None:
        """What is published is refused now, so nobody needs to wait."""
        self.pressure.end()

    def waits_for(self) -> str | None:
        """What its native threads do for it, or when it tries again."""
        if self._running is not None:
            return "the disk, to end a commit"
        if self._is_pausing:
            return "the next try to write"
        return "the disk, to read" if self._reading is not None else None

    def snapshot(self) -> dict[str, Any]:
        """The persistence actor's row in the admin."""
        return {
            "name": self.name,
            "commits": self._commits,
            "failed_commits": self._failed_commits,
            "last_commit_ms": round(self._last_commit_ms, 3),
            "commit_seconds": round(self._commit_seconds, 6),
            "entries_added": self._journal.added,
            "entries_cancelled": self._journal.cancelled,
            "entries_to_write": self._journal.live_adds(),
            "waiting": len(self._waiting) + len(self._then),
            "open_transactions": self._journal.open_transactions(),
            "committing": self._committing is not None,
            "reading": self.reads,
            **self._store.statistics(),
        }


def _write(store: Store, changes: Changes, is_awaited: bool) -> Dropped:
    """What the native thread does. No line of it keeps the loop from the interpreter for more than a millisecond."""
    while changes.encode(ENTRIES_ENCODED_AT_ONCE):
        pass
    dropped = store.commit(changes, is_awaited=is_awaited)
    while changes.free(ENTRIES_ENCODED_AT_ONCE):
        pass
    return dropped


class ScratchActor(PersistenceActor):
    """The same for what only has to leave memory."""

    kind = "scratch"
    full: ClassVar[str] = SCRATCH
    failing: ClassVar[str] = SCRATCH
