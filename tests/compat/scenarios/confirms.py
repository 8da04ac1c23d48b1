"""Publisher confirms: how each publish is settled."""

from compat.script import Bind, Close, Confirm, Consume, Publish, Queue, Select, scenario

PERSISTENT = {"delivery_mode": 2}

SCENARIOS = [
    scenario("twice", Confirm(), Publish("", "q"), Confirm(), Publish("", "q")),
    scenario("without waiting", Confirm(nowait=True), Publish("", "q")),
    scenario("to nowhere", Confirm(), Publish("", "q"), Publish("amq.fanout", "")),
    scenario(
        "to a queue", Queue("q"), Confirm(), Publish("", "q", "1"), Publish("", "q", "2"), Queue("q", passive=True)
    ),
    scenario("persistent", Queue("q", durable=True), Confirm(), Publish("", "q", "1", PERSISTENT)),
    scenario("persistent to what is not durable", Queue("q"), Confirm(), Publish("", "q", "1", PERSISTENT)),
    scenario(
        "to several queues",
        Queue("a"),
        Queue("b", durable=True),
        Bind("a", "amq.fanout"),
        Bind("b", "amq.fanout"),
        Confirm(),
        Publish("amq.fanout", "", "1", PERSISTENT),
        Publish("amq.fanout", "", "2"),
    ),
    scenario("to a consumer", Queue("q"), Consume("q", no_ack=True), Confirm(), Publish("", "q", "1")),
    scenario("returned", Confirm(), Publish("", "q", "1", mandatory=True), Publish("", "q", "2")),
    scenario("tags begin again on a new channel", Confirm(), Publish("", "q"), Close(), Confirm(), Publish("", "q")),
    scenario("what was published before has no tag", Publish("", "q"), Publish("", "q"), Confirm(), Publish("", "q")),
    scenario("not with transactions", Confirm(), Select()),
    scenario("transactions not with it", Select(), Confirm()),
    scenario("many", Queue("q"), Confirm(), *[Publish("", "q", "1")] * 20, Queue("q", passive=True)),
]
