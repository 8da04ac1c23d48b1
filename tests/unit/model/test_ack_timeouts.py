from __future__ import annotations

import pytest
from unit.model.consuming import consumer, message

from dispatchd.model.ack_timeouts import AckTimeouts
from dispatchd.model.entry import QueueEntry
from dispatchd.model.flow import ChannelWindow
from dispatchd.model.ledger import DeliveryLedger


class Channel:
    """What was delivered to it, and how long its queues wait: `slow` 1000 ms, `fast` 100 ms, any other for ever."""

    def __init__(self) -> None:
        self.ledger = DeliveryLedger(1, 4096, ChannelWindow())
        self.timeouts = AckTimeouts()
        self.timeouts.watch("slow", 1000)
        self.timeouts.watch("fast", 100)

    def deliver(self, queue: str) -> None:
        receiver = consumer(window=self.ledger.window)
        entry = QueueEntry(message(b"x"), queue, 1)
        receiver.take(entry)
        self.ledger.encode_deliveries(receiver, [entry])

    def look(self, now: int) -> int:
        return self.timeouts.look(now, self.ledger)


def test_nothing_out_is_never_late() -> None:
    channel = Channel()
    assert [channel.look(now) for now in (0, 5000, 50_000)] == [0, 0, 0]


@pytest.mark.parametrize(("queue", "timeout"), [("slow", 1000), ("fast", 100)])
def test_a_delivery_is_late_when_its_queue_has_waited_long_enough_since_a_look_saw_it(queue: str, timeout: int) -> None:
    channel = Channel()
    channel.look(0)
    channel.deliver(queue)
    assert channel.look(20) == 0
    assert channel.look(20 + timeout - 1) == 0
    assert channel.look(20 + timeout) == timeout


def test_what_is_acknowledged_is_not_late() -> None:
    channel = Channel()
    channel.deliver("fast")
    channel.deliver("fast")
    channel.look(0)
    channel.ledger.settle([1 * 2])
    channel.deliver("fast")
    channel.look(60)
    channel.ledger.settle([2 * 2])
    assert channel.look(120) == 0
    assert channel.look(160) == 100


def test_what_other_queues_delivered_may_stay_out() -> None:
    channel = Channel()
    channel.deliver("patient")
    channel.deliver("slow")
    for now in range(0, 1000, 50):
        assert channel.look(now) == 0
    channel.ledger.settle([2 * 2])
    for now in range(1000, 5000, 50):
        assert channel.look(now) == 0


def test_a_late_one_is_found_behind_others() -> None:
    channel = Channel()
    for queue in ("patient", "slow", "fast"):
        channel.deliver(queue)
    channel.look(0)
    assert channel.look(100) == 100
    channel.ledger.settle([3 * 2])
    assert channel.look(200) == 0
    assert channel.look(1000) == 1000


def test_a_busy_channel_keeps_few_looks() -> None:
    channel = Channel()
    for now in range(0, 100_000, 20):
        channel.deliver("slow")
        assert channel.look(now) == 0
        channel.ledger.settle([channel.ledger.last_tag * 2])
    assert len(channel.timeouts._looks) <= 1000 // 20 + 2


def test_looks_are_a_fraction_of_the_shortest_timeout_apart() -> None:
    timeouts = AckTimeouts()
    assert timeouts.pause == 0
    timeouts.watch("day", 86_400_000)
    assert timeouts.pause == 60_000
    timeouts.watch("slow", 1000)
    assert timeouts.pause == 200
    timeouts.watch("at once", 1)
    assert timeouts.pause == 1
