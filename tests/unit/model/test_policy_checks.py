"""Texts are RabbitMQ 3.10's: tests/compat/scenarios/policy_requests.py compares them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.policies import Policy
from dispatchd.model.policy_checks import make_policy, policy_from_record

SETTINGS: dict[str, list[Any]] = {
    "alternate-exchange": ["", "a"],
    "consumer-timeout": [0, 1000],
    "dead-letter-exchange": ["", "a"],
    "dead-letter-routing-key": ["k" * 255],
    "dead-letter-strategy": ["at-most-once", "at-least-once"],
    "delivery-limit": [0, 2**40],
    "expires": [1],
    "initial-cluster-size": [3],
    "max-age": ["1Y", "010s"],
    "max-in-memory-bytes": [0],
    "max-in-memory-length": [0],
    "max-length": [0, 10**30],
    "max-length-bytes": [0],
    "message-ttl": [0],
    "overflow": ["drop-head", "reject-publish", "reject-publish-dlx"],
    "queue-leader-locator": ["client-local", "balanced"],
    "queue-master-locator": ["min-masters", "client-local", "random"],
    "queue-mode": ["default", "lazy"],
    "queue-version": [1, 2],
    "stream-max-segment-size-bytes": [3_000_000_000],
}
OF_OPERATORS = {
    "delivery-limit",
    "expires",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "max-length",
    "max-length-bytes",
    "message-ttl",
}


def made(definition: Any, *, is_operator: bool = False, **fields: Any) -> Policy:
    given = {"pattern": "^q", "apply_to": "all", "priority": 0, **fields}
    return make_policy("p", is_operator, given["pattern"], given["apply_to"], given["priority"], definition)


def problem(definition: Any, **fields: Any) -> str:
    with pytest.raises(PreconditionFailed) as refused:
        made(definition, **fields)
    text = refused.value.text
    assert text.startswith("PRECONDITION_FAILED - Validation failed\n\n")
    return text.partition("\n\n")[2].removesuffix("\n")


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SETTINGS.items() for value in values])
def test_settings_that_are_known(key: str, value: Any) -> None:
    assert made({key: value}).definition == {key: value}
    if key in OF_OPERATORS:
        assert made({key: value}, is_operator=True).definition == {key: value}
    else:
        unknown = problem({key: value}, is_operator=True)
        assert unknown.startswith(f'[{{<<"{key}">>,')
        assert unknown.endswith("}] are not recognised policy settings")


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "queue-master-locator"])
@pytest.mark.parametrize("value", [-1, True, None, [], {"a": 1}, "\0", 1.5])
def test_settings_with_a_value_that_is_none(key: str, value: Any) -> None:
    if key.endswith(("exchange", "routing-key")) and value == "\0":
        assert made({key: value}).definition == {key: value}
    else:
        assert " is not a valid " in problem({key: value})


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ({"foo": "bar"}, '[{<<"foo">>,<<"bar">>}] are not recognised policy settings'),
        ({"b": 1, "a": [1.5]}, '[{<<"a">>,[1.5]},{<<"b">>,1}] are not recognised policy settings'),
        ({"foo": 1, "max-length": 1}, '[{<<"foo">>,1}] are not recognised policy settings'),
        ({"foo": 1, "max-length": "x"}, '<<"x">> is not a valid maximum length'),
        (
            {"dead-letter-routing-key": "ü" * 128},
            f'<<"{"ü" * 128}">> is not a valid dead letter routing key',
        ),
        ({"max-length": -1, "expires": 0}, "0 is not a valid queue expiry"),
        ({"max-length": -1, "queue-master-locator": "x"}, '<<"x">> invalid queue-master-locator value'),
        ({"max-length": -1, "ha-mode": "x"}, "-1 is not a valid maximum length"),
        ({}, "no policy provided"),
        ([1], "definition must be a dictionary: [1]"),
        ({"ha-params": 1}, "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown"),
        ({"ha-mode": "x"}, '<<"x">> is not a valid ha-mode value'),
        ({"ha-mode": "all", "ha-params": 2}, 'ha-mode="all" does not take parameters'),
        ({"ha-mode": "exactly"}, 'ha-mode="exactly" takes an integer, none given'),
        ({"ha-mode": "nodes", "ha-params": {}}, 'ha-mode="nodes" takes a list, #{} given'),
        ({"ha-mode": "nodes", "ha-params": []}, 'ha-mode="nodes" list must be non-empty'),
        ({"ha-mode": "nodes", "ha-params": ["a", 1]}, 'ha-mode="nodes" takes a list of strings, [1] was not a string'),
        ({"ha-mode": "all", "ha-sync-mode": 1}, 'ha-sync-mode must be "manual" or "automatic", got 1'),
        ({"ha-mode": "all", "ha-sync-batch-size": 0}, "ha-sync-batch-size takes an integer greater than 0, 0 given"),
        (
            {"ha-mode": "all", "ha-promote-on-failure": "x"},
            'ha-promote-on-failure must be "always" or "when-synced", got <<"x">>',
        ),
    ],
)
def test_definitions_that_make_no_sense(definition: Any, text: str) -> None:
    assert problem(definition) == text


@pytest.mark.parametrize(
    "definition",
    [
        {"ha-mode": "all", "ha-sync-mode": "automatic"},
        {"ha-mode": "exactly", "ha-params": 2, "ha-sync-batch-size": 1, "ha-promote-on-failure": "always"},
        {"ha-mode": "nodes", "ha-params": ["a"], "ha-promote-on-shutdown": "when-synced", "max-length": 1},
    ],
)
def test_mirroring_is_accepted(definition: dict[str, Any]) -> None:
    assert made(definition).definition == definition


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"priority": "1"}, 'priority should be a number, actually was <<"1">>'),
        ({"priority": True}, "priority should be a number, actually was true"),
        ({"priority": None}, "priority should be a number, actually was null"),
        ({"priority": float("nan")}, "priority should be a number, actually was nan"),
        ({"apply_to": "x"}, "apply-to 'x' unrecognised; should be 'queues', 'exchanges' or 'all'"),
        ({"apply_to": None}, "apply-to 'null' unrecognised; should be 'queues', 'exchanges' or 'all'"),
        ({"pattern": 1}, "pattern should be a binary but was 1"),
        (
            {"pattern": "[", "apply_to": 1, "priority": "x"},
            """apply-to '1' unrecognised; should be 'queues', 'exchanges' or 'all'
pattern should be regular expression but is invalid: {"missing terminating ] for character class",1}
priority should be a number, actually was <<"x">>""",
        ),
    ],
)
def test_fields_that_make_no_sense(fields: dict[str, Any], text: str) -> None:
    assert problem({"max-length": 1}, **fields) == text


@pytest.mark.parametrize(
    ("pattern", "problem_of_it"),
    [
        ("(a", '{"missing )",2}'),
        ("a)", '{"unmatched parentheses",1}'),
        ("*", '{"nothing to repeat",0}'),
        ("ü\\", '{"\\\\ at end of pattern",3}'),
        ("(?<!dead)$", '{"invalid perl operator: (?<!",0}'),
        ("a(?=b)", '{"invalid perl operator: (?=",0}'),
        (r"(a)\1", r'{"invalid escape sequence: \\1",0}'),
        ("a" * 1001, '{"it has 1001 octets, expected at most 1000",0}'),
        ("(" * 1001, '{"it has 1001 octets, expected at most 1000",0}'),
        ("((a{100}){100}){100}", '{"invalid repetition size: {100}",0}'),
    ],
)
def test_patterns_that_are_none_or_could_take_for_ever(pattern: str, problem_of_it: str) -> None:
    found = problem({"max-length": 1}, pattern=pattern)
    assert found == f"pattern should be regular expression but is invalid: {problem_of_it}"


@pytest.mark.parametrize("pattern", ["^(?!amq\\.).*", "[[:alpha:]]+", r"\Qa.b\E", "(?i)Q", "[[a]", ""])
def test_patterns_that_rabbitmqs_users_write(pattern: str) -> None:
    assert made({"max-length": 1}, pattern=pattern).pattern == pattern


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
definitions = st.dictionaries(st.sampled_from([*SETTINGS, "ha-mode", "ha-params", "foo"]), anything) | anything


@given(st.booleans(), anything, anything, anything, definitions)
def test_whatever_comes_is_a_policy_or_refused(
    is_operator: bool, pattern: Any, apply_to: Any, priority: Any, definition: Any
) -> None:
    with suppress(PreconditionFailed):
        make_policy("p", is_operator, pattern, apply_to, priority, definition).matches("queue", b"q")


valid = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in SETTINGS.items()})


@given(st.text(), valid.filter(bool), st.sampled_from(["all", "queues", "exchanges"]), st.integers() | st.just(1.5))
def test_policies_come_back_from_their_records(name: str, definition: Any, apply_to: str, priority: float) -> None:
    policy = make_policy(name, False, "^q", apply_to, priority, definition)
    record = json.loads(json.dumps(policy.to_record()))
    assert policy_from_record(record, is_operator=False).to_record() == policy.to_record()
