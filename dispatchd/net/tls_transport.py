"""A client's socket with TLS: the transport is the same, but for what lies decrypted while the system has nothing."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from dispatchd.net.certificates import name_of
from dispatchd.net.socket_transport import SocketTransport
from dispatchd.net.tls_socket import TlsSocket


class TlsTransport(SocketTransport):
    """`login_from` says what of a client's certificate is its name."""

    __slots__ = ("_login_from", "_tls")

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, int],
        max_message_size: int,
        context: ssl.SSLContext,
        login_from: str,
    ) -> None:
        self._tls = TlsSocket(sock, context)
        self._login_from = login_from
        super().__init__(self._tls, peer, max_message_size)

    @property
    def certified_name(self) -> str:
        """The name in the client's certificate, "" if it has shown none."""
        return name_of(self._tls.certificate(), self._login_from)

    @property
    def facts(self) -> dict[str, Any]:
        """What the admin shows."""
        return {**self._tls.facts(), "peer_cert_subject": self.certified_name}

    def _read_on(self) -> None:
        super()._read_on()
        self._read_what_is_there()

    def _read(self) -> None:
        super()._read()
        self._read_what_is_there()

    def _read_what_is_there(self) -> None:
        """The system tells of what it has, and not of what was decrypted already."""
        if self.is_reading and self._tls.has_more:
            self._tls.has_more = False
            self._loop.run_callback(self._read_if_reading)

    def _read_if_reading(self) -> None:
        if self.is_reading:
            self._read()
        else:
            self._tls.has_more = True
