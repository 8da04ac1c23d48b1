from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.amqp.constants import HEARTBEAT_FRAME
from dispatchd.amqp.encoder import Frames, deliver_prefix, encode_ack, encode_nack, encode_return, write_deliver
from dispatchd.amqp.frame_parser import FrameParser
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.method_codec import decode_method, encode_method
from dispatchd.amqp.methods import BasicConsumeOk, ChannelClose, ConnectionBlocked
from dispatchd.amqp.properties import Properties
from dispatchd.perf.counting.histogram import Histogram
from dispatchd.perf.counting.scanner import BadFrameError, Scanner
from dispatchd.perf.counting.unconfirmed import Unconfirmed

NOW = 1_000_000


def message(body: bytes) -> Message:
    return make_message("direct", "key", Properties(delivery_mode=1), body)


def stamped(sent: int, size: int = 12) -> bytes:
    return (bytes(4) + sent.to_bytes(8, "big")).ljust(size, b"\xce")


def delivery(tag: int, body: bytes, frame_max: int = 4096) -> bytes:
    frames = Frames()
    write_deliver(frames, 1, deliver_prefix("some consumer"), tag, False, message(body), frame_max)
    return b"".join(frames.all())


def acks_of(scanner: Scanner) -> list[tuple[int, bool]]:
    inputs = FrameParser().feed(scanner.take_acks())
    return [(ack // 2, ack % 2 == 1) for each in inputs for ack in each.acks]


def test_deliveries_are_counted_timed_and_acked() -> None:
    scanner = Scanner(Histogram(), ack_every=1)
    scanner.feed(b"".join(delivery(tag, stamped(NOW - tag * 100)) for tag in (1, 2, 3)), NOW)
    assert (scanner.received, scanner.latency.total) == (3, 3)
    assert (scanner.latency.smallest, scanner.latency.largest) == (100, 300)
    assert acks_of(scanner) == [(1, False), (2, False), (3, False)]
    assert scanner.take_acks() == b""


def test_several_are_acked_at_once_and_the_rest_when_it_is_asked_for() -> None:
    scanner = Scanner(Histogram(), ack_every=3)
    scanner.feed(b"".join(delivery(tag, stamped(NOW)) for tag in range(1, 9)), NOW)
    assert acks_of(scanner) == [(3, True), (6, True)]
    scanner.ack_rest()
    assert acks_of(scanner) == [(8, True)]
    scanner.ack_rest()
    assert scanner.take_acks() == b""


def test_without_acks_there_are_none() -> None:
    scanner = Scanner(Histogram())
    scanner.feed(delivery(1, stamped(NOW)), NOW)
    scanner.ack_rest()
    assert (scanner.received, scanner.take_acks()) == (1, b"")


@pytest.mark.parametrize("body", [b"", b"short", bytes(11)])
def test_a_body_without_a_time_is_counted(body: bytes) -> None:
    scanner = Scanner(Histogram(), ack_every=1)
    scanner.feed(delivery(1, body) + delivery(2, stamped(NOW - 5)), NOW)
    assert (scanner.received, scanner.latency.total, scanner.latency.largest) == (2, 1, 5)


def test_no_more_is_taken_than_is_allowed() -> None:
    scanner = Scanner(Histogram(), ack_every=1)
    scanner.allowance = 2
    scanner.feed(b"".join(delivery(tag, stamped(NOW)) for tag in range(1, 6)), NOW)
    assert (scanner.received, scanner.is_holding) == (2, True)
    scanner.allowance = 2
    scanner.feed(b"", NOW)
    assert (scanner.received, scanner.is_holding) == (4, True)
    scanner.allowance = 2
    scanner.feed(delivery(6, stamped(NOW)), NOW)
    assert (scanner.received, scanner.is_holding) == (6, False)
    assert [tag for tag, _ in acks_of(scanner)] == [1, 2, 3, 4, 5, 6]


def test_confirms_are_settled() -> None:
    waiting = Unconfirmed(Histogram())
    waiting.add(5, NOW - 10)
    scanner = Scanner(Histogram(), unconfirmed=waiting)
    scanner.feed(encode_ack(1, 2, True) + encode_nack(1, 3, False, False) + encode_ack(1, 5, False), NOW)
    assert (waiting.count, waiting.acked, waiting.nacked) == (1, 3, 1)


def test_returned_messages_are_counted_and_not_received() -> None:
    scanner = Scanner(Histogram(), ack_every=1)
    scanner.feed(b"".join(encode_return(1, 312, "NO_ROUTE", message(stamped(NOW)), 4096)), NOW)
    assert (scanner.returned, scanner.received, scanner.latency.total, scanner.take_acks()) == (1, 0, 0, b"")


def test_other_methods_are_handed_on() -> None:
    scanner = Scanner(Histogram())
    blocked, consuming, close = ConnectionBlocked("low on memory"), BasicConsumeOk("tag"), ChannelClose(404, "no")
    sent = (encode_method(0, blocked), HEARTBEAT_FRAME, encode_method(1, consuming), encode_method(1, close))
    scanner.feed(b"".join(sent), NOW)
    found = [(channel, decode_method(payload)) for channel, payload in scanner.methods]
    assert found == [(0, blocked), (1, consuming), (1, close)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"AMQP\x00\x00\x09\x01",
        delivery(1, stamped(NOW))[:-1] + b"\x00",
        encode_method(1, BasicConsumeOk("tag"))[:-1] + b"\x00",
        encode_ack(1, 1, False),  # no confirms were asked for
        delivery(1, stamped(NOW))[-20:],
        delivery(1, stamped(NOW))[:40] * 2,
        b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x3c\xff\xce",
    ],
)
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(BadFrameError):
        Scanner(Histogram()).feed(data, NOW)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 300)), max_size=20),
    st.lists(st.integers(0, 3000), max_size=10),
    st.integers(0, 4),
)
def test_it_does_not_matter_how_the_bytes_come(bodies: list[tuple[int, int]], cuts: list[int], every: int) -> None:
    data = b"".join(
        delivery(tag, stamped(NOW - age, size)[:size], frame_max=100) for tag, (age, size) in enumerate(bodies, 1)
    )
    whole, parts = Scanner(Histogram(), every), Scanner(Histogram(), every)
    whole.feed(data, NOW)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        parts.feed(data[begin:end], NOW)
    assert whole.received == parts.received == len(bodies)
    assert whole.take_acks() == parts.take_acks()
    assert (whole.latency.total, whole.latency.largest) == (parts.latency.total, parts.latency.largest)
    assert whole.latency.total == sum(size >= 12 for _, size in bodies)
