"""Dead letters: which messages die, where they go, and what their x-death says."""

from typing import Any

from compat.script import (
    Ack,
    Bind,
    Close,
    Consume,
    Delete,
    Exchange,
    Get,
    Nack,
    Publish,
    Purge,
    Queue,
    Reject,
    Step,
    Until,
    scenario,
)

GRAVE = (Exchange("dlx", "fanout"), Queue("grave"), Bind("grave", "dlx"))


def source(**arguments: Any) -> Queue:
    """The queue q, whose dead go to dlx."""
    given = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return Queue("q", arguments={"x-dead-letter-exchange": "dlx", **given})


def buried(count: int) -> tuple[Step, ...]:
    return (Until("grave", count), *[Get("grave")] * (count + 1))


def chained(*names: str) -> tuple[Step, ...]:
    """Queues where a message expires, each on its way to the next one; the last one's go to the grave."""
    return (
        Queue("grave"),
        *(
            Queue(
                name,
                arguments={"x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": following},
            )
            for name, following in zip(names, (*names[1:], "grave"), strict=True)
        ),
    )


def remembered(*queues: str) -> dict[str, Any]:
    """A history as RabbitMQ wrote it before 3.5: without counts."""
    return {"headers": {"x-death": [{"queue": queue, "reason": "expired", "exchange": "x"} for queue in queues]}}


SCENARIOS = [
    *(
        scenario(f"through {len(names)} queues", *chained(*names), Publish("", "a", "1"), *buried(1))
        for names in ("ab", "abc", "abcd")
    ),
    *(
        scenario(
            f"a history without counts: {queues}",
            *GRAVE,
            source(),
            Publish("", "q", "1", remembered(*queues)),
            Get("q"),
            Reject(1),
            *buried(1),
        )
        for queues in ("a", "aabca", "qaq")
    ),
    scenario("rejected", *GRAVE, source(), Publish("", "q", "1"), Get("q"), Reject(1), *buried(1)),
    scenario("nacked", *GRAVE, source(), Publish("", "q", "1"), Get("q"), Nack(1, requeue=False), *buried(1)),
    scenario(
        "requeued is not dead", *GRAVE, source(), Publish("", "q", "1"), Get("q"), Nack(1), Get("grave"), Get("q")
    ),
    scenario("acked is not dead", *GRAVE, source(), Publish("", "q", "1"), Get("q"), Ack(1), Get("grave")),
    scenario(
        "many at once",
        *GRAVE,
        source(),
        *(Publish("", "q", body) for body in "123"),
        *[Get("q")] * 3,
        Nack(3, multiple=True, requeue=False),
        *buried(3),
    ),
    scenario("from a consumer", *GRAVE, source(), Consume("q"), Publish("", "q", "1"), Reject(1), *buried(1)),
    scenario("expired with its queue's limit", *GRAVE, source(message_ttl=20), Publish("", "q", "1"), *buried(1)),
    scenario("expired by its own limit", *GRAVE, source(), Publish("", "q", "1", {"expiration": "20"}), *buried(1)),
    scenario(
        "too many", *GRAVE, source(max_length=1), *(Publish("", "q", body) for body in "123"), *buried(2), Get("q")
    ),
    scenario(
        "too many octets",
        *GRAVE,
        source(max_length_bytes=5),
        *(Publish("", "q", body * 3) for body in "123"),
        *buried(2),
    ),
    scenario(
        "another routing key",
        Exchange("dlx"),
        Queue("grave"),
        Bind("grave", "dlx", "dead"),
        source(dead_letter_routing_key="dead"),
        Publish("", "q", "1"),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
    scenario(
        "its own routing keys",
        Exchange("dlx"),
        Queue("grave"),
        Bind("grave", "dlx", "q"),
        source(),
        Publish("", "q", "1"),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
    scenario(
        "through the default exchange",
        Queue("grave"),
        Queue("q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "grave"}),
        Publish("", "q", "1"),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
    scenario("no such exchange", source(), Publish("", "q", "1"), Get("q"), Reject(1), Queue("q", passive=True)),
    scenario(
        "nowhere to go", Exchange("dlx"), source(), Publish("", "q", "1"), Get("q"), Reject(1), Queue("q", passive=True)
    ),
    scenario("purged is not dead", *GRAVE, source(), Publish("", "q", "1"), Purge("q"), Get("grave")),
    scenario("deleted is not dead", *GRAVE, source(), Publish("", "q", "1"), Delete("q"), Get("grave")),
    scenario(
        "closing is not dying", *GRAVE, source(), Publish("", "q", "1"), Get("q"), Close(), Get("grave"), Get("q")
    ),
    scenario(
        "every property stays but the expiration",
        *GRAVE,
        source(),
        Publish("", "q", "1", {"expiration": "60000", "message_id": "m", "priority": 3, "headers": {"a": 1}}),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
    scenario(
        "dies twice of the same",
        *GRAVE,
        source(),
        Publish("", "q", "1"),
        Get("q"),
        Reject(1),
        Until("grave", 1),
        Get("grave", no_ack=True),
        Publish("", "q", "2", {"headers": {"x-death": [{"queue": "q", "reason": "rejected", "count": 1}]}}),
        Get("q"),
        Reject(3),
        *buried(1),
    ),
    scenario(
        "dies in one queue after another",
        *GRAVE,
        Exchange("mid", "fanout"),
        Queue("second", arguments={"x-dead-letter-exchange": "dlx"}),
        Bind("second", "mid"),
        Queue("q", arguments={"x-dead-letter-exchange": "mid", "x-message-ttl": 10}),
        Publish("", "q", "1"),
        Until("second", 1),
        Get("second"),
        Reject(1),
        *buried(1),
    ),
    scenario(
        "round and round by rejecting",
        Queue("q", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}),
        Publish("", "q", "1"),
        Get("q"),
        Reject(1),
        Get("q"),
        Reject(2),
        Get("q"),
    ),
    scenario(
        "no circle of expiring",
        Queue("a", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b", "x-message-ttl": 10}),
        Queue("b", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a", "x-message-ttl": 10}),
        Publish("", "a", "1"),
        Until("a", 0),
        Until("b", 0),
    ),
    scenario(
        "cc goes with another routing key",
        *GRAVE,
        source(dead_letter_routing_key="dead"),
        Publish("", "q", "1", {"headers": {"CC": ["x"], "a": 1}}),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
    scenario(
        "cc stays with its own routing key",
        *GRAVE,
        source(),
        Publish("", "q", "1", {"headers": {"CC": ["x"], "BCC": ["y"]}}),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
    scenario(
        "published to an exchange",
        *GRAVE,
        source(),
        Bind("q", "amq.topic", "a.#"),
        Publish("amq.topic", "a.b", "1", {"headers": {}}),
        Get("q"),
        Reject(1),
        *buried(1),
    ),
]
