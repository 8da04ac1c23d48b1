from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.routing import message

from dispatchd.amqp.field_table import Long, Timestamp
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties, decode_properties, encode_header
from dispatchd.model.copies import address_copies
from dispatchd.model.delays import LONGEST_MS, Delays, delay_of, postpone, resume
from dispatchd.model.entry import NEVER, STORED, QueueEntry


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        (1, 1),
        (Long(5000), 5000),
        (LONGEST_MS, LONGEST_MS),
        ("250", 250),
        ("+250", 250),
        ("0" * 5000 + "7", 7),
        (1.9, 1),
        (float(LONGEST_MS), LONGEST_MS),
    ],
)
def test_a_delay(value: Any, delay: int) -> None:
    assert delay_of(value) == delay


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, -5000, LONGEST_MS + 1, 2**63 - 1),
        *("", "x", "-5", "1.5", " 5", "5 ", "\u0661", "4294967296", "9" * 5000),
        *(0.9, -1.5, 1e300, float("inf"), float("nan")),
        *(None, True, b"5", Timestamp(5), Decimal(5), [5], {"x-delay": 5}),
    ],
)
def test_no_delay(value: Any) -> None:
    assert delay_of(value) == 0


def headers_of(one: Message) -> dict[str, Any] | None:
    return decode_properties(one.header).headers


@pytest.mark.parametrize(("value", "negated"), [(5000, -5000), ("5000", -5000), (2.7, -2), (LONGEST_MS, -LONGEST_MS)])
def test_a_postponed_message_has_its_delay_negated_and_all_else_as_it_was(value: Any, negated: int) -> None:
    properties = Properties(
        content_type="text/plain", headers={"a": [1, None], "x-delay": value, "z": {"b": "c"}}, delivery_mode=2
    )
    sent = make_message("x", "k", properties, b"body")
    sent.mandatory, sent.sequence, sent.queues = True, 7, 3
    header = sent.header
    postponed = postpone(sent)
    assert postponed is not None
    kept, delay = postponed
    assert delay == -negated
    assert sent.header is header
    changed = Properties(
        content_type="text/plain", headers={"a": [1, None], "x-delay": negated, "z": {"b": "c"}}, delivery_mode=2
    )
    assert kept.header == encode_header(4, changed)
    assert (kept.exchange, kept.routing_key, kept.address, kept.body) == ("x", "k", sent.address, b"body")
    assert (kept.persistent, kept.mandatory, kept.sequence, kept.queues) == (True, False, 7, 0)
    assert postpone(kept) is None
    assert resume(kept).sequence == 0


def without_a_delay() -> list[Message]:
    malformed = message("k", {"x-delay": 5})
    malformed.header = malformed.header.replace(b"I\0\0\0\5", b"?\0\0\0\5")
    no_headers = make_message("x", "k", Properties(app_id="x-delay"), b"")
    by_headers: list[dict[str, Any] | None] = [None, {}, {"x-delay": 0}, {"a": "x-delay"}]
    return [*(message("k", headers) for headers in by_headers), malformed, no_headers]


@pytest.mark.parametrize("sent", without_a_delay())
def test_what_is_not_postponed_is_not_touched(sent: Message) -> None:
    header = sent.header
    assert postpone(sent) is None
    assert sent.header is header


@pytest.mark.parametrize(
    ("copies", "keys", "shown"),
    [
        ({}, None, {}),
        ({"CC": ["a"]}, ["a"], {"CC": ["a"]}),
        ({"BCC": ["b"]}, ["b"], {}),
        ({"CC": ["a", 1], "BCC": ["b", "a"]}, ["a", "b"], {"CC": ["a", 1]}),
        ({"CC": []}, None, {"CC": []}),
    ],
)
def test_copies_go_to_the_same_keys_later(
    copies: dict[str, Any], keys: list[str] | None, shown: dict[str, Any]
) -> None:
    sent = message("k", {"x-delay": 5, **copies})
    address_copies(sent)
    postponed = postpone(sent)
    assert postponed is not None
    kept = postponed[0]
    for _ in range(2):
        resumed = resume(kept)
        assert resumed is not kept
        assert headers_of(resumed) == {"x-delay": -5, **shown}
        assert (resumed.copy_keys, resumed.visited) == (keys, None if keys is None else set())
        resumed.queues = 1


def delayed(body: bytes, delay: int) -> Message:
    return make_message("x", "", Properties(headers={"x-delay": delay}), body)


def bodies(entries: list[QueueEntry]) -> list[bytes]:
    return [entry.message.body for entry in entries]


def test_a_batch_is_split() -> None:
    delays = Delays([], 4)
    batch = [delayed(b"late", 20), delayed(b"now", 0), delayed(b"early", 10)]
    at_once, entries = delays.take_in(batch, 1000)
    assert at_once == [batch[1]]
    assert [(each.message.body, each.position, each.expires_at) for each in entries] == [
        (b"late", 5, 1020),
        (b"early", 6, 1010),
    ]
    assert [each.queues for each in batch] == [1, 0, 1]
    assert (len(delays), delays.next_due(), delays.last_position) == (2, 1010, 6)


def test_what_is_due_comes_in_order_and_at_most_so_many() -> None:
    delays = Delays([])
    delays.take_in([delayed(b"%d" % delay, delay) for delay in (3, 1, 2, 1)], 0)
    assert bodies(delays.take_due(0, 10)) == []
    assert bodies(delays.take_due(2, 2)) == [b"1", b"1"]
    assert bodies(delays.take_due(2, 2)) == [b"2"]
    assert delays.next_due() == 3
    assert bodies(delays.take_due(3, 2)) == [b"3"]
    assert (delays.next_due(), len(delays), delays.take_due(NEVER, 2)) == (NEVER, 0, [])


def test_if_one_message_fails_nothing_is_kept() -> None:
    delays = Delays([])
    broken: Any = None
    with pytest.raises((AttributeError, TypeError)):
        delays.take_in([delayed(b"a", 1), broken], 0)
    assert (len(delays), delays.last_position) == (0, 0)


def entry(position: int, due: int) -> QueueEntry:
    one = QueueEntry(message(), None, position)
    one.expires_at = due
    one.slot = STORED
    return one


def test_new_entries_go_behind_restored_ones_of_the_same_moment() -> None:
    restored = [entry(7, 5), entry(9, 5), entry(8, 4)]
    delays = Delays(restored)
    delays.take_in([delayed(b"", 5)], 0)
    assert [each.position for each in delays.take_due(5, 9)] == [8, 7, 9, 10]


@given(
    st.lists(
        st.lists(st.integers(0, 6), max_size=5).map(lambda values: ("in", values))
        | st.tuples(st.just("due"), st.tuples(st.integers(0, 4), st.integers(1, 3)))
        | st.just(("restart", None)),
        max_size=30,
    )
)
def test_it_is_a_list_that_is_sorted_by_time_and_then_by_arrival(steps: list[tuple[str, Any]]) -> None:
    delays = Delays([])
    model: list[tuple[int, int]] = []
    now = position = 0
    for step, argument in steps:
        if step == "in":
            at_once, entries = delays.take_in([delayed(b"", delay) for delay in argument], now)
            assert (len(at_once), len(entries)) == (argument.count(0), len(argument) - argument.count(0))
            for delay in filter(None, argument):
                position += 1
                model.append((now + delay, position))
        elif step == "due":
            now += argument[0]
            model.sort()
            expected = [each for each in model if each[0] <= now][: argument[1]]
            del model[: len(expected)]
            due = delays.take_due(now, argument[1])
            assert [(each.expires_at, each.position) for each in due] == expected
        else:
            delays = Delays(delays.entries(), delays.last_position)
        assert len(delays) == len(model)
        assert delays.next_due() == min(model, default=(NEVER, 0))[0]
        assert sorted((each.expires_at, each.position) for each in delays.entries()) == sorted(model)
