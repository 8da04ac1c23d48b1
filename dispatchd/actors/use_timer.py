"""How long nobody has used a queue: one with `x-expires` goes when that was for so long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import gevent

from dispatchd.actors.alarm import LONGEST_TIMER_SECONDS
from dispatchd.actors.messages import ActorMessage
from dispatchd.model.queue_rules import NO_LIMIT

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref


@dataclass(frozen=True, slots=True)
class UseReview(ActorMessage):
    """A queue's timer to itself: it may have been unused for as long as it is allowed."""

    is_repeatable: ClassVar[bool] = True


class UseTimer:
    """Sends its queue a `UseReview` when it is time to ask whether it `is_over`."""

    def __init__(self, ref: Ref) -> None:
        self._ref = ref
        self._seconds: float | None = None
        self._last_used = time.monotonic()
        self._timer: gevent.Greenlet[..., None] | None = None

    def begin(self, expires: int) -> None:
        """From now on the queue may be unused for so long, in ms; NO_LIMIT is for ever."""
        self._seconds = None if expires == NO_LIMIT else expires / 1000
        self.note_use()
        self._look_later()

    def end(self) -> None:
        """The queue goes: a timer may be an hour long, and would keep what it tells for so long."""
        self._seconds = None
        self._look_later()

    def note_use(self) -> None:
        """Somebody declared the queue, got a message from it, or ceased to consume."""
        self._last_used = time.monotonic()

    def is_over(self, has_consumers: bool) -> bool:
        """Whether the queue was unused for so long; if not, it will be looked at again."""
        if self._seconds is None:
            return False
        if has_consumers:
            self.note_use()
        if self._left() <= 0:
            return True
        self._look_later()
        return False

    def _left(self) -> float:
        return (self._seconds or 0.0) - (time.monotonic() - self._last_used)

    def _look_later(self) -> None:
        if self._timer is not None:
            self._timer.kill(block=False)
        if self._seconds is not None:
            seconds = min(max(self._left(), 0.0), LONGEST_TIMER_SECONDS)
            self._timer = gevent.spawn_later(seconds, self._ref.tell, UseReview())
