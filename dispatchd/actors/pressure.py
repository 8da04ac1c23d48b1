"""Publish credit that is kept back while the disk is behind: what waits to be written must not fill the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from dispatchd.actors.messages import Released
from dispatchd.actors.runtime import Told, tell_all

if TYPE_CHECKING:
    from dispatchd.model.journal import Journal
    from dispatchd.model.router import Publishing

MOST_ENTRIES: int = 50_000  # not final: that can be set from outside, compiled or not
MOST_BYTES: Final = 64 << 20
ENOUGH: Final = 0.5
"""Of what may wait to be written: below this publishers go on."""


class Pressure:
    """How far the persistence actor is behind; queues look at it, and give it what they keep back, which is `held`."""

    def __init__(self) -> None:
        self.is_high = False
        self.held: dict[Publishing, None] = {}

    def update(self, journal: Journal) -> None:
        """This waits to be written now."""
        self._measure(journal.live_adds(), journal.live_bytes)

    def end(self) -> None:
        """Nothing is written any more, so nobody needs to wait."""
        self._measure(0, 0)

    def _measure(self, entries: i64, octets: i64) -> None:
        share = ENOUGH if self.is_high else 1.0
        self.is_high = float(entries) > MOST_ENTRIES * share or float(octets) > MOST_BYTES * share
        if self.held and not self.is_high:
            told: Told = [(publishing.channel, Released(publishing)) for publishing in self.held]
            self.held = {}
            tell_all(told)
