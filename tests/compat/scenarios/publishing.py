"""Publishing: what becomes of a message on its way, what comes back, and basic.get."""

from datetime import UTC, datetime
from typing import Any

from compat.script import Bind, Confirm, Exchange, Get, Publish, Queue, Scenario, scenario

EVERY_PROPERTY: dict[str, Any] = {
    "content_type": "text/plain",
    "content_encoding": "utf-8",
    "headers": {"list": [1, "a", {"b": True}], "float": 1.5, "nothing": None, "big": 2**40, "octets": bytearray(b"\1")},
    "delivery_mode": 2,
    "priority": 9,
    "correlation_id": "c",
    "reply_to": "r",
    "expiration": "60000",
    "message_id": "m",
    "timestamp": datetime(2020, 1, 1, tzinfo=UTC),
    "message_type": "t",
    "user_id": "guest",
    "app_id": "a",
}


def kept(name: str, body: str = "1", **properties: Any) -> Scenario:
    """A message comes out of a queue as it went in, and comes back so if it is mandatory."""
    return scenario(
        name,
        Queue("q"),
        Publish("", "q", body, properties),
        Publish("", "nowhere", body, properties, mandatory=True),
        Get("q"),
    )


SCENARIOS = [
    kept("every property", **EVERY_PROPERTY),
    kept("no property"),
    kept("empty body", ""),
    kept("body of several frames", "x" * 300_000),
    kept("body of exactly one frame", "x" * (131072 - 8)),
    kept("empty headers", headers={}),
    kept("odd delivery mode", delivery_mode=3),
    kept("user id of another", user_id="other"),
    kept("nested headers", headers={"a": {"b": {"c": [1, [2, [3]]]}}}),
    kept("headers that only look special", headers={"x-death": "no", "x-delay": "no", "CC-": 1}),
    kept("text of many languages", "ключ ☃ 😀", message_id="ключ ☃ 😀"),
    kept("timestamp zero", timestamp=datetime(1970, 1, 1, tzinfo=UTC)),
    kept("priority 255", priority=255),
    scenario("no such exchange", Publish("missing", "k"), Publish("missing", "k", mandatory=True)),
    scenario("no such exchange, confirmed", Confirm(), Publish("missing", "k"), Confirm(), Publish("", "q")),
    scenario("immediate", Queue("q"), Publish("", "q", "1", immediate=True), Get("q")),
    scenario("immediate and mandatory", Publish("", "q", "1", immediate=True, mandatory=True)),
    scenario("nowhere to go", Publish("", "q", "1"), Publish("amq.fanout", "", "1"), Queue("q")),
    scenario("mandatory returns", *(Publish(f"amq.{kind}", "k", kind, mandatory=True) for kind in ("direct", "topic"))),
    scenario(
        "mandatory is content with one queue",
        Queue("q"),
        Bind("q", "amq.fanout"),
        Publish("amq.fanout", "k", "1", mandatory=True),
        Get("q"),
    ),
    scenario(
        "keys of the default exchange are names",
        Queue("q.*"),
        Publish("", "q.*", "1"),
        Publish("", "q.x", "2"),
        Get("q.*"),
    ),
    scenario(
        "a long key", Exchange("e", "topic"), Queue("q"), Bind("q", "e", "#"), Publish("e", "k" * 255, "1"), Get("q")
    ),
    scenario("get from an empty queue", Queue("q"), Get("q"), Get("q", no_ack=True)),
    scenario(
        "get counts what is left",
        Queue("q"),
        *(Publish("", "q", body) for body in "123"),
        Get("q"),
        Get("q", no_ack=True),
        Get("q"),
        Get("q"),
    ),
    scenario(
        "each queue has its own copy",
        Queue("a"),
        Queue("b"),
        Bind("a", "amq.fanout"),
        Bind("b", "amq.fanout"),
        Publish("amq.fanout", "k", "1", {"headers": {"a": 1}}),
        Get("a"),
        Get("b"),
    ),
    scenario(
        "channels have their own tags",
        Queue("q"),
        *(Publish("", "q", body) for body in "123"),
        Get("q"),
        Get("q", on=2),
        Get("q"),
    ),
]
