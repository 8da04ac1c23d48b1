"""x-max-length and x-max-length-bytes: who has to go, and what the publisher hears."""

from typing import Any

from compat.script import Ack, Bind, Confirm, Consume, Get, Nack, Publish, Qos, Queue, Step, scenario

FOUR = tuple(Publish("", "q", body) for body in "1234")
DRAIN = tuple([Get("q", no_ack=True, on=9)] * 4)


def limited(length: int | None = None, **arguments: Any) -> Queue:
    given: dict[str, Any] = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    if length is not None:
        given["x-max-length"] = length
    return Queue("q", arguments=given)


OTHER: tuple[Step, ...] = (Queue("r"), Bind("q", "amq.fanout"), Bind("r", "amq.fanout"))

SCENARIOS = [
    scenario("drops the head", limited(2), *FOUR, *DRAIN),
    scenario("of nothing", limited(0), *FOUR, *DRAIN),
    scenario("of nothing, with a consumer", limited(0), Consume("q"), *FOUR, Ack(4, multiple=True)),
    scenario(
        "what is out does not count", limited(2), *FOUR[:2], Get("q"), *FOUR[2:], Queue("q", passive=True), *DRAIN
    ),
    scenario(
        "what comes back counts",
        limited(2),
        *FOUR[:2],
        *[Get("q")] * 2,
        *FOUR[2:],
        Nack(2, multiple=True),
        *DRAIN,
    ),
    scenario(
        "refuses, but takes what comes back",
        limited(2, overflow="reject-publish"),
        *FOUR[:2],
        *[Get("q")] * 2,
        *FOUR[2:],
        Nack(2, multiple=True),
        *DRAIN,
    ),
    scenario("confirms what it drops", limited(1), Confirm(), *FOUR, *DRAIN),
    scenario("in octets", limited(max_length_bytes=10), *(Publish("", "q", body * 4) for body in "1234"), *DRAIN),
    scenario(
        "in octets, one too large",
        limited(max_length_bytes=10),
        Publish("", "q", "1"),
        Publish("", "q", "2" * 11),
        *DRAIN,
    ),
    scenario("in both", limited(3, max_length_bytes=5), *FOUR, Publish("", "q", "12345"), *DRAIN),
    scenario("refuses", limited(2, overflow="reject-publish"), Confirm(), *FOUR, *DRAIN),
    scenario("refuses without a confirm", limited(2, overflow="reject-publish"), *FOUR, *DRAIN),
    scenario(
        "refuses and takes again",
        limited(1, overflow="reject-publish"),
        Confirm(),
        *FOUR[:2],
        Get("q"),
        *FOUR[2:],
        *DRAIN,
    ),
    scenario(
        "refuses what is mandatory",
        limited(0, overflow="reject-publish"),
        Confirm(),
        Publish("", "q", "1", mandatory=True),
    ),
    scenario(
        "refuses octets",
        limited(max_length_bytes=3, overflow="reject-publish"),
        Confirm(),
        Publish("", "q", "1234"),
        Publish("", "q", "1"),
        *DRAIN,
    ),
    scenario(
        "refuses with a consumer",
        limited(1, overflow="reject-publish"),
        Qos(1),
        Consume("q"),
        Confirm(),
        *FOUR,
        Ack(1),
        Ack(2),
    ),
    scenario(
        "one of two queues refuses",
        limited(0, overflow="reject-publish"),
        *OTHER,
        Confirm(),
        Publish("amq.fanout", "", "1"),
        Get("q"),
        Get("r"),
    ),
    scenario(
        "refuses and buries",
        Queue("grave"),
        limited(1, overflow="reject-publish-dlx", dead_letter_exchange="", dead_letter_routing_key="grave"),
        Confirm(),
        *FOUR[:3],
        Get("grave"),
        Get("grave"),
        *DRAIN,
    ),
    scenario(
        "refuses and buries nothing",
        Queue("grave"),
        limited(1, overflow="reject-publish", dead_letter_exchange="", dead_letter_routing_key="grave"),
        Confirm(),
        *FOUR[:3],
        Get("grave"),
        *DRAIN,
    ),
]
