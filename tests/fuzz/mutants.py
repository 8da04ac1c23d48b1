"""Sessions of a client that does no wrong, in octets of our own codec, and what chance makes of them.

A mutant says which reply codes may answer it. Of many the answer is known: then no other one will do, and none at all
neither. What only flips bits, or changes the order of things, may mean anything.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dispatchd.amqp import methods as m
from dispatchd.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD
from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.properties import Properties, encode_header

FRAME_MAX: Final = 131072
CHANNEL_MAX: Final = 20
MAX_MESSAGE: Final = 1 << 20

OF_CONNECTIONS: Final = frozenset({501, 502, 503, 504, 505, 530, 540})
OF_CHANNELS: Final = frozenset({403, 404, 405, 406})
"""541 would be a failure of ours."""
ANY: Final = OF_CONNECTIONS | OF_CHANNELS

Step = list[bytes]
"""The frames of one method, with those of its content."""


@dataclass(frozen=True)
class Mutant:
    """What is sent after connection.open. If it `is_certain`, exactly one close comes, with one of these codes."""

    data: bytes
    codes: frozenset[int] = ANY
    is_certain: bool = False


def frame(kind: int, channel: int, payload: bytes, size: int | None = None, end: int = FRAME_END) -> bytes:
    """A frame that may lie about its size and its end."""
    return struct.pack(">BHI", kind, channel, len(payload) if size is None else size) + payload + bytes([end])


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """A method frame of any numbers and octets."""
    return frame(FRAME_METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)


def header(channel: int, size: int, properties: bytes = b"\0\0") -> bytes:
    """A content header that announces a body of this size."""
    return frame(FRAME_HEADER, channel, struct.pack(">HHQ", 60, 0, size) + properties)


def nested_table(depth: int) -> bytes:
    """A table in a table in a table."""
    opening = [struct.pack(">I", 7 * level) for level in range(depth, -1, -1)]
    return b"\x01aF".join(opening)


def content(channel: int, publish: m.BasicPublish, properties: Properties, body: bytes, part: int = 60_000) -> Step:
    """The frames of a message."""
    return [
        encode_method(channel, publish),
        frame(FRAME_HEADER, channel, encode_header(len(body), properties)),
        *(frame(FRAME_BODY, channel, body[at : at + part]) for at in range(0, len(body), part)),
    ]


# Sessions


def proper_session(chance: random.Random, name: str) -> list[Step]:
    """A little of everything on channels 1 and 2, which earns no close however quick either of them is."""
    exchange, other, arguments = f"x-{name}", f"{name}-2", {"x-match": "any", "a": 1}
    topic = chance.random() < 0.7

    def publish() -> Step:
        channel = chance.choice([1, 1, 2])
        size = chance.choice([0, 1, 300, 5000])
        properties = Properties(
            delivery_mode=chance.choice([None, 1, 2]), headers={"a": 1, "t": {"x": [1, None]}}, message_id="m"
        )
        target = "amq.topic" if channel == 2 else exchange
        publish_ = m.BasicPublish(chance.choice([target, target, ""]), chance.choice(["a.b.c", name, other]), True)
        return content(channel, publish_, properties, b"x" * size, chance.choice([1000, 60_000]))

    def one(channel: int, *choices: m.Method) -> Callable[[], Step]:
        return lambda: [encode_method(channel, chance.choice(choices))]

    middle: list[Callable[[], Step]] = [
        publish,
        publish,
        publish,
        one(2, m.BasicGet(other, no_ack=True), m.QueuePurge(other), m.BasicGet(other)),
        one(2, m.TxCommit(), m.TxRollback(), m.BasicRecover(requeue=True)),
        one(1, m.BasicQos(0, 3, False), m.BasicQos(0, 0, True), m.ChannelFlow(True)),
        one(1, m.QueueDeclare(name, passive=True), m.ExchangeDeclare(exchange, passive=True)),
        lambda: [frame(FRAME_HEARTBEAT, 0, b"")],
    ]
    return [
        [encode_method(1, m.ChannelOpen())],
        [encode_method(1, m.ExchangeDeclare(exchange, "topic" if topic else "headers", auto_delete=True))],
        [encode_method(1, m.QueueDeclare(name, exclusive=True, arguments={"x-max-length": 50, "note": "n"}))],
        [encode_method(1, m.QueueBind(name, exchange, "a.*.#", arguments=arguments))],
        [encode_method(1, m.ConfirmSelect())],
        [encode_method(2, m.ChannelOpen())],
        [encode_method(2, m.TxSelect())],
        [encode_method(2, m.QueueDeclare(other, exclusive=True))],
        *(chance.choice(middle)() for _ in range(chance.randint(3, 12))),
        [encode_method(1, m.BasicConsume(name, "tag", no_ack=True))],
        *(chance.choice(middle)() for _ in range(chance.randint(3, 12))),
        [encode_method(1, m.BasicCancel("tag"))],
        [encode_method(1, m.QueueUnbind(name, exchange, "a.*.#", arguments))],
        [encode_method(1, m.QueueDelete(name))],
        [encode_method(2, m.ChannelClose(200, "", 0, 0))],
    ]


OPENED: Final = 8
"""Steps of a session after which both channels are open, and channel 2 has a transaction."""


def _joined(steps: list[Step]) -> bytes:
    return b"".join(octets for step in steps for octets in step)


def _inserted(chance: random.Random, steps: list[Step], octets: bytes, *codes: int) -> Mutant:
    """The session with something wrong between two of its steps, while both channels are open."""
    at = chance.randint(OPENED, len(steps) - 1)
    return Mutant(_joined(steps[:at]) + octets + _joined(steps[at:]), frozenset(codes), is_certain=True)


# Mutations whose answer is certain


def bad_end(chance: random.Random, steps: list[Step]) -> Mutant:
    frames = [octets for step in steps for octets in step]
    at = chance.randrange(len(frames))
    frames[at] = frames[at][:-1] + bytes([chance.choice([0, 1, 0xCD, 0xCF, 0xFF])])
    return Mutant(b"".join(frames), frozenset({501}), is_certain=True)


def wrong_size(chance: random.Random, steps: list[Step]) -> Mutant:
    frames = [octets for step in steps for octets in step]
    at = chance.randrange(len(frames) - 1)
    victim = frames[at]
    size = len(victim) - 8
    lie = chance.choice([0, size - 1, size + 1, 2**32 - 1, FRAME_MAX + 1]) & 0xFFFFFFFF
    if (lie < size and victim[7 + lie] == FRAME_END) or lie == size:
        lie = 2**32 - 1
    frames[at] = victim[:3] + struct.pack(">I", lie) + victim[7:]
    return Mutant(b"".join(frames), frozenset({501}), is_certain=True)


def unknown_type(chance: random.Random, steps: list[Step]) -> Mutant:
    kind = chance.choice([0, 4, 5, 6, 7, 9, 65, 127, 128, 255])
    return _inserted(
        chance, steps, frame(kind, chance.choice([0, 1, 2, 3]), chance.randbytes(chance.choice([0, 9]))), 501
    )


def unknown_method(chance: random.Random, steps: list[Step]) -> Mutant:
    ids = chance.choice([(0, 0), (10, 9), (20, 42), (60, 0), (60, 999), (61, 10), (85, 12), (90, 0), (65535, 65535)])
    return _inserted(
        chance, steps, method(chance.choice([0, 1, 3]), *ids, chance.randbytes(chance.choice([0, 9]))), 540
    )


def content_out_of_turn(chance: random.Random, steps: list[Step]) -> Mutant:
    channel = chance.choice([0, 1, 2, 3])
    octets = chance.choice([header(channel, 5), header(channel, 0), frame(FRAME_BODY, channel, b"x" * 5)])
    return _inserted(chance, steps, octets, 505)


def no_such_channel(chance: random.Random, steps: list[Step]) -> Mutant:
    channel = chance.choice([0, 3, CHANNEL_MAX, CHANNEL_MAX + 1, 65535])
    octets = chance.choice(
        [
            b"".join(content(channel, m.BasicPublish("", "q"), Properties(), b"x" * 100)) if channel else b"",
            encode_method(channel, m.BasicPublish("", "q")),
            encode_method(channel, m.QueueDeclare("q")),
            encode_method(channel, m.BasicAck(1)),
            encode_method(channel, m.BasicNack(1)),
        ]
    )
    return _inserted(chance, steps, octets or encode_method(channel, m.TxSelect()), 504)


def too_many_channels(chance: random.Random, steps: list[Step]) -> Mutant:
    numbers = chance.sample(range(3, 65536), CHANNEL_MAX - 1)
    return _inserted(chance, steps, b"".join(encode_method(number, m.ChannelOpen()) for number in numbers), 530)


def deep_table(chance: random.Random, steps: list[Step]) -> Mutant:
    table = nested_table(chance.choice([33, 100, 1000, 10_000]))
    octets = chance.choice(
        [
            method(1, 50, 10, b"\0\0\x01q\0" + table),
            method(1, 40, 10, b"\0\0\x01e\x06direct\0" + table),
            method(1, 60, 20, b"\0\0\x01q\x01t\0" + table),
        ]
    )
    return _inserted(chance, steps, octets, 502)


def malformed_arguments(chance: random.Random, steps: list[Step]) -> Mutant:
    octets = chance.choice(
        [
            method(1, 50, 10),
            method(1, 20, 40, b"\0\xc8\0\0\0\0\0more"),
            method(1, 40, 10, b"\0\0\xffshort"),
            method(1, 40, 10, b"\0\0\x02\xff\xfe\x06direct\x02\0\0\0\0"),
            method(1, 50, 10, b"\0\0\x01q\0\xff\xff\xff\xff"),
            method(1, 50, 10, b"\0\0\x01q\0\0\0\0\x03\x01a?"),
            method(1, 50, 10, b"\0\0\x01q\0\x7f\xff\xff\xff\x01aS\0\0\0\1x"),
            frame(FRAME_METHOD, 1, chance.randbytes(chance.randrange(4))),
        ]
    )
    return _inserted(chance, steps, octets, 502)


def longer_body(chance: random.Random, steps: list[Step]) -> Mutant:
    announced = chance.choice([0, 1, 100])
    octets = encode_method(1, m.BasicPublish("", "q")) + header(1, announced)
    octets += frame(FRAME_BODY, 1, b"x" * (announced + chance.choice([1, 60_000])))
    return _inserted(chance, steps, octets, 501 if announced else 505)


def shorter_body(chance: random.Random, steps: list[Step]) -> Mutant:
    octets = encode_method(1, m.BasicPublish("", "q")) + header(1, 100)
    octets += chance.choice([b"", frame(FRAME_BODY, 1, b""), frame(FRAME_BODY, 1, b"x" * 99)])
    wrong = chance.choice(
        [encode_method(1, m.BasicQos(0, 1, False)), encode_method(1, m.BasicPublish("", "q")), header(1, 1)]
    )
    return _inserted(chance, steps, octets + wrong, 505)


def huge_body(chance: random.Random, steps: list[Step]) -> Mutant:
    announced = chance.choice([MAX_MESSAGE + 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
    octets = encode_method(1, m.BasicPublish("", "q")) + header(1, announced) + frame(FRAME_BODY, 1, b"x" * 60_000)
    return _inserted(chance, steps, octets, 406)


def unfinished_bodies(chance: random.Random, steps: list[Step]) -> Mutant:
    """Many at a time, of which nothing may stay behind. They earn nothing."""
    octets = b""
    for number in range(3, CHANNEL_MAX - 1):
        octets += encode_method(number, m.ChannelOpen()) + encode_method(number, m.BasicPublish("", "x" * 200))
        octets += chance.choice([b"", header(number, MAX_MESSAGE) + frame(FRAME_BODY, number, b"x" * 60_000)])
    at = chance.randint(OPENED, len(steps))
    return Mutant(_joined(steps[:at]) + octets + _joined(steps[at:]), frozenset(), is_certain=True)


def wrong_turn(chance: random.Random, steps: list[Step]) -> Mutant:
    """Well-formed methods in a state that they are not for."""
    octets, code = chance.choice(
        [
            (encode_method(0, m.ConnectionOpen("/")), 504),
            (encode_method(0, m.ConnectionTuneOk(1, 4096, 0)), 504),
            (encode_method(0, m.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest")), 504),
            (encode_method(0, m.ConnectionSecureOk(b"x")), 504),
            (encode_method(0, m.ConnectionCloseOk()), 504),
            (encode_method(0, m.ConnectionStart()), 504),
            (encode_method(1, m.ConnectionOpen("/")), 503),
            (encode_method(1, m.ChannelOpen()), 504),
            (encode_method(1, m.ChannelCloseOk()), 503),
            (encode_method(1, m.QueueDeclareOk("q", 0, 0)), 503),
            (encode_method(1, m.BasicDeliver("tag", 1, False, "", "")), 503),
            (encode_method(1, m.BasicGetEmpty()), 503),
            (encode_method(1, m.TxCommit()), 406),
            (encode_method(1, m.TxSelect()), 406),
            (encode_method(2, m.ConfirmSelect()), 406),
            (encode_method(1, m.BasicAck(2**63)), 406),
            (encode_method(1, m.BasicQos(1, 0, False)), 540),
            (encode_method(1, m.ChannelFlow(False)), 540),
            (encode_method(1, m.QueueDeclare("nobody", passive=True)), 404),
            (encode_method(1, m.ExchangeDeclare("amq.new", "direct")), 403),
        ]
    )
    return _inserted(chance, steps, octets, code)


# Mutations that may mean anything


def flip_bits(chance: random.Random, steps: list[Step]) -> Mutant:
    data = bytearray(_joined(steps))
    for _ in range(chance.choice([1, 1, 2, 10])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return Mutant(bytes(data))


def change_octets_of_one(chance: random.Random, steps: list[Step]) -> Mutant:
    """Only in a payload, so that it is read."""
    frames = [octets for step in steps for octets in step]
    at = chance.choice([number for number, octets in enumerate(frames) if len(octets) > 8])
    changed = bytearray(frames[at])
    for _ in range(chance.choice([1, 2, 5])):
        changed[chance.randrange(7, len(changed) - 1)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
    frames[at] = bytes(changed)
    return Mutant(b"".join(frames))


def shuffle(chance: random.Random, steps: list[Step]) -> Mutant:
    """Of all steps but the first; or of all frames, in any order."""
    rest = steps[1:]
    if chance.random() < 0.3:
        rest = [[octets] for step in rest for octets in step]
    chance.shuffle(rest)
    return Mutant(_joined([steps[0], *rest]))


def drop_and_repeat(chance: random.Random, steps: list[Step]) -> Mutant:
    return Mutant(_joined([step for step in steps for _ in range(chance.choice([0, 1, 1, 1, 1, 2]))]))


def other_channels(chance: random.Random, steps: list[Step]) -> Mutant:
    channels = [0, 1, 2, 3, CHANNEL_MAX, CHANNEL_MAX + 1, 65535]
    frames = [octets for step in steps for octets in step]
    return Mutant(
        b"".join(
            octets[:1] + struct.pack(">H", chance.choice(channels)) + octets[3:] if chance.random() < 0.1 else octets
            for octets in frames
        )
    )


def other_methods(chance: random.Random, steps: list[Step]) -> Mutant:
    """Known methods, with arguments of chance or none."""
    ids = [(row[0], row[1]) for row in m.METHODS]
    changed = list(steps)
    for at in range(1, len(steps)):
        if chance.random() < 0.1:
            arguments = chance.choice([b"", bytes(9), bytes(40), chance.randbytes(9), b"\0\0\x01q\0\0\0\0\0"])
            changed[at] = [method(chance.choice([0, 1, 2]), *chance.choice(ids), arguments)]
    return Mutant(_joined(changed))


def acks(chance: random.Random, steps: list[Step]) -> Mutant:
    """Of deliveries that there may be, or not."""

    def settle() -> m.Method:
        tag, multiple = chance.choice([0, 1, 2, 5, 2**32, 2**64 - 1]), chance.random() < 0.4
        requeue = chance.random() < 0.5
        return chance.choice(
            [m.BasicAck(tag, multiple), m.BasicNack(tag, multiple, requeue), m.BasicReject(tag, requeue)]
        )

    changed: list[Step] = []
    for step in steps:
        changed.append(step)
        if chance.random() < 0.3:
            changed.append([encode_method(chance.choice([1, 2]), settle())])
    return Mutant(_joined(changed))


def random_frames(chance: random.Random, steps: list[Step]) -> Mutant:
    return Mutant(
        _joined(steps[:1])
        + b"".join(
            frame(
                chance.choice([1, 1, 2, 3, 8, chance.randrange(256)]),
                chance.choice([0, 1]),
                chance.randbytes(chance.randrange(60)),
            )
            for _ in range(20)
        )
    )


def random_octets(chance: random.Random, steps: list[Step]) -> Mutant:
    data = _joined(steps[: chance.randrange(len(steps))])
    return Mutant(data + chance.randbytes(chance.choice([1, 10, 1000, 20_000])))


def cut(chance: random.Random, steps: list[Step]) -> Mutant:
    data = _joined(steps)
    return Mutant(data[: chance.randrange(len(data))])


def nothing(_chance: random.Random, steps: list[Step]) -> Mutant:
    """It is not changed, and earns nothing."""
    return Mutant(_joined(steps), frozenset(), is_certain=True)


MUTATIONS: Final[tuple[Callable[[random.Random, list[Step]], Mutant], ...]] = (
    nothing,
    bad_end,
    wrong_size,
    unknown_type,
    unknown_method,
    content_out_of_turn,
    no_such_channel,
    too_many_channels,
    deep_table,
    malformed_arguments,
    longer_body,
    shorter_body,
    huge_body,
    unfinished_bodies,
    wrong_turn,
    flip_bits,
    change_octets_of_one,
    shuffle,
    drop_and_repeat,
    other_channels,
    other_methods,
    acks,
    random_frames,
    random_octets,
    cut,
)


def mutants(chance: random.Random) -> Any:
    """One after the other without end: (the name of its mutation, frames of the session that it was made of, it)."""
    number = 0
    while True:
        for mutate in MUTATIONS:
            number += 1
            steps = proper_session(chance, f"q{number}")
            yield mutate.__name__, sum(map(len, steps)), mutate(chance, steps)


def before_login(chance: random.Random) -> bytes:
    """What comes instead of, or behind, the protocol header; a login in it is none that bcrypt would have to check."""
    login = encode_method(0, m.ConnectionStartOk({"product": "x", "a": {"b": [1]}}, "AMQPLAIN", b"\0guest\0guest"))
    changed = bytearray(login)
    for _ in range(chance.choice([1, 2, 10])):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    size = chance.choice([0, 1, len(login) - 7, 4097, 2**31, 2**32 - 1])
    protocol = b"AMQP\0\0\x09\x01"
    start = chance.choice(
        [
            b"",
            b"AMQP",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            protocol,
            protocol + bytes(changed),
            protocol + login[:3] + struct.pack(">I", size) + login[7:],
            protocol + encode_method(0, m.ConnectionOpen("/")),
            protocol + encode_method(1, m.ChannelOpen()) + encode_method(1, m.BasicPublish("", "q")) + header(1, 9),
        ]
    )
    return start + chance.randbytes(chance.randrange(200))
