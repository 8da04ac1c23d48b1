"""Consumers: what they get, how much at once, how they take turns and how they end."""

from compat.script import (
    Ack,
    Cancel,
    Close,
    Consume,
    Delete,
    Disconnect,
    Flow,
    Get,
    Nack,
    Publish,
    Purge,
    Qos,
    Queue,
    Scenario,
    Step,
    Until,
    scenario,
)

FOUR = tuple(Publish("", "q", body) for body in "1234")


def full(name: str, *steps: Step) -> Scenario:
    """With four messages in q before anything else."""
    return scenario(name, Queue("q"), *FOUR, *steps)


SCENARIOS = [
    full("takes what is there and what comes", Consume("q"), Publish("", "q", "5"), Queue("q", passive=True)),
    full("without acks", Consume("q", no_ack=True), Publish("", "q", "5"), Ack(1)),
    full("prefetch", Qos(2), Consume("q"), Ack(1), Ack(3, multiple=True), Queue("q", passive=True)),
    full(
        "prefetch holds for later consumers only",
        Consume("q", "a"),
        Qos(1),
        Publish("", "q", "5"),
        Publish("", "q", "6"),
    ),
    full("prefetch is each consumer's", Qos(1), Consume("q", "a"), Consume("q", "b"), Ack(1), Ack(2)),
    full("prefetch of the channel", Qos(2, global_=True), Consume("q"), Ack(1), Ack(2)),
    full(
        "prefetch of both",
        Qos(1),
        Qos(3, global_=True),
        Consume("q", "a"),
        Consume("q", "b"),
        Ack(2, multiple=True),
    ),
    full(
        "prefetch of the channel changes",
        Qos(1, global_=True),
        Consume("q"),
        Qos(3, global_=True),
        Qos(0, global_=True),
    ),
    full("prefetch does not bind who needs no ack", Qos(1), Consume("q", no_ack=True)),
    full("prefetch frees with a nack", Qos(1), Consume("q"), Nack(1, requeue=False), Nack(2, requeue=True)),
    full("gets do not count", Qos(1), Get("q"), Consume("q"), Get("q")),
    scenario("prefetch in octets", Qos(0, prefetch_size=1)),
    scenario("prefetch in octets of the channel", Qos(1, prefetch_size=4096, global_=True)),
    scenario("prefetch of many", Qos(65535), Qos(65535, global_=True)),
    scenario(
        "two take turns",
        Queue("q"),
        Qos(1, on=2),
        Qos(1, on=3),
        Consume("q", on=2),
        Consume("q", on=3),
        *FOUR,
        Ack(1, on=3),
        Ack(1, on=2),
        Nack(0, multiple=True, on=2),
    ),
    full("cancel", Qos(2), Consume("q"), Cancel(), Publish("", "q", "5"), Ack(1), Nack(2), Queue("q", passive=True)),
    full("cancel without waiting", Consume("q", no_ack=True), Cancel(nowait=True), Publish("", "q", "5"), Get("q")),
    scenario("cancel what is not there", Cancel("none"), Cancel("")),
    scenario("the tag is used again", Queue("q"), Consume("q"), Cancel(), Consume("q"), Publish("", "q", "1")),
    scenario("a tag twice", Queue("q"), Consume("q"), Consume("q")),
    scenario("a tag twice on two channels", Queue("q"), Consume("q"), Consume("q", on=2), Queue("q", passive=True)),
    scenario("a tag from the broker", Queue("q"), Consume("q", ""), Consume("q", ""), Publish("", "q", "1")),
    scenario("consume without waiting", Queue("q"), Consume("q", nowait=True), Publish("", "q", "1")),
    scenario("no-local is not there", Queue("q"), Consume("q", no_local=True), Publish("", "q", "1")),
    scenario(
        "exclusive keeps others out", Queue("q"), Consume("q", exclusive=True), Consume("q", on=2), Consume("q", "d")
    ),
    scenario("exclusive wants no others", Queue("q"), Consume("q"), Consume("q", exclusive=True, on=2)),
    scenario(
        "exclusive ends with its channel",
        Queue("q"),
        Consume("q", exclusive=True, on=2),
        Close(on=2),
        Consume("q", exclusive=True, on=3),
        Publish("", "q", "1"),
    ),
    scenario("unknown arguments", Queue("q"), Consume("q", arguments={"x-any": 1}), Publish("", "q", "1")),
    scenario(
        "deleting its queue cancels", Queue("q"), Consume("q", "a", on=2), Consume("q", "b", on=(2, 1)), Delete("q")
    ),
    scenario("deleting its own queue", Queue("q"), Consume("q"), Delete("q"), Cancel()),
    scenario(
        "an exclusive queue that goes cancels nobody else",
        Queue("q", exclusive=True, on=(2, 1)),
        Consume("q", on=(2, 1)),
        Disconnect(on=2),
        Until("q", None),
    ),
    full("closing gives back", Consume("q", on=2), Close(on=2), Get("q"), Get("q"), Queue("q", passive=True)),
    full("closing the connection gives back", Consume("q", on=(2, 1)), Disconnect(on=2), Until("q", 4), Get("q")),
    full(
        "breaking gives back",
        Qos(2, on=(2, 1)),
        Consume("q", on=(2, 1)),
        Disconnect(abruptly=True, on=2),
        Until("q", 4),
        Get("q"),
    ),
    full("purge leaves deliveries", Qos(1), Consume("q"), Purge("q"), Ack(1), Publish("", "q", "5")),
    full("flow stays on", Flow(True), Flow(False)),
    full("a consumer and a getter", Qos(1), Consume("q"), Get("q", on=2), Ack(1, on=2), Ack(1)),
    scenario("what consumers leave behind", Queue("q"), Consume("q"), *FOUR, Close(), Get("q", on=2), Get("q", on=2)),
]
