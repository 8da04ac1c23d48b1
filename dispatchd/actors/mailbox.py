"""The mailbox of one actor: a queue that can be looked at, paused and stepped from outside.

It is the inbox that Pykka asks implementors of actor types for, for one gevent loop: everything
happens in the thread of the loop, so a deque is enough.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pykka
    from pykka._envelope import Envelope

    from dispatchd.actors.messages import ActorMessage
    from dispatchd.actors.turns import Turns, TurnTaker

Waiting: TypeAlias = "tuple[int, Any, pykka.Future[Any] | None]"
"""When it came (`perf_counter_ns`), the message, and who wants an answer."""


class Mailbox:
    """Messages in the order of their arrival, and the gate that lets them through.

    `waiting` has them, the oldest first; `peak` is the largest depth since somebody set it back. `permits` is None
    while the gate is open, else how many messages may still pass: 0 is paused. `is_due` while its owner is in line for
    a turn, or has it, or has not begun. One that `is_closed` is of an owner that has stopped.
    """

    __slots__ = ("_owner", "_turns", "is_closed", "is_due", "peak", "permits", "waiting")

    def __init__(self, owner: TurnTaker, turns: Turns) -> None:
        self.waiting: deque[Waiting] = deque()
        self._owner = owner
        self._turns = turns
        self.is_due = True
        self.is_closed = False
        self.peak = 0
        self.permits: int | None = None

    def __len__(self) -> int:
        return len(self.waiting)

    def put(self, envelope: Envelope[Any]) -> None:
        """Append what is in an envelope: how Pykka asks."""
        self.add(envelope.message, envelope.reply_to)

    def tell(self, message: ActorMessage) -> None:
        """Append a message; if the owner has stopped, refuse it to whoever waits for an answer."""
        if self.is_closed:
            message.refuse(f"{self._owner.title} has stopped")
        else:
            self.add(message)

    def add(self, message: Any, reply_to: pykka.Future[Any] | None = None) -> None:
        """Append a message, and who wants an answer; never blocks and never switches to another greenlet."""
        waiting = self.waiting
        waiting.append((perf_counter_ns(), message, reply_to))
        if len(waiting) > self.peak:
            self.peak = len(waiting)
        if not self.is_due and self.permits != 0:
            self.is_due = True
            self._turns.add(self._owner)

    def add_first(self, message: Any) -> None:
        """Put a message before all others and open the gate for it: how a paused actor can still be stopped."""
        self.waiting.appendleft((perf_counter_ns(), message, None))
        if self.permits is not None:
            self.permits += 1
        self._call()

    def lets_through(self) -> bool:
        """Whether the owner may take the oldest of what is `waiting`: to ask takes a permit of a closed gate."""
        if self.permits is None:
            return True
        if self.permits == 0:
            return False
        self.permits -= 1
        return True

    def begin(self) -> None:
        """Let the owner have turns: one now, in any case."""
        self._turns.add(self._owner)

    def turn_ended(self) -> None:
        """The owner had a turn, and is in line again if more waits for it."""
        self.is_due = False
        if self.waiting:
            self._call()

    def _call(self) -> None:
        if not self.is_due and self.waiting and self.permits != 0:
            self.is_due = True
            self._turns.add(self._owner)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self.waiting

    def drain(self) -> list[Waiting]:
        """Remove and return everything that waits, whatever the gate says."""
        drained = list(self.waiting)
        self.waiting.clear()
        return drained

    def peek(self, count: int) -> list[Any]:
        """The oldest `count` messages, left where they are."""
        return [message for _, message, _ in islice(self.waiting, count)]

    def oldest(self, count: int) -> list[Waiting]:
        """The oldest `count` of what waits, left where they are."""
        return list(islice(self.waiting, count))

    def take_out(self) -> Waiting | None:
        """Remove and return the oldest, whatever the gate says; None if there is none."""
        return self.waiting.popleft() if self.waiting else None

    def oldest_age(self) -> float:
        """Seconds that the oldest message has waited; 0.0 when none does."""
        return (perf_counter_ns() - self.waiting[0][0]) / 1e9 if self.waiting else 0.0

    def pause(self) -> None:
        """Close the gate: what arrives is kept, nothing passes."""
        self.permits = 0

    def step(self, count: int = 1) -> None:
        """Let `count` more messages through a closed gate; an open one is closed after them."""
        self.permits = (self.permits or 0) + count
        self._call()

    def resume(self) -> None:
        """Open the gate."""
        self.permits = None
        self._call()
