"""Policies and operator policies: what they ask of queues and exchanges, at once and later, and which of them do."""

from __future__ import annotations

from typing import Any

from compat.script import (
    Ack,
    Bind,
    ClearPolicy,
    Confirm,
    Consume,
    DeleteExchange,
    Exchange,
    Get,
    Nack,
    Publish,
    Queue,
    Scenario,
    SetPolicy,
    ShowPolicies,
    Step,
    Until,
    Wait,
    scenario,
)

FOUR = tuple(Publish("", "q", body) for body in "1234")
MORE = tuple(Publish("", "q", body) for body in "567")
DRAIN = tuple([Get("q", no_ack=True, on=9)] * 5)
GRAVE = Queue("grave")
GRAVE_DRAIN = tuple([Get("grave", no_ack=True, on=9)] * 3)
BURIED = {"dead-letter-exchange": "", "dead-letter-routing-key": "grave"}
ALT = (Exchange("alt", "fanout"), Queue("q"), Bind("q", "alt"))


def policy(name: str = "p", pattern: Any = "^q", **settings: Any) -> SetPolicy:
    return SetPolicy(name, pattern, named(settings))


def operator_policy(name: str = "o", pattern: Any = "^q", **settings: Any) -> SetPolicy:
    return SetPolicy(name, pattern, named(settings), by_operator=True)


def named(settings: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in settings.items()}


def bad(name: str, *settings: dict[str, Any], by_operator: bool = False) -> Scenario:
    """Each of these is refused, and changes nothing."""
    steps: list[Step] = [SetPolicy("p", "^q", each, by_operator=by_operator) for each in settings]
    return scenario(name, *steps, ShowPolicies(by_operator=by_operator))


APPLIED = [
    scenario("max-length drops the head at once", Queue("q"), *FOUR, policy(max_length=2), *MORE, *DRAIN),
    scenario("max-length-bytes drops the head at once", Queue("q"), *FOUR, policy(max_length_bytes=2), *MORE, *DRAIN),
    scenario("a queue made afterwards has it too", policy(max_length=2), Queue("q"), *FOUR, *DRAIN),
    scenario("what is dropped is buried", GRAVE, Queue("q"), *FOUR, policy(max_length=2, **BURIED), *GRAVE_DRAIN),
    scenario(
        "what was to be buried elsewhere is buried here",
        GRAVE,
        Queue("q", arguments={"x-dead-letter-exchange": "nowhere"}),
        *FOUR,
        policy(max_length=2, **BURIED),
        *GRAVE_DRAIN,
    ),
    scenario(
        "who is rejected later is buried",
        GRAVE,
        Queue("q"),
        *FOUR[:2],
        *[Get("q")] * 2,
        Nack(1, requeue=False),
        policy(**BURIED),
        Nack(2, requeue=False),
        *GRAVE_DRAIN,
    ),
    scenario(
        "a key for the buried without an exchange",
        GRAVE,
        Queue("q"),
        *FOUR,
        policy(max_length=2, dead_letter_routing_key="grave"),
        *GRAVE_DRAIN,
        *DRAIN,
    ),
    scenario(
        "a key for those that the queue's argument buries",
        GRAVE,
        Queue("q", arguments={"x-dead-letter-exchange": ""}),
        policy(dead_letter_routing_key="grave", max_length=1),
        *FOUR[:3],
        *GRAVE_DRAIN,
    ),
    scenario(
        "message-ttl is for what comes later",
        Queue("q"),
        *FOUR[:2],
        policy(message_ttl=30),
        Publish("", "q", "3"),
        Wait(0.15),
        *DRAIN,
    ),
    scenario(
        "message-ttl of who is behind one that stays",
        Queue("q"),
        *FOUR[:1],
        policy(message_ttl=30),
        *FOUR[1:],
        Wait(0.15),
        Queue("q", passive=True),
        Get("q", no_ack=True),
        Until("q", 0),
    ),
    scenario(
        "message-ttl stays with what came under it",
        Queue("q"),
        policy(message_ttl=50),
        *FOUR[:2],
        ClearPolicy("p"),
        Publish("", "q", "3"),
        Until("q", 1),
        *DRAIN,
    ),
    scenario("message-ttl of zero", Queue("q"), *FOUR[:1], policy(message_ttl=0), *FOUR[1:], *DRAIN),
    scenario(
        "message-ttl and the message's own",
        Queue("q"),
        policy(message_ttl=30),
        Publish("", "q", "1", {"expiration": "60000"}),
        Until("q", 0),
    ),
    scenario("expires", Queue("q"), policy(expires=80), Wait(0.4), Queue("q", passive=True)),
    scenario(
        "expires shortened",
        Queue("q", arguments={"x-expires": 60000}),
        policy(expires=80),
        Wait(0.4),
        *FOUR[:1],
        Queue("q", passive=True),
    ),
    scenario(
        "expires of a queue with a consumer",
        Queue("q"),
        Consume("q"),
        policy(expires=80),
        Wait(0.3),
        Queue("q", passive=True),
    ),
    scenario("expires cleared", Queue("q"), policy(expires=150), ClearPolicy("p"), Wait(0.4), Queue("q", passive=True)),
    scenario(
        "overflow refuses from now on",
        Queue("q", arguments={"x-max-length": 4}),
        *FOUR,
        policy(overflow="reject-publish"),
        Confirm(),
        *MORE,
        *DRAIN,
    ),
    scenario(
        "overflow with a length that was longer: the oldest go once more",
        Queue("q"),
        *FOUR,
        policy(max_length=2, overflow="reject-publish"),
        Confirm(),
        *MORE,
        *DRAIN,
    ),
    scenario(
        "overflow with a length that is shorter still: nothing goes",
        Queue("q"),
        policy(max_length=3, overflow="reject-publish"),
        *FOUR,
        policy(max_length=1, overflow="reject-publish"),
        Queue("q", passive=True),
        ClearPolicy("p"),
        Queue("q", passive=True),
        *DRAIN,
    ),
    scenario(
        "overflow drops the head again",
        Queue("q"),
        policy(max_length=3, overflow="reject-publish"),
        *FOUR,
        policy(max_length=1),
        *MORE,
        *DRAIN,
    ),
    scenario(
        "overflow refuses and buries",
        GRAVE,
        Queue("q"),
        policy(max_length=1, overflow="reject-publish-dlx", **BURIED),
        Confirm(),
        *FOUR[:3],
        *GRAVE_DRAIN,
        *DRAIN,
    ),
    scenario("a longer one", Queue("q"), policy(max_length=1), *FOUR, policy(max_length=3), *MORE, *DRAIN),
    scenario("cleared", Queue("q"), policy(max_length=1), *FOUR, ClearPolicy("p"), *MORE, *DRAIN),
    scenario(
        "what is out does not count, until it comes back",
        Queue("q"),
        *FOUR,
        *[Get("q")] * 2,
        policy(max_length=2),
        Queue("q", passive=True),
        Nack(2, multiple=True),
        *DRAIN,
    ),
    scenario(
        "consumers keep what they have",
        Queue("q"),
        Consume("q"),
        *FOUR,
        policy(max_length=0),
        Publish("", "q", "5"),
        Ack(5, multiple=True),
    ),
    scenario("an exclusive queue", policy(max_length=2), Queue("q", exclusive=True), *FOUR, *DRAIN),
    scenario(
        "a queue that the server names",
        policy(pattern=r"^amq\.gen-", max_length=0),
        Queue(""),
        Bind("", "amq.fanout"),
        Publish("amq.fanout", "", "1"),
        Get(""),
    ),
    scenario(
        "a queue is declared again as it was",
        Queue("q", arguments={"x-max-length": 3}),
        policy(max_length=2, message_ttl=60000),
        Queue("q", arguments={"x-max-length": 3}),
        Queue("q", arguments={"x-max-length": 2}, on=2),
        Queue("q", arguments={"x-max-length": 3, "x-message-ttl": 70000}, on=3),
    ),
    scenario(
        "settings without an effect here",
        Queue("q"),
        policy(queue_mode="lazy", queue_version=1, max_in_memory_length=1, max_in_memory_bytes=1, ha_mode="all"),
        *FOUR,
        *DRAIN,
    ),
]

CHOSEN = [
    scenario(
        "the highest priority governs",
        SetPolicy("low", "^q", {"max-length": 1}, priority=-1),
        SetPolicy("high", "^q", {"max-length": 3}, priority=7),
        SetPolicy("middle", "^q", {"max-length": 2}, priority=3),
        Queue("q"),
        *FOUR,
        ClearPolicy("high"),
        Queue("q", passive=True),
        ClearPolicy("middle"),
        *DRAIN,
    ),
    scenario(
        "only one governs",
        SetPolicy("a", "^q", {"max-length": 1}, priority=1),
        SetPolicy("b", "^q", {"overflow": "reject-publish"}, priority=2),
        Queue("q"),
        *FOUR,
        *DRAIN,
    ),
    scenario(
        "a priority that is changed",
        SetPolicy("a", "^q", {"max-length": 1}, priority=1),
        SetPolicy("b", "^q", {"max-length": 3}, priority=2),
        Queue("q"),
        *FOUR,
        SetPolicy("a", "^q", {"max-length": 1}, priority=2.5),
        *DRAIN,
    ),
    scenario(
        "a policy for streams governs no queue",
        SetPolicy("a", "^q", {"max-length": 1}, priority=1),
        SetPolicy("b", "^q", {"max-length": 3, "max-age": "1h"}, priority=2),
        Queue("q"),
        *FOUR,
        *DRAIN,
    ),
    scenario(
        "for exchanges alone",
        SetPolicy("a", "^q", {"max-length": 1}, priority=1),
        SetPolicy("b", "^q", {"max-length": 3}, priority=2, apply_to="exchanges"),
        Queue("q"),
        *FOUR,
        *DRAIN,
    ),
    scenario(
        "for queues alone",
        *ALT,
        Exchange("x"),
        SetPolicy("a", "^x", {"alternate-exchange": "alt"}, apply_to="queues"),
        Publish("x", "k", "1", mandatory=True),
        SetPolicy("a", "^x", {"alternate-exchange": "alt"}, apply_to="all"),
        Publish("x", "k", "2", mandatory=True),
        *DRAIN,
    ),
    scenario("for another name", policy(pattern="^other", max_length=1), Queue("q"), *FOUR, *DRAIN),
    scenario("for names with other cases", policy(pattern="^Q", max_length=1), Queue("q"), *FOUR, *DRAIN),
    *(
        scenario(
            f"the pattern {pattern!r}",
            policy(pattern=pattern, max_length=1),
            Queue("q.größe"),
            *(Publish("", "q.größe", body) for body in "12"),
            Get("q.größe", no_ack=True),
        )
        for pattern in (
            "gr",
            r"^q\.\w+$",
            r"\..{7}$",
            r"\..{5}$",
            "[ö]ß",
            "^(?!amq|compat)",
            "(?i)GR",
            "e$|^x",
            "ß.$",
            r"\Aq\b",
        )
    ),
    scenario(
        "a pattern that is changed",
        policy(max_length=1),
        Queue("q"),
        policy(pattern="^r", max_length=1),
        *FOUR,
        policy(pattern="q", max_length=3),
        *DRAIN,
    ),
]

MERGED = [
    *(
        scenario(
            f"{name} of {declared}, {asked} and {limit}",
            *([policy(**{name: asked})] if asked is not None else []),
            *([operator_policy(**{name: limit})] if limit is not None else []),
            Queue("q", arguments={f"x-{name}".replace("_", "-"): declared} if declared is not None else {}),
            *FOUR,
            *DRAIN,
        )
        for name in ("max_length", "max_length_bytes")
        for declared, asked, limit in [(1, 3, None), (3, 1, None), (3, 2, 1), (1, 2, 3), (None, 1, 2), (3, None, 2)]
    ),
    scenario(
        "an overflow of the queue's own goes before",
        Queue("q", arguments={"x-overflow": "reject-publish"}),
        policy(overflow="drop-head", max_length=2),
        *FOUR,
        *DRAIN,
    ),
    scenario(
        "a dead letter exchange of the queue's own goes before",
        GRAVE,
        Queue("q", arguments={"x-dead-letter-exchange": "nowhere", "x-max-length": 1}),
        policy(**BURIED),
        *FOUR,
        *GRAVE_DRAIN,
    ),
    scenario(
        "a time to live of the queue's own",
        Queue("q", arguments={"x-message-ttl": 60000}),
        policy(message_ttl=30),
        Publish("", "q", "1"),
        Until("q", 0),
    ),
    scenario(
        "an operator policy beside none",
        Queue("q"),
        *FOUR,
        operator_policy(max_length=2),
        *MORE,
        ClearPolicy("o", by_operator=True),
        *FOUR[:1],
        *DRAIN,
    ),
    scenario(
        "an operator policy takes nothing from a policy",
        GRAVE,
        Queue("q"),
        policy(**BURIED),
        operator_policy(max_length=1),
        *FOUR[:3],
        *GRAVE_DRAIN,
    ),
]

ALTERNATE = [
    scenario(
        "an alternate exchange comes and goes",
        *ALT,
        Exchange("x"),
        Publish("x", "k", "1", mandatory=True),
        policy(pattern="^x$", alternate_exchange="alt"),
        Publish("x", "k", "2", mandatory=True),
        ClearPolicy("p"),
        Publish("x", "k", "3", mandatory=True),
        *DRAIN,
    ),
    scenario(
        "an alternate exchange of an exchange made afterwards",
        *ALT,
        policy(pattern="^x$", alternate_exchange="alt"),
        Exchange("x"),
        Publish("x", "k", "1", mandatory=True),
        *DRAIN,
    ),
    scenario(
        "an alternate exchange of the exchange's own goes before",
        *ALT,
        Exchange("x", arguments={"alternate-exchange": "alt"}),
        policy(pattern="^x$", alternate_exchange="nowhere"),
        Publish("x", "k", "1", mandatory=True),
        *DRAIN,
    ),
    scenario(
        "an exchange is declared again as it was",
        Exchange("x"),
        policy(pattern="^x$", alternate_exchange="alt"),
        Exchange("x"),
        Exchange("x", arguments={"alternate-exchange": "alt"}),
    ),
    scenario(
        "an alternate exchange that is not there, then is, then goes",
        Exchange("x"),
        policy(pattern="^x$", alternate_exchange="alt"),
        Publish("x", "k", "1", mandatory=True),
        *ALT,
        Publish("x", "k", "2", mandatory=True),
        DeleteExchange("alt"),
        Publish("x", "k", "3", mandatory=True),
        *DRAIN,
    ),
    scenario(
        "an alternate exchange of a predeclared one",
        *ALT,
        policy(pattern=r"^amq\.topic", alternate_exchange="alt"),
        Publish("amq.topic", "k", "1", mandatory=True),
        *DRAIN,
    ),
    scenario(
        "the default exchange has no alternate",
        *ALT,
        policy(pattern="^$", alternate_exchange="alt"),
        Publish("", "nobody", "1", mandatory=True),
        Get("q"),
    ),
]

ASKED = [
    scenario(
        "set, changed, shown and cleared",
        policy(max_length=1),
        policy(max_length=1),
        policy(max_length=2),
        SetPolicy("other", ".*x", {"alternate-exchange": "a"}, priority=-2, apply_to="exchanges"),
        operator_policy(max_length=1),
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
        *(
            {key: value}
            for key in (
                "max-length",
                "max-length-bytes",
                "message-ttl",
                "expires",
                "max-in-memory-length",
                "max-in-memory-bytes",
                "delivery-limit",
                "initial-cluster-size",
                "stream-max-segment-size-bytes",
            )
            for value in (-1, "1", 1.5, None, True)
        ),
        {"expires": 0},
        {"stream-max-segment-size-bytes": 3000000001},
    ),
    bad(
        "texts that are none",
        *(
            {key: value}
            for key in ("alternate-exchange", "dead-letter-exchange", "dead-letter-routing-key")
            for value in (1, [], {"a": 1})
        ),
    ),
    bad(
        "words that are not known",
        *(
            {key: value}
            for key in (
                "overflow",
                "queue-mode",
                "queue-version",
                "dead-letter-strategy",
                "queue-leader-locator",
                "queue-master-locator",
            )
            for value in ("x", 3)
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

SCENARIOS = [*APPLIED, *CHOSEN, *MERGED, *ALTERNATE, *ASKED]
