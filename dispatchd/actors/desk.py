"""Where an operator's greenlet gets the answers of actors: to them it is a channel, and it may leave at any time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from gevent.queue import Empty, SimpleQueue

from dispatchd.actors.messages import ActorMessage, Denied, Done, Got, Request, Requeue
from dispatchd.actors.republisher import Answer, Republisher
from dispatchd.amqp.errors import Unavailable
from dispatchd.model.access import Access, unrestricted

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.methods import Method
    from dispatchd.model.entry import QueueEntry


class Desk:
    """Takes what actors tell a channel, and has a deadline for all that is done at it.

    What it was given and did not settle goes back to its queue when it closes; what comes afterwards is refused.
    """

    name = "operator"
    number = 0

    def __init__(self, seconds: float, access: Access | None = None) -> None:
        """`access` is what the operator may do, None if everything."""
        self._access = access or _everything()
        self._until = time.monotonic() + seconds
        self._answers: SimpleQueue[ActorMessage] = SimpleQueue()
        self._is_closed = False
        self._in_hand: dict[int, QueueEntry] = {}
        self.publisher = Republisher(self)  # type: ignore[arg-type] # a desk is told things, as a reference is

    def tell(self, message: ActorMessage) -> None:
        """Take an answer in."""
        if self._is_closed:
            message.refuse("nobody waits for it any more")
        else:
            self._answers.put(message)

    def is_alive(self) -> bool:
        """Whether answers are taken in."""
        return not self._is_closed

    def hear(self) -> Any:
        """The next answer. Raises Unavailable (541) if none comes in time."""
        try:
            return self._answers.get(timeout=max(0.0, self._until - time.monotonic()))
        except Empty:
            raise Unavailable("no answer in time: it may be paused, or has more to do") from None

    def order(self, actor: Ref, method: Method) -> Method:
        """Have a method carried out; returns the method that answers. Raises the AmqpError that it is denied with."""
        self._ask(actor, method)
        answer = self.hear()
        if isinstance(answer, Denied):
            raise answer.error
        assert isinstance(answer, Done), answer
        return answer.reply

    def get(self, queue: Ref, method: Method, count: int) -> list[Got]:
        """Take so many messages from the head of a queue; fewer, if it has no more."""
        for _ in range(count):
            self._ask(queue, method)
        found: list[Got] = []
        failure = None
        for _ in range(count):
            answer = self.hear()
            if isinstance(answer, Denied):
                failure = answer.error
            elif isinstance(answer, Got) and answer.entry is not None:
                self._in_hand[id(answer.entry)] = answer.entry
                found.append(answer)
        if failure is not None:
            raise failure
        return found

    def _ask(self, actor: Ref, method: Method) -> None:
        actor.tell(Request(self, method, self.number, self._access))  # type: ignore[arg-type] # likewise

    def settle(self, entries: list[QueueEntry], outcome: type[ActorMessage]) -> None:
        """Tell the queue of these what became of them: `Settle`, `Discard` or `Requeue`."""
        for entry in entries:
            self._in_hand.pop(id(entry), None)
        if entries:
            entries[0].queue.tell(outcome(entries))  # type: ignore[call-arg] # all of them take entries

    def wait_for_publishings(self) -> list[Any]:
        """Wait until all that was published is where it had to go; returns the messages that were refused."""
        refused: list[Any] = []
        while self.publisher.on_their_way:
            answer: Answer = self.hear()
            refused += getattr(answer, "refused", [])
            for arrived in self.publisher.arrived(self.publisher.heard(answer)):
                del self.publisher.on_their_way[arrived]
        return refused

    def close(self) -> None:
        """Leave: nothing that was given here stays out."""
        self._is_closed = True
        while not self._answers.empty():
            self._answers.get().refuse("nobody waits for it any more")
        for entry in self._in_hand.values():
            entry.queue.tell(Requeue([entry]))
        self._in_hand = {}


@cache
def _everything() -> Access:
    """What an operator may do in AMQP: whether he may come to a desk was decided before."""
    return unrestricted(Desk.name, "")


@contextmanager
def desk(seconds: float, access: Access | None = None) -> Iterator[Desk]:
    """A desk that is open for a while."""
    made = Desk(seconds, access)
    try:
        yield made
    finally:
        made.close()
