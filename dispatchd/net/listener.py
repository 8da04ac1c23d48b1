"""The AMQP port: takes connections in, and sees that each of them comes through the handshake in time."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gevent.monkey import get_original
from gevent.server import StreamServer

from dispatchd.actors.messages import Connect
from dispatchd.net.certificates import DISTINGUISHED_NAME, Certificates
from dispatchd.net.proxy_protocol import Introduction, Network, is_trusted
from dispatchd.net.socket_transport import SocketTransport
from dispatchd.net.tls_transport import TlsTransport

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref

logger = logging.getLogger(__name__)

PlainSocket: type[socket.socket] = get_original("socket", "socket")
"""gevent's have watchers of their own, and wait."""
BACKLOG = 4096
"""With gevent's 128, a burst of 1,000 connects loses SYNs and takes seconds."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How clients are let in: seconds for the handshake, octets of a message, and whose PROXY headers are believed.

    With `certificates` they come with TLS; `login_from` is what of theirs is a user's name.
    """

    handshake_timeout: float
    max_message_size: int
    proxies: Sequence[Network] = ()
    certificates: Certificates | None = None
    login_from: str = DISTINGUISHED_NAME


class Listener:
    """Accepts on `bind`:`port` (0 = any free port). Raises OSError from `start` if the address can't be used."""

    def __init__(self, broker: Ref, bind: str, port: int, admission: Admission) -> None:
        self._broker = broker
        self._admission = admission
        self._server = StreamServer((bind, port), self._serve, backlog=BACKLOG, spawn=None)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port or 0)

    def start(self) -> None:
        """Begin to accept."""
        self._server.start()

    def stop(self) -> None:
        """Accept no more; what was accepted goes on."""
        self._server.close()

    def _serve(self, accepted: socket.socket, address: tuple[str, int]) -> None:
        """Called by the loop itself, so nothing in here may wait."""
        sock = PlainSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
        sock.setblocking(False)
        peer = (address[0], address[1])
        if is_trusted(peer[0], self._admission.proxies):
            Introduction(sock, peer, self._admission.handshake_timeout, self._greet)
        else:
            self._greet(sock, peer)

    def _greet(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            transport = self._transport(sock, peer)
        except OSError as error:  # the client has gone already
            logger.debug("%s:%s: %s", *peer, error)
            sock.close()
            return
        transport.greet(lambda: self._broker.tell(Connect(transport)), self._admission.handshake_timeout)

    def _transport(self, sock: socket.socket, peer: tuple[str, int]) -> SocketTransport:
        admission = self._admission
        if admission.certificates is None:
            return SocketTransport(sock, peer, admission.max_message_size)
        context = admission.certificates.context
        return TlsTransport(sock, peer, admission.max_message_size, context, admission.login_from)
