"""Time to live, of messages and of queues."""

from compat.script import Ack, Confirm, Consume, Get, Nack, Publish, Qos, Queue, Until, Wait, scenario

SHORT = Queue("q", arguments={"x-message-ttl": 30})
LONG = {"expiration": "60000"}
SOON = {"expiration": "30"}

SCENARIOS = [
    scenario("of the queue", SHORT, Publish("", "q", "1"), Until("q", 0), Get("q")),
    scenario("of the message", Queue("q"), Publish("", "q", "1", SOON), Until("q", 0), Get("q")),
    scenario("the shorter one counts", SHORT, Publish("", "q", "1", LONG), Until("q", 0), Get("q")),
    scenario("long enough", Queue("q"), Publish("", "q", "1", LONG), Wait(0.05), Get("q")),
    scenario(
        "only the head expires",
        Queue("q"),
        Publish("", "q", "1", LONG),
        Publish("", "q", "2", SOON),
        Wait(0.1),
        Queue("q", passive=True),
        Get("q"),
        Get("q"),
    ),
    scenario(
        "behind one that is out",
        Queue("q"),
        Publish("", "q", "1", LONG),
        Publish("", "q", "2", SOON),
        Get("q"),
        Until("q", 0),
        Get("q"),
    ),
    scenario("unacked does not expire", SHORT, Publish("", "q", "1"), Get("q"), Wait(0.08), Ack(1)),
    scenario("requeued too late", SHORT, Publish("", "q", "1"), Get("q"), Wait(0.08), Nack(1), Until("q", 0), Get("q")),
    scenario("zero without a consumer", Queue("q", arguments={"x-message-ttl": 0}), Publish("", "q", "1"), Get("q")),
    scenario(
        "zero with a consumer", Queue("q", arguments={"x-message-ttl": 0}), Consume("q"), Publish("", "q", "1"), Ack(1)
    ),
    scenario(
        "zero with a busy consumer",
        Queue("q", arguments={"x-message-ttl": 0}),
        Qos(1),
        Consume("q"),
        Publish("", "q", "1"),
        Publish("", "q", "2"),
        Ack(1),
    ),
    scenario("zero of the message", Queue("q"), Publish("", "q", "1", {"expiration": "0"}), Get("q")),
    scenario(
        "confirmed all the same",
        Queue("q", arguments={"x-message-ttl": 0}),
        Confirm(),
        Publish("", "q", "1", mandatory=True),
    ),
    *(
        scenario(f"an expiration of {text!r}", Queue("q"), Publish("", "q", "1", {"expiration": text}), Get("q"))
        for text in ("abc", "-1", "1.5", " 5", "5 ", "4294967296", "60000", "+60000")
    ),
    scenario(
        "a queue that nobody uses",
        Queue("q", arguments={"x-expires": 50}),
        Publish("", "q", "1"),
        Wait(0.3),
        Queue("q", passive=True),
    ),
    scenario(
        "a queue with a consumer",
        Queue("q", arguments={"x-expires": 50}),
        Consume("q"),
        Wait(0.15),
        Queue("q", passive=True),
    ),
]
