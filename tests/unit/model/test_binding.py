from decimal import Decimal

import pytest

from dispatchd.amqp.field_table import Timestamp
from dispatchd.model.binding import Binding, Destination, canonical

Q = Destination("queue", "q")


def test_bindings_with_the_same_ends_key_and_arguments_are_the_same() -> None:
    first = Binding("x", Q, "k", {"a": 1, "b": {"c": [1, "2"]}})
    second = Binding("x", Destination("queue", "q"), "k", {"b": {"c": [1, "2"]}, "a": 1})
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    "other",
    [
        Binding("y", Q, "k", {}),
        Binding("x", Destination("exchange", "q"), "k", {}),
        Binding("x", Destination("queue", "r"), "k", {}),
        Binding("x", Q, "l", {}),
        Binding("x", Q, "k", {"a": 1}),
    ],
    ids=repr,
)
def test_bindings_that_differ_anywhere_differ(other: Binding) -> None:
    assert Binding("x", Q, "k", {}) != other


def test_destinations_are_compared_by_identity() -> None:
    assert Destination("queue", "q") != Destination("queue", "q")


@pytest.mark.parametrize(
    ("one", "another"),
    [(1, True), (1, 1.0), ("a", b"a"), (5, Timestamp(5)), (Decimal("1.0"), Decimal("1.00")), ([], {}), (None, "None")],
)
def test_equal_looking_values_of_different_types_differ(one: object, another: object) -> None:
    assert canonical(one) != canonical(another)


def test_the_properties_key_is_the_quoted_routing_key() -> None:
    assert Binding("x", Q, "", {}).properties_key == "~"
    assert Binding("x", Q, "a.b", {}).properties_key == "a.b"
    assert Binding("x", Q, "a b~/#", {}).properties_key == "a+b%7E%2F%23"


def test_the_properties_key_tells_arguments_apart() -> None:
    keys = {Binding("x", Q, "k", arguments).properties_key for arguments in ({"n": 1}, {"n": 2}, {"n": True})}
    assert len(keys) == 3
    assert all(key.startswith("k~") and key.count("~") == 1 for key in keys)
    assert Binding("x", Q, "", {"n": 1}).properties_key.startswith("~")
