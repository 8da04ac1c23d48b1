from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.routing import message

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import Message
from dispatchd.model.deduplication import Deduplication, make_deduplication
from dispatchd.model.queue_rules import check_deduplication_arguments, check_queue_arguments

HEADER = "x-deduplication-header"


def deduplication(**arguments: Any) -> Deduplication:
    """With these arguments, `_` for `-` and without "x-"."""
    made = make_deduplication(
        {"x-message-deduplication": True} | {f"x-{name.replace('_', '-')}": arguments[name] for name in arguments}
    )
    assert made is not None
    return made


def marked(value: Any, **headers: Any) -> Message:
    return message("k", {HEADER: value} | {f"x-{name.replace('_', '-')}": headers[name] for name in headers})


def takes(compared: Deduplication, one: Message, now: int = 0) -> bool:
    return compared.new_ones([one], now) == [one]


@pytest.mark.parametrize("arguments", [{}, {"x-cache-size": 1}, {"x-message-deduplication": False}])
def test_who_does_not_ask_for_it_has_none(arguments: dict[str, Any]) -> None:
    assert make_deduplication(arguments) is None


def test_what_came_before_is_dropped_and_counted() -> None:
    compared = deduplication()
    batch = [marked(value) for value in ("a", "b", "a", "c")]
    assert compared.new_ones(batch, 0) == [batch[0], batch[1], batch[3]]
    assert compared.new_ones([marked("c"), marked("b")], 10**15) == []
    assert compared.dropped == 3


@pytest.mark.parametrize(
    "value",
    [
        "a",
        "",
        b"\0",
        0,
        -1,
        2**40,
        1.5,
        True,
        False,
        datetime(2020, 1, 1, tzinfo=UTC),
        Decimal("1.5"),
        [1, "a"],
        {"a": [1]},
    ],
)
def test_any_value_is_compared(value: Any) -> None:
    compared = deduplication()
    assert takes(compared, marked(value))
    assert not takes(compared, marked(value))


def test_values_of_other_types_are_others() -> None:
    compared = deduplication()
    for value in ("1", 1, True, [1], ["1"], {"1": 1}, None):
        assert takes(compared, marked(value))
    assert not takes(compared, marked(1.0))


@pytest.mark.parametrize(
    "one",
    [
        message("k"),
        message("k", {}),
        message("k", {"other": HEADER}),
        marked(None),
        Message("", "k", b"", b"\0\x3c\0\0 no header but " + HEADER.encode()),
        Message("", "k", b"", HEADER.encode()),
    ],
)
def test_a_message_without_a_value_is_always_new(one: Message) -> None:
    compared = deduplication()
    assert compared.new_ones([one, one], 0) == [one, one]
    compared.remember(one, 0)
    compared.forget([one])
    assert not compared.is_duplicate(one, 0)
    assert (len(compared), compared.dropped) == (0, 0)


def test_another_header_is_compared() -> None:
    compared = deduplication(deduplication_header="id")
    assert takes(compared, message("k", {"id": 1}))
    assert not takes(compared, message("k", {"id": 1, HEADER: 2}))
    assert takes(compared, marked(1))
    assert takes(compared, marked(1))


def test_the_oldest_makes_room() -> None:
    compared = deduplication(cache_size=2)
    assert [takes(compared, marked(value)) for value in "abac"] == [True, True, False, True]
    assert not takes(compared, marked("b"))
    assert takes(compared, marked("a"))
    assert len(compared) == 2


def test_it_holds_128_if_not_told_otherwise() -> None:
    compared = deduplication()
    compared.new_ones([marked(number) for number in range(129)], 0)
    assert len(compared) == 128
    assert not takes(compared, marked(1))
    assert takes(compared, marked(0))


def test_without_room_nothing_is_a_duplicate() -> None:
    compared = deduplication(cache_size=0)
    assert takes(compared, marked("a"))
    assert takes(compared, marked("a"))


@pytest.mark.parametrize(
    ("ttl", "own", "lives"),
    [(10, None, 10), (None, 10, 10), (10, 20, 20), (20, 10, 10), (10, 0, 0), (0, None, 0)]
    + [(10, wrong, 10) for wrong in (-1, "5", 1.5, True)],
)
def test_a_value_is_forgotten_when_its_time_is_over(ttl: int | None, own: Any, lives: int) -> None:
    compared = deduplication() if ttl is None else deduplication(cache_ttl=ttl)
    one = marked("a") if own is None else marked("a", cache_ttl=own)
    assert takes(compared, one, 100)
    if lives:
        assert not takes(compared, marked("a"), 100 + lives - 1)
    assert takes(compared, marked("a"), 100 + lives)


def test_a_duplicate_does_not_lengthen_the_time() -> None:
    compared = deduplication(cache_ttl=10)
    assert [takes(compared, marked("a"), now) for now in (0, 9, 10)] == [True, False, True]


def test_who_comes_anew_is_the_youngest_again() -> None:
    compared = deduplication(cache_size=2)
    assert takes(compared, marked("a", cache_ttl=1), 0)
    assert takes(compared, marked("b"), 0)
    assert takes(compared, marked("a"), 1)
    assert takes(compared, marked("c"), 1)
    assert not takes(compared, marked("a"), 1)
    assert takes(compared, marked("b"), 1)


def test_what_was_not_taken_may_come_again() -> None:
    compared = deduplication()
    compared.new_ones([marked("a"), marked("b")], 0)
    compared.forget([marked("a")])
    assert [takes(compared, marked(value)) for value in "ab"] == [True, False]
    assert not compared.is_duplicate(marked("c"), 0)
    assert takes(compared, marked("c"))


@pytest.mark.parametrize("size", [0, 1, 3, 10])
def test_the_last_of_those_from_before_a_restart_are_recalled(size: int) -> None:
    compared = deduplication(cache_size=size)
    compared.recall([marked(value) for value in "aabcd"], 0)
    assert compared.dropped == 0
    assert [value for value in "abcd" if compared.is_duplicate(marked(value), 0)] == list("abcd")[-size:] * bool(size)


@given(
    size=st.integers(0, 5),
    ttl=st.integers(0, 20),
    batches=st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 7))), max_size=20),
)
def test_it_does_as_a_plain_list_would_however_they_come(
    size: int, ttl: int, batches: list[tuple[int, list[int]]]
) -> None:
    together = deduplication(cache_size=size, cache_ttl=ttl)
    one_by_one = deduplication(cache_size=size, cache_ttl=ttl)
    seen: list[tuple[int, int]] = []  # value, when it came
    now = dropped = 0
    for pause, values in batches:
        now += pause
        expected = []
        for value in values:
            if any(other == value and now < came + ttl for other, came in seen):
                dropped += 1
                continue
            seen = [(other, came) for other, came in seen if other != value] + [(value, now)]
            seen = seen[max(len(seen) - size, 0) :]
            expected.append(value)
        messages = [marked(value) for value in values]
        taken = together.new_ones(messages, now)
        assert taken == [one for one in messages if takes(one_by_one, one, now)]
        assert [values[messages.index(one)] for one in taken] == expected
        assert len(together) == len(one_by_one) == len(seen)
    assert together.dropped == one_by_one.dropped == dropped


BAD_ARGUMENTS: list[tuple[str, Any, str]] = [
    ("x-message-deduplication", "true", "{unacceptable_type,longstr}"),
    ("x-message-deduplication", 1, "{unacceptable_type,signedint}"),
    ("x-cache-size", -1, "{value_negative,-1}"),
    ("x-cache-size", "1", '"expected integer, got longstr"'),
    ("x-cache-ttl", -1, "{value_negative,-1}"),
    ("x-cache-ttl", 1.5, '"expected integer, got double"'),
    ("x-deduplication-header", 1, "{unacceptable_type,signedint}"),
]


@pytest.mark.parametrize(("name", "value", "problem"), BAD_ARGUMENTS)
def test_arguments_are_checked(name: str, value: Any, problem: str) -> None:
    for check in (check_queue_arguments, check_deduplication_arguments):
        with pytest.raises(PreconditionFailed) as refused:
            check("e 'x' in vhost '/'", {name: value})
        assert refused.value.text == f"PRECONDITION_FAILED - invalid arg '{name}' for e 'x' in vhost '/': {problem}"


def test_arguments_that_are_accepted() -> None:
    arguments = {"x-message-deduplication": False, "x-cache-size": 0, "x-cache-ttl": 0, "x-deduplication-header": ""}
    check_queue_arguments("queue", arguments)
    check_deduplication_arguments("exchange", arguments)
