"""The mailbox of one actor: a queue that can be looked at, paused and stepped from outside.

It is the inbox that Pykka asks implementors of actor types for (`put`, `get`, `empty`), for one gevent loop: everything
happens in the thread of the loop, so a deque and the greenlet that waits for it are enough.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.hub import Waiter
from pykka._envelope import Envelope

from dispatchd.actors.messages import Killed

LONGEST_RUN = 16
"""Envelopes that an actor handles before it lets others have a turn, however many more wait for it."""
DISMISSED: Final = Envelope[Any](None)
"""What who waits in vain is let go with."""


class Mailbox:
    """Envelopes in the order of their arrival, and the gate that lets them through.

    `peak` is the largest depth so far. `permits` is None while the gate is open, else how many envelopes may still
    pass: 0 is paused.
    """

    __slots__ = ("_envelopes", "_run", "_wake", "peak", "permits")

    def __init__(self) -> None:
        self._envelopes: deque[tuple[float, Envelope[Any]]] = deque()
        self._wake: Callable[[object], object] | None = None
        self._run = 0
        self.peak = 0
        self.permits: int | None = None

    def __len__(self) -> int:
        return len(self._envelopes)

    def put(self, envelope: Envelope[Any]) -> None:
        """Append an envelope; never blocks and never switches to another greenlet."""
        envelopes = self._envelopes
        envelopes.append((time.monotonic(), envelope))
        if len(envelopes) > self.peak:
            self.peak = len(envelopes)
        if self._wake is not None and self.permits != 0:
            self._wake_up()

    def put_first(self, envelope: Envelope[Any]) -> None:
        """Put an envelope before all others and open the gate for it: how a paused actor can still be stopped."""
        self._envelopes.appendleft((time.monotonic(), envelope))
        if self.permits is not None:
            self.permits += 1
        self._wake_up()

    def get(self) -> Envelope[Any]:
        """Wait for an envelope and for the gate, then remove and return the oldest; DISMISSED if nothing is to come.

        A kill that arrives meanwhile is returned as an envelope with `Killed`: an exception from here would end the
        greenlet outside of Pykka's error handling and leave an actor that looks alive and never answers.
        """
        try:
            self._run += 1
            if self._run > LONGEST_RUN:
                self._run = 0
                gevent.sleep(0)
            while not self._envelopes or self.permits == 0:
                self._run = 0
                waiter: Waiter[object] = Waiter()
                self._wake = waiter.switch
                if waiter.get() is DISMISSED and not self.has_next():
                    return DISMISSED
        except BaseException as cause:  # noqa: BLE001 - also GreenletExit and gevent.Timeout
            return Envelope(Killed(cause))
        finally:
            self._wake = None
        if self.permits is not None:
            self.permits -= 1
        return self._envelopes.popleft()[1]

    def has_next(self) -> bool:
        """Whether something waits and the gate lets it through."""
        return bool(self._envelopes) and self.permits != 0

    def dismiss(self) -> None:
        """Let the greenlet go that waits here, if there is one."""
        if self._wake is not None:
            self._wake_up(DISMISSED)

    def call(self, wake: Callable[[object], object]) -> None:
        """Nobody waits any more: once there is something to get the loop calls `wake`, with None."""
        self._wake = wake

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._envelopes

    def drain(self) -> list[Envelope[Any]]:
        """Remove and return everything that waits, whatever the gate says."""
        drained = [envelope for _, envelope in self._envelopes]
        self._envelopes.clear()
        return drained

    def peek(self, count: int) -> list[Any]:
        """The oldest `count` messages, left where they are."""
        return [envelope.message for _, envelope in list(self._envelopes)[:count]]

    def oldest_age(self) -> float:
        """Seconds that the oldest envelope has waited; 0.0 when none does."""
        return time.monotonic() - self._envelopes[0][0] if self._envelopes else 0.0

    def pause(self) -> None:
        """Close the gate: what arrives is kept, nothing passes."""
        self.permits = 0

    def step(self, count: int = 1) -> None:
        """Let `count` more envelopes through a closed gate; an open one is closed after them."""
        self.permits = (self.permits or 0) + count
        self._wake_up()

    def resume(self) -> None:
        """Open the gate."""
        self.permits = None
        self._wake_up()

    def _wake_up(self, value: object = None) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            gevent.get_hub().loop.run_callback(wake, value)
