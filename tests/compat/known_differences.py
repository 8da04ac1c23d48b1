"""Where dispatchd differs from RabbitMQ 3.10 and means to: docs/compatibility.md in the form of scripts."""

from compat.scenarios.errors import frame, method, put
from compat.script import (
    Ack,
    Bind,
    BindExchange,
    Commit,
    Connect,
    Consume,
    DeleteExchange,
    Exchange,
    Get,
    Publish,
    Qos,
    Queue,
    Scenario,
    Select,
    Send,
    SetPolicy,
    Step,
    Unbind,
)


def differs(name: str, *steps: Step, because: str) -> Scenario:
    return Scenario(name, steps, because)


HEARS_WHY = "an error before connection.open is answered with a close that says why; RabbitMQ drops the socket"
UNKNOWN = "what cannot be decoded gets a close that says why; RabbitMQ's connection crashes"
ROUTED_LATE = "its messages are routed when it is committed; in RabbitMQ when they are published"
LENIENT = "an answer that nobody waits for does no harm; RabbitMQ answers 503"

KNOWN_DIFFERENCES = [
    differs(
        "server properties",
        Connect(shows_server=True),
        because="kombu and Celery decide by product and version what `basic.qos` means: we say a RabbitMQ that fits",
    ),
    differs("a channel before connection.open", Connect(early=method(20, 10, b"\0")), because=HEARS_WHY),
    differs("more channels than there are", Connect(channel_max=2048), because=HEARS_WHY),
    differs("no limit of channels", Connect(channel_max=0), because=HEARS_WHY),
    differs("frames too large", Connect(frame_max=131073), because=HEARS_WHY),
    differs("frames too small", Connect(frame_max=4095), because=HEARS_WHY),
    differs("unknown mechanism", Connect(mechanism="SCRAM"), because=HEARS_WHY),
    differs("a login without a password", Connect(response="guest"), because=HEARS_WHY),
    differs(
        "acting for another",
        Connect(response="other\0guest\0guest"),
        because="PLAIN with an authorization identity is accepted, and the identity ignored",
    ),
    *(
        differs(f"AMQP {name}", Connect(header=octets), because="no client speaks it any more")
        for name, octets in {"0-8": b"AMQP\1\1\x08\0", "0-9": b"AMQP\1\1\0\x09"}.items()
    ),
    differs("unknown method", Send(method(60, 999)), because=UNKNOWN),
    differs("unknown class", Send(method(99, 10)), because=UNKNOWN),
    differs("unknown method of the connection", Send(method(10, 99, channel=0)), because=UNKNOWN),
    differs("a method frame without a method", Queue("q"), Send(frame(1, 1, b"")), because="502, not 501"),
    differs(
        "more body than the header said",
        Queue("q"),
        Send(put(3, b"12345")),
        because="noticed at once; RabbitMQ notices by the next method",
    ),
    differs(
        "a deliver from a client",
        Queue("q"),
        Send(method(60, 60, b"\1c" + bytes(11))),
        because="refused at once; RabbitMQ waits for its content",
    ),
    differs("a flow-ok that nobody waits for", Queue("q"), Send(method(20, 21, b"\1")), because=LENIENT),
    differs("a cancel-ok that nobody waits for", Queue("q"), Send(method(60, 31, b"\1c")), because=LENIENT),
    *(
        differs(
            f"x-queue-type {kind}",
            Queue("q", durable=True, arguments={"x-queue-type": kind}),
            because="refused with 406: a replicated type is not pretended",
        )
        for kind in ("quorum", "stream")
    ),
    differs(
        "x-delivery-limit",
        Queue("q", arguments={"x-delivery-limit": 1}),
        because="classic queues have it too; in RabbitMQ it takes a quorum queue",
    ),
    differs(
        "a tag beyond 62 bits", Ack(2**63 - 1), because="unknown there and here, but the text names the highest tag"
    ),
    differs(
        "history through an exchange, in order",
        Exchange("e", "x-recent-history"),
        Queue("q"),
        Consume("q"),
        Bind("q", "amq.fanout"),
        Publish("e", "k", "1"),
        Publish("e", "k", "2"),
        BindExchange("amq.fanout", "e"),
        because="the oldest comes first, as for a queue; in RabbitMQ the newest",
    ),
    differs(
        "history through an exchange that leads nowhere",
        Exchange("e", "x-recent-history"),
        Publish("e", "k", "1"),
        BindExchange("amq.fanout", "e"),
        because="the binding is made, and history goes nowhere; RabbitMQ's connection fails with 541",
    ),
    differs(
        "a policy with a delivery limit",
        SetPolicy("p", "^q", {"delivery-limit": 3, "max-length": 0}),
        Queue("q"),
        Publish("", "q", "1"),
        Get("q"),
        because="classic queues have that limit, so it governs them; in RabbitMQ it is for quorum queues alone",
    ),
    differs(
        "a policy with a timeout of consumers",
        SetPolicy("p", "^q", {"consumer-timeout": 60000}),
        because="as in RabbitMQ 3.12",
    ),
    differs(
        "policies of equal priority",
        SetPolicy("a", "^q", {"max-length": 1}),
        SetPolicy("b", "^q", {"max-length": 0}),
        Queue("q"),
        Publish("", "q", "1"),
        Get("q"),
        because="the first by name governs; in RabbitMQ it is the order of a hash table",
    ),
    differs(
        "a priority that is a text",
        SetPolicy("p", "^q", {"max-length": 1}, priority="1"),
        because="what rabbitmqadmin sends is accepted",
    ),
    differs(
        "the type of an x-match that is no text",
        Queue("q"),
        Bind("q", "amq.headers", arguments={"x-match": 1}),
        because="the text calls every integer a signedint, as most clients send them, not by its size",
    ),
    differs(
        "a limit for the channel, and its consumers' turns",
        Queue("q"),
        Qos(2, global_=True),
        *(Publish("", "q", body) for body in "123"),
        Consume("q", "a"),
        Consume("q", "b"),
        Ack(1),
        because="the consumer that has had nothing is next; in RabbitMQ the one that was held up first",
    ),
    differs(
        "a transaction and a binding that came after its publish",
        Queue("q"),
        Select(),
        Publish("amq.fanout", "", "1", mandatory=True),
        Bind("q", "amq.fanout", on=2),
        Commit(),
        because=ROUTED_LATE,
    ),
    differs(
        "a transaction and a binding that goes after its publish",
        Queue("q"),
        Bind("q", "amq.fanout"),
        Select(),
        Publish("amq.fanout", "", "1", mandatory=True),
        Unbind("q", "amq.fanout", on=2),
        Commit(),
        because=ROUTED_LATE,
    ),
    differs(
        "a transaction and an exchange that goes after its publish",
        Exchange("e", "fanout"),
        Select(),
        Publish("e", "", "1"),
        DeleteExchange("e", on=2),
        Commit(),
        because=ROUTED_LATE,
    ),
    differs(
        "a method right behind a tx.commit",
        Queue("q"),
        Select(),
        Publish("", "q", "1"),
        Send(method(90, 20) + method(60, 10, bytes(7))),
        because="it waits for the commit-ok; RabbitMQ answers 504",
    ),
]
"""A passive declare that counts what was published before it is not here: RabbitMQ mostly does so too."""
