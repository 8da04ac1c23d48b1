"""Sees that the loop is blocked, and by whom: while one handler computes, nobody else is served.

A native thread looks whether the loop's timer still ticks. If it does not, it looks at the stack of the loop's thread,
where the handler is, and its actor. Time that the system gave to other processes is nobody's fault and does not count.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent import monkey
from gevent.hub import Hub
from gevent.threadpool import ThreadPool

from dispatchd.actors.holdups import HoldUp, Who
from dispatchd.actors.worker import Worker

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Actor, System

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.05
BLOCKED_SECONDS: Final = 0.1
"""From then on the loop counts as blocked."""
LONG_SECONDS: Final = 1.0
"""From then on it is a warning, given while it is still blocked."""

SERVES: Final = Worker._run.__code__
"""Where `self` is a worker, who serves an actor's duty."""

_WAITS_FOR_EVENTS: Final = Hub.run.__code__

_sleep: Final = monkey.get_original("time", "sleep")
_get_ident: Final = monkey.get_original("threading", "get_ident")


def handled_in(frame: FrameType | None) -> tuple[Actor, Any] | None:
    """The actor whose handler this stack is in, and the message; None if it is in none."""
    while frame is not None:
        if frame.f_code is SERVES:
            duty = frame.f_locals["self"].served
            return (duty.actor, duty.handling) if duty is not None else None
        frame = frame.f_back
    return None


class Watchdog:
    """Watches the loop of the thread that starts it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._ticks = 0
        self._is_stopped = False
        self._pool = ThreadPool(1)
        self._timer: Any = None
        self._thread_of_loop = 0
        self._scheduling = -1

    def start(self) -> None:
        """Watch from now on."""
        self._thread_of_loop = _get_ident()
        with suppress(OSError):  # elsewhere than on Linux
            self._scheduling = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._timer = gevent.get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
        self._timer.start(self._tick)
        self._pool.spawn(self._watch)

    def stop(self) -> None:
        """Watch no more; the thread ends within a tick."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.close()

    def _tick(self) -> None:
        self._ticks += 1

    def _stolen(self) -> float:
        """Seconds that the loop's thread could have run, and was not let, since it began."""
        if self._scheduling < 0:
            return 0.0
        return int(os.pread(self._scheduling, 100, 0).split()[1]) / 1e9

    def _watch(self) -> None:
        """The thread's work."""
        try:
            self._watch_until_stopped()
        except Exception:
            logger.exception("the loop is watched no more")
        finally:
            if self._scheduling >= 0:
                os.close(self._scheduling)

    def _watch_until_stopped(self) -> None:
        ticks, seen, stolen = self._ticks, time.monotonic(), self._stolen()
        block: HoldUp | None = None
        while not self._is_stopped:
            _sleep(TICK_SECONDS)
            now, stolen_now = time.monotonic(), self._stolen()
            blocked = now - seen - (stolen_now - stolen)
            if self._ticks != ticks:
                if block is not None:
                    self._ended(block)
                ticks, seen, stolen, block = self._ticks, now, stolen_now, None
            elif blocked > BLOCKED_SECONDS:
                block = block or self._see()
                if block is None:
                    continue
                before, block.seconds = block.seconds, blocked
                if before <= LONG_SECONDS < blocked:
                    logger.warning("the loop has been blocked for %.1f s by %s", blocked, _told(block))

    def _see(self) -> HoldUp | None:
        """Who blocks the loop; None if it only waits for events, and the whole machine is late."""
        frame = sys._current_frames().get(self._thread_of_loop)
        if frame is None or frame.f_code is _WAITS_FOR_EVENTS:
            return None
        found = handled_in(frame)
        stack = "".join(traceback.format_stack(frame))
        return HoldUp(time.time(), Who.of(*found) if found is not None else None, 0.0, stack)

    def _ended(self, block: HoldUp) -> None:
        level = logging.WARNING if block.seconds > LONG_SECONDS else logging.INFO
        logger.log(level, "the loop was blocked for %.0f ms by %s", block.seconds * 1000, _told(block))
        self._system.blocks.add(block)


def _told(block: HoldUp) -> str:
    return f"{block.who or 'something that is no actor'}\n{block.stack}"
