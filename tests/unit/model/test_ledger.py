from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from unit.model.consuming import bodies, consumer, message

from dispatchd.amqp.frame_parser import HIGHEST_TAG
from dispatchd.model.entry import QueueEntry
from dispatchd.model.flow import ChannelWindow, Outlet
from dispatchd.model.ledger import ALL_KNOWN, DeliveryLedger, acknowledgement

ack = partial(acknowledgement, multiple=False)
up_to = partial(acknowledgement, multiple=True)


def new_ledger() -> DeliveryLedger:
    return DeliveryLedger(channel=3, frame_max=4096, window=ChannelWindow())


def deliver(ledger: DeliveryLedger, *delivered: tuple[str, bytes], no_ack: bool = False) -> list[QueueEntry]:
    """What the consumer of a queue does with entries, and the channel after it."""
    entries = []
    receiver = consumer(window=ledger.window, no_ack=no_ack)
    for position, (queue, body) in enumerate(delivered, 1):
        entry = QueueEntry(message(body), queue, position)
        receiver.take(entry)
        entries.append(entry)
    ledger.encode_deliveries(receiver, entries)
    return entries


def settled(ledger: DeliveryLedger, *acks: int) -> tuple[dict[str, list[bytes]], int]:
    groups, unknown = ledger.settle(list(acks))
    return {queue: bodies(entries) for queue, entries in groups}, unknown


def frames(data: bytes) -> list[Any]:
    found = []
    while data:
        size, channel, value = frame.unmarshal(data)
        assert channel == 3
        found.append(value)
        data = data[size:]
    return found


FOUR = ("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4")


def test_deliveries_are_numbered_from_one_and_keep_what_was_published() -> None:
    ledger, outlet = new_ledger(), Outlet()
    receiver = consumer("mine", window=ledger.window, outlet=outlet)
    first, second = QueueEntry(message(b"1"), "a", 1), QueueEntry(message(b"2" * 5000), "a", 2)
    second.redelivered = True
    for entry in (first, second):
        receiver.take(entry)
    sent = frames(b"".join(ledger.encode_deliveries(receiver, [first, second])))
    assert [type(one).__name__ for one in sent] == [
        *("Deliver", "ContentHeader", "ContentBody"),
        *("Deliver", "ContentHeader", "ContentBody", "ContentBody"),
    ]
    assert [
        (one.consumer_tag, one.delivery_tag, one.redelivered, one.exchange, one.routing_key)
        for one in sent
        if isinstance(one, commands.Basic.Deliver)
    ] == [("mine", 1, False, "x", "key"), ("mine", 2, True, "x", "key")]
    assert ledger.window.reserved == 0
    assert ledger.window.unacked == 2


def test_a_get_is_numbered_with_the_deliveries() -> None:
    ledger = new_ledger()
    deliver(ledger, ("a", b"1"))
    get_ok = frames(b"".join(ledger.encode_get_ok(QueueEntry(message(b"2"), "a", 2), 7, False)))[0]
    assert (get_ok.delivery_tag, get_ok.message_count) == (2, 7)
    assert ledger.window.unacked == 1
    ledger.encode_get_ok(QueueEntry(message(b"3"), "a", 3), 6, True)
    assert (ledger.last_tag, ledger.window.unacked) == (3, 1)
    assert settled(ledger, up_to(0)) == ({"a": [b"1", b"2"]}, ALL_KNOWN)
    assert ledger.window.unacked == 0


@pytest.mark.parametrize(
    ("acks", "expected", "unknown"),
    [
        ([ack(3)], {"a": [b"3"]}, ALL_KNOWN),
        ([ack(1), ack(2)], {"a": [b"1"], "b": [b"2"]}, ALL_KNOWN),
        ([ack(3), ack(1)], {"a": [b"3", b"1"]}, ALL_KNOWN),
        ([up_to(3)], {"a": [b"1", b"3"], "b": [b"2"]}, ALL_KNOWN),
        ([ack(2), up_to(3), ack(4)], {"b": [b"2", b"4"], "a": [b"1", b"3"]}, ALL_KNOWN),
        ([up_to(0)], {"a": [b"1", b"3"], "b": [b"2", b"4"]}, ALL_KNOWN),
        ([up_to(0), up_to(0)], {"a": [b"1", b"3"], "b": [b"2", b"4"]}, ALL_KNOWN),
        ([up_to(99)], {}, 99),
        ([ack(3), up_to(3)], {"a": [b"3"]}, 3),
        ([ack(0)], {}, 0),
        ([ack(5)], {}, 5),
        ([ack(1), ack(1), ack(2)], {"a": [b"1"]}, 1),
        ([up_to(2), up_to(2)], {"a": [b"1"], "b": [b"2"]}, 2),
        ([up_to(2), ack(1)], {"a": [b"1"], "b": [b"2"]}, 1),
        ([ack(HIGHEST_TAG)], {}, HIGHEST_TAG),
        ([ack(2**64 - 1)], {}, HIGHEST_TAG),
        ([up_to(2**64 - 1)], {}, HIGHEST_TAG),
    ],
)
def test_acks(acks: list[int], expected: dict[str, list[bytes]], unknown: int) -> None:
    ledger = new_ledger()
    deliver(ledger, *FOUR)
    assert settled(ledger, *acks) == (expected, unknown)
    left = 4 - sum(map(len, expected.values()))
    assert (len(ledger.unacked), ledger.window.unacked) == (left, left)


def test_everything_comes_back_in_the_order_of_its_delivery() -> None:
    ledger = new_ledger()
    deliver(ledger, *FOUR)
    assert [(queue, bodies(entries)) for queue, entries in ledger.take_all()] == [
        ("a", [b"1", b"3"]),
        ("b", [b"2", b"4"]),
    ]
    assert ledger.take_all() == []
    assert ledger.window.unacked == 0


def test_what_needs_no_ack_has_a_tag_but_is_not_kept() -> None:
    ledger = new_ledger()
    deliver(ledger, ("a", b"1"), no_ack=True)
    deliver(ledger, ("a", b"2"))
    assert settled(ledger, ack(1)) == ({}, 1)
    assert settled(ledger, ack(2)) == ({"a": [b"2"]}, ALL_KNOWN)
    assert ledger.window.unacked == 0


def test_what_is_set_aside_is_out_of_reach_and_keeps_its_room() -> None:
    ledger = new_ledger()
    deliver(ledger, *FOUR)
    assert ledger.set_aside(up_to(3)) == [ack(1), ack(2), ack(3)]
    assert ledger.set_aside(up_to(0)) == [ack(4)]
    assert ledger.set_aside(up_to(0)) == []
    assert (ledger.take_all(), ledger.window.unacked) == ([], 4)
    for known in (1, 4):
        with pytest.raises(KeyError, match=str(known)):
            ledger.set_aside(ack(known))


def test_what_was_set_aside_comes_back_in_its_order() -> None:
    ledger = new_ledger()
    deliver(ledger, *FOUR)
    assert ledger.set_aside(ack(3)) == [ack(3)]
    assert ledger.set_aside(ack(1)) == [ack(1)]
    ledger.restore()
    assert list(ledger.unacked) == [1, 2, 3, 4]
    assert settled(ledger, ack(3), up_to(2)) == ({"a": [b"3", b"1"], "b": [b"2"]}, ALL_KNOWN)
    assert ledger.window.unacked == 1


deliveries = st.lists(st.sampled_from("abc"), max_size=4).map(lambda queues: ("deliver", queues))
acks = st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4).map(lambda acks: ("ack", acks))


@settings(max_examples=200)
@given(st.lists(deliveries | acks, max_size=12))
@example([("deliver", ["a"]), ("ack", [(0, True), (0, True), (0, False)])])
def test_any_acks_in_any_order(steps: list[tuple[str, list[Any]]]) -> None:
    ledger = new_ledger()
    out: dict[int, QueueEntry] = {}
    for step, values in steps:
        if step == "deliver":
            first = ledger.last_tag + 1
            out.update(enumerate(deliver(ledger, *((queue, b"") for queue in values)), first))
            continue
        expected: dict[str, list[int]] = {}
        expected_unknown = ALL_KNOWN
        for tag, multiple in values:
            if tag not in out and (tag, multiple) != (0, True):
                expected_unknown = tag
                break
            for known in [known for known in out if known <= tag or tag == 0] if multiple else [tag]:
                entry = out.pop(known)
                expected.setdefault(entry.queue, []).append(id(entry))
        groups, unknown = ledger.settle([acknowledgement(*one) for one in values])
        assert {queue: [id(entry) for entry in entries] for queue, entries in groups} == expected
        assert unknown == expected_unknown
        assert list(ledger.unacked) == list(out)
        assert ledger.window.unacked == len(out)
