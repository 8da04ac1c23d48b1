"""Direct reply-to: answers without a queue."""

from compat.script import Cancel, Close, Consume, Get, Publish, Queue, Reply, scenario

ADDRESS = "amq.rabbitmq.reply-to"
ASKED = {"reply_to": ADDRESS, "correlation_id": "c"}
LISTEN = Consume(ADDRESS, no_ack=True)

SCENARIOS = [
    scenario(
        "asked and answered", Queue("q"), LISTEN, Publish("", "q", "ask", ASKED), Get("q", no_ack=True), Reply("answer")
    ),
    scenario(
        "answered twice",
        Queue("q"),
        LISTEN,
        Publish("", "q", "ask", ASKED),
        Get("q", no_ack=True),
        Reply("1"),
        Reply("2"),
    ),
    scenario(
        "answered from elsewhere",
        Queue("q"),
        LISTEN,
        Publish("", "q", "ask", ASKED),
        Get("q", on=(2, 1)),
        Reply("answer", on=(2, 2)),
    ),
    scenario(
        "answered too late",
        Queue("q"),
        LISTEN,
        Publish("", "q", "ask", ASKED),
        Get("q", on=2),
        Close(),
        Reply("answer", mandatory=True, on=2),
    ),
    scenario(
        "answered after a cancel",
        Queue("q"),
        LISTEN,
        Publish("", "q", "ask", ASKED),
        Get("q", on=2),
        Cancel(),
        Reply("answer", mandatory=True, on=2),
    ),
    scenario("asked without listening", Queue("q"), Publish("", "q", "ask", ASKED)),
    scenario("listening with acks", Consume(ADDRESS)),
    scenario("listening twice", LISTEN, Consume(ADDRESS, "d", no_ack=True)),
    scenario("listening again", LISTEN, Cancel(), Consume(ADDRESS, "d", no_ack=True)),
    scenario("the pseudo-queue is there", Queue(ADDRESS, passive=True)),
    scenario("the pseudo-queue can be declared", Queue(ADDRESS)),
    scenario("get from the pseudo-queue", Get(ADDRESS)),
    scenario("publish to the pseudo-queue", LISTEN, Publish("", ADDRESS, "1", mandatory=True)),
    scenario("a made-up address", Publish("", ADDRESS + ".made-up", "1", mandatory=True)),
    scenario("is an address there", Queue(ADDRESS + ".made-up", passive=True)),
]
