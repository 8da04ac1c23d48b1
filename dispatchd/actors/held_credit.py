"""Publish credit that a queue keeps back while its backlog is long, so that its consumers can keep up.

Publishers get half as much back as consumers take: the backlog shrinks, and who publishes beside an old one goes on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

from dispatchd.actors.messages import Released, ReviewCredit
from dispatchd.actors.runtime import Told, tell_all

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.model.queue import Queue
    from dispatchd.model.router import Publishing

BACKLOG_THAT_HOLDS_CREDIT = 2000
REVIEW_SECONDS = 0.05
FAST_CONSUMERS = 10_000
"""Credit units a second that consumers take at least, with publishers held back, if it was a flood of publishes that
kept the broker from serving them. Others are slow by themselves, and nothing is held back for their sake."""
FAIR_PART = 0.1
"""Of what the consumers of such queues take on average: where they take less, they are slow by themselves as well."""
SLOW_REVIEWS = 4
"""In a row, before consumers count as slow: with three other programs on two cores a single one said so of some that
only waited for a core, the backlog grew, and the headline was 0.55 times what it is with four."""
LENIENT_SECONDS = (0.25, 4.0)
"""How long nothing is held back once consumers turned out to be slow: at first, and at most. Then it is tried again."""


class Crowd:
    """The queues with long backlogs, and what consumers take of all of them: 100 queues share what one would get."""

    def __init__(self) -> None:
        self.size = 0
        self.rate = 0.0

    def enter(self, rate: float) -> None:
        """There is another one, of which consumers take so much."""
        self.size += 1
        self.rate += rate

    def leave(self, rate: float) -> None:
        """One less, of which they took so much."""
        self.size -= 1
        self.rate = self.rate - rate if self.size else 0.0

    def finds_slow(self, rate: float) -> bool:
        """Whether consumers that take so much of one of these queues are slow by themselves."""
        return self.rate < FAST_CONSUMERS or rate < FAIR_PART * self.rate / self.size


class HeldCredit:
    """What one queue holds back, and whether it should. `held` are the publishings whose credit it has.

    One that is not `is_engaged` has nothing to release.
    """

    def __init__(self, ref: Ref, crowd: Crowd) -> None:
        self._ref = ref
        self._crowd = crowd
        self._rate: float | None = None
        self.held: dict[Publishing, None] = {}
        self.is_engaged = False
        self._repaid = 0
        self._slow_reviews = 0
        self._review: tuple[float, int] | None = None
        self._lenient_until = 0.0
        self._lenience = LENIENT_SECONDS[0]

    def __bool__(self) -> bool:
        return bool(self.held)

    def is_due(self, queue: Queue) -> bool:
        """Whether credit is to be held back now."""
        if len(queue) < BACKLOG_THAT_HOLDS_CREDIT or not queue.consumers:
            return False
        self._engage(queue)
        return time.monotonic() >= self._lenient_until

    def _engage(self, queue: Queue) -> None:
        if not self.is_engaged:
            self.is_engaged = True
            self._repaid = int(queue.drained)

    def begin_review(self, queue: Queue) -> None:
        """Look in a while at what consumers took meanwhile, unless that is to come already."""
        if self.held and self._review is None:
            self._review = (time.monotonic(), int(queue.drained))
            gevent.spawn_later(REVIEW_SECONDS, self._ref.tell, ReviewCredit())

    def review(self, queue: Queue) -> None:
        """See what consumers took while publishers were held back: whether that was of any use."""
        if self._review is None:
            return
        (began, drained), now = self._review, time.monotonic()
        self._review = None
        rate = float(queue.drained - drained) / (now - began)
        self._note(rate)
        self._slow_reviews = self._slow_reviews + 1 if self._crowd.finds_slow(rate) else 0
        if self._slow_reviews == SLOW_REVIEWS:
            self._slow_reviews = 0
            self._lenient_until = now + self._lenience
            self._lenience = min(2 * self._lenience, LENIENT_SECONDS[1])
        self.release(queue)
        self.begin_review(queue)

    def _note(self, rate: float | None) -> None:
        """Tell the crowd what consumers take of this queue; None if it does not belong to it any more."""
        if self._rate is not None:
            self._crowd.leave(self._rate)
        self._rate = rate
        if rate is not None:
            self._crowd.enter(rate)

    def restart_review(self, queue: Queue) -> None:
        """The timer's message may have been lost with a failure."""
        self._review = None
        self.begin_review(queue)

    def release(self, queue: Queue) -> None:
        """Give everything back if there is no reason any more to hold it, else what consumers have made up for."""
        if not queue.consumers or len(queue) < BACKLOG_THAT_HOLDS_CREDIT:
            self._note(None)
            self._lenient_until, self._lenience = 0.0, LENIENT_SECONDS[0]
            self.is_engaged = False
        if not self.held:
            self._repaid = int(queue.drained)
            return
        is_over, repaid = not self.is_due(queue), self._repaid
        released: list[Publishing] = []
        for publishing in self.held:
            if not is_over and repaid + 2 * publishing.cost > queue.drained:
                break
            repaid += 2 * int(publishing.cost)
            released.append(publishing)
        told: Told = [(publishing.channel, Released(publishing)) for publishing in released]
        for publishing in released:
            del self.held[publishing]
        self._repaid = repaid
        tell_all(told)
