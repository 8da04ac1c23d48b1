"""What is kept of a failure, and how many failures are too many."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from dispatchd.actors.summaries import summary, weight

QUARANTINE_FAILURES = 5
QUARANTINE_SECONDS = 10.0
KEPT_FAILURES = 20
"""Of one actor."""
LOGGED_FAILURES = 200
"""Of all actors together."""
KEPT_MESSAGES = 50
KEPT_OCTETS = 32 << 20
"""Of the newest failures so many messages are kept, and so much of what clients published: they can be replayed."""

REFUSED = "refused"
"""Whoever waited for it was told."""
ANSWERED = "answered"
"""The handler was through with a part of it, and the actor went on with the rest."""
REPEATED = "repeated"
"""The actor tried once more with its new state."""
DROPPED = "dropped"
"""It never was handled: an operator took it out of the mailbox."""


@dataclass(slots=True)
class Failure:
    """One message that an actor could not handle: set aside with what went wrong.

    `at` is Unix time in seconds; `message` is the message itself, so that it can be replayed, None once too many others
    failed after it; `fate` is what became of it.
    """

    actor: str
    message: Any
    error: str
    traceback: str
    fate: str = REFUSED
    kind: str = ""
    actor_number: int = 0
    at: float = field(default_factory=time.time)
    number: int = 0
    replays: int = 0
    shown: str = ""

    def __post_init__(self) -> None:
        self.shown = summary(self.message)

    @classmethod
    def of(cls, actor: str, message: Any, error: BaseException, fate: str = REFUSED, **where: Any) -> Failure:
        """Record `error` as it was raised while `actor` handled `message`."""
        return cls(actor, message, _describe(error), "".join(traceback.format_exception(error)), fate, **where)

    def summary(self) -> dict[str, Any]:
        """What the admin shows of it."""
        return {
            "id": self.number,
            "at": self.at,
            "actor": {"id": self.actor_number, "kind": self.kind, "name": self.actor},
            "message_type": self.shown.partition("(")[0],
            "message": self.shown,
            "error": self.error,
            "traceback": self.traceback,
            "fate": self.fate,
            "replays": self.replays,
            "is_kept": self.message is not None,
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


class FailureLog:
    """The newest failures of all actors, by number; they outlive their actors.

    Older ones let go of their messages, also where their actors' own histories show them.
    """

    def __init__(self) -> None:
        self.total = 0
        self._failures: deque[Failure] = deque(maxlen=LOGGED_FAILURES)
        self._with_message: deque[tuple[Failure, int]] = deque()
        self._octets = 0
        self._numbers = count(1)

    def add(self, failure: Failure) -> None:
        """Take a failure in, and give it its number."""
        failure.number = self.total = next(self._numbers)
        self._failures.append(failure)
        octets = weight(failure.message)
        self._with_message.append((failure, octets))
        self._octets += octets
        while self._octets > KEPT_OCTETS or len(self._with_message) > KEPT_MESSAGES:
            oldest, octets = self._with_message.popleft()
            oldest.message = None
            self._octets -= octets

    def __iter__(self) -> Iterator[Failure]:
        """The newest first."""
        return reversed(self._failures)

    def __len__(self) -> int:
        return len(self._failures)

    def find(self, number: int) -> Failure | None:
        """The failure with this number, if it is still here."""
        return next((failure for failure in self._failures if failure.number == number), None)


def _describe(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception:  # noqa: BLE001 - the text of an error may fail as well
        return name
