"""What a queue was purged of, let go of in many turns: to free a million messages at once takes a fifth of a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gevent

from dispatchd.actors.breath import breathe
from dispatchd.actors.messages import ActorMessage, Done, Request
from dispatchd.actors.runtime import Told, tell_all
from dispatchd.amqp import methods as m

if TYPE_CHECKING:
    from dispatchd.actors.pager import Pager
    from dispatchd.actors.runtime import Ref
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.line import Leavings
    from dispatchd.model.queue import Queue

ENTRIES_IN_ONE_TURN = 500


@dataclass(frozen=True, slots=True)
class PurgeMore(ActorMessage):
    """A queue to itself: more is to be let go of."""


class Purger:
    """One queue's. A purge is answered when all of it is gone from memory, and persistence knows what is to go."""

    def __init__(self, ref: Ref, pager: Pager) -> None:
        self._ref = ref
        self._pager = pager
        self._leavings: list[Leavings] = []
        self._unanswered: list[Done] = []
        self._is_due = False

    def purge(self, queue: Queue, request: Request) -> None:
        """Empty the queue; the request is answered in the end. `delete` of the pager, `some` and `let_go` follow."""
        done = Done(request, m.QueuePurgeOk(len(queue)))
        leavings, paged = queue.purge()
        self._leavings += [leavings]
        self._unanswered += [done]
        self._pager.unwanted += paged

    def some(self) -> list[QueueEntry]:
        """Entries that are to be forgotten in this turn, the same again until `let_go`."""
        self._is_due = False
        return self._leavings[0].some(ENTRIES_IN_ONE_TURN) if self._leavings else []

    def let_go(self) -> None:
        """What `some` returned is forgotten: see that more follows."""
        if self._leavings:
            self._leavings[0].let_go()
            if not self._leavings[0]:
                del self._leavings[0]
        self.go_on()

    def go_on(self) -> None:
        """See that more follows, if there is more; else answer, if nothing is being deleted from the disk either."""
        if self._leavings:
            if not self._is_due:
                self._is_due = True
                gevent.spawn_later(0, self._ref.tell, PurgeMore())
        elif not self._pager.is_deleting():
            self._answer()

    def restart(self) -> None:
        """The queue failed, and with it the turn that was due."""
        self._is_due = False
        self.go_on()

    def refuse(self, reason: str) -> None:
        """The queue is quarantined: nobody is to wait for it."""
        unanswered, self._unanswered = self._unanswered, []
        for done in unanswered:
            done.refuse(reason)

    def end(self, queue: Queue) -> None:
        """The queue is deleted: what is stored of it goes as a whole, and what is in memory little by little."""
        self._answer()
        leavings, _ = queue.purge()
        gevent.spawn(_free, [*self._leavings, leavings]).name = f"purge of {self._ref.name}"

    def _answer(self) -> None:
        told: Told = [(done.request.reply_to, done) for done in self._unanswered]
        self._unanswered = []
        tell_all(told)


def _free(all_leavings: list[Leavings]) -> None:
    for leavings in all_leavings:
        while leavings.some(ENTRIES_IN_ONE_TURN):
            leavings.let_go()
            breathe()
