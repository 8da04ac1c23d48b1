from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from unit.model.consuming import bodies, consumer, message, messages, positions

from dispatchd.model.consumer import Consumer
from dispatchd.model.entry import QueueEntry
from dispatchd.model.flow import DELIVERY_OVERHEAD, ChannelWindow, Outlet
from dispatchd.model.queue import DISPATCH_LIMIT, Queue


def queue_with(*published: bytes, durable: bool = False) -> Queue:
    queue = Queue("queue", durable)
    queue.enqueue(messages(*published))
    return queue


def take_all(queue: Queue) -> list[QueueEntry]:
    taken = []
    while (entry := queue.take()) is not None:
        taken.append(entry)
    return taken


def dispatched(queue: Queue) -> list[tuple[str, list[bytes]]]:
    return [(consumer.tag, bodies(entries)) for consumer, entries in queue.dispatch()]


def test_first_in_is_first_out() -> None:
    queue = queue_with(b"1", b"2")
    queue.enqueue(messages(b"3"))
    assert len(queue) == 3
    assert bodies(take_all(queue)) == [b"1", b"2", b"3"]
    assert queue.take() is None


def test_only_persistent_messages_of_a_durable_queue_are_to_be_stored() -> None:
    published = [message(b"kept"), message(b"lost", persistent=False), message(b"kept too")]
    assert bodies(Queue("queue", True).enqueue(published)) == [b"kept", b"kept too"]
    assert Queue("queue", False).enqueue(published) == []


def test_what_is_requeued_is_back_at_its_place_and_marked() -> None:
    queue = queue_with(b"1", b"2", b"3")
    first, second, third = take_all(queue)
    queue.enqueue(messages(b"4", b"5"))
    queue.requeue([third])
    queue.requeue([first])
    assert [(entry.message.body, entry.redelivered) for entry in queue.entries()] == [
        (b"1", True),
        (b"3", True),
        (b"4", False),
        (b"5", False),
    ]
    queue.requeue([second])
    assert bodies(take_all(queue)) == [b"1", b"2", b"3", b"4", b"5"]
    assert queue.redelivered == 3


def test_settling_and_requeueing_twice_changes_nothing() -> None:
    queue = queue_with(b"1", b"2")
    kept, gone = take_all(queue)
    for _ in range(2):
        queue.settle([gone])
        queue.requeue([kept])
    queue.requeue([gone])
    queue.settle([kept])
    assert (bodies(queue.entries()), queue.unacked, queue.ready_bytes, queue.acknowledged) == ([b"1"], 0, 1, 1)


def test_consumers_take_turns_however_the_messages_come() -> None:
    queue = queue_with(b"1", b"2", b"3", b"4", b"5")
    for tag in ("a", "b", "c"):
        queue.add_consumer(consumer(tag))
    assert dispatched(queue) == [("a", [b"1", b"4"]), ("b", [b"2", b"5"]), ("c", [b"3"])]
    turns = []
    for body in (b"6", b"7", b"8", b"9"):
        queue.enqueue(messages(body))
        turns += dispatched(queue)
    assert turns == [("c", [b"6"]), ("a", [b"7"]), ("b", [b"8"]), ("c", [b"9"])]


def test_a_consumer_without_room_is_passed_over() -> None:
    queue = queue_with(b"1", b"2", b"3", b"4")
    queue.add_consumer(consumer("busy", prefetch=1))
    queue.add_consumer(consumer("free", prefetch=2))
    assert dispatched(queue) == [("busy", [b"1"]), ("free", [b"2", b"3"])]
    assert (len(queue), queue.unacked, queue.unfinished) == (1, 3, False)


def test_an_ack_makes_room_for_the_next() -> None:
    queue = queue_with(b"1", b"2")
    queue.add_consumer(consumer(prefetch=1))
    [(_, entries)] = queue.dispatch()
    assert queue.dispatch() == []
    queue.settle(entries)
    assert dispatched(queue) == [("tag", [b"2"])]


def test_no_ack_needs_no_ack() -> None:
    queue = queue_with(b"1", b"2", b"3")
    queue.add_consumer(consumer(prefetch=1, no_ack=True))
    [(_, entries)] = queue.dispatch()
    assert bodies(entries) == [b"1", b"2", b"3"]
    assert queue.unacked == 0
    queue.requeue(entries)
    assert len(queue) == 0


def test_a_window_is_shared_by_the_consumers_of_its_channel() -> None:
    window = ChannelWindow()
    window.limit = 3
    queue = queue_with(b"1", b"2", b"3", b"4", b"5")
    queue.add_consumer(consumer("a", window=window))
    queue.add_consumer(consumer("b", window=window))
    assert dispatched(queue) == [("a", [b"1"]), ("b", [b"2"]), ("a", [b"3"])]
    assert window.starved


def test_a_full_socket_stops_its_consumers_only() -> None:
    outlet = Outlet(limit=1)
    queue = queue_with(b"1", b"2", b"3")
    slow = consumer("slow", outlet=outlet)
    queue.add_consumer(slow)
    queue.add_consumer(consumer("fast"))
    assert dispatched(queue) == [("slow", [b"1"]), ("fast", [b"2", b"3"])]
    assert outlet.starved
    assert slow.window.reserved == DELIVERY_OVERHEAD + 1


def test_one_dispatch_has_a_limit_and_says_when_it_ended_it() -> None:
    queue = queue_with(*[b""] * (DISPATCH_LIMIT + 1))
    queue.add_consumer(consumer())
    assert [len(entries) for _, entries in queue.dispatch()] == [DISPATCH_LIMIT]
    assert queue.unfinished
    assert [len(entries) for _, entries in queue.dispatch()] == [1]
    assert not queue.unfinished


def test_a_purge_leaves_what_is_out() -> None:
    queue = queue_with(b"1", b"2")
    out, back = take_all(queue)
    queue.requeue([back])
    queue.enqueue(messages(b"3", b"4"))
    assert bodies(queue.purge()[0].some(9)) == [b"2", b"3", b"4"]
    assert (len(queue), queue.ready_bytes, queue.unacked) == (0, 0, 1)
    queue.requeue([out])
    assert bodies(queue.entries()) == [b"1"]


def test_leavings_are_the_same_until_they_are_let_go_of() -> None:
    queue = queue_with(b"1", b"2", b"3")
    leavings, _ = queue.purge()
    queue.enqueue(messages(b"new"))
    assert bodies(leavings.some(2)) == bodies(leavings.some(2)) == [b"1", b"2"]
    assert len(leavings) == 3
    leavings.let_go()
    assert (bodies(leavings.some(2)), len(leavings)) == ([b"3"], 1)
    leavings.let_go()
    assert (leavings.some(2), len(leavings)) == ([], 0)
    assert bodies(queue.entries()) == [b"new"]


def test_an_exclusive_consumer_is_known_until_it_leaves() -> None:
    queue = queue_with()
    alone = consumer(exclusive=True)
    assert not queue.has_exclusive_consumer()
    queue.add_consumer(alone)
    assert queue.has_exclusive_consumer()
    assert queue.remove_consumer(alone)
    assert not queue.remove_consumer(alone)
    assert not queue.has_exclusive_consumer()


def test_what_a_consumer_that_left_holds_can_still_be_settled_and_requeued() -> None:
    queue = queue_with(b"1", b"2")
    leaving = consumer()
    queue.add_consumer(leaving)
    [(_, [first, second])] = queue.dispatch()
    queue.remove_consumer(leaving)
    queue.settle([first])
    queue.requeue([second])
    assert (queue.unacked, leaving.unacked, bodies(queue.entries())) == (0, 0, [b"2"])


def test_restored_entries_keep_their_places_and_new_ones_come_after() -> None:
    queue = Queue("queue", True)
    queue.restore([QueueEntry(message(b"old"), "queue", 5), QueueEntry(message(b"older"), "queue", 9)])
    queue.enqueue(messages(b"new"))
    assert positions(queue.entries()) == [5, 9, 10]
    assert queue.ready_bytes == len(b"old" + b"older" + b"new")


def test_the_place_of_the_last_delivery_never_goes_back() -> None:
    queue = Queue("queue", True)
    queue.restore([QueueEntry(message(), "queue", 1), QueueEntry(message(), "queue", 7)])
    queue.delivered_up_to = 6
    queue.take()
    assert queue.delivered_up_to == 6
    queue.take()
    assert queue.delivered_up_to == 7


def test_consumers_of_one_channel_take_turns_and_the_channel_keeps_the_order() -> None:
    queue, window = queue_with(b"1", b"2", b"3", b"4"), ChannelWindow()
    for one in (consumer("a", window=window), consumer("b", window=window), consumer("c")):
        queue.add_consumer(one)
    assert dispatched(queue) == [("a", [b"1"]), ("b", [b"2"]), ("c", [b"3"]), ("a", [b"4"])]
    queue.enqueue(messages(b"5", b"6", b"7"))
    assert dispatched(queue) == [("b", [b"5"]), ("c", [b"6"]), ("a", [b"7"])]


class AnyQueue(RuleBasedStateMachine):
    """A queue beside what it stands for: positions in order, of which some are out."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue("queue", True)
        self.consumers: list[Consumer] = []
        self.last = 0
        self.sizes: dict[int, int] = {}
        self.ready: list[int] = []
        self.redelivered: set[int] = set()
        self.out: dict[int, QueueEntry] = {}
        self.settled: list[QueueEntry] = []

    def note_delivery(self, entry: QueueEntry, head: int) -> None:
        assert entry.position == head
        assert entry.redelivered == (head in self.redelivered)

    @rule(sizes=st.lists(st.integers(0, 5), max_size=6))
    def publish(self, sizes: list[int]) -> None:
        stored = self.queue.enqueue([message(b"x" * size, persistent=size != 0) for size in sizes])
        for size in sizes:
            self.last += 1
            self.sizes[self.last] = size
            self.ready.append(self.last)
        assert positions(stored) == [self.last - len(sizes) + at for at, size in enumerate(sizes, 1) if size]

    @rule()
    def get(self) -> None:
        entry = self.queue.take()
        if not self.ready:
            assert entry is None
            return
        assert entry is not None
        self.note_delivery(entry, self.ready.pop(0))
        self.out[entry.position] = entry

    @rule(prefetch=st.integers(0, 3), no_ack=st.booleans(), shares_channel=st.booleans())
    @precondition(lambda self: len(self.consumers) < 4)
    def consume(self, prefetch: int, no_ack: bool, shares_channel: bool) -> None:
        window = self.consumers[-1].window if shares_channel and self.consumers else None
        added = consumer(f"tag {len(self.sizes)}", prefetch=prefetch, no_ack=no_ack, window=window)
        self.consumers.append(added)
        self.queue.add_consumer(added)

    @rule(data=st.data())
    @precondition(lambda self: self.consumers)
    def cancel(self, data: st.DataObject) -> None:
        leaving = data.draw(st.sampled_from(self.consumers))
        self.consumers.remove(leaving)
        assert self.queue.remove_consumer(leaving)

    @rule()
    def dispatch(self) -> None:
        deliveries = self.queue.dispatch()
        given = sorted(entry.position for _, entries in deliveries for entry in entries)
        assert given == self.ready[: len(given)]
        of_channels: dict[int, list[int]] = {}
        for receiver, entries in deliveries:
            of_channels.setdefault(id(receiver.window), []).extend(positions(entries))
            assert receiver in self.consumers
            assert receiver.no_ack or receiver.prefetch == 0 or receiver.unacked <= receiver.prefetch
            for entry in entries:
                self.note_delivery(entry, entry.position)
                if not receiver.no_ack:
                    self.out[entry.position] = entry
        assert all(inside == sorted(inside) for inside in of_channels.values())
        self.ready = self.ready[len(given) :]
        shares: Counter[int] = Counter()
        for receiver, entries in deliveries:
            shares[id(receiver)] += len(entries)
        free = [shares[id(one)] for one in self.consumers if one.has_room()]
        if free:
            assert not self.ready
            assert max(shares.values(), default=0) - min(free) <= 1

    @rule(data=st.data(), back=st.booleans())
    def end_deliveries(self, data: st.DataObject, back: bool) -> None:
        known = list(self.out.values())
        chosen = data.draw(st.lists(st.sampled_from(known), unique_by=id)) if known else []
        stale = data.draw(st.lists(st.sampled_from(self.settled), max_size=2)) if self.settled else []
        if back:
            self.queue.requeue(chosen + stale)
        else:
            self.queue.settle(stale + chosen)
        for entry in chosen:
            del self.out[entry.position]
            if back:
                self.redelivered.add(entry.position)
                self.ready = sorted([*self.ready, entry.position])
            else:
                self.settled.append(entry)

    @rule()
    def purge(self) -> None:
        assert positions(self.queue.purge()[0].some(1000)) == self.ready
        self.ready = []

    @rule()
    def restart(self) -> None:
        self.queue.accepted_up_to = self.queue.last_position
        self.queue = self.queue.rebuilt()

    @rule(count=st.integers(0, 3))
    def fail_to_accept(self, count: int) -> None:
        """What came, and was perhaps handed out, before a failure: it is left out, and all else is as it was."""
        self.queue.accepted_up_to = self.queue.last_position
        before = (self.queue.published, self.queue.delivered, self.queue.redelivered)
        self.queue.enqueue([message(b"gone")] * count)
        for receiver, entries in self.queue.dispatch():
            self.queue.recall(receiver, entries)
        entry = self.queue.take()
        if entry is not None:
            self.queue.recall(None, [entry])
        self.queue = self.queue.rebuilt()
        assert (self.queue.published, self.queue.delivered, self.queue.redelivered) == before

    @invariant()
    def is_as_expected(self) -> None:
        assert positions(self.queue.entries()) == self.ready
        assert len(self.queue) == len(self.ready)
        assert self.queue.ready_bytes == sum(self.sizes[position] for position in self.ready)
        for stock, held in ((self.queue.waiting, self.queue.entries()), (self.queue.out, self.out.values())):
            assert stock.octets == sum(entry.message.size for entry in held)
            persistent = [entry.message.size for entry in held if entry.message.persistent]
            assert (stock.persistent, stock.persistent_octets) == (len(persistent), sum(persistent))
        assert self.queue.unacked == len(self.out)
        assert self.queue.last_position == self.queue.published == self.last
        assert self.queue.acknowledged == len(self.settled)
        assert all(position <= self.queue.delivered_up_to for position in [*self.out, *self.redelivered])
        assert not any(one.batch for one in self.consumers)


TestAnyQueue = AnyQueue.TestCase
TestAnyQueue.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
