"""What queues with arguments do: expiry, length, priorities, and who is served."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.consuming import consumer

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.entry import NEVER, QueueEntry
from dispatchd.model.queue import DEAD_LETTER_LIMIT, DISPATCH_LIMIT, Queue
from dispatchd.model.queue_rules import QueueRules, check_queue_arguments


def queue(**arguments: Any) -> Queue:
    rules = QueueRules({f"x-{name.replace('_', '-')}": value for name, value in arguments.items()})
    return Queue("queue", True, 0, rules)


def message(body: bytes = b"", **properties: Any) -> Message:
    return make_message("", "q", Properties(**properties), body)


def bodies(entries: list[QueueEntry]) -> list[bytes]:
    return [entry.message.body for entry in entries]


@pytest.mark.parametrize(
    ("ttl", "expiration", "expected"),
    [
        (None, "+5", 105),
        (None, None, NEVER),
        (50, None, 150),
        (None, "20", 120),
        (50, "20", 120),
        (20, "50", 120),
        (0, None, 100),
    ],
)
def test_the_shorter_time_counts(ttl: int | None, expiration: str | None, expected: int) -> None:
    timed = queue() if ttl is None else queue(message_ttl=ttl)
    timed.enqueue([message(expiration=expiration)], 100)
    assert timed.next_expiry() == expected


def test_only_heads_expire() -> None:
    timed = queue()
    timed.enqueue([message(b"1", expiration="10"), message(b"2"), message(b"3", expiration="10")], 0)
    assert timed.drop_expired(9) == []
    assert bodies(timed.drop_expired(10)) == [b"1"]
    assert timed.next_expiry() == NEVER
    assert (len(timed), timed.ready_bytes) == (2, 2)


def test_what_expired_behind_another_is_delivered_to_nobody() -> None:
    timed = queue(dead_letter_exchange="")
    timed.enqueue([message(b"1"), message(b"2", expiration="10"), message(b"3")], 0)
    timed.add_consumer(consumer("one"))
    [(_, entries)] = timed.dispatch(10)
    assert bodies(entries) == [b"1", b"3"]
    assert bodies(timed.drop_expired(10)) == [b"2"]
    assert timed.drop_expired(10) == []
    assert (len(timed), timed.ready_bytes, timed.unacked) == (0, 0, 2)


def test_what_a_failed_queue_saw_expire_is_not_lost() -> None:
    old = queue(dead_letter_exchange="")
    old.enqueue([message(b"1", expiration="10")], 0)
    old.add_consumer(consumer("one"))
    assert old.dispatch(10) == []
    old.accepted_up_to = old.last_position
    assert bodies(old.rebuilt().drop_expired(10)) == [b"1"]


def test_one_call_drops_so_many() -> None:
    timed = queue(message_ttl=0)
    timed.enqueue([message() for _ in range(DISPATCH_LIMIT + 1)], 0)
    assert len(timed.drop_expired(0)) == DISPATCH_LIMIT
    assert len(timed.drop_expired(0)) == 1


def test_a_purge_begins_with_the_highest_priority() -> None:
    prior = queue(max_priority=2)
    for _ in range(2):
        prior.enqueue([message(b"low"), message(b"high", priority=2)], 0)
        assert bodies(prior.entries()) == [b"high", b"low"]
        assert bodies(prior.purge()[0].some(9)) == [b"high", b"low"]


def test_one_call_makes_so_many_dead_letters() -> None:
    timed = queue(dead_letter_exchange="")
    expired = [message(expiration="1") for _ in range(2 * DEAD_LETTER_LIMIT)]
    timed.enqueue([*expired, message(b"alive")], 0)
    timed.add_consumer(consumer("one"))
    for _ in range(2):
        assert timed.dispatch(1) == []
        assert timed.unfinished
        assert len(timed.drop_expired(1)) == DEAD_LETTER_LIMIT
    [(_, entries)] = timed.dispatch(1)
    assert bodies(entries) == [b"alive"]
    assert not timed.unfinished


@given(st.lists(st.integers(0, 5)), st.integers(0, 20) | st.none(), st.integers(0, 20) | st.none())
def test_the_oldest_go_until_the_rest_fits(sizes: list[int], length: int | None, octets: int | None) -> None:
    limits = {"max_length": length, "max_length_bytes": octets}
    limited = queue(**{name: limit for name, limit in limits.items() if limit is not None})
    limited.enqueue([message(b"x" * size) for size in sizes], 0)
    dropped = limited.drop_overflow(100)
    assert len(dropped) + len(limited) == len(sizes)
    assert length is None or len(limited) <= length
    assert octets is None or limited.ready_bytes <= octets
    assert limited.drop_overflow(100) == []
    if dropped:
        last = dropped[-1].message
        assert limited.is_full_for(last)


def test_not_more_than_so_many_go_at_once() -> None:
    limited = queue(max_length=1)
    limited.enqueue([message(b"%d" % number) for number in range(5)], 0)
    assert bodies(limited.drop_overflow(3)) == [b"0", b"1", b"2"]
    assert bodies(limited.drop_overflow(3)) == [b"3"]
    assert limited.drop_overflow(3) == []


def test_a_queue_that_refuses_new_messages_drops_none_unless_it_is_to() -> None:
    limited = queue(max_length=1, overflow="reject-publish")
    limited.enqueue([message(b"1"), message(b"2")], 0)
    assert limited.drop_overflow(100) == []
    assert bodies(limited.drop_overflow(100, even_if_rejecting=True)) == [b"1"]


@given(st.lists(st.integers(0, 9) | st.none()), st.integers(1, 5))
def test_priorities_go_first_and_equals_in_order(priorities: list[int | None], highest: int) -> None:
    prior = queue(max_priority=highest)
    prior.enqueue([message(b"%d" % number, priority=priority) for number, priority in enumerate(priorities)], 0)
    expected = sorted(range(len(priorities)), key=lambda number: -min(priorities[number] or 0, highest))
    taken = [prior.take() for _ in priorities]
    assert [int(entry.message.body) for entry in taken if entry is not None] == expected
    assert prior.delivered_up_to == len(priorities)


def test_what_was_delivered_ends_before_what_never_was() -> None:
    prior = queue(max_priority=1)
    prior.enqueue([message(b"low", priority=0), message(b"high", priority=1)], 0)
    assert bodies([entry for entry in [prior.take()] if entry is not None]) == [b"high"]
    assert prior.delivered_up_to == 0
    prior.take()
    assert prior.delivered_up_to == 2


def test_a_requeued_entry_is_in_the_line_of_its_priority() -> None:
    prior = queue(max_priority=1)
    prior.enqueue([message(b"low", priority=0), message(b"high", priority=1)], 0)
    high = prior.take()
    assert high is not None
    prior.requeue([high])
    assert bodies(prior.entries()) == [b"high", b"low"]


def test_what_came_back_stays_in_memory_when_the_actor_fails_since_its_mark_is_nowhere_else() -> None:
    old = queue(max_priority=1)
    old.enqueue([message(b"low", priority=0), message(b"low too", priority=0), message(b"high", priority=1)], 0)
    high = old.take()
    assert high is not None
    old.requeue([high])
    assert old.delivered_up_to == 0, "the low ones were never delivered"
    old.accepted_up_to = old.last_position
    assert old.rebuilt().lines[1].returned == [high]


def test_what_came_back_too_often_stays_away() -> None:
    limited = queue(delivery_limit=1)
    limited.enqueue([message(b"poison")], 0)
    for exhausted in (0, 1):
        entry = limited.take()
        assert entry is not None
        assert len(limited.requeue([entry])) == exhausted
    assert (len(limited), limited.ready_bytes, limited.unacked) == (0, 0, 0)


def test_what_nobody_saw_did_not_come_back() -> None:
    limited = queue(delivery_limit=0)
    limited.enqueue([message(b"fine")], 0)
    entry = limited.take()
    assert entry is not None
    limited.recall(None, [entry])
    assert (entry.redelivered, entry.returns, limited.delivered, len(limited)) == (False, 0, 0, 1)


def test_one_consumer_is_active() -> None:
    single = queue(single_active_consumer=True)
    first, second = consumer("first"), consumer("second")
    single.add_consumer(first)
    single.add_consumer(second)
    single.enqueue([message(b"1"), message(b"2")], 0)
    assert [(served.tag, bodies(entries)) for served, entries in single.dispatch()] == [("first", [b"1", b"2"])]
    single.remove_consumer(first)
    single.enqueue([message(b"3")], 0)
    assert [(served.tag, bodies(entries)) for served, entries in single.dispatch()] == [("second", [b"3"])]


def test_the_next_active_consumer_is_the_one_of_highest_priority() -> None:
    single = queue(single_active_consumer=True)
    first, low, high = consumer("first"), consumer("low"), consumer("high")
    high.priority = 5
    for each in (first, low, high):
        single.add_consumer(each)
    single.enqueue([message(b"1")], 0)
    assert [served.tag for served, _ in single.dispatch()] == ["first"]
    single.remove_consumer(first)
    single.enqueue([message(b"2")], 0)
    assert [served.tag for served, _ in single.dispatch()] == ["high"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"x-message-ttl": True}, "'x-message-ttl' for queue 'q': \"expected integer, got bool\""),
        ({"x-max-length": -1}, "'x-max-length' for queue 'q': {value_negative,-1}"),
        ({"x-dead-letter-exchange": 1}, "'x-dead-letter-exchange' for queue 'q': {unacceptable_type,signedint}"),
        ({"x-queue-mode": "quick"}, "'x-queue-mode' for queue 'q': \"unsupported queue mode 'quick'\""),
        ({"x-queue-type": "stream"}, "'x-queue-type' for queue 'q': \"unsupported queue type 'stream'\""),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_queue_arguments("queue 'q'", arguments)
    assert refused.value.text == f"PRECONDITION_FAILED - invalid arg {problem}"


def test_what_is_accepted() -> None:
    arguments = {"x-message-ttl": 0, "x-expires": 1, "x-overflow": "drop-head", "x-queue-mode": "lazy", "x-other": 1}
    check_queue_arguments("queue 'q'", arguments)
