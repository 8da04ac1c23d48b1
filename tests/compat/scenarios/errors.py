"""What breaks the protocol, and the handshake."""

from struct import pack

from compat.script import Ack, Close, Connect, Get, Open, Publish, Queue, Scenario, Send, Step, UpdateSecret, scenario

TOLD = {"authentication_failure_close": True}


def frame(kind: int, channel: int, payload: bytes, end: int = 0xCE) -> bytes:
    return pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


def method(class_id: int, method_id: int, arguments: bytes = b"", channel: int = 1) -> bytes:
    return frame(1, channel, pack(">HH", class_id, method_id) + arguments)


def header(size: int, flags: int = 0, rest: bytes = b"", class_id: int = 60) -> bytes:
    return frame(2, 1, pack(">HHQH", class_id, 0, size, flags) + rest)


PUBLISH = method(60, 40, b"\0\0" + b"\0" + b"\1q" + b"\0")
PASSIVE_DECLARE = method(50, 10, b"\0\0" + b"\1q" + b"\1" + b"\0\0\0\0")


def put(size: int, body: bytes) -> bytes:
    """A publish to the queue q, whose header announces `size` octets."""
    return PUBLISH + header(size) + frame(3, 1, body)


def sent(name: str, *octets: bytes, on: int = 1) -> Scenario:
    """Octets on an open channel, and whether the connection goes on."""
    steps: list[Step] = [Queue("q", exclusive=True), Send(b"".join(octets), on=on), Get("q")]
    return scenario(name, *steps)


SCENARIOS = [
    sent("wrong end of a frame", frame(1, 1, b"\0\x3c\0\x0a", end=0)),
    sent("unknown type of frame", frame(7, 1, b"abc")),
    sent("type zero", frame(0, 1, b"")),
    sent("heartbeat", frame(8, 0, b"")),
    sent("a frame over the limit", pack(">BHI", 3, 1, 200_000) + bytes(200_001)),
    sent("a header without a method", header(0)),
    sent("a body without a method", frame(3, 1, b"body")),
    sent("a method instead of a header", PUBLISH, PASSIVE_DECLARE),
    sent("a body instead of a header", PUBLISH, frame(3, 1, b"body")),
    sent("a method instead of a body", PUBLISH, header(5), PASSIVE_DECLARE),
    sent("a header instead of a body", PUBLISH, header(5), header(5)),
    sent("empty frames of a body", PUBLISH, header(2), *(frame(3, 1, part) for part in (b"", b"1", b"", b"2"))),
    sent("header of another class", PUBLISH, header(0, class_id=10)),
    sent("a queue method on channel 0", method(50, 10, PASSIVE_DECLARE[11:-1], channel=0)),
    sent("a publish on channel 0", method(60, 40, PUBLISH[11:-1], channel=0)),
    sent("channel.open on channel 0", method(20, 10, b"\0", channel=0)),
    sent("a header on channel 0", frame(2, 0, pack(">HHQH", 60, 0, 0, 0))),
    sent("a body on channel 0", frame(3, 0, b"")),
    sent("connection.close on a channel", method(10, 50, b"\0\xc8\0\0\0\0\0")),
    sent("connection.open again", method(10, 40, b"\1/\0\0", channel=0)),
    sent("connection.tune-ok again", method(10, 31, b"\0\0\0\0\0\0\0\0", channel=0)),
    sent("connection.start-ok again", method(10, 11, b"\0\0\0\0\0\0\0\0\0\0", channel=0)),
    sent("a method on a channel that is not open", method(60, 10, bytes(7), channel=5)),
    sent("a close of a channel that is not open", method(20, 40, b"\0\xc8\0\0\0\0\0", channel=5)),
    sent("a close-ok of a channel that is not open", method(20, 41, channel=5)),
    sent("a close-ok that nobody waits for", method(20, 41)),
    sent("a get-empty from a client", method(60, 72, b"\0")),
    sent("a declare-ok from a client", method(50, 11, b"\1q" + bytes(8))),
    scenario("a channel opened twice", Open(), Open()),
    scenario("a channel closed and opened", Queue("q"), Close(), Open(), Queue("q", passive=True)),
    scenario("close with a reason", Close(404, "because", 60, 40), Queue("q")),
    scenario("an error leaves other channels alone", Queue("q"), Ack(9, on=2), Publish("", "q", "1"), Get("q", on=2)),
    scenario("two errors on one connection", Ack(1), Ack(2), Get("none"), Get("none", on=2)),
    scenario("a new secret", UpdateSecret("guest", "why")),
    *(
        scenario(f"protocol {octets!r}", Connect(header=octets))
        for octets in (b"AMQP\0\0\x09\0", b"AMQP\0\1\0\0", b"GET / HTTP/1.0\r\n\r\n")
    ),
    scenario("the smallest tuning", Connect(channel_max=1, frame_max=4096, heartbeat=1)),
    scenario("the longest heartbeat", Connect(heartbeat=65535)),
    scenario("wrong password", Connect(response="\0guest\0wrong", capabilities=TOLD)),
    scenario("unknown user", Connect(response="\0nobody\0guest", capabilities=TOLD)),
    scenario("wrong password, untold", Connect(response="\0guest\0wrong")),
    scenario("no such vhost", Connect(virtual_host="none")),
    scenario("a vhost without a name", Connect(virtual_host="")),
]
