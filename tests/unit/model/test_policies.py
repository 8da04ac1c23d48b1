from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.model.binding import EXCHANGE, QUEUE, Kind
from dispatchd.model.definitions import ExchangeDefinition, QueueDefinition
from dispatchd.model.policies import (
    LARGEST,
    NOT_OF_CLASSIC_QUEUES,
    SMALLER_COUNTS,
    UNGOVERNED,
    Governance,
    Policies,
    Policy,
    VhostPolicies,
    governed_arguments,
)

KINDS: dict[str, tuple[Kind, ...]] = {"all": (QUEUE, EXCHANGE), "queues": (QUEUE,), "exchanges": (EXCHANGE,)}

policies = st.builds(
    Policy,
    st.sampled_from("abcdef"),
    st.sampled_from(["", "^q", "x$", "q|x", "^qx$", "[^q]"]),
    st.sampled_from(list(KINDS)),
    st.integers(-2, 2) | st.floats(-2, 2),
    st.sampled_from([{"max-length": 1}, {"max-age": "1h"}, {"expires": 1}]),
)


def policy(name: str = "p", pattern: str = "^q", apply_to: str = "all", priority: float = 0, **settings: Any) -> Policy:
    definition = {key.replace("_", "-"): value for key, value in settings.items()}
    return Policy(name, pattern, apply_to, priority, definition or {"max-length": 1})


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("q", "aqa", True),
        ("^q", "aq", False),
        ("", "", True),
        (r"^a\.", "ab", False),
        ("Q", "q", False),
        ("^.{2}$", "ü", True),  # two octets, as in RabbitMQ
        ("[ö]ß", "größe", True),
    ],
)
def test_a_pattern_is_looked_for_anywhere_in_the_octets_of_a_name(pattern: str, name: str, matches: bool) -> None:
    assert policy(pattern=pattern).matches(QUEUE, name.encode()) is matches


@pytest.mark.parametrize("apply_to", KINDS)
def test_a_policy_is_for_the_kind_that_it_names(apply_to: str) -> None:
    one = policy(apply_to=apply_to)
    assert tuple(kind for kind in (QUEUE, EXCHANGE) if one.matches(kind, b"q")) == KINDS[apply_to]


@pytest.mark.parametrize("setting", sorted(NOT_OF_CLASSIC_QUEUES))
def test_a_policy_for_other_types_of_queues_governs_none_here(setting: str) -> None:
    one = Policy("p", "", "all", 0, {"max-length": 1, setting: "1h"})
    assert not one.matches(QUEUE, b"q")
    assert one.matches(EXCHANGE, b"q")


@given(st.lists(policies), st.sampled_from([QUEUE, EXCHANGE]), st.text("qx", max_size=3))
def test_the_highest_priority_governs_and_among_equals_the_first_name(
    given: list[Policy], kind: Kind, name: str
) -> None:
    known = Policies()
    for each in given:
        known.set(each)
    matching = [each for each in {each.name: each for each in given}.values() if each.matches(kind, name.encode())]
    best = min(matching, key=lambda each: (-each.priority, each.name), default=None)
    assert known.governing(kind, name.encode()) is best
    assert len(known) == len({each.name for each in given})


@given(st.lists(policies, min_size=1))
def test_a_policy_that_is_cleared_governs_nothing(given: list[Policy]) -> None:
    known = Policies()
    for each in given:
        known.set(each)
    cleared = known.clear(given[-1].name)
    assert cleared is given[-1]
    assert cleared not in known.in_order()
    assert known.get(cleared.name) is None
    assert known.clear(cleared.name) is None


def test_of_a_policy_and_an_operator_policy_the_smaller_number_counts() -> None:
    both = Governance(policy(max_length=5, message_ttl=1, overflow="drop-head"), policy("o", max_length=3, expires=7))
    assert both.definition == {"max-length": 3, "message-ttl": 1, "overflow": "drop-head", "expires": 7}
    assert both.to_row() == {
        "policy": "p",
        "operator_policy": "o",
        "effective_policy_definition": both.definition,
    }


def test_what_nothing_governs_says_so() -> None:
    assert UNGOVERNED.to_row() == {"policy": None, "operator_policy": None, "effective_policy_definition": {}}
    assert VhostPolicies().governing(QUEUE, "q") is UNGOVERNED


@given(st.lists(st.tuples(policies, st.booleans())), st.tuples(policies, st.booleans()), st.text("qx", max_size=3))
def test_governance_stays_the_same_as_long_as_the_policies_do(
    given: list[tuple[Policy, bool]], change: tuple[Policy, bool], name: str
) -> None:
    known = VhostPolicies()
    for each, is_operator in given:
        known.set(each, is_operator)
    before = known.governing(QUEUE, name)
    known.set(*change)
    after = known.governing(QUEUE, name)
    is_same = before.policy is after.policy and before.operator_policy is after.operator_policy
    assert (before is after) is is_same


NUMBERS = st.integers(0, 10) | st.none()


@given(st.sampled_from(sorted(SMALLER_COUNTS - {"max-in-memory-length", "max-in-memory-bytes"})), NUMBERS, NUMBERS)
def test_of_an_argument_and_a_policy_the_smaller_number_counts(
    key: str, declared: int | None, asked: int | None
) -> None:
    arguments = {} if declared is None else {f"x-{key}": declared}
    definition = {} if asked is None else {key: asked}
    said = [number for number in (declared, asked) if number is not None]
    assert governed_arguments(arguments, definition) == ({f"x-{key}": min(said)} if said else {})


@pytest.mark.parametrize("key", ["overflow", "queue-mode", "dead-letter-exchange", "dead-letter-routing-key"])
def test_a_word_of_the_queues_own_goes_before_a_policy(key: str) -> None:
    assert governed_arguments({}, {key: "asked"}) == {f"x-{key}": "asked"}
    assert governed_arguments({f"x-{key}": "own"}, {key: "asked"}) == {f"x-{key}": "own"}


def test_numbers_beyond_all_bounds_are_the_largest() -> None:
    assert governed_arguments({}, {"max-length": 10**40}) == {"x-max-length": LARGEST}


def test_what_a_policy_cannot_ask_of_a_queue_is_passed_over() -> None:
    definition = {"alternate-exchange": "a", "ha-mode": "all", "queue-version": 2, "max-in-memory-length": 1}
    assert governed_arguments({"x-max-priority": 3}, definition) == {"x-max-priority": 3}


def test_a_governed_queue_keeps_what_it_was_declared_with() -> None:
    queue = QueueDefinition("q", 1, arguments={"x-max-length": 5})
    queue.governance = Governance(policy(max_length=2, overflow="reject-publish"), None)
    assert queue.governed_arguments == {"x-max-length": 2, "x-overflow": "reject-publish"}
    assert queue.arguments == {"x-max-length": 5}


@pytest.mark.parametrize(
    ("name", "declared", "asked", "alternate"),
    [("x", None, None, ""), ("x", None, "a", "a"), ("x", "own", "a", "own"), ("x", "", "a", ""), ("", None, "a", "")],
)
def test_an_alternate_exchange_is_the_declared_one_or_else_the_policys(
    name: str, declared: str | None, asked: str | None, alternate: str
) -> None:
    arguments = {} if declared is None else {"alternate-exchange": declared}
    exchange = ExchangeDefinition(name, "direct", arguments=arguments)
    if asked is not None:
        exchange.governance = Governance(policy(alternate_exchange=asked), None)
    assert exchange.alternate_exchange == alternate
