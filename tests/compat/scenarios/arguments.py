"""Arguments of queues and consumers: which are refused, and which make a queue another one."""

from typing import Any

from compat.script import Consume, Exchange, Queue, scenario

REFUSED: tuple[dict[str, Any], ...] = (
    {"x-message-ttl": -1},
    {"x-message-ttl": "a"},
    {"x-expires": 0},
    {"x-expires": -1},
    {"x-expires": "a"},
    {"x-max-length": -1},
    {"x-max-length": "a"},
    {"x-max-length-bytes": -1},
    {"x-max-priority": -1},
    {"x-max-priority": 256},
    {"x-max-priority": "a"},
    {"x-overflow": "odd"},
    {"x-queue-mode": "odd"},
    {"x-dead-letter-routing-key": "k"},
    {"x-single-active-consumer": "a"},
    {"x-queue-type": "odd"},
)
SMALL: tuple[dict[str, Any], ...] = (
    {"x-message-ttl": 0},
    {"x-max-length": 0},
    {"x-max-length-bytes": 1},
    {"x-max-priority": 0},
    {"x-max-priority": 255},
)
"""Texts about these name a type of integer that depends on the size that they were sent in."""

ACCEPTED: tuple[dict[str, Any], ...] = (
    {"x-message-ttl": 100_000},
    {"x-expires": 100_000},
    {"x-max-length": 100_000},
    {"x-overflow": "reject-publish"},
    {"x-queue-mode": "lazy"},
    {"x-dead-letter-exchange": "not-there"},
    {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "k"},
    {"x-single-active-consumer": True},
    {"x-queue-type": "classic"},
)

SCENARIOS = [
    *(scenario(f"refused: {each}", Queue("q", arguments=each), Queue("q", passive=True)) for each in REFUSED),
    *(
        scenario(f"accepted: {each}", Queue("q", arguments=each), Queue("q", arguments=each), Queue("q"))
        for each in ACCEPTED
    ),
    *(scenario(f"accepted: {each}", *[Queue("q", arguments=each)] * 2) for each in SMALL),
    *(scenario(f"later: {each}", Queue("q"), Queue("q", arguments=each)) for each in ACCEPTED),
    scenario("another value", Queue("q", arguments={"x-max-length": 1}), Queue("q", arguments={"x-max-length": 2})),
    scenario(
        "another text",
        Queue("q", arguments={"x-overflow": "drop-head"}),
        Queue("q", arguments={"x-overflow": "reject-publish"}),
    ),
    *(
        scenario(f"of a consumer: {each}", Queue("q"), Consume("q", arguments=each))
        for each in (
            {"x-priority": "a"},
            {"x-priority": 5},
            {"x-priority": -5},
            {"x-stream-offset": "first"},
            {"x-any": "a"},
        )
    ),
    scenario(
        "of an exchange", Exchange("e", arguments={"x-any": 1, "b": [1, 2]}), Exchange("e", arguments={"x-any": 1})
    ),
]
