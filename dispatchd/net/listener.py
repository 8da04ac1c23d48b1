"""The AMQP port: takes connections in, and sees that each of them comes through the handshake in time."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from gevent.monkey import get_original
from gevent.server import StreamServer

from dispatchd.actors.messages import Connect
from dispatchd.net.socket_transport import SocketTransport

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref

logger = logging.getLogger(__name__)

PlainSocket: type[socket.socket] = get_original("socket", "socket")
"""gevent's have watchers of their own, and wait."""
BACKLOG = 4096
"""With gevent's 128, a burst of 1,000 connects loses SYNs and takes seconds."""


class Listener:
    """Accepts on `bind`:`port` (0 = any free port). Raises OSError from `start` if the address can't be used."""

    def __init__(self, broker: Ref, bind: str, port: int, handshake_timeout: float, max_message_size: int) -> None:
        self._broker = broker
        self._handshake_timeout = handshake_timeout
        self._max_message_size = max_message_size
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
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            transport = SocketTransport(sock, (address[0], address[1]), self._max_message_size)
        except OSError as error:  # the client has gone already
            logger.debug("%s:%s: %s", *address[:2], error)
            sock.close()
            return
        transport.greet(lambda: self._broker.tell(Connect(transport)), self._handshake_timeout)
