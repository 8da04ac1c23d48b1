"""Whose turn it is: actors with something in their mailboxes take turns on a few greenlets, mostly on one.

An actor needs a greenlet only while it handles something. When each had its own, and switched to it for each message,
that took 1.12 times the CPU at 2,000 messages a second, 1.18 times with 100 queues at full speed.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

import gevent

SLICE_SECONDS = 0.005
"""How long actors go on before sockets and timers have their turn: as long as gevent's own callbacks may."""


class TurnTaker(Protocol):
    """Who wants a turn."""

    @property
    def title(self) -> str:
        """What the greenlet is called meanwhile."""

    def take_turn(self) -> None:
        """Do a part of what there is to do. May wait for something, and keeps the greenlet then. Raises nothing."""


class Worker(gevent.Greenlet):  # type: ignore[type-arg]  # it is not generic at run time
    """A greenlet that lets one after the other have a turn."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns
        self._served: TurnTaker | None = None

    @property
    def name(self) -> str:
        """Whose turn it is."""
        return self._served.title if self._served is not None else "between turns"

    def serve(self, who: TurnTaker) -> None:
        """Let somebody have a turn."""
        self._served = who
        who.take_turn()
        self._served = None

    def _run(self) -> None:
        turns, hub = self._turns, gevent.get_hub()
        while True:
            turns.go_on(self)
            turns.idle.append(self)
            hub.switch()


class Turns:
    """A line of those who are due, and the greenlets that serve it.

    Whoever waits in the middle of his turn has the greenlet for himself until he is done; another one serves the rest.
    """

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self._due: deque[TurnTaker] = deque()
        self._is_called = False
        self._serving: Worker | None = None
        self._end_of_slice = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def add(self, who: TurnTaker) -> None:
        """Let somebody have a turn, once, behind all others. He must not be in line already."""
        self._due.append(who)
        if not self._is_called:
            self._is_called = True
            gevent.get_hub().loop.run_callback(self._serve)

    def _serve(self) -> None:
        """Called by the loop. The hub comes back here when the worker that it switches to waits for something."""
        self._end_of_slice = time.monotonic() + SLICE_SECONDS
        while self._due and time.monotonic() < self._end_of_slice:
            worker = self.idle.pop() if self.idle else Worker(self)
            if worker.dead:
                continue
            self._serving = worker
            worker.switch()
            self._serving = None
        if self._due:
            gevent.get_hub().loop.run_callback(self._serve)
        else:
            self._is_called = False

    def go_on(self, worker: Worker) -> None:
        """Serve the line, until the slice is over or the loop serves it with another worker, as this one waited."""
        due = self._due
        while due and self._serving is worker:
            worker.serve(due.popleft())
            if time.monotonic() >= self._end_of_slice:
                break
