"""One connection to the broker with one channel: the handshake, and methods that are answered."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import gevent
from gevent import socket

from dispatchd import __version__
from dispatchd.amqp.constants import PROTOCOL_HEADER
from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.method_codec import decode_method, encode_method
from dispatchd.amqp.methods import (
    BasicCancel,
    ChannelClose,
    ChannelOpen,
    ChannelOpenOk,
    ConnectionBlocked,
    ConnectionClose,
    ConnectionCloseOk,
    ConnectionOpen,
    ConnectionOpenOk,
    ConnectionStart,
    ConnectionStartOk,
    ConnectionTune,
    ConnectionTuneOk,
    ConnectionUnblocked,
    Method,
    method_name,
)
from dispatchd.perf.counting.scanner import UNLIMITED, BadFrameError, Scanner
from dispatchd.perf.errors import PerfError

if TYPE_CHECKING:
    from dispatchd.perf.address import Address

READ_SIZES = (65_536, 524_288)
"""Octets of one read, at least and at most: more for bodies that need it; for small ones to get as much room costs more
than what is read."""
FRAME_MAX = 131_072
ANSWER_SECONDS = 30
CLOSE_SECONDS = 5
CHANNEL = 1
READ, WRITE = 1, 2

Answer = TypeVar("Answer", bound=Method)


class Client:
    """Connects when it is made. Everything that talks to the broker raises PerfError, which says what went wrong.

    `blocked_because` is the broker's reason while it reads nothing that is published.
    """

    def __init__(self, address: Address, name: str, scanner: Scanner) -> None:
        self.scanner = scanner
        self.name = name
        self.blocked_because = ""
        self.frame_max = FRAME_MAX
        self._answers: list[Method] = []
        self._unsent: bytes | memoryview = b""
        self._read_size = READ_SIZES[0]
        try:
            self._socket = socket.create_connection((address.host, address.port), ANSWER_SECONDS)
        except OSError as error:
            raise PerfError(f"cannot connect to {address}: {error.strerror or error}") from error
        self._socket.settimeout(None)
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(self._socket.fileno(), READ)
        self._writable = self._hub.loop.io(self._socket.fileno(), WRITE)
        try:
            self._shake_hands(address)
        except BaseException:
            self._close_socket()
            raise

    def _shake_hands(self, address: Address) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(PROTOCOL_HEADER)
        self._await(ConnectionStart)
        capabilities = ("authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify")
        properties = {
            "product": "dispatchd perf",
            "version": __version__,
            "connection_name": self.name,
            "capabilities": dict.fromkeys(capabilities, True),
        }
        response = f"\0{address.user}\0{address.password}".encode()
        self.send(encode_method(0, ConnectionStartOk(properties, "PLAIN", response)))
        tune = self._await(ConnectionTune)
        self.frame_max = min(tune.frame_max or FRAME_MAX, FRAME_MAX)
        self.send(encode_method(0, ConnectionTuneOk(tune.channel_max, self.frame_max, heartbeat=0)))
        self.send(encode_method(0, ConnectionOpen(address.vhost)))
        self._await(ConnectionOpenOk)
        self.call(ChannelOpen(), ChannelOpenOk)

    def call(self, method: Method, answer: type[Answer]) -> Answer:
        """Send a method to the channel and wait for its answer."""
        try:
            frame = encode_method(CHANNEL, method)
        except ValueError as error:
            raise PerfError(f"{method_name(method)}: {error}") from error
        self.send(frame)
        return self._await(answer)

    def send_in_turn(self, data: bytes | memoryview) -> None:
        """Let the other clients have their turns, and send all of it when the broker has read what was sent before."""
        self._hub.wait(self._writable)
        self.send(data)

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it."""
        self._unsent = data
        try:
            while sent := self._socket.send(self._unsent):
                if sent == len(self._unsent):
                    break
                self._unsent = memoryview(self._unsent)[sent:]
                self._hub.wait(self._writable)
            self._unsent = b""
        except OSError as error:
            raise PerfError(f"{self.name}: {error.strerror or error}") from error

    def receive(self) -> None:
        """Read once, and have it scanned."""
        # To be told by an exception that there is nothing to be read costs more than all the rest of a read.
        self._hub.wait(self._readable)
        try:
            data = self._socket.recv(self._read_size)
        except OSError as error:
            raise PerfError(f"{self.name}: {error.strerror or error}") from error
        if not data:
            raise PerfError(f"{self.name}: the broker closed the socket")
        least, most = READ_SIZES
        if len(data) == self._read_size:
            self._read_size = min(self._read_size * 2, most)
        elif len(data) < self._read_size // 4:
            self._read_size = max(self._read_size // 2, least)
        self.scan(data)

    def scan(self, data: bytes) -> None:
        """Have `data` scanned, or, without any, what was kept because there may be no more deliveries yet."""
        scanner = self.scanner
        try:
            scanner.feed(data, time.monotonic_ns())
            while scanner.methods:
                _channel, payload = scanner.methods.pop(0)
                self._take(decode_method(payload))
        except (BadFrameError, AmqpError) as error:
            raise PerfError(f"{self.name}: {error}") from error

    def _take(self, method: Method) -> None:
        if isinstance(method, ConnectionClose | ChannelClose):
            what = "channel" if isinstance(method, ChannelClose) else "connection"
            raise PerfError(f"the broker closed the {what} of {self.name}: {method.reply_code} {method.reply_text}")
        if isinstance(method, BasicCancel):
            raise PerfError(f"the broker cancelled {self.name}: queue {method.consumer_tag!r} is gone")
        if isinstance(method, ConnectionBlocked | ConnectionUnblocked):
            self.blocked_because = method.reason if isinstance(method, ConnectionBlocked) else ""
        else:
            self._answers.append(method)

    def _await(self, answer: type[Answer]) -> Answer:
        too_late = PerfError(f"{self.name}: no {answer.__name__} from the broker for {ANSWER_SECONDS} seconds")
        with gevent.Timeout(ANSWER_SECONDS, too_late):
            while not self._answers:
                self.receive()
        method = self._answers.pop(0)
        if not isinstance(method, answer):
            raise PerfError(f"{self.name}: expected {answer.__name__} from the broker, got {method_name(method)}")
        return method

    def close(self) -> None:
        """End the connection in an orderly way; one that is blocked, broken or slow about it is just closed."""
        self.scanner.ack_every = 0
        self.scanner.allowance = UNLIMITED
        with suppress(PerfError), gevent.Timeout(CLOSE_SECONDS, PerfError("too slow")):
            if self.blocked_because:
                raise PerfError("the broker reads nothing")
            self.send(self._unsent)
            self.send(encode_method(0, ConnectionClose(200, "the load is over")))
            while not any(isinstance(answer, ConnectionCloseOk) for answer in self._answers):
                self.receive()
        self._close_socket()

    def _close_socket(self) -> None:
        self._readable.close()
        self._writable.close()
        self._socket.close()
