"""How the channels and exchanges of a vhost tell its tracer what they publish and deliver."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dispatchd.actors.messages import Delivered, Published
from dispatchd.model.names import TRACE_EXCHANGE

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.message import Message
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.trace import Party, Trace

logger = logging.getLogger(__name__)

MOST_WAITING = 50_000
"""What may wait for a tracer, in units of publish credit: one for each message and each KiB of it."""
MESSAGES_IN_ONE_TURN = 50
"""Copies that a tracer makes at once: a large batch must not hold up the loop."""


class Tap:
    """The way to a tracer, which never makes anybody wait: what it is too far behind to take is left out, and counted.

    All who tell it and the tracer itself look at the same counter.
    """

    def __init__(self, tracer: Ref) -> None:
        self.tracer = tracer
        self.waiting = 0
        self.left_out = 0

    def published(self, messages: list[Message], trace: Trace) -> None:
        """A channel has published these, and every exchange on their way has routed them."""
        for start in range(0, len(messages), MESSAGES_IN_ONE_TURN):
            some = messages[start : start + MESSAGES_IN_ONE_TURN]
            cost = self._take_in(some)
            if cost:
                self.tracer.tell(Published(some, trace, cost))

    def delivered(self, entries: list[QueueEntry], party: Party) -> None:
        """A channel got these from one queue. Deliveries of copies are not copied again."""
        for start in range(0, len(entries), MESSAGES_IN_ONE_TURN):
            some = [
                (entry.shown or entry.message, entry.redelivered)
                for entry in entries[start : start + MESSAGES_IN_ONE_TURN]
                if entry.message.exchange != TRACE_EXCHANGE
            ]
            cost = self._take_in([message for message, _ in some])
            if cost:
                self.tracer.tell(Delivered(some, entries[0].queue.name, party, self, cost))

    def _take_in(self, messages: list[Message]) -> int:
        """How much more waits now; 0 when there is nothing to tell, or these are left out."""
        if messages and self.waiting >= MOST_WAITING:
            if not self.left_out:
                logger.warning("%s is too far behind: it leaves messages out", self.tracer.name)
            self.left_out += len(messages)
            return 0
        cost = sum(1 + (message.size >> 10) for message in messages)
        self.waiting += cost
        return cost

    def taken(self, cost: int) -> None:
        """The tracer has taken something in, or never will."""
        self.waiting -= cost
