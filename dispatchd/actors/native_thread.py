"""One native thread of the system that does one thing after the other for an actor.

Much like a pool of one of gevent's, but the watcher that wakes the loop is made once and not for each call, and the
thread waits at a queue of the interpreter's own: that takes 25 µs less each time, a twentieth of a confirm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.event import AsyncResult
from gevent.monkey import get_original

_start_new_thread = get_original("_thread", "start_new_thread")
_SimpleQueue = get_original("queue", "SimpleQueue")


class NativeThread:
    """Begins with the first call. Belongs to the loop of the thread that makes it."""

    def __init__(self, then: Callable[[AsyncResult[Any]], object] | None = None) -> None:
        """`then` is called in the loop with each result at once; what is linked to one is called a round later."""
        self._then = then
        self._hub = get_hub()
        self._watcher = self._hub.loop.async_()
        self._calls: Any = _SimpleQueue()
        self._ended: deque[tuple[AsyncResult[Any], Any, BaseException | None]] = deque()
        self._under_way = 0
        self._has_begun = False
        self._is_over = False

    def spawn(self, call: Callable[..., Any], *arguments: Any) -> AsyncResult[Any]:
        """Have it called when what was spawned before is done; the result is set then, or what it raised."""
        if not self._has_begun:
            _start_new_thread(self._run, ())
            self._has_begun = True
        if not self._under_way:
            self._watcher.start(self._tell)
        self._under_way += 1
        result: AsyncResult[Any] = AsyncResult()
        self._calls.put((call, arguments, result))
        return result

    def end(self) -> None:
        """Let the thread end when all is done. Nothing can be spawned any more."""
        self._is_over = True
        self._calls.put(None)
        self._rest()

    def _run(self) -> None:
        while (task := self._calls.get()) is not None:
            call, arguments, result = task
            try:
                self._ended.append((result, call(*arguments), None))
            except BaseException as error:  # noqa: BLE001 - who waits for it is told
                self._ended.append((result, None, error))
            del task, call, arguments, result
            self._watcher.send()

    def _rest(self) -> None:
        """Who waits for a result keeps the loop alive, and nobody else."""
        if not self._under_way:
            self._watcher.stop()
            if self._is_over:
                self._watcher.close()

    def _tell(self) -> None:
        while self._ended:
            result, value, error = self._ended.popleft()
            self._under_way -= 1
            self._rest()
            if error is None:
                result.set(value)
            else:
                self._hub.handle_error(self, type(error), error, error.__traceback__)
                result.set_exception(error)
            if self._then is not None:
                self._then(result)
