"""The AMQP port: takes connections in, and sees that each of them comes through the handshake in time."""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

import gevent
from gevent.server import StreamServer

from dispatchd.actors.messages import Connect
from dispatchd.amqp.constants import PROTOCOL_HEADER
from dispatchd.net.socket_transport import SocketTransport

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref

logger = logging.getLogger(__name__)

BACKLOG = 4096
"""With gevent's 128, a burst of 1,000 connects loses SYNs and takes seconds."""


class Listener:
    """Accepts on `bind`:`port` (0 = any free port). Raises OSError from `start` if the address can't be used."""

    def __init__(self, broker: Ref, bind: str, port: int, handshake_timeout: float, max_message_size: int) -> None:
        self._broker = broker
        self._handshake_timeout = handshake_timeout
        self._max_message_size = max_message_size
        self._server = StreamServer((bind, port), self._serve, backlog=BACKLOG)

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

    def _serve(self, sock: socket.socket, address: tuple[str, int]) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        began = time.monotonic()
        transport = None
        try:
            with gevent.Timeout(self._handshake_timeout):
                if self._has_sent_header(sock):
                    transport = SocketTransport(sock, (address[0], address[1]), self._max_message_size)
        except (OSError, gevent.Timeout) as error:
            logger.debug("%s:%s: no protocol header: %s", *address[:2], error)
        if transport is None:
            sock.close()
        else:
            self._broker.tell(Connect(transport))
            transport.run(max(0.0, began + self._handshake_timeout - time.monotonic()))

    def _has_sent_header(self, sock: socket.socket) -> bool:
        """Whether the client speaks AMQP 0-9-1; one that speaks something else is told what we do (section 4.2.2)."""
        header = b""
        while len(header) < len(PROTOCOL_HEADER):
            part = sock.recv(len(PROTOCOL_HEADER) - len(header))
            if not part:
                return False
            header += part
        if header == PROTOCOL_HEADER:
            return True
        sock.sendall(PROTOCOL_HEADER)
        return False
