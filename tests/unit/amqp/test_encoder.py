import pytest
from pamqp import body, commands, frame, header

from dispatchd.amqp.encoder import (
    Frames,
    Piece,
    deliver_prefix,
    encode_ack,
    encode_get_ok,
    encode_nack,
    encode_return,
    write_deliver,
)
from dispatchd.amqp.errors import NO_ROUTE
from dispatchd.amqp.frame_parser import FrameParser
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.methods import BasicAck, BasicDeliver, BasicGetOk, BasicNack, BasicPublish, BasicReturn, Method
from dispatchd.amqp.properties import Properties

PROPERTIES = Properties(content_type="text/plain", headers={"a": 1}, delivery_mode=2)


def message_of(size: int) -> Message:
    return make_message("logs", "a.é", PROPERTIES, bytes(index % 251 for index in range(size)))


def read_all(data: bytes) -> list[tuple[int, frame.FrameTypes]]:
    frames = []
    while data:
        consumed, channel, each = frame.unmarshal(data)
        frames.append((channel, each))
        data = data[consumed:]
    return frames


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(pieces)


def check(encoded: bytes, channel: int, method: Method, message: Message) -> None:
    """Method frame by our codec, content by pamqp."""
    expected = encode_method(channel, method)
    assert encoded[: len(expected)] == expected
    frames = read_all(encoded[len(expected) :])
    assert {number for number, _ in frames} == {channel}
    content_header = frames[0][1]
    assert isinstance(content_header, header.ContentHeader)
    assert content_header.body_size == message.size
    assert content_header.properties.headers == {"a": 1}
    parts = [each.value for _, each in frames[1:] if isinstance(each, body.ContentBody)]
    assert len(parts) == len(frames) - 1
    assert all(parts)
    assert b"".join(parts) == message.body


@pytest.mark.parametrize("frame_max", [0, 4096, 131072])
@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 10_000])
@pytest.mark.parametrize("channel", [1, 40_000, 65_535])
def test_deliver(channel: int, size: int, frame_max: int) -> None:
    message = message_of(size)
    frames = Frames()
    write_deliver(frames, channel, deliver_prefix("ctag-é"), 2**40, True, message, frame_max)
    check(joined(frames.all()), channel, BasicDeliver("ctag-é", 2**40, True, "logs", "a.é"), message)


def test_deliveries_gather_in_one_writer() -> None:
    frames = Frames()
    for tag in range(1, 4):
        write_deliver(frames, 1, deliver_prefix("c"), tag, False, message_of(tag), 4096)
    methods = [each for _, each in read_all(joined(frames.all())) if isinstance(each, commands.Basic.Deliver)]
    assert [(each.delivery_tag, each.redelivered) for each in methods] == [(1, False), (2, False), (3, False)]


def test_get_ok() -> None:
    encoded = joined(encode_get_ok(3, 7, False, message_of(5000), 2**31, 4096))
    check(encoded, 3, BasicGetOk(7, False, "logs", "a.é", 2**31), message_of(5000))


@pytest.mark.parametrize("text", ["NO_ROUTE", "x" * 300])
def test_return(text: str) -> None:
    encoded = joined(encode_return(3, NO_ROUTE, text, message_of(5000), 4096))
    check(encoded, 3, BasicReturn(312, text, "logs", "a.é"), message_of(5000))


def test_a_body_in_several_frames_is_not_copied() -> None:
    message = message_of(10_000)
    pieces = encode_get_ok(1, 1, False, message, 0, 4096)
    parts = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert [len(part) for part in parts] == [4088, 4088, 1824]
    assert all(part.obj is message.body for part in parts)


def test_confirms() -> None:
    assert encode_ack(3, 2**40, True) == encode_method(3, BasicAck(2**40, True))
    assert encode_ack(3, 1, False) == encode_method(3, BasicAck(1))
    for multiple in (True, False):
        for requeue in (True, False):
            assert encode_nack(65535, 9, multiple, requeue) == encode_method(65535, BasicNack(9, multiple, requeue))


def test_a_tag_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="at most 255"):
        deliver_prefix("c" * 256)


@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
def test_frames_are_as_large_as_agreed_and_the_parser_takes_them(frame_max: int) -> None:
    message = message_of(20_000)
    encoded = joined(encode_get_ok(1, 1, False, message, 0, frame_max))
    sizes = []
    at = 0
    while at < len(encoded):
        sizes.append(int.from_bytes(encoded[at + 3 : at + 7], "big") + 8)
        at += sizes[-1]
    assert max(sizes) <= frame_max
    assert len(sizes) == 2 + -(-20_000 // (frame_max - 8))
    content = encoded[sizes[0] :]
    parser = FrameParser(frame_max)
    parser.open_channel(1)
    (only,) = parser.feed(encode_method(1, BasicPublish("logs", "a.é")) + content)
    (parsed,) = only.published
    assert (parsed.address, parsed.header, parsed.body, parsed.persistent) == (
        message.address,
        message.header,
        message.body,
        True,
    )
