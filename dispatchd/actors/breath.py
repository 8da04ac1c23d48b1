"""How long work lets others have a turn: sockets and timers too, not only other greenlets.

`gevent.sleep(0)` lets only callbacks of the loop run, of which it takes up to 50 before it looks at sockets again; a
sleep of a millisecond would leave the processor idle. A timer that is due at once takes one round of the loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import gevent

TURN_SECONDS: Final = 0.001
AT_ONCE: Final = 1e-9

Thing = TypeVar("Thing")


def breathe() -> None:
    """Let everybody else have a turn."""
    gevent.sleep(AT_ONCE)


class Breath:
    """Keeps the turns of one piece of work short."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def take(self) -> None:
        """Let everybody else have a turn if this one has lasted for TURN_SECONDS."""
        if time.perf_counter() - self._began > TURN_SECONDS:
            breathe()
            self._began = time.perf_counter()


def in_turns(things: Iterable[Thing]) -> Iterator[Thing]:
    """The things one by one; everybody else has a turn whenever what is done with them has taken TURN_SECONDS."""
    breath = Breath()
    for thing in things:
        yield thing
        breath.take()
