"""A greenlet that lets one actor after the other have a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from dispatchd.actors.turns import Turns, TurnTaker


class Worker(gevent.Greenlet):  # type: ignore[type-arg]  # it is not generic at run time
    """Serves a line of those who want a turn. `served` has one now."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns
        self.served: TurnTaker | None = None

    @property
    def name(self) -> str:
        """Whose turn it is."""
        return self.served.title if self.served is not None else "between turns"

    def _run(self) -> None:
        turns, hub = self._turns, gevent.get_hub()
        while True:
            turns.go_on(self)
            turns.idle.append(self)
            hub.switch()
