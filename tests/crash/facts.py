"""What clients know of a broker that ended somehow, and so what must be there afterwards and what may be.

Messages are numbers. Facts have their moment (`monotonic_ns`): of what a client sends the one before it does, of what
it hears the one after. So what a crash leaves can be checked as of any moment of a run. What is checked:

- A message is in each of its queues at least so many times as it was confirmed there, and no ack was sent for it.
- It is there at most so many times as it was published there, less its acks that are on disk. An ack takes part in the
  commit that follows it: it is on disk when the broker had it before a message was published that is confirmed.
- What left a queue for the dead letter exchange is there, or in all queues that it goes to, or (on its way) in both.
- All of a transaction is there or nothing; all of it if its commit was answered.
- What was there before stands in front, in its order; behind it what each channel has published, in its order.
- What a client had before a message was published that is confirmed comes as redelivered, and what nobody had does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic_ns

Found = dict[str, list[tuple[int, bool]]]
"""The messages of each queue in their order: number, redelivered."""
Copy = tuple[str, int]
"""A message in one queue."""


@dataclass
class Topology:
    """Where messages go: `routes` has exchange and routing key, and the queues behind them. `kept` have no consumer.

    Queues that are `dead_lettering` give up what is rejected, and those that are `dying` all of it sooner or later.
    That goes to each queue of `dead`.
    """

    routes: dict[tuple[str, str], list[str]]
    kept: set[str]
    dead_lettering: set[str]
    dying: set[str]
    dead: list[str]

    @property
    def queues(self) -> list[str]:
        return sorted({queue for queues in self.routes.values() for queue in queues}.union(self.dead))


@dataclass
class Published:
    at: int
    queues: list[str]
    channel: object


@dataclass(eq=False)
class Transaction:
    """What one has published and acknowledged; nothing of it counts before its commit is sent."""

    channel: object
    published: list[tuple[int, list[str]]] = field(default_factory=list)
    acked: list[Copy] = field(default_factory=list)
    sent_at: float = inf
    answered_at: float = inf


class Facts:
    """Of one run, which began with the numbers in `before`, all delivered before; its own come after `last_number`."""

    def __init__(self, topology: Topology, before: dict[str, list[int]] | None = None, last_number: int = 0) -> None:
        self.topology = topology
        self.before = before or {queue: [] for queue in topology.queues}
        self.last_number = last_number
        self.published: dict[int, Published] = {}
        self.confirmed: dict[int, int] = {}
        self.acked: dict[Copy, list[int]] = {}
        self.taken_in: dict[Copy, list[int]] = {}
        self.rejected: dict[Copy, int] = {}
        self.delivered = {(queue, number): 0 for queue, numbers in self.before.items() for number in numbers}
        self.transactions: list[Transaction] = []

    def next_run(self, found: Found) -> Facts:
        """What is known when a new run begins with what was found after this one."""
        before = {queue: [number for number, _ in messages] for queue, messages in found.items()}
        return Facts(self.topology, before, self.last_number)

    def new_number(self) -> int:
        self.last_number += 1
        return self.last_number

    def publish(self, number: int, queues: list[str], channel: object) -> None:
        self.published[number] = Published(monotonic_ns(), queues, channel)

    def confirm(self, numbers: Iterable[int]) -> None:
        self.confirmed.update(dict.fromkeys(numbers, monotonic_ns()))

    def deliver(self, queue: str, number: int, redelivered: bool) -> None:
        """A client got it. Within one run nothing comes again unmarked, but for a second dead letter of one message."""
        if (queue, number) in self.delivered and queue not in self.topology.dead:
            assert redelivered, f"{queue}: {number} came again, and not as redelivered"
        self.delivered.setdefault((queue, number), monotonic_ns())

    def ack(self, queue: str, number: int) -> None:
        self.acked.setdefault((queue, number), []).append(monotonic_ns())

    def take_in(self, queue: str, numbers: list[int]) -> None:
        """The broker has handled these acks."""
        for number in numbers:
            self.taken_in.setdefault((queue, number), []).append(monotonic_ns())

    def reject(self, queue: str, number: int) -> None:
        self.rejected.setdefault((queue, number), monotonic_ns())

    def commit(self, transaction: Transaction) -> None:
        """It is about to be committed."""
        transaction.sent_at = monotonic_ns()
        self.transactions.append(transaction)
        for number, queues in transaction.published:
            self.publish(number, queues, transaction.channel)
        for queue, number in transaction.acked:
            self.ack(queue, number)

    def committed(self, transaction: Transaction) -> None:
        transaction.answered_at = monotonic_ns()
        self.confirm(number for number, _ in transaction.published)


class Check:
    """What was `found` after a run that ended at a moment, `served` if by a broker that works again.

    Raises AssertionError if something is lost, or there that must not be.
    """

    def __init__(self, facts: Facts, found: Found, moment: float = inf, *, served: bool = True) -> None:
        self._facts = facts
        self._topology = facts.topology
        self._found = {queue: [number for number, _ in found[queue]] for queue in facts.topology.queues}
        self._counts = {queue: Counter(numbers) for queue, numbers in self._found.items()}
        self._before = {queue: Counter(numbers) for queue, numbers in facts.before.items()}
        self._moment = moment
        self._served = served
        self._published = {number for number, known in facts.published.items() if known.at < moment}
        self._confirmed = {number for number, at in facts.confirmed.items() if at < moment}
        self._synced = max((facts.published[number].at for number in self._confirmed), default=0)
        self._let_go = {
            copy for transaction in facts.transactions if transaction.answered_at < moment for copy in transaction.acked
        }
        for queue in facts.topology.queues:
            self._check_numbers(queue)
            self._check_order(queue)
            self._check_redelivered(queue, found[queue])
        for transaction in facts.transactions:
            if transaction.sent_at < moment:
                self._check_transaction(transaction)

    def _published_to(self, queue: str, numbers: set[int]) -> set[int]:
        return {number for number in numbers if queue in self._facts.published[number].queues}

    def _acked(self, copy: Copy) -> int:
        return sum(at < self._moment for at in self._facts.acked.get(copy, []))

    def _acked_on_disk(self, copy: Copy) -> int:
        return sum(at <= self._synced for at in self._facts.taken_in.get(copy, [])) + (copy in self._let_go)

    def _has_left(self, queue: str, number: int) -> bool:
        """Whether it may have gone to the dead letter exchange."""
        return queue in self._topology.dying or self._facts.rejected.get((queue, number), inf) < self._moment

    def _check_numbers(self, queue: str) -> None:
        before, counts = self._before[queue], self._counts[queue]
        may = before + Counter(self._published_to(queue, self._published))
        must = before + Counter(self._published_to(queue, self._confirmed))
        if queue in self._topology.dead:
            may += self._dead_letters()
        for number in counts:
            at_most = may[number] - self._acked_on_disk((queue, number))
            assert counts[number] <= at_most, f"{queue}: {number} is there {counts[number]} times, may be {at_most}"
        for number in must:
            at_least = must[number] - self._acked((queue, number))
            if counts[number] >= at_least:
                continue
            assert self._has_left(queue, number), f"{queue}: {number} was confirmed, not acknowledged, and is lost"
            for dead in self._topology.dead:
                arrived = self._counts[dead][number] + self._acked((dead, number))
                assert arrived > self._before[dead][number], f"{queue}: {number} left for {dead} and is lost"

    def _dead_letters(self) -> Counter[int]:
        """How many of each number may have come. Who expires once more at the start may have come once before."""
        come: Counter[int] = Counter()
        for queue in self._topology.dead_lettering:
            once_more = self._served and queue in self._topology.dying
            for number in self._published_to(queue, self._published).union(self._before[queue]):
                if self._has_left(queue, number):
                    come[number] += 1 + once_more
        return come

    def _check_order(self, queue: str) -> None:
        before, numbers = self._facts.before[queue], self._found[queue]
        if queue in self._topology.kept:
            assert numbers[: len(before)] == before, f"{queue}: what was there before is not in front"
            added = numbers[len(before) :]
        else:
            added = _behind(before, numbers)
        if queue in self._topology.dead:
            return
        last: dict[object, int] = {}
        for number in added:
            assert number in self._published, f"{queue}: {number} is not in its order"
            channel = self._facts.published[number].channel
            assert last.get(channel, 0) < number, f"{queue}: {number} is behind one that was published later"
            last[channel] = number

    def _check_redelivered(self, queue: str, found: list[tuple[int, bool]]) -> None:
        for number, redelivered in found:
            if self._facts.delivered.get((queue, number), inf) < self._synced and queue not in self._topology.dead:
                assert redelivered, f"{queue}: {number} was delivered before"
            if queue in self._topology.kept and number not in self._before[queue]:
                assert not redelivered, f"{queue}: {number} was never delivered"

    def _check_transaction(self, transaction: Transaction) -> None:
        """Of what was sent to be committed. What is in a queue that is read may have been acknowledged meanwhile."""
        signs = set()
        for number, queues in transaction.published:
            for queue in queues:
                if self._counts[queue][number]:
                    signs.add(True)
                elif not self._acked((queue, number)) and not self._has_left(queue, number):
                    signs.add(False)
        for queue, number in transaction.acked:
            if self._counts[queue][number]:
                signs.add(False)
            elif number in self._before[queue] or number in self._confirmed:
                signs.add(True)
        assert len(signs) < 2, f"a part of a transaction: {transaction}"


def _behind(before: Sequence[int], numbers: list[int]) -> list[int]:
    """What follows those that were there before, some of which may be gone."""
    remaining = iter(before)
    for index, number in enumerate(numbers):
        if number not in remaining:  # takes them up to this one
            return numbers[index:]
    return []
