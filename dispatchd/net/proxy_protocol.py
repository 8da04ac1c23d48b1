"""The PROXY protocol, versions 1 and 2: a proxy's word for who its client is, ahead of all that this one sends.

Only proxies whose addresses an operator trusts are believed, and they have to send it.
Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import gevent

logger = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network
Peer = tuple[str, int]

LONGEST_V1: Final = 107
SIGNATURE_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD_V2: Final = 16
LONGEST_V2: Final = 536
"""Octets that a sender may take for granted."""
PAUSE_SECONDS: Final = 0.02
_READ: Final = 1


def is_trusted(address: str, networks: Sequence[Network]) -> bool:
    """Whether this is the address of a proxy that is believed."""
    if not networks:
        return False
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks)


def read_header(data: bytes) -> tuple[int, Peer | None] | None:
    """Read what may be the beginning of a header.

    Returns:
        None if more has to come; else the octets that the header takes, and the client, which is None if the proxy
        speaks for itself or does not know.

    Raises:
        ValueError: it is no header.
    """
    if data.startswith(SIGNATURE_V2):
        return _read_v2(data)
    if SIGNATURE_V2.startswith(data) and len(data) < len(SIGNATURE_V2):
        return None
    if data.startswith(b"PROXY ") or b"PROXY ".startswith(data):
        return _read_v1(data)
    raise ValueError("no PROXY header")


def _read_v1(data: bytes) -> tuple[int, Peer | None] | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise ValueError("a PROXY header that does not end")
        return None
    words = data[:end].decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return end + 2, None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ValueError("a PROXY header of another form")
    source, port = ip_address(words[2]), int(words[4])
    if source.version != int(words[1][3]) or not 0 <= port <= 0xFFFF:
        raise ValueError("a PROXY header with an address of another kind")
    return end + 2, (str(source), port)


def _read_v2(data: bytes) -> tuple[int, Peer | None] | None:
    if len(data) < _HEAD_V2:
        return None
    version_and_command, family, length = struct.unpack_from(">BBH", data, len(SIGNATURE_V2))
    size = _HEAD_V2 + length
    if version_and_command >> 4 != 2 or version_and_command & 0xF > 1 or size > LONGEST_V2:
        raise ValueError("a PROXY header of another version, or too long a one")
    if len(data) < size:
        return None
    octets = {1: 4, 2: 16}.get(family >> 4, 0)
    if not version_and_command & 0xF or not octets:  # the proxy itself, or no address of the internet
        return size, None
    if length < 2 * octets + 4:
        raise ValueError("a PROXY header without all of its addresses")
    (port,) = struct.unpack_from(">H", data, _HEAD_V2 + 2 * octets)
    return size, (str(ip_address(data[_HEAD_V2 : _HEAD_V2 + octets])), port)


class Introduction:
    """Waits, without a greenlet, for the header on a socket that does not block, and takes nothing behind it."""

    def __init__(
        self, sock: socket.socket, peer: Peer, seconds: float, then: Callable[[socket.socket, Peer], None]
    ) -> None:
        self._socket = sock
        self._peer = peer
        self._then = then
        loop = gevent.get_hub().loop
        self._readable = loop.io(sock.fileno(), _READ)
        self._deadline = loop.timer(seconds)
        self._pause = loop.timer(PAUSE_SECONDS)
        self._readable.start(self._look)
        self._deadline.start(self._give_up, "nothing came in time")

    def _look(self) -> None:
        try:
            data = self._socket.recv(LONGEST_V2, socket.MSG_PEEK)
            found = read_header(data)
            if not data:
                raise ValueError("the client closed the socket")
            if found is None:  # what was peeked at stays, and the loop would call again at once
                self._readable.stop()
                self._pause.start(self._look_again)
                return
            self._socket.recv(found[0])
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._give_up(str(error))
            return
        self._end()
        self._then(self._socket, found[1] or self._peer)

    def _look_again(self) -> None:
        self._readable.start(self._look)

    def _give_up(self, reason: str) -> None:
        logger.warning("%s:%s: expected a PROXY header: %s", *self._peer, reason)
        self._end()
        self._socket.close()

    def _end(self) -> None:
        self._readable.close()
        self._deadline.close()
        self._pause.close()
