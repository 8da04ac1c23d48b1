"""The messages of a producer: encoded once, and given the time of sending when they leave."""

from __future__ import annotations

from dispatchd.amqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_OVERHEAD
from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.methods import BasicPublish
from dispatchd.amqp.properties import PERSISTENT, Properties, encode_header
from dispatchd.perf.client import CHANNEL
from dispatchd.perf.counting.scanner import STAMP_AT, STAMP_END

BATCH_OCTETS = 32_768
BATCH_MESSAGES = 256
TRANSIENT = 1


class Messages:
    """Messages that differ in nothing but their time; their bodies have zeros behind it, as PerfTest's.

    `most` is how many of them leave at once.
    """

    def __init__(self, publish: BasicPublish, size: int, persistent: bool, frame_max: int) -> None:
        properties = Properties(delivery_mode=PERSISTENT if persistent else TRANSIENT)
        message = encode_method(CHANNEL, publish) + _frame(FRAME_HEADER, encode_header(size, properties))
        stamp_at = len(message) + FRAME_OVERHEAD - 1 + STAMP_AT
        part = frame_max - FRAME_OVERHEAD
        message += b"".join(_frame(FRAME_BODY, bytes(min(part, size - at))) for at in range(0, size, part))
        self._before, self._after = message[:stamp_at], message[stamp_at + STAMP_END - STAMP_AT :]
        self._between = self._after + self._before
        self.most = max(1, min(BATCH_MESSAGES, BATCH_OCTETS // len(message)))

    def batch(self, count: int, now: int) -> bytes:
        """Frames of `count` messages that are sent `now`, in nanoseconds."""
        # What they have in common stands between their times: so one call copies them all, at memory speed.
        stamp = now.to_bytes(STAMP_END - STAMP_AT, "big")
        return stamp.join([self._before, *[self._between] * (count - 1), self._after])


def _frame(kind: int, payload: bytes) -> bytes:
    octets = (kind.to_bytes(1, "big"), CHANNEL.to_bytes(2, "big"), len(payload).to_bytes(4, "big"))
    return b"".join((*octets, payload, bytes((FRAME_END,))))
