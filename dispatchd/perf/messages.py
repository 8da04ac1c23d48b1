"""The messages of a producer: encoded once, and given the time of sending when they leave."""

from __future__ import annotations

from dispatchd.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_OVERHEAD
from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.methods import BasicPublish
from dispatchd.amqp.properties import PERSISTENT, Properties, encode_header
from dispatchd.perf.client import CHANNEL
from dispatchd.perf.counting.scanner import STAMP_AT, STAMP_END

STAMP_SIZE = STAMP_END - STAMP_AT

BATCH_OCTETS = 262_144
BATCH_MESSAGES = 256
LARGE_MESSAGE = 2_048
"""Octets from which on only the times are written anew for each batch: to copy the rest, too, would cost more."""
TRANSIENT = 1


class Messages:
    """Messages that differ in nothing but their time; their bodies have zeros behind it, as PerfTest's.

    `most` is how many of them leave at once.
    """

    def __init__(self, publish: BasicPublish, size: int, persistent: bool, frame_max: int) -> None:
        properties = Properties(delivery_mode=PERSISTENT if persistent else TRANSIENT)
        message = encode_method(CHANNEL, publish) + _frame(FRAME_HEADER, encode_header(size, properties))
        self._stamp_at = len(message) + FRAME_OVERHEAD - 1 + STAMP_AT
        part = frame_max - FRAME_OVERHEAD
        message += b"".join(_frame(FRAME_BODY, bytes(min(part, size - at))) for at in range(0, size, part))
        self._message = message
        self.most = max(1, min(BATCH_MESSAGES, BATCH_OCTETS // len(message)))
        self._before, self._after = message[: self._stamp_at], message[self._stamp_at + STAMP_SIZE :]
        self._between = self._after + self._before
        self._large = bytearray(message * self.most if len(message) >= LARGE_MESSAGE else b"")

    def batch(self, count: int, now: int) -> bytes | memoryview:
        """Frames of `count` messages that are sent `now`, in nanoseconds; to be used before the next batch is made."""
        stamp = now.to_bytes(STAMP_SIZE, "big")
        if not self._large:
            # What they have in common stands between their times: so one call copies them all, at memory speed.
            return stamp.join([self._before, *[self._between] * (count - 1), self._after])
        end = count * len(self._message)
        for at in range(self._stamp_at, end, len(self._message)):
            self._large[at : at + STAMP_SIZE] = stamp
        return memoryview(self._large)[:end]


def _frame(kind: int, payload: bytes) -> bytes:
    octets = (kind.to_bytes(1, "big"), CHANNEL.to_bytes(2, "big"), len(payload).to_bytes(4, "big"))
    return b"".join((*octets, payload, bytes((FRAME_END,))))
