"""What is noted of each message that an actor handles: two counts by powers of two, and three figures by type.

It has to be cheap, because it always is.
"""

from __future__ import annotations

from typing import Final

WINDOW_SECONDS: Final = 30.0
SLOW_NS: Final = 100_000_000
"""A handler that takes longer, with all that it waits for, is listed as a slow one."""
BUCKETS: Final = 48
"""One for each power of two, up to a day and a half."""


class TypeFigures:
    """What is known of one type of message in one window; times in nanoseconds."""

    __slots__ = ("count", "failures", "longest", "time")

    def __init__(self) -> None:
        self.count = 0
        self.time = 0
        self.longest = 0
        self.failures = 0


class Window:
    """What an actor did in up to WINDOW_SECONDS. It takes 1.6 KiB, which many who did little have for a minute.

    `waits` and `takes` count how long messages waited and handlers took, by the bits of nanoseconds. `peak` is the
    mailbox's, set when the window is closed; `per_second` and `busy` (0 to 1) are those of the last look, and `seen` is
    what the actor had handled then, and how long that took.
    """

    __slots__ = ("busy", "peak", "per_second", "seen", "takes", "types", "waits")

    def __init__(self, handled: int, busy_ns: int, past: Window | None) -> None:
        """It begins with the rates of the one before, and with what the actor has done so far."""
        self.waits = [0] * BUCKETS
        self.takes = [0] * BUCKETS
        self.types: dict[type, TypeFigures] = {}
        self.peak = 0
        self.per_second: float = past.per_second if past is not None else 0.0
        self.busy: float = past.busy if past is not None else 0.0
        self.seen = (handled, busy_ns)

    def note(self, message_type: type, waited: int, took: int) -> None:
        """A message of this type was handled. Times are in nanoseconds."""
        self.waits[min(waited.bit_length(), BUCKETS - 1)] += 1
        self.takes[min(took.bit_length(), BUCKETS - 1)] += 1
        figures = self.types.get(message_type)
        if figures is None:
            figures = self.figures_of(message_type)
        figures.count += 1
        figures.time += took
        if took > figures.longest:
            figures.longest = took

    def figures_of(self, message_type: type) -> TypeFigures:
        """What is noted of messages of this type."""
        return self.types.setdefault(message_type, TypeFigures())
