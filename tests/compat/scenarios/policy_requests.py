"""What the API says to operators: statuses, rows, and what is wrong with a policy."""

from __future__ import annotations

from typing import Any

from compat.scenarios.policies import DRAIN, FOUR, policy
from compat.script import ClearPolicy, Queue, Scenario, SetPolicy, ShowPolicies, Step, scenario


def bad(name: str, *definitions: dict[str, Any], by_operator: bool = False) -> Scenario:
    """Each of these is refused, and changes nothing."""
    steps: list[Step] = [SetPolicy("p", "^q", definition, by_operator=by_operator) for definition in definitions]
    return scenario(name, *steps, ShowPolicies(by_operator=by_operator))


def each(keys: str, *values: Any) -> list[dict[str, Any]]:
    """A definition for each of the keys with each of the values."""
    return [{key: value} for key in keys.split() for value in values]


SCENARIOS = [
    scenario(
        "set, changed, shown and cleared",
        policy(max_length=1),
        policy(max_length=1),
        policy(max_length=2),
        SetPolicy("other", ".*x", {"alternate-exchange": "a"}, priority=-2, apply_to="exchanges"),
        SetPolicy("o", "^q", {"max-length": 1}, by_operator=True),
        ShowPolicies(),
        ShowPolicies(by_operator=True),
        ClearPolicy("p"),
        ClearPolicy("p"),
        ClearPolicy("o", by_operator=True),
        ClearPolicy("o", by_operator=True),
        ShowPolicies(),
        ShowPolicies(by_operator=True),
    ),
    scenario("names with all kinds of characters", policy(name="a/b ü%", max_length=1), ShowPolicies()),
    bad(
        "unknown settings",
        {"foo": "bar"},
        {"b": 1, "a": [True, None, 1.5, "x"]},
        {"foo": {"a": '"b\\'}},
        {"ä": [65]},
        {"max-priority": 5},
        {"日": ""},
        {"foo": 1, "max-length": 1},
    ),
    bad("no settings", {}),
    bad(
        "numbers that are none",
        *each(
            "max-length max-length-bytes message-ttl expires max-in-memory-length "
            "max-in-memory-bytes delivery-limit initial-cluster-size stream-max-segment-size-bytes",
            -1,
            "1",
            1.5,
            None,
            True,
        ),
        {"expires": 0},
        {"stream-max-segment-size-bytes": 3000000001},
    ),
    bad(
        "texts that are none",
        *each(
            "alternate-exchange dead-letter-exchange dead-letter-routing-key",
            1,
            [],
            {"a": 1},
        ),
    ),
    bad(
        "words that are not known",
        *each(
            "overflow queue-mode queue-version dead-letter-strategy queue-leader-locator queue-master-locator",
            "x",
            3,
        ),
        {"max-age": "1x"},
    ),
    bad(
        "mirroring",
        {"ha-mode": "x"},
        {"ha-mode": "exactly"},
        {"ha-mode": "exactly", "ha-params": 0},
        {"ha-mode": "all", "ha-params": 1},
        {"ha-mode": "nodes", "ha-params": []},
        {"ha-mode": "nodes", "ha-params": "x"},
        {"ha-mode": "nodes", "ha-params": ["a", 1]},
        {"ha-sync-mode": "manual"},
        {"ha-mode": "all", "ha-sync-mode": "x"},
        {"ha-mode": "all", "ha-sync-batch-size": 0},
        {"ha-mode": "all", "ha-promote-on-shutdown": "x"},
        {"ha-mode": "all", "ha-promote-on-failure": "x"},
    ),
    bad(
        "several mistakes",
        {"max-length": -1, "expires": -1},
        {"ha-mode": "x", "max-length": -1, "foo": 1},
        {"max-length": -1, "queue-master-locator": "x"},
        {"ha-mode": "x", "foo": 1},
    ),
    bad(
        "of an operator",
        {"overflow": "drop-head"},
        {"dead-letter-exchange": "x", "max-length": 1},
        {"foo": 1},
        {},
        {"max-length": "x", "ha-mode": "all"},
        by_operator=True,
    ),
    scenario(
        "patterns that are none",
        *(policy(pattern=pattern, max_length=1) for pattern in ("[", "(", "*", ")", "a\\", 1, None)),
        ShowPolicies(),
    ),
    scenario(
        "other fields that are none",
        SetPolicy("p", "^q", {"max-length": 1}, priority="x"),
        SetPolicy("p", "^q", {"max-length": 1}, priority=[]),
        SetPolicy("p", "^q", {"max-length": 1}, apply_to="x"),
        SetPolicy("p", "^q", {"max-length": 1}, apply_to="classic_queues"),
        SetPolicy("p", "[", {"foo": 1}, apply_to="x", priority="x"),
        ShowPolicies(),
    ),
    scenario(
        "one that is refused leaves the old one",
        policy(max_length=2),
        Queue("q"),
        policy(max_length=-1),
        *FOUR,
        *DRAIN,
    ),
]
