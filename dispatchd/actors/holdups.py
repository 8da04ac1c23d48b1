"""Who held others up: handlers that took long, and those during which the whole loop stood still."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Actor

KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Who:
    """An actor, which may be gone, and the type of the message that it handled."""

    number: int
    kind: str
    name: str
    message_type: str

    @classmethod
    def of(cls, actor: Actor, message: Any) -> Who:
        """The actor that handles this message."""
        return cls(actor.number, actor.kind, actor.name, type(message).__name__)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} ({self.number}), which handled {self.message_type}"


@dataclass(slots=True)
class HoldUp:
    """One time that somebody held others up. `at` is Unix time; without `who` it was no actor; `stack` may be empty."""

    at: float
    who: Who | None
    seconds: float
    stack: str = ""

    def row(self) -> dict[str, Any]:
        """What the admin shows of it."""
        who = self.who
        return {
            "at": self.at,
            "actor": {"id": who.number, "kind": who.kind, "name": who.name} if who is not None else None,
            "message_type": who.message_type if who is not None else None,
            "took_ms": round(self.seconds * 1000, 3),
            "stack": self.stack,
        }


class HoldUps:
    """The last ones, and how many there were, in all and by the number of the actor."""

    def __init__(self) -> None:
        self.last: deque[HoldUp] = deque(maxlen=KEPT)
        self.total = 0
        self.longest = 0.0
        self.by_actor: Counter[int] = Counter()

    def add(self, hold_up: HoldUp) -> None:
        """Take note of one."""
        self.last.append(hold_up)
        self.total += 1
        self.longest = max(self.longest, hold_up.seconds)
        if hold_up.who is not None:
            self.by_actor[hold_up.who.number] += 1

    def note(self, actor: Actor, message: Any, nanoseconds: int) -> None:
        """A handler took so long."""
        self.add(HoldUp(time.time(), Who.of(actor, message), nanoseconds / 1e9))

    def forget(self, number: int) -> None:
        """An actor is gone: nobody asks for its count any more."""
        self.by_actor.pop(number, None)

    def rows(self) -> list[dict[str, Any]]:
        """What the admin shows, the newest first."""
        return [each.row() for each in reversed(self.last)]

    def figures(self) -> dict[str, Any]:
        """How many, the longest in milliseconds, and the last one, None if there was none."""
        last = self.last[-1].row() if self.last else None
        return {"total": self.total, "longest_ms": round(self.longest * 1000, 3), "last": last}
