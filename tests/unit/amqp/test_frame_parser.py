import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatchd.amqp.constants import FRAME_MIN_SIZE, HEARTBEAT_FRAME
from dispatchd.amqp.errors import (
    AmqpError,
    AmqpSyntaxError,
    FrameError,
    PreconditionFailed,
    UnexpectedFrame,
)
from dispatchd.amqp.frame_parser import HIGHEST_TAG, ChannelInput, FrameParser
from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.methods import (
    BasicAck,
    BasicGet,
    BasicNack,
    BasicPublish,
    ChannelClose,
    ChannelCloseOk,
    ChannelOpen,
    ConnectionCloseOk,
    ConnectionTuneOk,
    Method,
    QueueDeclare,
)
from dispatchd.amqp.properties import Properties, decode_properties, encode_header


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return bytes([kind]) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"


def parser_of(frame_max: int = FRAME_MIN_SIZE, max_message_size: int = 16 << 20) -> FrameParser:
    """A parser whose peer has opened some channels."""
    parser = FrameParser(frame_max, max_message_size)
    for number in range(1, 10):
        parser.open_channel(number)
    return parser


def publish(
    body: bytes,
    channel: int = 1,
    key: str = "q",
    part: int = 1000,
    exchange: str = "",
    properties: Properties | None = None,
) -> bytes:
    frames = [
        encode_method(channel, BasicPublish(exchange, key)),
        frame(2, channel, encode_header(len(body), properties or Properties())),
    ]
    frames += [frame(3, channel, body[at : at + part]) for at in range(0, len(body), part)]
    return b"".join(frames)


def announce(body_size: int, channel: int = 1) -> bytes:
    return encode_method(channel, BasicPublish("", "q")) + frame(2, channel, encode_header(body_size, Properties()))


def seen(inputs: list[ChannelInput]) -> list[Any]:
    """What each input holds, for comparison."""
    return [
        (
            each.channel,
            [
                (m.exchange, m.routing_key, m.address, m.mandatory, m.immediate, m.header, m.body, m.persistent)
                for m in each.published
            ],
            list(each.acks),
            each.method,
            each.error and each.error.text,
            each.cost,
        )
        for each in inputs
    ]


def bodies(inputs: list[ChannelInput]) -> list[bytes]:
    return [message.body for each in inputs for message in each.published]


def history(inputs: list[ChannelInput]) -> dict[int, list[Any]]:
    """Per channel what happened in which order, however reads were cut: publishes and acks between two methods."""
    events: dict[int, list[Any]] = {}
    for channel, published, acks, method, error, _ in seen(inputs):
        channel_events = events.setdefault(channel, [([], [])])
        channel_events[-1][0].extend(published)
        channel_events[-1][1].extend(acks)
        if method or error:
            channel_events += [method or error, ([], [])]
    return events


def failure_of(data: bytes, parser: FrameParser | None = None) -> Any:
    parser = parser or parser_of()
    parser.feed(data)
    assert parser.feed(encode_method(1, ChannelOpen())) == []
    return parser.failure


OPERATIONS = st.one_of(
    st.builds(
        publish,
        st.binary(max_size=40),
        st.integers(1, 3),
        st.sampled_from(["a", "b.c", "é"]),
        st.sampled_from([3, 1000]),
        st.sampled_from(["", "x"]),
        st.builds(Properties, delivery_mode=st.sampled_from([None, 1, 2]), reply_to=st.none() | st.text(max_size=5)),
    ),
    st.builds(encode_method, st.integers(1, 3), st.builds(BasicAck, st.integers(0, 2**64 - 1), st.booleans())),
    st.builds(
        encode_method,
        st.integers(0, 3),
        st.sampled_from([ChannelOpen(), BasicGet("q"), QueueDeclare("q", arguments={"a": 1})]),
    ),
    st.builds(publish, st.just(b"much too large" * 10), st.integers(1, 3), st.just("q"), st.just(50)),
    st.just(HEARTBEAT_FRAME),
)


@settings(max_examples=120)
@given(st.lists(OPERATIONS, max_size=12), st.data())
def test_bytes_split_anywhere_mean_the_same(operations: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(operations)
    whole = parser_of(max_message_size=100)
    expected = whole.feed(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    parser = parser_of(max_message_size=100)
    inputs = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        inputs += parser.feed(stream[begin:end])
    assert (whole.failure, parser.failure) == (None, None)
    assert history(inputs) == history(expected)
    assert sum(each.cost for each in inputs) == sum(each.cost for each in expected)


def test_one_octet_at_a_time() -> None:
    stream = publish(b"x" * 3000) + encode_method(1, BasicAck(1)) + encode_method(1, BasicGet("q"))
    parser = parser_of()
    inputs = [each for octet in stream for each in parser.feed(bytes([octet]))]
    assert history(inputs) == history(parser_of().feed(stream))


@settings(max_examples=200)
@given(st.lists(OPERATIONS, min_size=1, max_size=4), st.data())
def test_damaged_bytes_fail_with_a_reply_code_or_mean_something_else(
    operations: list[bytes], data: st.DataObject
) -> None:
    stream = bytearray(b"".join(operations))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    parser = parser_of(max_message_size=100)
    parser.feed(bytes(stream))
    assert parser.failure is None or parser.failure.code in (501, 502, 504, 505, 540)


def test_what_a_publish_becomes() -> None:
    properties = Properties(content_type="text/plain", headers={"a": 1}, delivery_mode=2)
    stream = encode_method(9, BasicPublish("logs", "a.b", mandatory=True)) + frame(2, 9, encode_header(4, properties))
    (only,) = parser_of().feed(stream + frame(3, 9, b"bo") + frame(3, 9, b"") + frame(3, 9, b"dy"))
    (message,) = only.published
    assert (message.exchange, message.routing_key, message.address) == ("logs", "a.b", b"\x04logs\x03a.b")
    assert (message.mandatory, message.immediate, message.persistent, message.body) == (True, False, True, b"body")
    assert decode_properties(message.header) == properties
    assert (message.sequence, message.queues, message.message_id, message.visited) == (0, 0, 0, None)


def test_immediate_and_transient() -> None:
    stream = encode_method(1, BasicPublish("", "q", immediate=True)) + frame(
        2, 1, encode_header(0, Properties(delivery_mode=1))
    )
    (message,) = parser_of().feed(stream)[0].published
    assert (message.mandatory, message.immediate, message.persistent, message.body) == (False, True, False, b"")


def test_publishes_with_equal_headers_share_one() -> None:
    properties = Properties(delivery_mode=2, headers={"a": 1})
    parser = parser_of(max_message_size=100)
    stream = publish(b"12", properties=properties) + publish(b"34", properties=properties) + publish(b"56")
    first, second, third = parser.feed(stream)[0].published
    assert first.header is second.header
    assert [(one.size, one.persistent) for one in (first, second, third)] == [(2, True), (2, True), (2, False)]
    assert decode_properties(third.header) == Properties()
    for _ in range(2):
        (refused,) = parser.feed(publish(b"x" * 101, properties=properties))
        assert (refused.published, refused.error is not None) == ([], True)
    (last,) = parser.feed(publish(b"78", properties=properties))[0].published
    assert (last.header, last.persistent) == (first.header, True)


def test_a_long_header_is_kept_by_its_message_alone() -> None:
    properties = Properties(headers={"long": "x" * 1024})
    parser = parser_of(frame_max=131072)
    first, second = parser.feed(publish(b"1", properties=properties) * 2)[0].published
    assert (first.header == second.header, first.header is second.header) == (True, False)


def test_publishes_to_one_address_share_it() -> None:
    first, second, third = parser_of().feed(publish(b"1") + publish(b"2") + publish(b"3", key="other"))[0].published
    assert first.address is second.address
    assert first.routing_key is second.routing_key
    assert third.routing_key == "other"


def test_cost_grows_with_the_body() -> None:
    (only,) = parser_of().feed(publish(b"") + publish(b"x" * 1023) + publish(b"x" * 1024) + publish(b"x" * 5000))
    assert only.cost == 1 + 1 + 2 + 5


def test_publishes_and_acks_of_a_channel_share_an_input_across_other_channels() -> None:
    stream = publish(b"1") + encode_method(2, BasicAck(5)) + encode_method(1, BasicAck(6, True)) + publish(b"2")
    first, second = parser_of().feed(stream)
    assert (first.channel, bodies([first]), first.acks, first.method) == (1, [b"1", b"2"], [13], None)
    assert (second.channel, second.acks) == (2, [10])


def test_any_other_method_ends_the_input_of_its_channel_only() -> None:
    stream = publish(b"1") + publish(b"a", 2) + encode_method(1, BasicGet("q")) + publish(b"2") + publish(b"b", 2)
    stream += encode_method(1, BasicNack(3)) + encode_method(1, ChannelCloseOk())
    assert [(i.channel, bodies([i]), i.method) for i in parser_of().feed(stream)] == [
        (1, [b"1"], BasicGet("q")),
        (2, [b"a", b"b"], None),
        (1, [b"2"], BasicNack(3)),
        (1, [], ChannelCloseOk()),
    ]


def test_content_of_channels_may_interleave() -> None:
    def frames(channel: int) -> list[bytes]:
        return [announce(2, channel), frame(3, channel, b"a"), frame(3, channel, b"b")]

    mixed = b"".join(each for pair in zip(frames(1), frames(2), strict=True) for each in pair)
    assert [(each.channel, bodies([each])) for each in parser_of().feed(mixed)] == [(1, [b"ab"]), (2, [b"ab"])]


@pytest.mark.parametrize("tag", [2**62 - 1, 2**62, 2**63, 2**64 - 1])
def test_tags_that_nobody_was_given_stay_in_range(tag: int) -> None:
    (only,) = parser_of().feed(encode_method(1, BasicAck(tag, True)))
    assert only.acks == [HIGHEST_TAG * 2 + 1]


@pytest.mark.parametrize("method", [BasicAck(1), BasicPublish("", "q"), ConnectionTuneOk(1, 4096, 0)], ids=repr)
def test_on_channel_0_every_method_is_for_the_connection(method: Method) -> None:
    (only,) = parser_of().feed(encode_method(0, method))
    assert (only.channel, only.method, only.acks, only.published) == (0, method, [], [])


def test_heartbeats_are_ignored() -> None:
    parser = parser_of()
    assert parser.feed(HEARTBEAT_FRAME * 3) == []
    assert parser.failure is None


def test_what_came_before_a_failure_is_returned() -> None:
    parser = parser_of()
    inputs = parser.feed(publish(b"1") + encode_method(1, BasicGet("q")) + publish(b"2") + b"\x01\0\x01\0\0\0\x01a\0")
    assert [(bodies([each]), each.method) for each in inputs] == [([b"1"], BasicGet("q")), ([b"2"], None)]
    assert isinstance(parser.failure, FrameError)
    assert parser.failure.text == 'FRAME_ERROR - type 1, all octets = <<"a">>: {invalid_frame_end_marker,0}'
    assert parser.feed(publish(b"3")) == []


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (frame(9, 1, b""), FrameError, "type 9, all octets = <<>>: unknown_frame"),
        (frame(0, 0, bytes(17)), FrameError, "first 16 octets"),
        (frame(8, 0, b"a"), FrameError, 'type 8, all octets = <<"a">>: unknown_frame'),
        (frame(8, 1, b""), UnexpectedFrame, "type 8, all octets = <<>>"),
        (b"\x01\0\x01\xff\xff\xff\xff", FrameError, "{frame_too_large,4294967295,4088}"),
        (frame(1, 1, b"\0\x3c"), AmqpSyntaxError, "octets"),
        (frame(1, 1, b"\0\x3c\0\x28\0\0\x05ab"), AmqpSyntaxError, "basic.publish"),
        (frame(1, 1, b"\0\x3c\0\x28\0\0\0"), AmqpSyntaxError, "basic.publish"),
        (frame(1, 1, b"\0\x3c\0\x28\0\0\0\0\0\0"), AmqpSyntaxError, "basic.publish"),
        (frame(1, 1, b"\0\x3c\0\x28\0\0\x01\xff\0\0"), AmqpSyntaxError, "UTF-8"),
        (frame(1, 1, b"\0\x3c\0\x50" + bytes(8)), AmqpSyntaxError, "octets"),
        (frame(1, 1, b"\0\x3c\0\x50" + bytes(10)), AmqpSyntaxError, "follow"),
        (frame(2, 1, encode_header(0, Properties())), UnexpectedFrame, "expected method frame, got non method frame"),
        (frame(3, 1, b"a"), UnexpectedFrame, "expected method frame, got non method frame"),
        (frame(2, 0, encode_header(0, Properties())), UnexpectedFrame, "type 2, all octets = <<0,60,"),
        (
            encode_method(1, BasicPublish()) * 2,
            UnexpectedFrame,
            "expected content header for class 60, got non content header",
        ),
        (encode_method(1, BasicPublish()) + frame(3, 1, b"a"), UnexpectedFrame, "expected content header for class 60"),
        (
            announce(5) + frame(2, 1, encode_header(5, Properties())),
            UnexpectedFrame,
            "expected content body, got non content body",
        ),
        (announce(5) + encode_method(1, BasicGet()), UnexpectedFrame, "expected content body, got non content body"),
        (announce(5) + frame(3, 1, b"123456"), FrameError, "content body frame exceeds remaining content size"),
        (announce(200) + frame(3, 1, bytes(201)), FrameError, "content body frame exceeds remaining content size"),
        (announce(0) + frame(3, 1, b""), UnexpectedFrame, "expected method frame"),
        (encode_method(1, BasicPublish()) + frame(2, 1, b"\0\x3c"), FrameError, "unknown_frame"),
        (encode_method(1, BasicPublish()) + frame(2, 1, b""), FrameError, "type 2, all octets = <<>>: unknown_frame"),
        (
            encode_method(1, BasicPublish()) + frame(2, 1, b"\0\x32" + bytes(12)),
            UnexpectedFrame,
            "for class 60, got one for class 50",
        ),
        (encode_method(1, BasicPublish()) + frame(2, 1, b"\0\x3c" + bytes(12) + b"a"), AmqpSyntaxError, "properties"),
        (
            encode_method(1, BasicPublish()) + frame(2, 1, b"\0\x3c" + bytes(10) + b"\x80\0\x05a"),
            AmqpSyntaxError,
            "properties",
        ),
    ],
)
def test_violations(data: bytes, error: type[AmqpError], text: str) -> None:
    failure = failure_of(data, parser_of(max_message_size=100))
    assert type(failure) is error
    assert text in failure.text


def test_a_failure_in_content_names_basic_publish() -> None:
    failure = failure_of(announce(5) + frame(3, 1, b"123456"))
    assert (failure.class_id, failure.method_id) == (60, 40)


def test_an_unknown_method_fails_with_its_ids() -> None:
    failure = failure_of(frame(1, 1, b"\0\x3c\x03\xe7"))
    assert (failure.code, failure.class_id, failure.method_id) == (540, 60, 999)


def test_frame_max_is_agreed_on_later() -> None:
    large = publish(b"x" * 10_000, part=10_000)
    assert isinstance(failure_of(large), FrameError)
    parser = parser_of()
    parser.feed(encode_method(0, ConnectionTuneOk(0, 16384, 0)))
    parser.frame_max = 16384
    assert bodies(parser.feed(large)) == [b"x" * 10_000]


def test_a_payload_may_forget_the_octets_around_it() -> None:
    assert bodies(parser_of().feed(publish(b"x" * FRAME_MIN_SIZE, part=FRAME_MIN_SIZE))) == [b"x" * FRAME_MIN_SIZE]
    assert isinstance(failure_of(publish(b"x" * (FRAME_MIN_SIZE + 1), part=FRAME_MIN_SIZE + 1)), FrameError)


def test_no_frame_max_still_has_a_limit() -> None:
    assert bodies(parser_of(0, 100_000).feed(publish(b"x" * 100_000, part=100_000))) == [b"x" * 100_000]
    failure = failure_of(b"\x03\0\x01" + (100_001).to_bytes(4, "big"), parser_of(0, 100_000))
    assert isinstance(failure, FrameError)


@pytest.mark.parametrize("size", [101, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_message_that_is_too_large(size: int) -> None:
    parser = parser_of(max_message_size=100)
    (only,) = parser.feed(publish(b"1") + announce(size) + frame(3, 1, bytes(60)))
    assert bodies([only]) == [b"1"]
    assert isinstance(only.error, PreconditionFailed)
    assert only.error.text == f"PRECONDITION_FAILED - message size {size} is larger than configured max size 100"
    assert (only.error.class_id, only.error.method_id) == (60, 40)
    assert parser.feed(frame(3, 1, bytes(40))) == []
    (after,) = parser.feed(encode_method(1, ChannelCloseOk()))
    assert (after.method, after.error, after.published) == (ChannelCloseOk(), None, [])
    assert parser.failure is None


def test_what_follows_a_message_that_is_too_large() -> None:
    parser = parser_of(max_message_size=100)
    inputs = parser.feed(publish(b"x" * 150, part=70) + publish(b"2") + publish(b"a", 2))
    assert [(each.channel, bodies([each]), each.error is not None) for each in inputs] == [
        (1, [], True),
        (1, [b"2"], False),
        (2, [b"a"], False),
    ]


def test_nothing_is_kept_of_what_is_refused_or_announced_only() -> None:
    parser = parser_of(0, 50_000_000)
    refusing = parser_of(131_072, 1000)
    part = frame(3, 1, bytes(50_000))
    tracemalloc.start()
    try:
        parser.feed(announce(50_000_000) + frame(3, 1, b"a"))
        parser.feed(b"\x03\0\x01" + (50_000_000).to_bytes(4, "big") + b"a")
        refusing.feed(announce(2**62))
        for _ in range(50):
            refusing.feed(part)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_a_large_frame_in_small_reads_is_not_joined_again_and_again() -> None:
    size = 8_000_000
    stream = publish(b"x" * size, part=size)
    parser = parser_of(0)
    inputs: list[ChannelInput] = []
    for at in range(0, len(stream), 1000):  # 32 GB to copy if every read joined what there is
        inputs += parser.feed(stream[at : at + 1000])
    assert [len(body) for body in bodies(inputs)] == [size]


# Contents come on open channels alone


def test_a_publish_on_a_channel_that_is_not_open_is_a_method_without_a_content() -> None:
    parser = FrameParser()
    (only,) = parser.feed(encode_method(1, BasicPublish("", "q")))
    assert (only.published, only.method) == ([], BasicPublish("", "q"))
    content = frame(2, 1, encode_header(1, Properties())) + frame(3, 1, b"x")
    (after,) = parser.feed(content + encode_method(0, ConnectionCloseOk()))
    assert after.method == ConnectionCloseOk()
    assert failure_of(content, parser).code == 505


@pytest.mark.parametrize("end", [ChannelClose(200, "", 0, 0), ChannelCloseOk()])
def test_channels_open_and_close_by_what_the_peer_says(end: Method) -> None:
    parser = FrameParser()
    opened = parser.feed(encode_method(1, ChannelOpen()) + publish(b"a"))
    assert bodies(opened) == bodies(parser.feed(publish(b"a"))) == [b"a"]
    _, publishing = parser.feed(encode_method(1, end) + encode_method(1, BasicPublish("", "q")))
    assert publishing.method == BasicPublish("", "q")
    assert bodies(parser.feed(encode_method(1, ChannelOpen()) + publish(b"b"))) == [b"b"]


def test_channel_0_never_takes_a_content() -> None:
    parser = FrameParser()
    parser.feed(encode_method(0, ChannelOpen()))
    assert failure_of(publish(b"a", channel=0), parser).code == 505


def test_what_comes_for_channels_of_a_closing_connection_is_skipped_and_not_kept() -> None:
    parser = parser_of()
    assert parser.feed(announce(5000) + frame(3, 1, b"x" * 4000) + b"\x03\0\x01\0\0\0") == []
    parser.end_channels()
    rest = b"\x01x\xce" + publish(b"b", channel=2) + frame(77, 3, b"?") + encode_method(4, ChannelOpen())
    (only,) = parser.feed(rest + encode_method(0, ConnectionCloseOk()))
    assert (only.channel, only.method) == (0, ConnectionCloseOk())


def test_what_never_becomes_a_content_takes_no_memory() -> None:
    parser = FrameParser()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1, 2000):
        parser.feed(encode_method(number, BasicPublish("", "q")))
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 10_000


# What is not complete


def test_it_counts_what_it_keeps_of_contents_that_are_not_complete() -> None:
    parser = parser_of(10_000)
    half = publish(b"x" * 5000, part=2500)
    head = len(publish(b"x" * 5000, part=5000)) - 5008 - len(encode_method(1, BasicPublish("", "q"))) - 8
    parser.feed(half[:-2508])
    assert parser.unfinished == head + 2500
    parser.feed(publish(b"y" * 5000, 2, part=2500)[:-2508] + publish(b"z" * 3000, 3) + publish(b"", 3))
    assert parser.unfinished == 2 * (head + 2500)
    assert [len(body) for body in bodies(parser.feed(half[-2508:]))] == [5000]
    assert parser.unfinished == head + 2500
    parser.feed(frame(3, 2, b"y" * 2500))
    assert parser.unfinished == 0
    parser.feed(announce(100))
    assert parser.unfinished == head
    parser.end_channels()
    assert parser.unfinished == 0


def test_nothing_of_a_connection_that_has_failed_counts() -> None:
    parser = parser_of()
    parser.feed(announce(100))
    assert failure_of(frame(9, 0, b""), parser).code == 501
    assert parser.unfinished == 0


@pytest.mark.parametrize("size", [0, 1, 2, 100, 1500])
def test_parts_take_no_more_memory_than_they_have_octets(size: int) -> None:
    parser = parser_of(max_message_size=1 << 30)
    parts = frame(3, 1, bytes(size)) * 500
    inputs = parser.feed(announce(200 * 500 * size + 1))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(199):
            inputs += parser.feed(parts)
        for at in range(0, len(parts) - 1, size + 8):  # each with a read of its own
            inputs += parser.feed(parts[at : at + size + 8])
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 1.2 * int(parser.unfinished) + 20_000
    assert inputs == []


def test_a_part_keeps_no_more_than_five_times_its_size() -> None:
    parser = parser_of(131_072)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        parser.feed(announce(10_000_000))
        for _ in range(50):
            parser.feed(frame(3, 1, bytes(20_000)) + HEARTBEAT_FRAME * 12_000)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 5 * parser.unfinished
