"""What is kept of a failure, and how many failures are too many."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from typing import Any

QUARANTINE_FAILURES = 5
QUARANTINE_SECONDS = 10.0
KEPT_FAILURES = 20
SHOWN_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Failure:
    """One message that an actor could not handle: set aside with what went wrong.

    `at` is Unix time in seconds; `message` is the message itself, so that it can be looked at, replayed or dropped.
    """

    actor: str
    message: Any
    error: str
    traceback: str
    at: float = field(default_factory=time.time)

    @classmethod
    def of(cls, actor: str, message: Any, error: BaseException) -> Failure:
        """Record `error` as it was raised while `actor` handled `message`."""
        return cls(actor, message, _describe(error), "".join(traceback.format_exception(error)))

    def summary(self) -> dict[str, Any]:
        """What the admin shows of it."""
        return {
            "at": self.at,
            "message": repr(self.message)[:SHOWN_MESSAGE_CHARACTERS],
            "error": self.error,
            "traceback": self.traceback,
        }


class FailureHistory:
    """The failures of one actor. More than QUARANTINE_FAILURES within QUARANTINE_SECONDS are too many."""

    __slots__ = ("_recent", "kept", "total")

    def __init__(self) -> None:
        self.total = 0
        self.kept: list[Failure] = []
        self._recent: list[float] = []

    def add(self, failure: Failure, now: float) -> bool:
        """Keep a failure that happened at `now` (seconds, monotonic); whether it was one too many."""
        self.total += 1
        self.kept = [*self.kept, failure][-KEPT_FAILURES:]
        self._recent = [*self._recent, now][-QUARANTINE_FAILURES - 1 :]
        return len(self._recent) > QUARANTINE_FAILURES and now - self._recent[0] <= QUARANTINE_SECONDS

    def forgive(self) -> None:
        """Begin to count anew, as after an operator's restart."""
        self._recent.clear()

    @property
    def last(self) -> Failure | None:
        """The newest failure."""
        return self.kept[-1] if self.kept else None


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # noqa: BLE001 - the text of an error may fail as well
        return name
