"""One client's socket: a greenlet that reads it, one that writes it, and what keeps either from running away."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from errno import EBADF
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event

from dispatchd.actors.messages import Arrived, Disconnected, Drained
from dispatchd.actors.transport import Outlet
from dispatchd.actors.wakeup import Wakeup
from dispatchd.amqp.frame_parser import FrameParser
from dispatchd.net.credit import Credit
from dispatchd.net.heartbeat import Heartbeat

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.encoder import Piece

logger = logging.getLogger(__name__)

READ_SIZES = (32_768, 524_288)
"""Octets of one read, at least and at most. It is small, so that acks keep up with publishes, and grows while it brings
only a few messages: with 16 KiB bodies, reads of 32 KiB cost twice as much a message."""
FEW_MESSAGES, MANY_MESSAGES = 16, 64
MAILBOX_LIMIT = 64
"""Reads that may wait in a connection's mailbox; more means that its actor is paused or stuck."""
MAILBOX_CHECK_SECONDS = 0.02
FLUSH_SECONDS = 2.0
LARGE_PIECE = 2_048
"""Octets of the average piece from which on they are handed to the system one by one: to copy them together would cost
more."""
PIECES_AT_ONCE = 64
LARGE_READ = 65_536
"""Octets that may have been read after which the loop looks at all sockets. It also does when all that was there has
been read: to be told so by another read costs 3 µs."""
SENT_IN_ONE_GO = 1 << 20
"""Octets after which the loop looks at all sockets again. Who sleeps for 0 s has up to 50 turns before it does: with
bodies of 16 MiB these came to 30 ms."""
READ, WRITE = 1, 2


class SocketTransport:
    """What `actors.transport.Transport` asks for, over a TCP socket."""

    def __init__(self, sock: socket.socket, peer: tuple[str, int], max_message_size: int) -> None:
        self.peer = peer
        self.local: tuple[str, int] = sock.getsockname()[:2]
        self.outlet = Outlet()
        self.received_bytes = 0
        self.sent_bytes = 0
        self._socket = sock
        self._parser = FrameParser(max_message_size=max_message_size)
        self._credit = Credit()
        self.is_reading = True
        self._outgoing: list[Piece] = []
        self._writer = Wakeup()
        self._has_ended = Event()
        self._is_closing = False
        self._ends_first = True
        self._heartbeat: Heartbeat | None = None
        self._is_open = False
        self._begun = Event()
        self._connection: Ref | None = None
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(sock.fileno(), READ)
        self._writable = self._hub.loop.io(sock.fileno(), WRITE)

    # For actors

    @property
    def waits_for_credit(self) -> bool:
        """Whether the reader waits until queues took what it read before."""
        return self._credit.is_exhausted

    def begin(self, connection: Ref) -> None:
        """Start the writer, and let the reader go on."""
        self._connection = connection
        self._begun.set()
        gevent.spawn(self._write, connection).name = f"writer {connection.name}"

    def send(self, data: bytes) -> None:
        """Queue bytes; the writer joins what is there when its turn comes."""
        if self._is_closing or not data:
            return
        self._outgoing.append(data)
        self.outlet.unsent += len(data)
        self._writer.call()

    def send_all(self, pieces: list[Piece]) -> None:
        """Likewise, several pieces; large ones are not copied on their way."""
        if self._is_closing:
            return
        self._outgoing.extend(pieces)
        for piece in pieces:
            self.outlet.unsent += len(piece)
        self._writer.call()

    def grant(self, credit: int) -> None:
        """Let the reader take in as much again."""
        if credit:
            self._credit.give(credit)

    def block(self) -> None:
        """Read no more, until it is unblocked or closed."""
        if not self._is_closing:
            self._credit.block()

    def unblock(self) -> None:
        """Read on."""
        self._credit.unblock()

    def tuned(self, frame_max: int, heartbeat: int) -> None:
        """Apply what was negotiated."""
        self._parser.frame_max = frame_max
        if heartbeat:
            self._heartbeat = Heartbeat(self, heartbeat)

    def opened(self) -> None:
        """The handshake is over."""
        self._is_open = True

    def close(self, *, after_peer: bool = False) -> None:
        """Flush, end our half unless the peer ends its half first, and close when it has, or FLUSH_SECONDS later."""
        if not self._is_closing:
            self._is_closing = True
            self._ends_first = not after_peer
            self._writer.call()
            self._credit.give_all()
            if self._connection is None:
                self._shut()
            else:
                gevent.spawn_later(FLUSH_SECONDS, self._shut)

    # The greenlets

    def run(self, handshake_timeout: float) -> None:
        """Read until the end. Abandons a client whose connection.open takes more than `handshake_timeout` seconds."""
        deadline = gevent.spawn_later(handshake_timeout, self._end_handshake)
        self._begun.wait()
        if self._connection is not None:
            setattr(gevent.getcurrent(), "name", f"reader {self._connection.name}")  # noqa: B010 - see web.debug
            self._read(self._connection)
        deadline.kill(block=False)

    def _end_handshake(self) -> None:
        if not self._is_open:
            self.abandon("no connection.open came in time")

    def _read(self, connection: Ref) -> None:
        parser, credit, inbox = self._parser, self._credit, connection.mailbox
        reason = "the client closed the socket"
        least, most = READ_SIZES
        size = least
        try:
            while parser.failure is None:
                data = self._socket.recv(asked := size)
                if not data or self._is_closing:
                    break
                self.received_bytes += len(data)
                inputs = parser.feed(data)
                messages = 0
                for arrived in inputs:
                    messages += len(arrived.published)
                    credit.take(arrived.cost)
                if inputs or parser.failure is not None:
                    connection.tell(Arrived(inputs, parser.failure))
                if messages > MANY_MESSAGES:
                    size = least
                elif len(data) == asked < most and messages < FEW_MESSAGES:
                    size *= 2
                if len(data) < asked or asked >= LARGE_READ:
                    self._hub.wait(self._readable)
                elif credit.is_available:
                    gevent.sleep(0)
                self.is_reading = False
                if not credit.is_available:
                    credit.wait()
                while len(inbox) > MAILBOX_LIMIT and not self._is_closing:
                    gevent.sleep(MAILBOX_CHECK_SECONDS)
                self.is_reading = True
            self._drain_socket()
        except OSError as error:
            reason = str(error)
        finally:
            self._has_ended.set()
            connection.tell(Disconnected(reason))

    def _drain_socket(self) -> None:
        """Read on for nothing: unread data would reset the socket before the peer has seen our last words."""
        while self._socket.recv(READ_SIZES[0]):
            gevent.sleep(0)

    def _write(self, connection: Ref) -> None:
        try:
            while True:
                if not self._outgoing and not self._is_closing:
                    self._writer.wait()
                while self._outgoing:
                    batch, self._outgoing = self._outgoing, []
                    size = sum(map(len, batch))
                    self._send(batch if size > LARGE_PIECE * len(batch) else [b"".join(batch)])
                    self._sent(size, connection)
                if self._is_closing:
                    break
            if self._ends_first:
                self._socket.shutdown(socket.SHUT_WR)
            self._has_ended.wait()
        except OSError as error:
            logger.debug("%s: %s", connection.name, error)
        self._shut()

    def _send(self, pieces: list[Piece]) -> None:
        """Send everything. Python's own sendall asks the system for the size of its buffer each time."""
        in_one_go = 0
        while pieces:
            group = pieces[:PIECES_AT_ONCE]
            if in_one_go > SENT_IN_ONE_GO:
                self._hub.wait(self._writable)
                in_one_go = 0
            sent = self._socket.sendmsg(group) if len(group) > 1 else self._socket.send(group[0])
            in_one_go += sent
            whole = 0
            while whole < len(group) and sent >= len(group[whole]):
                sent -= len(group[whole])
                whole += 1
            del pieces[:whole]
            if sent:
                pieces[0] = memoryview(pieces[0])[sent:]

    def _sent(self, size: int, connection: Ref) -> None:
        self.sent_bytes += size
        outlet = self.outlet
        outlet.unsent -= size
        if outlet.starved and outlet.unsent < outlet.limit // 2:
            outlet.starved = False
            connection.tell(Drained())

    def abandon(self, reason: str) -> None:
        """Close without a farewell: the peer does not answer any more."""
        logger.info("%s:%s: %s", *self.peer, reason)
        self._shut()

    def _shut(self) -> None:
        self._is_closing = True
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._writer.call()
        self._has_ended.set()
        self._credit.give_all()
        with suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        for watcher in (self._readable, self._writable):
            self._hub.cancel_wait(watcher, OSError(EBADF, "the socket is closed"), close_watcher=True)
        self._socket.close()
        self._begun.set()
