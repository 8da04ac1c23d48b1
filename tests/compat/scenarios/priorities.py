"""x-max-priority: urgent messages first."""

from compat.script import Ack, Consume, Get, Nack, Publish, Purge, Qos, Queue, Recover, scenario

TEN = Queue("q", arguments={"x-max-priority": 10})
MIXED = tuple(
    Publish("", "q", f"{index}:{level}", {"priority": level}) for index, level in enumerate((1, 5, 3, 5, 1, 9))
)
DRAIN = tuple([Get("q", no_ack=True, on=9)] * 7)

SCENARIOS = [
    scenario("the urgent first", TEN, *MIXED, *DRAIN),
    scenario(
        "none is zero",
        TEN,
        Publish("", "q", "none"),
        Publish("", "q", "1", {"priority": 1}),
        Publish("", "q", "0", {"priority": 0}),
        *DRAIN,
    ),
    scenario(
        "above the highest is the highest",
        TEN,
        Publish("", "q", "10", {"priority": 10}),
        Publish("", "q", "200", {"priority": 200}),
        *DRAIN,
    ),
    scenario("without the argument they mean nothing", Queue("q"), *MIXED, *DRAIN),
    scenario("of zero", Queue("q", arguments={"x-max-priority": 0}), *MIXED, *DRAIN),
    scenario("requeued to its place", TEN, *MIXED, *[Get("q")] * 6, Nack(4), Nack(1), Nack(2), Nack(6), *DRAIN),
    scenario("recovered to their places", TEN, *MIXED, *[Get("q")] * 3, Recover(), *DRAIN),
    scenario("what is delivered is delivered", TEN, Qos(1), Consume("q"), *MIXED, Ack(1), Ack(2), Ack(3)),
    scenario("purge takes all", TEN, *MIXED, Purge("q"), *DRAIN),
    scenario("counts all", TEN, *MIXED, Queue("q", passive=True), Get("q")),
    scenario("drops the least urgent", Queue("q", arguments={"x-max-priority": 10, "x-max-length": 3}), *MIXED, *DRAIN),
]
