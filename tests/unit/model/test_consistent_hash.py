from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.model.routing import bind, message, names, queue

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.binding import Binding, Destination
from dispatchd.model.exchanges.consistent_hash import ConsistentHashTable, check_hash_arguments, check_weight, jump
from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.exchanges.types import make_routing_table

KEYS = [f"key {number}" for number in range(2000)]


def hash_table(**arguments: Any) -> RoutingTable:
    return make_routing_table("x-consistent-hash", {name.replace("_", "-", 1): arguments[name] for name in arguments})


def taken(table: RoutingTable) -> dict[str, str]:
    """Who takes each key."""
    return {key: names(table.match(message(key)))[0] for key in KEYS}


def test_nothing_is_matched_while_nothing_is_bound() -> None:
    table = hash_table()
    assert table.match(message("k")) == []
    table.unbind(bind(table, queue("a"), "1"))
    assert table.match(message("k")) == []


def test_each_destination_takes_its_share() -> None:
    table = hash_table()
    for name, weight in (("a", "1"), ("b", "+2"), ("c", "05")):
        bind(table, queue(name), weight)
    shares = Counter(taken(table).values())
    for name, eighths in (("a", 1), ("b", 2), ("c", 5)):
        assert shares[name] == pytest.approx(len(KEYS) * eighths / 8, rel=0.2)


def test_no_weight_is_too_large() -> None:
    table = hash_table()
    bind(table, queue("a"), "9" * 255)
    bind(table, queue("b"), "1" + "0" * 255)
    assert set(taken(table).values()) == {"a", "b"}


@settings(max_examples=20)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.integers(1, 3))
def test_a_new_destination_only_takes_from_the_others_and_gives_it_back(weights: list[int], weight: int) -> None:
    table = hash_table()
    for number, each in enumerate(weights):
        bind(table, queue(str(number)), str(each))
    before = taken(table)
    binding = bind(table, queue("new"), str(weight))
    after = taken(table)
    assert {after[key] for key in KEYS if after[key] != before[key]} == {"new"}
    table.unbind(binding)
    assert taken(table) == before


def test_the_first_binding_of_a_destination_counts() -> None:
    table = hash_table()
    a, b = queue("a"), queue("b")
    first = bind(table, a, "1")
    bind(table, b, "1")
    before = taken(table)
    bind(table, a, "1000000")
    assert taken(table) == before
    table.unbind(first)
    assert set(taken(table).values()) == {"a"}


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 3)), max_size=20))
def test_each_change_leaves_what_all_bindings_together_make(steps: list[tuple[bool, int, int]]) -> None:
    table = hash_table()
    queues = [queue(str(number)) for number in range(4)]
    for add, number, weight in steps:
        binding = Binding("x", queues[number], str(weight), {})
        (table.bind if add else table.unbind)(binding)
        anew = hash_table()
        for each in table.bindings():
            anew.bind(each)
        for key in KEYS[:20]:
            assert table.match(message(key)) == anew.match(message(key))


@given(st.integers(0, 2**64 - 1), st.integers(1, 1000))
def test_a_jump_ends_in_the_same_bucket_or_the_new_one(seed: int, buckets: int) -> None:
    bucket = jump(seed, buckets)
    assert 0 <= bucket < buckets
    assert jump(seed, buckets + 1) in (bucket, buckets)


def pair(**arguments: Any) -> RoutingTable:
    table = hash_table(**arguments)
    for name in "abcdefgh":
        bind(table, queue(name), "1")
    return table


def spread(table: RoutingTable, messages: list[Message]) -> set[Destination]:
    return {destination for each in messages for destination in table.match(each)}


@pytest.mark.parametrize(
    "values", [range(50), [str(number) for number in range(50)], [[number, None] for number in range(50)]]
)
def test_a_header_is_hashed(values: Any) -> None:
    table = pair(hash_header="h")
    assert len(spread(table, [message("same", {"h": value}) for value in values])) > 4
    assert len(spread(table, [message(str(value), {"h": values[7]}) for value in values])) == 1


@pytest.mark.parametrize("name", ["correlation_id", "message_id", "timestamp"])
def test_a_property_is_hashed(name: str) -> None:
    table = pair(hash_property=name)
    values: list[Any] = list(range(50)) if name == "timestamp" else [str(number) for number in range(50)]

    def sent(routing_key: str, value: Any) -> Message:
        return make_message("x", routing_key, Properties(**{name: value}), b"")

    assert len(spread(table, [sent("same", value) for value in values])) > 4
    assert len(spread(table, [sent(str(value), values[7]) for value in values])) == 1


@pytest.mark.parametrize("arguments", [{"hash_header": "h"}, {"hash_property": "message_id"}])
def test_messages_without_what_is_hashed_are_alike(arguments: dict[str, str]) -> None:
    table = pair(**arguments)
    without = [message(key, headers) for key in KEYS[:50] for headers in (None, {}, {"other": key})]
    malformed = Message("x", "", b"", b"\0\x3c\0\0 not a header")
    assert len(spread(table, [*without, malformed])) == 1


def test_only_the_own_key_counts() -> None:
    assert not ConsistentHashTable({}).by_key_only


@pytest.mark.parametrize("arguments", [{}, {"hash-header": "h"}, {"hash-property": "timestamp"}, {"other": 1}])
def test_arguments_that_are_accepted(arguments: dict[str, Any]) -> None:
    check_hash_arguments("exchange 'x' in vhost '/'", arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"hash-property": "app_id"}, "Unsupported property: app_id"),
        ({"hash-header": "h", "hash-property": "?"}, "hash-header and hash-property are mutually exclusive"),
        ({"hash-header": 1}, "invalid type 'signedint' for arg 'hash-header' in exchange 'x' in vhost '/'"),
        ({"hash-property": []}, "invalid type 'array' for arg 'hash-property' in exchange 'x' in vhost '/'"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_hash_arguments("exchange 'x' in vhost '/'", arguments)
    assert refused.value.text == f"PRECONDITION_FAILED - {text}"


@pytest.mark.parametrize("weight", ["1", "+1", "01", "9" * 255])
def test_weights(weight: str) -> None:
    check_weight(weight)


@pytest.mark.parametrize(
    ("weight", "text"),
    [
        ("", "be an integer: <<>>"),
        ("x", 'be an integer: <<"x">>'),
        ("1.5", 'be an integer: <<"1.5">>'),
        ("1\n", 'be an integer: <<"1\\n">>'),
        ("1_0", 'be an integer: <<"1_0">>'),
        ("0", "be greater than 0"),
        ("-1", "be greater than 0"),
    ],
)
def test_what_is_no_weight_is_refused_with_the_plugins_text(weight: str, text: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_weight(weight)
    assert refused.value.text == f"PRECONDITION_FAILED - The binding key must {text}"
