"""Where dispatchd differs from RabbitMQ 3.10 and means to."""

from compat.script import Bind, Connect, Queue, Scenario, Send

EMPTY_METHOD = b"\1\0\1\0\0\0\0\xce"

KNOWN_DIFFERENCES = [
    Scenario(
        "server version",
        (Connect(shows_server=True),),
        "kombu and Celery decide by the version what `basic.qos` means: it is a 3.12",
    ),
    Scenario(
        "close before connection.open",
        (Connect(early=b"\1\0\0\0\0\0\4\0\x28\0\x0a\xce"),),
        "a client that breaks the handshake hears why; RabbitMQ drops the socket",
    ),
    *(
        Scenario(
            f"x-queue-type {kind}",
            (Queue("q", durable=True, arguments={"x-queue-type": kind}),),
            "refused with 406: a replicated type is not pretended",
        )
        for kind in ("quorum", "stream")
    ),
    Scenario(
        "the type of an x-match that is no text",
        (Queue("q"), Bind("q", "amq.headers", arguments={"x-match": 1})),
        "the text calls every integer a signedint, as most clients send them, not by its size",
    ),
    Scenario("a method frame without a method", (Send(EMPTY_METHOD),), "the text says what is missing"),
]
