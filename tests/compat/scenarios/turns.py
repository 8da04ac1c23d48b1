"""Whose turn it is: single active consumer and consumer priorities."""

from compat.script import Ack, Cancel, Close, Consume, Get, Publish, Qos, Queue, scenario

SINGLE = Queue("q", arguments={"x-single-active-consumer": True})
FOUR = tuple(Publish("", "q", body) for body in "1234")


def urgent(priority: int) -> dict[str, int]:
    return {"x-priority": priority}


SCENARIOS = [
    scenario("single: the first gets all", SINGLE, Consume("q", on=2), Consume("q", on=3), *FOUR),
    scenario(
        "single: the next takes over",
        SINGLE,
        Consume("q", on=2),
        Consume("q", on=3),
        *FOUR[:2],
        Cancel(on=2),
        *FOUR[2:],
    ),
    scenario(
        "single: the next takes over what comes back",
        SINGLE,
        Consume("q", on=2),
        Consume("q", on=3),
        *FOUR,
        Close(on=2),
    ),
    scenario(
        "single: others wait however busy it is",
        SINGLE,
        Qos(1, on=2),
        Consume("q", on=2),
        Consume("q", on=3),
        *FOUR,
        Ack(1, on=2),
    ),
    scenario(
        "single: who waits may go", SINGLE, Consume("q", on=2), Consume("q", on=3), Cancel(on=3), *FOUR[:2], Close(on=2)
    ),
    scenario("single: get is as ever", SINGLE, *FOUR, Get("q"), Get("q", on=2)),
    scenario(
        "single: two on one channel", SINGLE, Consume("q", "a"), Consume("q", "b"), *FOUR[:2], Cancel("a"), *FOUR[2:]
    ),
    scenario(
        "priority: the urgent first",
        Queue("q"),
        Consume("q", "low", on=2),
        Consume("q", "high", arguments=urgent(5), on=3),
        *FOUR,
    ),
    scenario(
        "priority: the others when it is busy",
        Queue("q"),
        Qos(1, on=3),
        Consume("q", "low", on=2),
        Consume("q", "high", arguments=urgent(5), on=3),
        *FOUR,
        Ack(1, on=3),
        Publish("", "q", "5"),
    ),
    scenario(
        "priority: equals take turns",
        Queue("q"),
        Consume("q", "a", arguments=urgent(1), on=2),
        Consume("q", "b", arguments=urgent(1), on=3),
        *FOUR,
    ),
    scenario(
        "priority: less than none",
        Queue("q"),
        Consume("q", "low", arguments=urgent(-1), on=2),
        Consume("q", "none", on=3),
        *FOUR[:2],
        Cancel("none", on=3),
        *FOUR[2:],
    ),
]
