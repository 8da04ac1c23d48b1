from collections import Counter

from unit.model.routing import bind, message, names, queue

from dispatchd.model.exchanges.random_choice import RandomTable
from dispatchd.model.exchanges.types import make_routing_table


def test_nothing_is_matched_while_nothing_is_bound() -> None:
    table = make_routing_table("x-random")
    assert table.match(message("k")) == []
    table.unbind(bind(table, queue("a")))
    assert table.match(message("k")) == []


def test_each_binding_is_drawn_by_its_number() -> None:
    drawn = iter([0.0, 0.33, 0.34, 0.67, 0.9999999999999999])
    table = RandomTable(lambda: next(drawn))
    for name in "abc":
        bind(table, queue(name), "ignored")
    assert [names(table.match(message("k"))) for _ in range(5)] == [["a"], ["a"], ["b"], ["c"], ["c"]]


def test_all_have_their_share_and_twice_bound_is_twice_drawn() -> None:
    table = make_routing_table("x-random")
    a, b = queue("a"), queue("b")
    bind(table, a, "1")
    twice = bind(table, b, "1")
    bind(table, b, "2")
    assert not table.by_key_only
    shares = Counter(names(table.match(message("k")))[0] for _ in range(6000))
    assert 1700 < shares["a"] < 2300
    assert shares["a"] + shares["b"] == 6000
    table.unbind(twice)
    shares = Counter(names(table.match(message("k")))[0] for _ in range(6000))
    assert 2700 < shares["a"] < 3300
