"""Exchange types that RabbitMQ has as plugins, as far as it is not left to chance or to a hash what they do."""

from compat.script import (
    Bind,
    BindExchange,
    Consume,
    Exchange,
    Get,
    Publish,
    Queue,
    Scenario,
    Unbind,
    Until,
    scenario,
)

HASH = "x-consistent-hash"
HISTORY = "x-recent-history"
ONE_OF_MANY = {kind: "" if kind != HASH else "1" for kind in ("x-random", "x-modulus-hash", HASH)}
"""Types whose messages go to one queue, and a good binding key for each."""


def one_taker(kind: str, key: str) -> Scenario:
    """With one queue it is sure who gets it; without any nobody does, and any key will do."""
    return scenario(
        f"{kind}, one queue",
        Exchange("e", kind),
        Publish("e", "k", "0", mandatory=True),
        Queue("q"),
        Bind("q", "e", key),
        *(Publish("e", each, each, {"headers": {"CC": ["other"]}}, mandatory=True) for each in ("k", "", "a.b")),
        *[Get("q", no_ack=True)] * 4,
        Unbind("q", "e", key),
        Publish("e", "k", "4", mandatory=True),
        Exchange("e", "fanout"),
    )


def lengths(*values: object) -> list[Scenario]:
    return [
        scenario(f"history of {value!r}", Exchange("e", HISTORY, arguments={"x-recent-history-length": value}))
        for value in values
    ]


def history(name: str, arguments: dict[str, object], *sent: Publish, count: int) -> Scenario:
    """What a queue gets that is bound when all this was sent."""
    return scenario(
        f"history, {name}",
        Exchange("e", HISTORY, arguments=arguments),
        *sent,
        Queue("q"),
        Bind("q", "e", "any"),
        Publish("e", "new", "new", mandatory=True),
        Until("q", count + 1),
        *[Get("q", no_ack=True)] * (count + 2),
    )


SCENARIOS = [
    *(one_taker(kind, key) for kind, key in ONE_OF_MANY.items()),
    scenario("no weight", Exchange("e", HASH), Queue("q"), Bind("q", "e", "k")),
    scenario("no good weight", Exchange("e", HASH), Queue("q"), Bind("q", "e", "0")),
    scenario("two things to hash", Exchange("e", HASH, arguments={"hash-header": "h", "hash-property": "message_id"})),
    scenario("nothing to hash", Exchange("e", HASH, arguments={"hash-property": "app_id"})),
    *lengths(1, 0, -1, "20", True, 1.5),
    history("nothing", {}, count=0),
    history("all", {}, *(Publish("e", f"k.{n}", str(n), {"message_id": str(n)}) for n in range(3)), count=3),
    history("the last 20", {}, *(Publish("e", "k", str(n)) for n in range(25)), count=20),
    history("the last 2", {"x-recent-history-length": 2}, *(Publish("e", "k", str(n)) for n in range(5)), count=2),
    history(
        "not all are kept",
        {},
        *(
            Publish("e", "k", str(n), {"headers": {"x-recent-history-no-store": value}})
            for n, value in enumerate((True, False, "true", None))
        ),
        count=3,
    ),
    scenario(
        "history goes to each new binding once",
        Exchange("e", HISTORY),
        Publish("e", "k", "1", mandatory=True),
        Queue("q"),
        Consume("q", no_ack=True),
        Bind("q", "e", "a"),
        Bind("q", "e", "a"),
        Bind("q", "e", "b"),
        Publish("e", "k", "2"),
    ),
    scenario(
        "history goes through exchanges",
        Exchange("e", HISTORY),
        Exchange("f", "topic"),
        Queue("q"),
        Consume("q", no_ack=True),
        Bind("q", "f", "a.#"),
        Publish("e", "a.b", "1"),
        BindExchange("f", "e"),
    ),
]
