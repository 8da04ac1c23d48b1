"""A moment for which an actor waits, as one timer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from dispatchd.actors.clock import now_ms
from dispatchd.model.entry import NEVER

if TYPE_CHECKING:
    from dispatchd.actors.messages import ActorMessage
    from dispatchd.actors.runtime import Ref

LONGEST_TIMER_SECONDS = 3600.0
"""A timer that is further away looks again when it is over: libev's are not made for weeks."""


class Alarm:
    """Tells an actor a message when a moment has come, at the earliest of those that it was set to.

    `at` is that moment, or NEVER. It may come too early: the actor looks at the time, says `rang`, and sets it again.
    """

    def __init__(self, ref: Ref, message: ActorMessage) -> None:
        self._ref = ref
        self._message = message
        self.at = NEVER
        self._timer: gevent.Greenlet[..., None] | None = None

    def set(self, at: int) -> None:
        """See that the message comes at `at` (Unix time in ms) at the latest; NEVER changes nothing."""
        if at >= self.at:
            return
        self.cancel()
        self.at = at
        seconds = min(max(at - now_ms(), 0) / 1000, LONGEST_TIMER_SECONDS)
        self._timer = gevent.spawn_later(seconds, self._ref.tell, self._message)

    def rang(self) -> None:
        """The message came, and there will be no other until the alarm is set again."""
        self.at, self._timer = NEVER, None

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.kill(block=False)
        self.rang()
