"""Plays octets of chance to a broker that is a process of its own, and hears what it closes them with."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from broker.process import BrokerProcess
from fuzz.mutants import CHANNEL_MAX, FRAME_MAX, Mutant

from dispatchd.amqp import methods as m
from dispatchd.amqp.constants import FRAME_METHOD, PROTOCOL_HEADER
from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.method_codec import decode_method, encode_method

SECONDS = 10
LOGIN = PROTOCOL_HEADER + encode_method(0, m.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest"))
OPEN = encode_method(0, m.ConnectionTuneOk(CHANNEL_MAX, FRAME_MAX, 0)) + encode_method(0, m.ConnectionOpen("/"))
CLOSE = encode_method(0, m.ConnectionClose(200))
CLOSE_OK = encode_method(0, m.ConnectionCloseOk())
CONNECTION_TUNE, CONNECTION_OPEN_OK = b"\0\x0a\0\x1e", b"\0\x0a\0\x29"
CONNECTION_CLOSE, CHANNEL_CLOSE = b"\0\x0a\0\x32", b"\0\x14\0\x28"
"""Class and method, which nothing else in the answers has in it."""
CONSTANTS = {kind.code: kind.constant for kind in AmqpError.__subclasses__() for kind in (kind, *kind.__subclasses__())}


@dataclass(frozen=True)
class Closed:
    """A close that the broker sent."""

    code: int
    text: str
    of_connection: bool


def connect(broker: BrokerProcess) -> socket.socket:
    """A socket whose reads give up after SECONDS."""
    sock = socket.create_connection((broker.host, broker.port), SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def play(broker: BrokerProcess, chance: random.Random, mutant: Mutant) -> list[Closed]:
    """Log in, send the session in pieces, then say goodbye or vanish; returns what was closed meanwhile.

    Where a close is certain it is waited for first: of who has gone, no channel that is still at work says anything.
    """
    sock = connect(broker)
    try:
        sock.sendall(LOGIN)
        wait_for(sock, CONNECTION_TUNE)
        sock.sendall(OPEN)
        wait_for(sock, CONNECTION_OPEN_OK)
        received = b""
        try:
            for piece in pieces(chance, mutant.data):
                sock.sendall(piece)
            if mutant.is_certain and mutant.codes:
                received = wait_for(sock, CONNECTION_CLOSE, CHANNEL_CLOSE)
            if mutant.is_certain or chance.random() < 0.5:
                sock.sendall(CLOSE_OK if CONNECTION_CLOSE in received else CLOSE)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is closed already
        return closes(received + read_to_end(sock))
    finally:
        sock.close()


def wait_for(sock: socket.socket, *methods: bytes) -> bytes:
    """Read until one of these methods has come; returns all that came. Raises TimeoutError."""
    received = b""
    while not any(method in received for method in methods):
        piece = sock.recv(262_144)
        assert piece, f"the broker hangs up after {received!r}"
        received += piece
    return received


def play_before_login(broker: BrokerProcess, data: bytes) -> list[Closed]:
    """Send this instead of a login, and end."""
    sock = connect(broker)
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    received = read_to_end(sock)
    sock.close()
    return closes(received.removeprefix(PROTOCOL_HEADER))


def read_to_end(sock: socket.socket) -> bytes:
    """What comes until the broker closes the socket. Raises TimeoutError if it does not."""
    data = []
    try:
        while piece := sock.recv(262_144):
            data.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(data)


def pieces(chance: random.Random, data: bytes) -> Iterator[bytes]:
    """The octets in reads of any size."""
    at = 0
    while at < len(data):
        size = chance.choice([1, 7, 100, 5000, 100_000, 100_000])
        yield data[at : at + size]
        at += size


def closes(data: bytes) -> list[Closed]:
    """Each channel.close in what a broker has sent, up to its connection.close; all have to be well-formed.

    Behind connection.close clients take nothing in: what channels had on their way may follow it.
    """
    found: list[Closed] = []
    at = 0
    while at + 7 <= len(data) and not (found and found[-1].of_connection):
        kind, channel, size = struct.unpack_from(">BHI", data, at)
        payload = data[at + 7 : at + 7 + size]
        if kind == FRAME_METHOD and payload[:4] in (CONNECTION_CLOSE, CHANNEL_CLOSE):
            method = decode_method(payload)
            assert isinstance(method, m.ConnectionClose | m.ChannelClose)
            assert (channel == 0) == isinstance(method, m.ConnectionClose)
            assert method.reply_text.startswith(CONSTANTS[method.reply_code]), method
            found.append(Closed(method.reply_code, method.reply_text, channel == 0))
        at += size + 8
    return found
