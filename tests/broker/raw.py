"""A client that does exactly what it is told, one frame at a time: for what proper clients never do."""

from __future__ import annotations

import socket
from typing import Any

from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.exceptions import UnmarshalingException
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

HEADER = b"AMQP\x00\x00\x09\x01"
PLAIN = "\0guest\0guest"


class RawClient:
    """Reads give up after `timeout` seconds (TimeoutError). `closed` says that the peer has closed the socket."""

    def __init__(self, host: str, port: int, timeout: float = 10) -> None:
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def close(self) -> None:
        self.socket.close()

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, frame: Any, channel: int = 0) -> None:
        self.socket.sendall(marshal(frame, channel))

    def publish(
        self,
        channel: int,
        routing_key: str,
        body: bytes,
        *,
        properties: spec.Basic.Properties | None = None,
        **options: Any,
    ) -> None:
        self.send(spec.Basic.Publish(routing_key=routing_key, **options), channel)
        self.send(ContentHeader(0, len(body), properties or spec.Basic.Properties()), channel)
        if body:
            self.send(ContentBody(body), channel)

    def receive(self) -> tuple[int, Any]:
        """The next frame's channel and content. Raises EOFError when the peer has closed the socket."""
        while True:
            if len(self._received) >= 8:
                try:
                    size, channel, frame = unmarshal(self._received)
                except UnmarshalingException as error:
                    if "Not all data" not in str(error):
                        raise
                else:
                    self._received = self._received[size:]
                    return channel, frame
            self._received += self._read()

    def _read(self) -> bytes:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        return data

    def hang_up(self) -> None:
        """End our half of the socket; the peer has to end its half, with nothing more to say."""
        self.socket.shutdown(socket.SHUT_WR)
        assert self.read_to_end() == b""

    def is_open(self) -> bool:
        """Take in the next frame, whatever it is; False when there is none because the peer has closed the socket."""
        try:
            self.receive()
        except EOFError:
            return False
        return True

    def read_to_end(self) -> bytes:
        """What comes until the peer closes the socket."""
        data = b""
        try:
            while True:
                data += self._read()
        except EOFError:
            return data

    def expect(self, kind: type | tuple[type, ...]) -> Any:
        """The next frame that is no heartbeat; it has to be of this kind, or of one of these."""
        while True:
            _, frame = self.receive()
            if not isinstance(frame, Heartbeat) or kind is Heartbeat:
                assert isinstance(frame, kind), f"expected {kind}, got {frame!r} {dict(frame)}"
                return frame

    def start(self) -> Any:
        self.send_bytes(HEADER)
        return self.expect(spec.Connection.Start)

    def log_in(
        self, response: str = PLAIN, mechanism: str = "PLAIN", capabilities: dict[str, bool] | None = None
    ) -> Any:
        self.start()
        properties: dict[str, Any] = {"capabilities": capabilities or {}}
        self.send(spec.Connection.StartOk(properties, mechanism, response))
        return self.expect(spec.Connection.Tune)

    def open(
        self,
        *,
        channel_max: int = 2047,
        frame_max: int = 131072,
        heartbeat: int = 0,
        virtual_host: str = "/",
        **login: Any,
    ) -> Any:
        self.log_in(**login)
        self.send(spec.Connection.TuneOk(channel_max, frame_max, heartbeat))
        self.send(spec.Connection.Open(virtual_host))
        return self.expect(spec.Connection.OpenOk)

    def open_channel(self, number: int = 1) -> None:
        self.send(spec.Channel.Open(), number)
        self.expect(spec.Channel.OpenOk)

    def content(self) -> tuple[ContentHeader, list[bytes]]:
        """A content's header and the payloads of its body frames."""
        header = self.expect(ContentHeader)
        parts: list[bytes] = []
        while sum(map(len, parts)) < header.body_size:
            parts.append(self.expect(ContentBody).value)
        return header, parts

    def expect_connection_close(self, code: int, *, hang_up: bool = False) -> str:
        """The reply text of the connection.close that comes next, which has to be followed by the end.

        `hang_up`: end our half of the socket, where the broker can't make sense any more of what we send.
        """
        close = self.expect(spec.Connection.Close)
        assert close.reply_code == code, close.reply_text
        self.send(spec.Connection.CloseOk())
        if hang_up:
            self.socket.shutdown(socket.SHUT_WR)
        self.read_to_end()
        return close.reply_text
