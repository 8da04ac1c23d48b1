"""Whether the client of a socket that isn't read has gone: one does not hear of that before having read the rest."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

import gevent
from gevent.monkey import get_original

LOOK_SECONDS: Final = 1.0
_poll: Final = get_original("select", "poll")


class HangUp:
    """Calls `act` once, up to LOOK_SECONDS after the peer has ended its half of the socket."""

    def __init__(self, descriptor: int, act: Callable[[], None]) -> None:
        self._act = act
        self._poll = _poll()
        self._poll.register(descriptor, select.POLLRDHUP)
        self._timer = gevent.get_hub().loop.timer(LOOK_SECONDS, LOOK_SECONDS)
        self._timer.start(self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.close()

    def _look(self) -> None:
        if self._poll.poll(0):
            self.stop()
            self._act()
