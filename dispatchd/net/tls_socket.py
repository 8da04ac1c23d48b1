"""A socket with TLS over it that behaves as one that does not block: for a transport it is a socket like any other."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

RECORD_OCTETS: Final = 16_384 + 256
"""The most that one record of TLS takes."""
ENCRYPTED_AT_ONCE: Final = 65_536
"""Plain octets: a record has a quarter of them."""


class TlsSocket:
    """The server's side of TLS. The handshake is part of the first reads; like them it raises BlockingIOError.

    `has_more` says that another read would bring something though the system's socket has nothing.
    """

    __slots__ = ("_incoming", "_outgoing", "_promised", "_socket", "_tls", "_unsent", "has_more")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = bytearray()
        self._promised = 0
        self.has_more = False

    def fileno(self) -> int:
        """Of the system's socket."""
        return self._socket.fileno()

    def getsockname(self) -> Any:
        """Likewise."""
        return self._socket.getsockname()

    def recv(self, size: int) -> bytes:
        """Up to so many octets; b"" at the end. Raises OSError, BlockingIOError among them."""
        parts: list[bytes] = []
        missing = size
        self.has_more = False
        try:
            while missing:
                try:
                    part = self._tls.read(missing)
                except ssl.SSLWantReadError:
                    if parts:
                        break
                    self._fill(size)
                    continue
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    break
                if not part:
                    break
                parts.append(part)
                missing -= len(part)
            self.has_more = not missing
        finally:
            self._unsent += self._outgoing.read()
            with suppress(BlockingIOError):
                self._flush()
        return b"".join(parts)

    def _fill(self, size: int) -> None:
        self._unsent += self._outgoing.read()  # our part of the handshake, for which the peer waits
        with suppress(BlockingIOError):
            self._flush()
        data = self._socket.recv(max(size, RECORD_OCTETS))
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, data: Any) -> int:
        """Send what fits; returns how many octets. After BlockingIOError it has to be called with the same again."""
        if not self._promised:
            self._promised = self._tls.write(memoryview(data)[:ENCRYPTED_AT_ONCE])
            self._unsent += self._outgoing.read()
        self._flush()
        sent, self._promised = self._promised, 0
        return sent

    def sendmsg(self, pieces: Sequence[Any]) -> int:
        """Likewise, several pieces one behind the other."""
        joined = bytearray()
        if not self._promised:
            for piece in pieces:
                joined += memoryview(piece)[: ENCRYPTED_AT_ONCE - len(joined)]
        return self.send(joined)

    def _flush(self) -> None:
        while self._unsent:
            sent = self._socket.send(self._unsent)
            del self._unsent[:sent]

    def shutdown(self, how: int) -> None:
        """Say that no more comes, in TLS and below it. Raises OSError."""
        if how == socket.SHUT_WR:
            with suppress(OSError):
                self._tls.unwrap()
            self._unsent += self._outgoing.read()
            with suppress(OSError):
                self._flush()
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the system's socket."""
        self._socket.close()

    def certificate(self) -> dict[str, Any] | None:
        """The client's certificate, if it has shown one and that was verified."""
        try:
            return self._tls.getpeercert() or None
        except ValueError:  # the handshake is not over, or TLS has failed
            return None

    def facts(self) -> dict[str, Any]:
        """Version and cipher, under the names of RabbitMQ's management."""
        cipher = self._tls.cipher()
        return {
            "ssl": True,
            "ssl_protocol": (self._tls.version() or "").lower(),
            "ssl_cipher": cipher[0] if cipher is not None else "",
        }
