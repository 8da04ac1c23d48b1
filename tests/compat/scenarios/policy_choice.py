"""Which policy governs, and what counts of an argument, a policy and an operator policy."""

from __future__ import annotations

from compat.scenarios.policies import ALT, BURIED, DRAIN, FOUR, GRAVE, GRAVE_DRAIN, MORE, policy
from compat.script import ClearPolicy, Exchange, Get, Publish, Queue, SetPolicy, Until, scenario

SCENARIOS = [
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
    *(
        scenario(
            f"{name} of {declared}, {asked} and {limit}",
            *([SetPolicy("p", "^q", {name: asked})] if asked is not None else []),
            *([SetPolicy("o", "^q", {name: limit}, by_operator=True)] if limit is not None else []),
            Queue("q", arguments={f"x-{name}": declared} if declared is not None else {}),
            *FOUR,
            *DRAIN,
        )
        for name in ("max-length", "max-length-bytes")
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
        SetPolicy("o", "^q", {"max-length": 2}, by_operator=True),
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
        SetPolicy("o", "^q", {"max-length": 1}, by_operator=True),
        *FOUR[:3],
        *GRAVE_DRAIN,
    ),
]
