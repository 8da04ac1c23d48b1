"""One client's socket: reads it and writes to it in the loop, and keeps either from running away.

Nothing of it has a greenlet: it says to the loop what it waits for. Two of them for each connection took 15 KiB.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import gevent

from dispatchd.actors.messages import Arrived, Disconnected, Drained
from dispatchd.actors.transport import Outlet
from dispatchd.amqp.constants import PROTOCOL_HEADER
from dispatchd.amqp.frame_parser import FrameParser
from dispatchd.net.credit import Credit
from dispatchd.net.hang_up import HangUp
from dispatchd.net.heartbeat import Heartbeat

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.encoder import Piece
    from dispatchd.net.tls_socket import TlsSocket

logger = logging.getLogger(__name__)

READ_SIZES = (32_768, 1_048_576)
"""Octets of one read, at least and at most. It is small, so that acks keep up with publishes, and grows while it brings
only a few messages: with 16 KiB bodies, reads of 32 KiB cost twice as much a message. With 512 KiB at most, 16 and 64
messages those of 16 KiB cost 1.28 times as much, of 4 KiB 1.39, of 1 KiB 1.56."""
FEW_MESSAGES, MANY_MESSAGES = 64, 160
MAILBOX_LIMIT = 64
"""Reads that may wait in a connection's mailbox; more means that its actor is paused or stuck."""
MAILBOX_CHECK_SECONDS = 0.02
LEAST_UNFINISHED = 64 << 20
"""Octets of contents that are not complete, on all channels of a connection, which is read at full speed until it has
more, or more than two messages of the largest size; then at the speed below. Nobody is refused for that: the alarm for
memory, which comes within a second or two, ends it before it is much."""
OCTETS_OF_SECOND = 32 << 20
FLUSH_SECONDS = 2.0
LARGE_PIECE = 2_048
"""Octets of the average piece from which on they are handed to the system one by one: to copy them together would cost
more."""
PIECES_AT_ONCE = 64
SENT_IN_ONE_GO = 1 << 20
"""Octets after which the loop looks at all sockets again: with bodies of 16 MiB all that waits came to 30 ms."""
READ, WRITE = 1, 2


class SocketTransport:
    """What `actors.transport.Transport` asks for, over a TCP socket that does not block, and that is not gevent's."""

    __slots__ = (
        "_connection",
        "_credit",
        "_deadline",
        "_ends_first",
        "_hang_up",
        "_has_ended",
        "_header",
        "_heartbeat",
        "_is_closing",
        "_is_flushed",
        "_is_shut",
        "_is_writing",
        "_look",
        "_loop",
        "_most_unfinished",
        "_on_header",
        "_outgoing",
        "_parser",
        "_read_size",
        "_readable",
        "_rest",
        "_sending",
        "_socket",
        "_writable",
        "is_reading",
        "local",
        "outlet",
        "peer",
        "reads",
        "received_bytes",
        "sent_bytes",
        "writes",
    )

    def __init__(self, sock: socket.socket | TlsSocket, peer: tuple[str, int], max_message_size: int) -> None:
        self.peer = peer
        self.local: tuple[str, int] = sock.getsockname()[:2]
        self.outlet = Outlet()
        self.received_bytes = 0
        self.reads = 0
        self.sent_bytes = 0
        self.writes = 0
        self._socket = sock
        self._parser = FrameParser(max_message_size=max_message_size)
        self._most_unfinished = max(2 * max_message_size, LEAST_UNFINISHED)
        self._credit = Credit()
        self._read_size = READ_SIZES[0]
        self._outgoing: list[Piece] = []
        self._sending: list[Piece] = []
        self._header = b""
        self._on_header: Callable[[], None] | None = None
        self._connection: Ref | None = None
        self._heartbeat: Heartbeat | None = None
        self.is_reading = False
        self._is_writing = False
        self._has_ended = False
        self._is_closing = False
        self._ends_first = True
        self._is_flushed = False
        self._is_shut = False
        self._loop = loop = gevent.get_hub().loop
        self._readable = loop.io(sock.fileno(), READ)
        self._writable = loop.io(sock.fileno(), WRITE)
        self._deadline = loop.timer(0)
        self._look: Any = None
        self._rest: Any = None
        self._hang_up: HangUp | None = None

    def greet(self, on_header: Callable[[], None], seconds: float) -> None:
        """Read the protocol header, and say when it has come: somebody has to `begin` then.

        Abandons a client that has not got through connection.open after so many seconds.
        """
        self._on_header = on_header
        self._set_deadline(seconds, self._end_handshake)
        self._readable.start(self._read_header)

    # For actors

    @property
    def certified_name(self) -> str:
        """Nobody has certified who a client without TLS is."""
        return ""

    @property
    def facts(self) -> dict[str, Any]:
        """What the admin shows of how the socket is secured."""
        return {"ssl": False}

    @property
    def waits_for_credit(self) -> bool:
        """Whether nothing is read until queues took what was read before."""
        return self._credit.is_exhausted

    @property
    def unfinished(self) -> int:
        """Octets that have come of contents which are not complete."""
        return int(self._parser.unfinished)

    def begin(self, connection: Ref) -> None:
        """Read for this connection from now on, and write what it sends."""
        self._connection = connection
        self._read_on()

    def send(self, data: bytes) -> None:
        """Queue bytes; they are joined with what else is there when the loop comes to send them."""
        if self._is_closing or not data:
            return
        self._outgoing.append(data)
        self.outlet.unsent += len(data)
        self._write_soon()

    def send_all(self, pieces: list[Piece]) -> None:
        """Likewise, several pieces; large ones are not copied on their way."""
        if self._is_closing:
            return
        self._outgoing.extend(pieces)
        for piece in pieces:
            self.outlet.unsent += len(piece)
        self._write_soon()

    def grant(self, credit: int) -> None:
        """Let as much be read again."""
        if credit and not self._is_shut:
            self._credit.give(credit)
            self._read_on()

    def block(self) -> None:
        """Read no more, until it is unblocked or closed, or all has come that will come."""
        if not self._is_closing:
            self._credit.block()
            self._read_no_more()
            self._stop_waiting_for_end()
            self._hang_up = HangUp(self._socket.fileno(), self.unblock)

    def unblock(self) -> None:
        """Read on."""
        self._stop_waiting_for_end()
        self._credit.unblock()
        self._read_on()

    def _stop_waiting_for_end(self) -> None:
        if self._hang_up is not None:
            self._hang_up.stop()
            self._hang_up = None

    def tuned(self, frame_max: int, heartbeat: int) -> None:
        """Apply what was negotiated."""
        self._parser.frame_max = frame_max
        if heartbeat and not self._is_shut:
            self._heartbeat = Heartbeat(self, heartbeat)

    def opened(self) -> None:
        """The handshake is over."""
        if not self._is_closing:
            self._deadline.stop()

    def end_channels(self) -> None:
        """Take what comes for channels for nothing."""
        self._parser.end_channels()

    def close(self, *, after_peer: bool = False) -> None:
        """Flush, end our half unless the peer ends its half first, and close when it has, or FLUSH_SECONDS later."""
        if self._is_closing:
            return
        self._is_closing = True
        self._ends_first = not after_peer
        if self._connection is None:
            self._shut()
        else:
            self._set_deadline(FLUSH_SECONDS, self._shut)
            self._write_soon()
            self._read_on()

    # Reading. What the loop calls never waits.

    def _read_header(self) -> None:
        try:
            data = self._socket.recv(len(PROTOCOL_HEADER) - len(self._header))
            self._header += data
            if data and len(self._header) < len(PROTOCOL_HEADER):
                return
            if data and self._header != PROTOCOL_HEADER:  # section 4.2.2: such a client is told what we speak
                self._socket.send(PROTOCOL_HEADER)
        except BlockingIOError:
            return
        except OSError as error:
            logger.debug("%s:%s: no protocol header: %s", *self.peer, error)
        self._readable.stop()
        if self._header == PROTOCOL_HEADER and self._on_header is not None:
            self._on_header()
            self._on_header = None
        else:
            self._shut()

    def _end_handshake(self) -> None:
        if self._connection is None:
            self._shut()
        else:
            self.abandon("no connection.open came in time")

    def _read_on(self) -> None:
        """Read from now on, if there is credit, or if it is for nothing; and if the connection keeps up with it."""
        connection = self._connection
        if self.is_reading or self._has_ended or connection is None:
            return
        if not self._is_draining():
            if self._rest is not None or not self._credit.is_available:
                return
            if len(connection.mailbox) > MAILBOX_LIMIT:
                self._look_again_later()
                return
        self.is_reading = True
        self._readable.start(self._read)

    def _look_again_later(self) -> None:
        """The connection's actor does not keep up."""
        if self._look is None:
            self._look = self._loop.timer(MAILBOX_CHECK_SECONDS)
            self._look.start(self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._read_on()

    def _read_slowly(self, octets: int) -> None:
        """More and more is unfinished."""
        self._read_no_more()
        self._rest = self._loop.timer(octets / OCTETS_OF_SECOND)
        self._rest.start(self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        self._read_on()

    def _read_no_more(self) -> None:
        if self.is_reading:
            self.is_reading = False
            self._readable.stop()

    def _is_draining(self) -> bool:
        """Whether what comes is of no use: unread it would reset the socket before the peer has seen our last words."""
        return self._is_closing or self._parser.failure is not None

    def _read(self) -> None:
        try:
            size = self._read_size
            data = self._socket.recv(size if size > READ_SIZES[0] else self._credit.fitting(size))
            if not data:
                self._end_reading("the client closed the socket")
            elif not self._is_draining():
                self._take(data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._end_reading(str(error))
        except Exception as error:
            logger.exception("%s:%s can't be read", *self.peer)
            self._end_reading(repr(error))

    def _take(self, data: bytes) -> None:
        connection, parser, credit = self._connection, self._parser, self._credit
        assert connection is not None
        self.received_bytes += len(data)
        self.reads += 1
        was_unfinished = parser.unfinished
        inputs = parser.feed(data)
        unfinished = parser.unfinished
        messages = 0
        for arrived in inputs:
            messages += len(arrived.published)
            credit.take(arrived.cost)
        if inputs or parser.failure is not None or (unfinished and not was_unfinished):
            connection.tell(Arrived(inputs, parser.failure))
        least, most = READ_SIZES
        if messages > MANY_MESSAGES:
            self._read_size = least
        elif len(data) == self._read_size < most and messages < FEW_MESSAGES:
            self._read_size *= 2
        if unfinished > self._most_unfinished and unfinished > was_unfinished:
            self._read_slowly(len(data))
        elif not credit.is_available or len(connection.mailbox) > MAILBOX_LIMIT:
            self._read_no_more()
            self._read_on()

    def _end_reading(self, reason: str) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._read_no_more()
        if self._connection is not None:
            self._connection.tell(Disconnected(reason))
        if self._is_flushed:
            self._shut()

    # Writing

    def _write_soon(self) -> None:
        if not self._is_writing and not self._is_shut:
            self._is_writing = True
            self._loop.run_callback(self._write)

    def _write(self) -> None:
        """Send what waits, as far as the socket takes it; the loop calls again when it takes more."""
        if self._is_shut:
            return
        in_one_go = 0
        try:
            while self._sending or self._outgoing:
                if in_one_go > SENT_IN_ONE_GO:
                    self._writable.start(self._write)
                    return
                in_one_go += self._send_some()
        except BlockingIOError:
            self._writable.start(self._write)
            return
        except OSError as error:
            logger.debug("%s:%s: %s", *self.peer, error)
            self._shut()
            return
        self._writable.stop()
        self._is_writing = False
        if self._is_closing:
            self._end_writing()

    def _send_some(self) -> int:
        """Send what the system takes in one call; returns how many octets that were. Raises OSError."""
        pieces = self._sending
        if not pieces:
            batch, self._outgoing = self._outgoing, []
            size = sum(map(len, batch))
            pieces = self._sending = batch if size > LARGE_PIECE * len(batch) else [b"".join(batch)]
        group = pieces[:PIECES_AT_ONCE]
        sent = rest = self._socket.sendmsg(group) if len(group) > 1 else self._socket.send(group[0])
        whole = 0
        while whole < len(group) and rest >= len(group[whole]):
            rest -= len(group[whole])
            whole += 1
        del pieces[:whole]
        if rest:
            pieces[0] = memoryview(pieces[0])[rest:]
        self._sent(sent)
        return sent

    def _sent(self, size: int) -> None:
        self.sent_bytes += size
        self.writes += 1
        outlet = self.outlet
        outlet.unsent -= size
        if outlet.starved and outlet.unsent < outlet.limit // 2 and self._connection is not None:
            outlet.starved = False
            self._connection.tell(Drained())

    def _end_writing(self) -> None:
        self._is_flushed = True
        if self._ends_first:
            with suppress(OSError):  # the peer was faster
                self._socket.shutdown(socket.SHUT_WR)
        if self._has_ended:
            self._shut()

    # The end

    def _set_deadline(self, seconds: float, act: Callable[[], None]) -> None:
        self._deadline.close()
        self._deadline = self._loop.timer(seconds)
        self._deadline.start(act)

    def abandon(self, reason: str) -> None:
        """Close without a farewell: the peer does not answer any more."""
        self._end_reading(reason)
        self._shut()

    def _shut(self) -> None:
        if self._is_shut:
            return
        self._is_shut = self._is_closing = True
        self._credit.end()
        self._stop_waiting_for_end()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        for watcher in (self._readable, self._writable, self._deadline):
            watcher.close()
        with suppress(OSError):  # the peer was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.is_reading = False
        self._end_reading("the socket is closed")
