"""The committing half of persistence: when a commit begins, what becomes of it, and who is told.

While a batch is written and synced the next one grows: group commit without a timer. With nobody waiting for it a batch
is held back for the coalescing interval, so that adds and deletes meet and never reach the disk; a publish that wants a
confirm ends that wait.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event

from dispatchd.actors.messages import AlarmEnded, AlarmRaised, CommitDue, CommitEnded, Committed
from dispatchd.actors.native_thread import Call, NativeThread
from dispatchd.actors.runtime import Told, tell_all
from dispatchd.model.publishes import by_channel
from dispatchd.model.records import read_id
from dispatchd.store.interface import Dropped, StoreFull

if TYPE_CHECKING:
    from dispatchd.actors.duty import Duty
    from dispatchd.actors.persistence import PersistenceActor
    from dispatchd.actors.pressure import Pressure
    from dispatchd.actors.turns import Turns
    from dispatchd.model.journal import Changes, Journal
    from dispatchd.model.router import Publishing
    from dispatchd.store.interface import Store

logger = logging.getLogger(__name__)

# Those that are not final can be set from outside, compiled or not.
RETRY_SECONDS: float = 1.0
LONGEST_PAUSE_SECONDS: float = 30.0
"""Between attempts to write to a disk that fails: the pauses double."""
FEW_TURNS: Final = 1
"""So many others may have something to say when a commit begins that is waited for: it does not wait for them."""
ENTRIES_HELD_BACK: int = 5000
"""Above this a batch goes without waiting for the interval: encoding it must not hold up the loop."""

ENTRIES_ENCODED_AT_ONCE: int = 500
"""The rest of a batch is encoded by the thread that writes it, so many at a time, and the loop goes on in between. Of a
million messages from one flood 250,000 came together while one commit was slow: that took 260 ms, and to free the rows
44 ms."""

LARGE: int = 200
"""Entries in a batch that comes no sooner than so long after the one before, also if somebody waits for it."""
SECONDS_BETWEEN_LARGE: float = 0.0011
"""Most of what is consumed at once is acknowledged by then, and never written: with a window of 500 that saves a
quarter of the CPU time. With 1.5 ms the loop has nothing left to do, and such a publisher is a third slower."""

REMOVED_AT_ONCE: Final = 1000
"""From a full store. It takes room to make room: with none left for so many, half as many are tried, and so on."""

MOST_BYTES_ENCODED_HERE: Final = 1 << 20
"""A batch with large bodies is for the thread alone: 16 MiB took the loop 19 ms."""


class Committer:
    """Has one batch after the other committed, on one native thread.

    `waiting` publishings are told to their channels when what was added before is on disk; what is in `then` is told as
    well, and `flushed` is set when nothing is left to be written. Who wants one of these says so here, and then
    `schedule`. `running` is the call that writes the batch `committing`; after one that failed it `is_pausing`.
    """

    def __init__(self, actor: PersistenceActor, store: Store, journal: Journal, coalesce_seconds: float) -> None:
        self._actor = actor
        self._ref = actor.ref
        self._duty: Duty = actor.duty
        self._turns: Turns = actor.system.turns
        self._pressure: Pressure = actor.pressure
        self._store = store
        self._journal = journal
        self._coalesce_seconds = coalesce_seconds
        self._native = NativeThread(lambda call: self._ref.tell(CommitEnded(call)))
        self.waiting: list[Publishing] = []
        self.then: Told = []
        self.flushed: Event | None = None
        self.committing: Changes | None = None
        self._for_publishings: list[Publishing] = []
        self._for_others: Told = []
        self.running: Call | None = None
        self._dropped: list[Dropped] = []
        self._is_due = False
        self._timer: Any = None
        self._is_full = False
        self._removes_only = False
        self._made_room = False
        self._removed_at_once = REMOVED_AT_ONCE
        self.is_pausing = False
        self.pause = 0.0
        self._alarm = ""
        self._is_well = True
        self._commits = 0
        self._failed_commits = 0
        self._started = 0.0
        self._last_ms = 0.0
        self._seconds = 0.0

    def schedule(self) -> None:
        """See that a commit comes: when nobody else has anything to say if somebody waits, else within the interval."""
        if self.committing is not None or self._is_due or self.is_pausing or self._duty.is_quarantined:
            return
        if self._is_urgent():
            self._is_due = True
            self._go_soon()
        elif self._timer is None and not self._journal.is_empty():
            self._timer = gevent.spawn_later(self._coalesce_seconds, self._ref.tell, CommitDue())

    def _go_soon(self) -> None:
        early = 0.0
        if self._journal.live_adds() > LARGE:
            early = self._started + SECONDS_BETWEEN_LARGE - time.perf_counter()
        if early > 0:
            self._stop_timer()
            self._timer = gevent.spawn_later(early, self._ref.tell, CommitDue())
        elif self._duty.inbox.waiting or len(self._turns) > FEW_TURNS:
            self._ref.tell(CommitDue())
        else:
            self.begin()

    def _is_urgent(self) -> bool:
        return (
            self._is_full
            or bool(self.waiting)
            or bool(self.then)
            or self.flushed is not None
            or self._pressure.is_high
            or self._journal.live_adds() > ENTRIES_HELD_BACK
        )

    def begin(self) -> None:
        """Begin a commit, unless one is under way."""
        self._is_due = self.is_pausing = False
        if self._timer is not None:
            self._stop_timer()
        if self.committing is not None:
            return
        self._removes_only = self._is_full and not self._made_room and self._journal.has_removals()
        if self._removes_only:
            self.committing = self._journal.seal_removals(self._removed_at_once)
            self._made_room = not self._journal.has_removals()
        else:
            self._made_room = False
            self.committing = self._journal.seal()
            self._for_publishings, self._for_others = self.waiting, self.then
            self.waiting, self.then = [], []
        self._commit()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.kill(block=False)
            self._timer = None

    def _commit(self) -> None:
        changes = self.committing
        if changes is None or self.running is not None:
            return
        self._started = time.perf_counter()
        if changes.is_empty():
            self._committed(Dropped([], []))
        else:
            if changes.body_bytes < MOST_BYTES_ENCODED_HERE:
                changes.encode(ENTRIES_ENCODED_AT_ONCE)
            is_awaited = bool(self._for_publishings or self._for_others)
            self.running = self._native.spawn(_write, self._store, changes, is_awaited)

    def end(self, call: Call) -> None:
        """The batch is on disk, or has to be tried again."""
        if call is not self.running:
            return
        if call.error is None:
            self._committed(call.value)
        else:
            self._failed(call.error)

    def _committed(self, dropped: Dropped) -> None:
        told: Told = []
        for channel, committed in by_channel(self._for_publishings):
            told.append((channel, Committed(committed)))
        told += self._for_others
        self._nothing_runs()
        if dropped.contents or dropped.unfinished:
            self._dropped += [dropped]
        self._is_well = not self._removes_only
        self._commits += 1
        tell_all(told)
        seconds = time.perf_counter() - self._started
        self._last_ms = seconds * 1000
        self._seconds += seconds
        if self._removes_only:
            self._removed_at_once = min(self._removed_at_once * 2, REMOVED_AT_ONCE)
        self._go_on()

    def _nothing_runs(self) -> None:
        self.committing = self.running = None
        self._for_publishings, self._for_others = [], []

    def _go_on(self) -> None:
        """Do what follows a commit, as far as it is not done, and see that the next one comes."""
        while self._dropped:
            self._let_go_of(self._dropped[0])
            del self._dropped[0]
        if self._is_well and (self._alarm or self._is_full):
            self._end_alarm()
        if self._pressure.is_high:
            self._pressure.update(self._journal)
        if self.flushed is not None and self._journal.is_empty() and not self.waiting and not self.then:
            self.flushed.set()
            self.flushed = None
        self.schedule()

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
        if self.committing is not None:
            self._journal.reopen(self.committing)
        publishings, others = self._for_publishings, self._for_others
        self._nothing_runs()
        self._is_well = False
        self.waiting[:0] = publishings
        self.then[:0] = others
        self._is_full = isinstance(error, StoreFull)
        self._raise_alarm(self._actor.full if self._is_full else self._actor.failing, str(error))
        if self._is_full and self._can_make_room():
            self._ref.tell(CommitDue())
            return
        self._made_room = False
        self.pause = RETRY_SECONDS if self._is_full else min(2 * self.pause or RETRY_SECONDS, LONGEST_PAUSE_SECONDS)
        self.is_pausing = True
        self._timer = gevent.spawn_later(self.pause, self._ref.tell, CommitDue())
        logger.error("%s: a commit failed and will be tried again in %s s: %s", self._ref.name, self.pause, error)

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
        told: Told = [(self._actor.broker, AlarmEnded(self._alarm))] if self._alarm not in ("", cause) else []
        self._alarm = cause
        tell_all([*told, (self._actor.broker, AlarmRaised(cause, detail))])

    def _end_alarm(self) -> None:
        self.pause, self._is_full = 0.0, False
        if self._alarm:
            told: Told = [(self._actor.broker, AlarmEnded(self._alarm))]
            self._alarm = ""
            tell_all(told)

    def restart(self) -> None:
        """The actor failed: whatever is due stays due.

        How a commit ended may be what the failure lost, but the same batch may be committed again.
        """
        self._is_due = self.is_pausing = False
        self._stop_timer()
        running = self.running
        if running is not None:
            if running.is_over:
                self.end(running)
        elif self.committing is not None:
            self._commit()
        else:
            self._go_on()

    def stop(self) -> None:
        """The thread ends when it is done with what it is doing."""
        self._native.end()

    def figures(self) -> dict[str, Any]:
        """What the admin shows of commits."""
        return {
            "commits": self._commits,
            "failed_commits": self._failed_commits,
            "last_commit_ms": round(self._last_ms, 3),
            "commit_seconds": round(self._seconds, 6),
            "waiting": len(self.waiting) + len(self.then),
            "committing": self.committing is not None,
        }


def _write(store: Store, changes: Changes, is_awaited: bool) -> Dropped:
    """What the native thread does. No line of it keeps the loop from the interpreter for more than a millisecond."""
    while changes.encode(ENTRIES_ENCODED_AT_ONCE):
        pass
    dropped = store.commit(changes, is_awaited=is_awaited)
    while changes.free(ENTRIES_ENCODED_AT_ONCE):
        pass
    return dropped
