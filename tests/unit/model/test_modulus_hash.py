from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from unit.model.routing import bind, message, names, queue

from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.exchanges.types import make_routing_table

KEYS = [f"key {number}" for number in range(1000)]


def hash_table(*queues: str) -> RoutingTable:
    table = make_routing_table("x-modulus-hash")
    for name in queues:
        bind(table, queue(name), "ignored")
    return table


def taken(table: RoutingTable) -> list[str]:
    """Who takes each key."""
    return [names(table.match(message(key)))[0] for key in KEYS]


def test_nothing_is_matched_while_nothing_is_bound() -> None:
    table = hash_table()
    assert table.match(message("k")) == []
    binding = bind(table, queue("a"))
    assert names(table.match(message("k"))) == ["a"]
    table.unbind(binding)
    assert table.match(message("k")) == []


def test_the_keys_are_spread_and_equal_ones_stay_together() -> None:
    table = hash_table("a", "b", "c")
    first = taken(table)
    assert first == taken(table)
    assert all(250 < share < 420 for share in Counter(first).values())


def test_the_order_of_binding_does_not_matter() -> None:
    assert len({tuple(taken(hash_table(*order))) for order in permutations("abc")}) == 1


def test_each_binding_counts() -> None:
    table = hash_table("a")
    twice = queue("b")
    bind(table, twice, "1")
    bind(table, twice, "2")
    shares = Counter(taken(table))
    assert 580 < shares["b"] < 750


@given(st.lists(st.text(max_size=3), max_size=3))
def test_the_keys_of_copies_are_hashed_with_the_own_one(copies: list[str]) -> None:
    table = hash_table(*"abcdefgh")
    assert not table.by_key_only
    one, other = message("k"), message("k")
    for each in (one, other):
        each.copy_to(copies)
    assert table.match(one) == table.match(other)
    assert len(table.match(one)) == 1


def test_other_copies_may_go_elsewhere() -> None:
    table = hash_table(*"abcdefgh")
    found = set()
    for key in KEYS[:100]:
        one = message("same")
        one.copy_to([key])
        found.update(names(table.match(one)))
    assert found == set("abcdefgh")
