"""The bytes of a connection to what they mean for each of its channels: the hottest loop of the broker.

One call takes what one read brought. Publishes and acks are gathered, because they mean the same in any order; every
other method ends what is gathered for its channel, so that it comes after what was sent before it, ahead of the rest.
"""

import re
from typing import Final

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64

from dispatchd.amqp.constants import (
    FRAME_BODY,
    FRAME_END,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    FRAME_MIN_SIZE,
    FRAME_OVERHEAD,
)
from dispatchd.amqp.errors import (
    AmqpError,
    AmqpSyntaxError,
    ConnectionException,
    FrameError,
    PreconditionFailed,
    UnexpectedFrame,
)
from dispatchd.amqp.message import Message, split_address
from dispatchd.amqp.method_codec import decode_method
from dispatchd.amqp.methods import Method, method_ids
from dispatchd.amqp.properties import BASIC_CLASS, HEADER_FIXED_SIZE, PERSISTENT, delivery_mode

_PUBLISH: Final = 40
_ACK: Final = 80
_BASIC_PUBLISH: Final = 60 << 16 | _PUBLISH
_BASIC_ACK: Final = 60 << 16 | _ACK
_CHANNEL_OPEN: Final = 20 << 16 | 10
_CHANNEL_CLOSE: Final = 20 << 16 | 40
_CHANNEL_CLOSE_OK: Final = 20 << 16 | 41
_PUBLISH_MIN_SIZE: Final = 9  # class, method, ticket, two empty names, bits
_ACK_SIZE: Final = 13
_PREFIX_SIZE: Final = 7  # a frame's type, channel and size

_PRINTABLE: Final = re.compile(rb"[ !#-\[\]-~]+")  # what Erlang shows as a string, but for what it escapes

HIGHEST_TAG: Final = (1 << 62) - 1
"""Larger delivery tags, which nobody was given, are all taken for this one."""

MOST_KEPT_FOR_PART: Final = 5
"""Times its size may be kept in memory until the rest of a body has come."""
SMALL_PART: Final = 1024
"""Octets: smaller parts of a body are joined at once, because an object for each would take more than they do."""
LONGEST_KEPT_HEADER: Final = 1024
"""Octets of a content header that a connection may keep, for as long as it lives, to compare the next one with it."""

# What a channel's next frame has to be.
_METHOD: Final = 0
_CONTENT_HEADER: Final = 1
_CONTENT_BODY: Final = 2
_REFUSED_BODY: Final = 3  # the rest of a body that is too large; a method may come before it is complete


class ChannelInput:
    """What came for one channel, up to and including the next method that is neither basic.publish nor basic.ack.

    `acks` holds delivery tag * 2 + multiple; `cost` is the publish credit that `published` takes. `method` and `error`
    (a content that the channel must not accept) come after `published` and `acks`; at most one of the two is set.
    """

    __slots__ = ("acks", "channel", "cost", "error", "method", "published")

    def __init__(self, channel: i64) -> None:
        self.channel: i64 = channel
        self.published: list[Message] = []
        self.acks: list[i64] = []
        self.method: Method | None = None
        self.error: AmqpError | None = None
        self.cost: i64 = 0

    def first_method_ids(self) -> tuple[int, int]:
        """(class id, method id) of what came first, as far as that is kept."""
        if self.published:
            return BASIC_CLASS, _PUBLISH
        if self.acks:
            return BASIC_CLASS, _ACK
        if self.method is not None:
            return method_ids(self.method)
        return BASIC_CLASS, _PUBLISH  # a content that was refused


class _Channel:
    """Where one channel is between the frames of a content; only one that is open may begin one."""

    __slots__ = ("expects", "input", "is_open", "kept", "message", "missing", "number", "parts")

    def __init__(self, number: i64) -> None:
        self.number: i64 = number
        self.is_open: bool = False
        self.input: ChannelInput | None = None  # what this read brought so far, None after a method
        self.expects: i64 = _METHOD
        self.message: Message | None = None
        self.missing: i64 = 0  # octets of the body still to come
        self.kept: i64 = 0  # octets of the content that have come, while some are missing
        self.parts: list[bytes | memoryview] | None = None  # what came of a body in more than one frame


class FrameParser:
    """Parses what one peer sends.

    `frame_max` is what was agreed, FRAME_MIN_SIZE until then; 0 = no limit but that of a message. A body larger than
    `max_message_size` octets is refused, and never kept. Nor is any content for a channel that the peer has not opened:
    its basic.publish is a method like others, so that whoever hears of it can say so before a body comes, and the rest
    of its content is skipped. `failure` is set once the bytes stop making sense; nothing is parsed from then on.
    `unfinished` is how many octets are kept of contents that are not complete, on all channels.
    """

    def __init__(self, frame_max: i64 = FRAME_MIN_SIZE, max_message_size: i64 = 16 * 1024 * 1024) -> None:
        self.frame_max: i64 = frame_max
        self.max_message_size: i64 = max_message_size
        self.failure: ConnectionException | None = None
        self.unfinished: i64 = 0
        self._rest: BytesWriter = BytesWriter()  # the beginning of a frame, and
        self._missing: i64 = 0  # how many octets more there must be before parsing it makes sense
        self._channels: dict[i64, _Channel] = {}  # those that are open
        self._is_closing: bool = False
        self._skipped: i64 = -1  # the channel that published last though it is not open
        self._address: bytes = b"\0\0"  # of the last publish; most publishers use one address again and again
        self._exchange: str = ""
        self._routing_key: str = ""
        self._header: bytes | None = None  # of the last content, likewise, if it is short; it was checked,
        self._mode: i64 = 0  # and what it says is this
        self._body_size: i64 = 0

    def open_channel(self, number: i64) -> None:
        """Take contents for this channel. The peer's own channel.open does that, too."""
        channel = self._channels[number] = _Channel(number)
        channel.is_open = True

    def end_channels(self) -> None:
        """Skip what comes for channels from now on, and forget what has come of contents: the connection is closing."""
        self._is_closing = True
        self._channels = {}
        self.unfinished = 0

    def feed(self, data: bytes) -> list[ChannelInput]:
        """What `data` completes, in order per channel. After a protocol violation `failure` is set."""
        if self.failure is not None:
            return []
        inputs: list[ChannelInput] = []
        touched: list[_Channel] = []
        at: i64 = 0
        try:
            while self._missing and at < len(data):
                at = self._complete_rest(data, at, inputs, touched)
            at = self._parse(data, at, inputs, touched)
            self._keep(data, at)
        except ConnectionException as failure:
            self.failure = failure
            self._channels = {}
            self.unfinished = 0
        for channel in touched:
            channel.input = None
            if not channel.is_open:
                self._channels.pop(channel.number, None)
        return inputs

    def _complete_rest(self, data: bytes, at: i64, inputs: list[ChannelInput], touched: list[_Channel]) -> i64:
        """Add to the frame that is incomplete what it lacks, no more, and parse it; return where the next one begins.

        To put all of `data` behind it would copy that, twice.
        """
        stop: i64 = min(at + self._missing, len(data))
        self._rest.write(data[at:stop])
        self._missing -= stop - at
        if not self._missing:
            frame = self._rest.getvalue()
            self._rest = BytesWriter()
            self._keep(frame, self._parse(frame, 0, inputs, touched))
        return stop

    def _keep(self, data: bytes, at: i64) -> None:
        """Keep the incomplete frame that begins at `at`."""
        left: i64 = len(data) - at
        if left == 0:
            return
        needed: i64 = _PREFIX_SIZE
        if left >= _PREFIX_SIZE:
            needed = (i64(read_i32_be(data, at + 3)) & 0xFFFFFFFF) + FRAME_OVERHEAD
        self._missing = needed - left
        self._rest = BytesWriter()
        self._rest.write(data[at:])

    def _parse(self, data: bytes, at: i64, inputs: list[ChannelInput], touched: list[_Channel]) -> i64:
        """Parse all complete frames from `at` on; return where the first incomplete one begins."""
        end: i64 = len(data)
        # RabbitMQ lets a payload be as large as frame_max, because clients often forget what a frame adds to it.
        largest: i64 = self.frame_max or max(self.max_message_size, FRAME_MIN_SIZE)
        channel = _Channel(-1)
        while end - at >= _PREFIX_SIZE:
            kind: i64 = data[at]
            number: i64 = i64(read_i16_be(data, at + 1)) & 0xFFFF
            size: i64 = i64(read_i32_be(data, at + 3)) & 0xFFFFFFFF
            start: i64 = at + _PREFIX_SIZE
            stop: i64 = start + size
            if size > largest:
                reason = f"{{frame_too_large,{size},{largest - FRAME_OVERHEAD}}}"
                raise FrameError(f"{_describe(kind, b'')}: {reason}")
            if stop >= end:
                break
            if data[stop] != FRAME_END:
                reason = f"{{invalid_frame_end_marker,{data[stop]}}}"
                raise FrameError(f"{_describe(kind, data[start:stop])}: {reason}")
            if number and self._is_closing:
                at = stop + 1
                continue
            if number != channel.number:
                channel = self._find_channel(number, touched)
            if kind == FRAME_METHOD:
                self._take_method(channel, data, start, stop, inputs)
            elif number == 0 and kind in (FRAME_HEADER, FRAME_BODY):
                raise UnexpectedFrame(_describe(kind, data[start:stop]))
            elif kind == FRAME_HEADER:
                self._take_header(channel, data, start, stop, inputs)
            elif kind == FRAME_BODY:
                self._take_body(channel, data, start, stop, inputs)
            elif kind != FRAME_HEARTBEAT or size:
                raise FrameError(f"{_describe(kind, data[start:stop])}: unknown_frame")
            elif number:
                raise UnexpectedFrame(_describe(kind, b""))
            at = stop + 1
        return at

    def _find_channel(self, number: i64, touched: list[_Channel]) -> _Channel:
        channel = self._channels.get(number)
        if channel is None:
            channel = self._channels[number] = _Channel(number)
            touched.append(channel)
        elif channel.input is None:
            touched.append(channel)
        return channel

    def _take_method(self, channel: _Channel, data: bytes, start: i64, stop: i64, inputs: list[ChannelInput]) -> None:
        if channel.expects != _METHOD:
            if channel.expects != _REFUSED_BODY:
                raise _out_of_order(channel)
            channel.expects = _METHOD
        size: i64 = stop - start
        ids: i64 = i64(read_i32_be(data, start)) if size >= 4 else 0
        if ids == _BASIC_PUBLISH and channel.is_open:
            if size < _PUBLISH_MIN_SIZE:
                raise _in_publish(AmqpSyntaxError("basic.publish is too short"))
            address = data[start + 6 : stop - 1]
            if address != self._address:
                self._exchange, self._routing_key = _names(address)
                self._address = address
            message = Message(self._exchange, self._routing_key, self._address)
            bits: i64 = data[stop - 1]
            if bits:
                message.mandatory = bits & 1 != 0
                message.immediate = bits & 2 != 0
            channel.message = message
            channel.expects = _CONTENT_HEADER
        elif ids == _BASIC_ACK and size == _ACK_SIZE and channel.number:
            tag: i64 = read_i64_be(data, start + 4)
            if tag < 0 or tag > HIGHEST_TAG:
                tag = HIGHEST_TAG
            _input_of(channel, inputs).acks.append(tag * 2 + (i64(data[stop - 1]) & 1))
        else:
            _input_of(channel, inputs).method = decode_method(data[start:stop])
            channel.input = None
            self._skipped = channel.number if ids == _BASIC_PUBLISH and not channel.is_open else -1
            if ids == _CHANNEL_OPEN:
                channel.is_open = channel.number != 0
            elif ids in (_CHANNEL_CLOSE, _CHANNEL_CLOSE_OK):
                channel.is_open = False

    def _take_header(self, channel: _Channel, data: bytes, start: i64, stop: i64, inputs: list[ChannelInput]) -> None:
        message = channel.message
        if channel.expects != _CONTENT_HEADER or message is None:
            if channel.number == self._skipped:
                return
            raise _out_of_order(channel)
        header = data[start:stop]
        known = self._header
        if known is not None and header == known:
            header = known
        else:
            self._read_header(channel, header)
        body_size = self._body_size
        message.header = header
        message.size = body_size
        message.persistent = self._mode == PERSISTENT
        if body_size == 0:
            self._complete(channel, message, inputs)
        elif 0 < body_size <= self.max_message_size:
            channel.missing = body_size
            channel.kept = stop - start
            self.unfinished += stop - start
            channel.expects = _CONTENT_BODY
        else:
            self._refuse(channel, body_size, inputs)

    def _read_header(self, channel: _Channel, header: bytes) -> None:
        """Check what differs from the last one, and note what it says."""
        if len(header) < HEADER_FIXED_SIZE:
            raise FrameError(f"{_describe(FRAME_HEADER, header)}: unknown_frame")
        ids: i64 = i64(read_i32_be(header, 0))
        if ids != BASIC_CLASS << 16:
            class_id: i64 = (ids >> 16) & 0xFFFF
            if class_id == BASIC_CLASS:  # and a weight
                raise _out_of_order(channel)
            detail = f"expected content header for class {BASIC_CLASS}, got one for class {class_id} instead"
            raise _in_publish(UnexpectedFrame(detail))
        mode: i64 = delivery_mode(header)
        if mode < 0:
            raise _in_publish(AmqpSyntaxError("the properties of a content header do not fill it"))
        self._header = header if len(header) <= LONGEST_KEPT_HEADER else None
        self._mode = mode
        self._body_size = read_i64_be(header, 4)

    def _refuse(self, channel: _Channel, body_size: i64, inputs: list[ChannelInput]) -> None:
        """Take the body that follows for nothing, and tell the channel."""
        announced = int(body_size) & 0xFFFFFFFFFFFFFFFF
        error = PreconditionFailed(
            f"message size {announced} is larger than configured max size {self.max_message_size}"
        )
        error.blame(BASIC_CLASS, _PUBLISH)
        _input_of(channel, inputs).error = error
        channel.input = None
        channel.message = None
        channel.missing = body_size if body_size > 0 else HIGHEST_TAG
        channel.expects = _REFUSED_BODY

    def _take_body(self, channel: _Channel, data: bytes, start: i64, stop: i64, inputs: list[ChannelInput]) -> None:
        if channel.expects < _CONTENT_BODY:
            if channel.number == self._skipped:
                return
            raise _out_of_order(channel)
        size: i64 = stop - start
        channel.missing -= size
        if channel.missing < 0:
            raise _in_publish(FrameError("content body frame exceeds remaining content size"))
        message = channel.message
        if message is None:  # refused
            if channel.missing == 0:
                channel.expects = _METHOD
            return
        parts = channel.parts
        if channel.missing:
            if parts is None:
                parts = channel.parts = []
            _add_part(parts, data, start, stop)
            channel.kept += size
            self.unfinished += size
            return
        if parts is None:
            message.body = data[start:stop]
        else:
            parts.append(memoryview(data)[start:stop])
            message.body = b"".join(parts)
            channel.parts = None
        self.unfinished -= channel.kept
        self._complete(channel, message, inputs)

    def _complete(self, channel: _Channel, message: Message, inputs: list[ChannelInput]) -> None:
        target = _input_of(channel, inputs)
        target.published.append(message)
        target.cost += 1 + (message.size >> 10)
        channel.message = None
        channel.expects = _METHOD


def _add_part(parts: list[bytes | memoryview], data: bytes, start: i64, stop: i64) -> None:
    """Keep a part of a body; without a copy if it is much of `data`, all of which is kept then."""
    size: i64 = stop - start
    if size >= SMALL_PART:
        parts.append(data[start:stop] if size * MOST_KEPT_FOR_PART < len(data) else memoryview(data)[start:stop])
        return
    last = parts[-1] if parts else None
    if isinstance(last, bytes) and len(last) < SMALL_PART:
        parts[-1] = last + data[start:stop]
    else:
        parts.append(data[start:stop])


def _input_of(channel: _Channel, inputs: list[ChannelInput]) -> ChannelInput:
    known = channel.input
    if known is None:
        known = channel.input = ChannelInput(channel.number)
        inputs.append(known)
    return known


def _names(address: bytes) -> tuple[str, str]:
    try:
        return split_address(address)
    except AmqpSyntaxError as error:
        raise _in_publish(error) from None


def _in_publish(error: ConnectionException) -> ConnectionException:
    error.blame(BASIC_CLASS, _PUBLISH)
    return error


def _out_of_order(channel: _Channel) -> ConnectionException:
    """What RabbitMQ says when a channel's next frame is not what it has to be."""
    if channel.expects == _CONTENT_HEADER:
        detail = f"expected content header for class {BASIC_CLASS}, got non content header frame instead"
        return _in_publish(UnexpectedFrame(detail))
    if channel.expects == _METHOD:
        return UnexpectedFrame("expected method frame, got non method frame instead")
    return _in_publish(UnexpectedFrame("expected content body, got non content body frame instead"))


def _describe(kind: i64, payload: bytes) -> str:
    """A frame as RabbitMQ's reply texts show it."""
    extent = "all" if len(payload) <= 16 else "first 16"
    shown = payload[:16]
    octets = f'"{shown.decode()}"' if _PRINTABLE.fullmatch(shown) else ",".join(map(str, shown))
    return f"type {kind}, {extent} octets = <<{octets}>>"
