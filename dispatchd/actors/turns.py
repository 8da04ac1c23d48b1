"""Whose turn it is: actors with something in their mailboxes take turns on a few greenlets, mostly on one.

An actor needs a greenlet only while it handles something. When each had its own, and switched to it for each message,
that took 1.12 times the CPU at 2,000 messages a second, 1.18 times with 100 queues at full speed.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter_ns
from typing import Any, Final

import gevent
from mypy_extensions import mypyc_attr

from dispatchd.actors.worker import Worker

SLICE_NS: Final = 5_000_000
"""How long actors go on before sockets and timers have their turn: as long as gevent's own callbacks may."""
SHORT_NS: Final = 50_000
"""Whose last turn took no longer is in line with others like that."""
SHORT_ONES_FIRST: Final = 8
"""So many of these have their turn for one of the others: what they take together is less than he alone may."""


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnTaker:
    """Who wants a turn. `is_short` says of his last one how long it took."""

    __slots__ = ("is_short",)

    def __init__(self) -> None:
        self.is_short = True

    @property
    def title(self) -> str:
        """What the greenlet is called meanwhile."""
        raise NotImplementedError

    def take_turn(self) -> int:
        """Do a part of what there is to do, and say when that was done (`perf_counter_ns`).

        May wait for something, and keeps the greenlet then. Raises nothing.
        """
        raise NotImplementedError


class Turns:
    """Those who are due, and the greenlets that serve them.

    There are two lines, so that who has little to do need not wait each time behind all who have much: beside 50
    publishers somebody else's message took 36 ms instead of 48 (median, busy machine).
    Whoever waits in the middle of his turn has the greenlet for himself until he is done; another one serves the rest.
    """

    __slots__ = ("_due", "_end_of_slice", "_is_called", "_loop", "_served_first", "_serving", "_short", "idle")

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self._loop: Any = gevent.get_hub().loop
        self._due: deque[TurnTaker] = deque()
        self._short: deque[TurnTaker] = deque()
        self._served_first = 0
        self._is_called = False
        self._serving: Worker | None = None
        self._end_of_slice = 0

    def __len__(self) -> int:
        return len(self._due) + len(self._short)

    def add(self, who: TurnTaker) -> None:
        """Let somebody have a turn, once, behind all others like him. He must not be in line already."""
        (self._short if who.is_short else self._due).append(who)
        if not self._is_called:
            self._is_called = True
            self._loop.run_callback(self._serve)

    def _serve(self) -> None:
        """Called by the loop. The hub comes back here when the worker that it switches to waits for something."""
        self._end_of_slice = perf_counter_ns() + SLICE_NS
        while (self._due or self._short) and perf_counter_ns() < self._end_of_slice:
            worker = self.idle.pop() if self.idle else Worker(self)
            if worker.dead:
                continue
            self._serving = worker
            worker.switch()
            self._serving = None
        if self._due or self._short:
            self._loop.run_callback(self._serve)
        else:
            self._is_called = False

    def go_on(self, worker: Worker) -> None:
        """Serve the line, until the slice is over or the loop serves it with another worker, as this one waited."""
        now: int = perf_counter_ns()
        while (self._due or self._short) and self._serving is worker:
            who = self._next()
            worker.served = who
            began, now = now, who.take_turn()
            worker.served = None
            who.is_short = now - began < SHORT_NS
            if now >= self._end_of_slice:
                break

    def _next(self) -> TurnTaker:
        if not self._due:
            return self._short.popleft()
        if self._short and self._served_first < SHORT_ONES_FIRST:
            self._served_first += 1
            return self._short.popleft()
        self._served_first = 0
        return self._due.popleft()
