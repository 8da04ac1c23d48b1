from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from unit.model.consuming import message, positions

from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.entry import NEVER, NOT_STORED, STORED, QueueEntry
from dispatchd.model.queue import Queue
from dispatchd.model.queue_rules import QueueRules
from dispatchd.model.residency import READ_IN_ONE_GO, Residency, page_in, page_out, resident

PLENTY = 1 << 30


def filled(count: int, size: int = 1) -> Queue:
    queue = Queue("queue", True)
    for entry in queue.enqueue([message(b"x" * size) for _ in range(count)]):
        entry.slot = STORED
    return queue


def read_back(queue: Queue, rules: Residency) -> list[int]:
    """Read what is wanted; its positions."""
    wanted = rules.wanted(queue)
    assert wanted is not None
    priority, places = wanted
    page_in(queue, priority, len(places), [(place, message(b"x"), NEVER) for place in places])
    return places


def test_a_short_queue_stays_as_it_is() -> None:
    queue, rules = filled(100), Residency(100, PLENTY)
    assert not rules.is_exceeded(queue)
    assert rules.wanted(queue) is None


def test_the_middle_of_a_long_one_goes_until_half_is_left() -> None:
    queue, rules = filled(101), Residency(100, PLENTY)
    assert rules.is_exceeded(queue)
    chosen = rules.choose(queue)
    assert positions(chosen) == list(range(26, 77))
    assert resident(queue) == (101, 101)
    assert not page_out(queue)
    assert (resident(queue), len(queue), queue.ready_bytes) == ((50, 50), 101, 101)
    assert rules.wanted(queue) is None
    for expected in range(1, 15):
        entry = queue.take()
        assert entry is not None
        assert entry.position == expected
    assert read_back(queue, rules) == list(range(26, 52))
    assert resident(queue) == (62, 62)


def test_large_bodies_go_by_their_size() -> None:
    queue, rules = filled(10, size=100), Residency(1000, 500)
    assert rules.is_exceeded(queue)
    assert positions(rules.choose(queue)) == list(range(3, 11))
    assert not page_out(queue)
    assert resident(queue) == (2, 200)


def test_large_bodies_are_read_back_by_their_size() -> None:
    queue, rules = filled(10, size=100), Residency(1000, 500)
    rules.choose(queue)
    page_out(queue)
    assert rules.wanted(queue) is None
    queue.take()
    assert rules.wanted(queue) is None
    queue.take()
    assert read_back(queue, rules) == [3]


def test_what_is_not_stored_yet_stays() -> None:
    queue, rules = filled(101), Residency(100, PLENTY)
    rules.choose(queue)[3].slot = NOT_STORED
    page_out(queue)
    assert positions(queue.entries()) == [*range(1, 26), *range(29, 102)]


def test_what_was_chosen_and_taken_meanwhile_stays_taken() -> None:
    queue, rules = filled(101), Residency(100, PLENTY)
    rules.choose(queue)
    taken = [queue.take() for _ in range(30)]
    assert taken[-1] is not None
    assert taken[-1].position == 30
    page_out(queue)
    assert (len(queue), resident(queue)) == (71, (71, 71))


def test_a_long_way_out_takes_several_turns() -> None:
    queue, rules = filled(30_000), Residency(100, PLENTY)
    assert len(rules.choose(queue)) == 16_384
    turns = 1
    while page_out(queue):
        turns += 1
    assert turns == 5
    assert resident(queue)[0] == 30_000 - 16_384


def test_reading_is_bounded() -> None:
    queue, rules = filled(30_000), Residency(20_000, PLENTY)
    rules.choose(queue)
    while page_out(queue):
        pass
    for _ in range(5_000):
        queue.take()
    assert len(read_back(queue, rules)) == READ_IN_ONE_GO


def test_what_could_not_be_read_is_not_counted_any_more() -> None:
    queue, rules = filled(101), Residency(100, PLENTY)
    rules.choose(queue)
    page_out(queue)
    while (entry := queue.take()) is not None:
        assert entry.position <= 25
    while (wanted := rules.wanted(queue)) is not None:
        page_in(queue, wanted[0], len(wanted[1]), [])
    assert (len(queue), queue.ready_bytes) == (25, 25)


def test_less_memory_makes_what_is_in_front_fewer() -> None:
    queue, rules = filled(400), Residency(100, PLENTY)
    while rules.is_exceeded(queue):
        rules.choose(queue)
        page_out(queue)
    assert resident(queue)[0] == 50
    rules.most = 8
    chosen = rules.choose(queue)
    assert positions(chosen)[:2] == [3, 4]
    assert not page_out(queue, also_in_front=False)
    assert queue.line.paged.first() == 26
    rules.choose(queue)
    while rules.is_exceeded(queue):
        rules.choose(queue)
        page_out(queue)
    assert resident(queue)[0] <= 8
    assert queue.line.paged.first() == 3
    for expected in range(1, 401):
        while (entry := queue.take()) is None:
            read_back(queue, rules)
        assert entry.position == expected


def with_priority(priority: int, size: int) -> Message:
    return make_message("x", "k", Properties(delivery_mode=1 + size % 2, priority=priority), b"x" * size)


class AnyQueue(RuleBasedStateMachine):
    """A queue whose middle comes and goes, beside one that has everything in memory."""

    LINES = 1

    def __init__(self) -> None:
        super().__init__()
        self.queue_rules = QueueRules({"x-max-priority": self.LINES - 1} if self.LINES > 1 else {})
        self.queue = Queue("queue", True, 0, self.queue_rules)
        self.reference = Queue("queue", True, 0, self.queue_rules)
        self.residency = Residency(8, 40)
        self.disk: dict[int, Message] = {}
        self.chosen: list[QueueEntry] = []
        self.out: list[tuple[QueueEntry, QueueEntry]] = []

    @rule(published=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 4, 9, 30])), max_size=12))
    def publish(self, published: list[tuple[int, int]]) -> None:
        made = [with_priority(priority, size) for priority, size in published]
        self.queue.enqueue(made)
        self.reference.enqueue(made)

    @rule()
    def choose(self) -> None:
        if not self.chosen and self.residency.is_exceeded(self.queue):
            self.chosen = self.residency.choose(self.queue)

    @rule(most=st.sampled_from([2, 8, 30]))
    def tighten(self, most: int) -> None:
        self.residency.most, self.residency.most_bytes = most, 5 * most

    @rule(stored=st.booleans())
    def leave(self, stored: bool) -> None:
        for entry in self.chosen:
            if stored and not entry.is_out:
                entry.slot = STORED
                self.disk[entry.position] = entry.message
        self.chosen = []
        while page_out(self.queue):
            pass

    @rule()
    def read(self) -> None:
        wanted = self.residency.wanted(self.queue)
        if wanted is not None:
            priority, places = wanted
            page_in(self.queue, priority, len(places), [(place, self.disk[place], NEVER) for place in places])

    @rule()
    def come_to_rest(self) -> None:
        """While nobody takes anything, what was read back does not leave again, and so on for ever."""
        self.leave(stored=True)
        for _ in range(100):
            self.choose()
            if not self.chosen and self.residency.wanted(self.queue) is None:
                return
            self.leave(stored=True)
            self.read()
        raise AssertionError("it never rests")

    @rule(count=st.integers(1, 9))
    def take(self, count: int) -> None:
        for _ in range(count):
            entry = self.queue.take()
            if entry is None:
                if len(self.queue):
                    assert self.residency.wanted(self.queue) is not None
                return
            other = self.reference.take()
            assert other is not None
            assert (entry.position, entry.message.body) == (other.position, other.message.body)
            assert entry.redelivered == other.redelivered
            self.out.append((entry, other))

    @rule(data=st.data(), back=st.booleans())
    @precondition(lambda self: self.out)
    def end_deliveries(self, data: st.DataObject, back: bool) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.out), unique_by=id))
        self.out = [pair for pair in self.out if pair not in chosen]
        for queue, side in ((self.queue, 0), (self.reference, 1)):
            entries = [pair[side] for pair in chosen]
            (queue.requeue if back else queue.settle)(entries)

    @rule()
    def restart(self) -> None:
        self.queue.accepted_up_to = self.queue.last_position
        self.queue = self.queue.rebuilt()
        self.chosen = []

    @invariant()
    def counts_the_same(self) -> None:
        for fact in ("ready_bytes", "unacked", "last_position", "delivered"):
            mine: Any = getattr(self.queue, fact)
            assert mine == getattr(self.reference, fact), fact
        for mine, other in ((self.queue.waiting, self.reference.waiting), (self.queue.out, self.reference.out)):
            assert (mine.octets, mine.persistent, mine.persistent_octets) == (
                other.octets, other.persistent, other.persistent_octets
            )  # fmt: skip
        assert len(self.queue) == len(self.reference)
        assert self.queue.delivered_up_to == self.reference.delivered_up_to


class AnyQueueWithPriorities(AnyQueue):
    LINES = 3


TestAnyQueue = AnyQueue.TestCase
TestAnyQueue.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestAnyQueueWithPriorities = AnyQueueWithPriorities.TestCase
TestAnyQueueWithPriorities.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
