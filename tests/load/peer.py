"""Clients that cost little themselves: they send numbered messages in batches, and look at frames where they lie."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from broker.process import BrokerProcess
from broker.raw import RawClient
from gevent.event import Event
from pamqp import commands as spec

from dispatchd.amqp import methods as m
from dispatchd.amqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD
from dispatchd.amqp.method_codec import encode_method
from dispatchd.amqp.properties import Properties, encode_header

NUMBER = struct.Struct(">Q")
_PREFIX = struct.Struct(">BHI")
_DELIVER, _ACK = b"\0\x3c\0\x3c", b"\0\x3c\0\x50"
READ_OCTETS = 262_144


class Peer(RawClient):
    """With channel 1 open."""

    def __init__(self, broker: BrokerProcess, **options: Any) -> None:
        super().__init__(broker.host, broker.port, timeout=60)
        self.open(**options)
        self.open_channel()
        self._has_more = False

    def call(self, method: Any, answer: type) -> Any:
        self.send(method, 1)
        found = self.expect(answer)
        self._has_more = bool(self._received)
        return found

    def declare(self, queue: str, *, durable: bool = False) -> None:
        self.call(spec.Queue.Declare(queue=queue, durable=durable), spec.Queue.DeclareOk)

    def payloads(self) -> Iterator[tuple[int, memoryview]]:
        """Wait for some octets; then (type, payload) of each frame that they complete. Raises EOFError at the end.

        What came behind an answer that was expected goes first.
        """
        received = b"" if self._has_more else self.socket.recv(READ_OCTETS)
        if not received and not self._has_more:
            raise EOFError
        self._has_more = False
        data, at = memoryview(self._received + received), 0
        while at + 8 <= len(data):
            kind, _, size = _PREFIX.unpack_from(data, at)
            if at + size + 8 > len(data):
                break
            yield kind, data[at + 7 : at + 7 + size]
            at += size + 8
        self._received = bytes(data[at:])


class Publisher(Peer):
    """Publishes messages whose bodies begin with their numbers, from 1 on.

    With a `window` they are confirmed, so many may be on their way, and `waits` has the seconds that each took.
    """

    def __init__(
        self, broker: BrokerProcess, exchange: str, key: str, size: int, *, persistent: bool = False, window: int = 0
    ) -> None:
        super().__init__(broker)
        self.sent = 0
        self.confirmed = 0
        self.waits: list[float] = []
        self.window = window
        self._sent_at: deque[tuple[int, float]] = deque()
        self._has_room = Event()
        header = encode_header(size, Properties(delivery_mode=2 if persistent else 1))
        self._before = (
            encode_method(1, m.BasicPublish(exchange, key))
            + _PREFIX.pack(FRAME_HEADER, 1, len(header)) + header + b"\xce"
            + _PREFIX.pack(FRAME_BODY, 1, size)
        )  # fmt: skip
        self._after = b"x" * (size - NUMBER.size) + b"\xce"
        if window:
            self.call(spec.Confirm.Select(), spec.Confirm.SelectOk)

    def publish_some(self, count: int) -> None:
        """Send so many, as soon as the window lets them go."""
        while count:
            while self.window and self.sent - self.confirmed >= self.window:
                self._has_room.clear()
                assert self._has_room.wait(60), f"{self.sent - self.confirmed} confirms do not come"
            some = min(count, 200, self.confirmed + self.window - self.sent if self.window else 200)
            numbers = range(self.sent + 1, self.sent + some + 1)
            self._sent_at.append((numbers[-1], time.monotonic()))
            self.sent += some
            count -= some
            self.send_bytes(b"".join([self._before + NUMBER.pack(number) + self._after for number in numbers]))

    def publish_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.publish_some(200)

    def take_confirms(self, count: int) -> None:
        """Until so many have been confirmed: in their order, none twice."""
        while self.confirmed < count:
            for kind, payload in self.payloads():
                if kind != FRAME_METHOD:
                    continue
                assert payload[:4] == _ACK, bytes(payload)
                tag, is_multiple = NUMBER.unpack_from(payload, 4)[0], payload[12] & 1
                assert tag > self.confirmed if is_multiple else tag == self.confirmed + 1, (tag, self.confirmed)
                self.confirmed = tag
            now = time.monotonic()
            while self._sent_at and self._sent_at[0][0] <= self.confirmed:
                self.waits.append(now - self._sent_at.popleft()[1])
            self._has_room.set()


class Consumer(Peer):
    """Takes numbered messages of one queue in, which have to come each once and in their order."""

    def __init__(self, broker: BrokerProcess, queue: str, *, prefetch: int = 0) -> None:
        super().__init__(broker)
        self.taken = 0
        self.last_at = 0.0
        self._acks = prefetch > 0
        self._is_first = False  # the next body frame, of its message
        if prefetch:
            self.call(spec.Basic.Qos(prefetch_count=prefetch), spec.Basic.QosOk)
        self.call(spec.Basic.Consume(queue=queue, no_ack=not prefetch), spec.Basic.ConsumeOk)

    def take(self, count: int) -> None:
        """Until the message with this number has come, and been acknowledged."""
        while self.taken < count:
            for kind, payload in self.payloads():
                if kind == FRAME_METHOD:
                    assert payload[:4] == _DELIVER, bytes(payload)
                elif kind == FRAME_HEADER:
                    self._is_first = True
                elif self._is_first:
                    self._is_first = False
                    self.taken += 1
                    assert NUMBER.unpack_from(payload)[0] == self.taken, "a message is lost, doubled or overtaken"
            if self._acks:
                self.send_bytes(encode_method(1, m.BasicAck(self.taken, multiple=True)))
        self.last_at = time.monotonic()


def percentile(values: list[float], share: float) -> float:
    """What so many of the values do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
