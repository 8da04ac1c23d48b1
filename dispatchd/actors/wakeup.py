"""How one greenlet of the loop waits for another."""

from __future__ import annotations

from gevent.hub import Waiter, get_hub


class Wakeup:
    """Lets one greenlet wait until another calls it. An `Event`, for which many may wait, costs half as much again."""

    __slots__ = ("_waiter",)

    def __init__(self) -> None:
        self._waiter: Waiter[None] | None = None

    def wait(self) -> None:
        """Wait for a call. Who calls before that is not heard: look first at what there is to do."""
        self._waiter = Waiter()
        try:
            self._waiter.get()
        finally:
            self._waiter = None

    def call(self) -> None:
        """Let the greenlet go on that waits, if one does; never blocks and never switches to another greenlet."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            get_hub().loop.run_callback(waiter.switch, None)
