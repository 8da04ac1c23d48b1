import pytest
from unit.model.consuming import consumer, message

from dispatchd.model.entry import QueueEntry
from dispatchd.model.flow import DELIVERY_OVERHEAD, ChannelWindow, Outlet


@pytest.mark.parametrize(
    ("prefetch", "no_ack", "limit", "active", "expected"),
    [
        (0, False, 0, True, True),
        (3, False, 0, True, True),
        (2, False, 0, True, False),
        (2, True, 0, True, True),
        (0, False, 3, True, True),
        (0, False, 2, True, False),
        (3, False, 2, True, False),
        (2, False, 3, True, False),
        (0, True, 2, True, True),
        (0, False, 0, False, False),
        (0, True, 0, False, False),
    ],
)
def test_room_after_two_deliveries(prefetch: int, no_ack: bool, limit: int, active: bool, expected: bool) -> None:
    window = ChannelWindow()
    receiver = consumer(prefetch=prefetch, no_ack=no_ack, window=window)
    for position in (1, 2):
        receiver.take(QueueEntry(message(), "queue", position))
    window.limit = limit
    window.active = active
    assert receiver.has_room() == expected
    assert window.starved == ((limit == 2 and prefetch != 2 and not no_ack) or not active)


def test_who_needs_no_ack_waits_for_those_of_its_channel_who_do() -> None:
    window = ChannelWindow()
    window.limit = 1
    receiver = consumer(no_ack=True, window=window)
    assert receiver.has_room()
    consumer(window=window).take(QueueEntry(message(), "queue", 1))
    assert not receiver.has_room()
    assert window.starved


def test_what_is_taken_counts_everywhere_until_it_is_given_back() -> None:
    window, outlet = ChannelWindow(), Outlet()
    receiver = consumer(window=window, outlet=outlet)
    entry = QueueEntry(message(b"four"), "queue", 1)
    receiver.take(entry)
    assert entry.consumer is receiver
    assert (receiver.unacked, receiver.delivered, window.unacked, window.reserved) == (1, 1, 1, DELIVERY_OVERHEAD + 4)
    receiver.give_back([entry])
    assert (window.unacked, window.reserved) == (0, 0)


def test_without_acks_only_the_socket_counts() -> None:
    window, outlet = ChannelWindow(), Outlet()
    receiver = consumer(no_ack=True, window=window, outlet=outlet)
    entry = QueueEntry(message(b"four"), "queue", 1)
    receiver.take(entry)
    assert entry.consumer is None
    assert (receiver.unacked, window.unacked, window.reserved) == (0, 0, DELIVERY_OVERHEAD + 4)
    receiver.give_back([entry])
    assert (window.unacked, window.reserved) == (0, 0)


def test_a_socket_has_room_while_what_waits_for_it_is_below_its_limit() -> None:
    outlet = Outlet(limit=10)
    outlet.unsent = 5
    assert outlet.has_room(4)
    assert not outlet.starved
    assert not outlet.has_room(5)
    assert outlet.starved
