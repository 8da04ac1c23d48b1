"""Heartbeats both ways (AMQP 0-9-1, section 4.2.7): a timer, because a greenlet for each connection costs memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from dispatchd.amqp.constants import HEARTBEAT_FRAME

if TYPE_CHECKING:
    from dispatchd.net.socket_transport import SocketTransport

BEATS = 2
"""Beats in the negotiated interval: a client hears from us twice as often as it asked for."""
SILENT_INTERVALS = 2
"""Intervals without anything from the peer after which it counts as gone."""


class Heartbeat:
    """Sends a heartbeat where nothing else was sent, and abandons a peer that is silent for two intervals.

    While the socket isn't read, because its publishes wait for room, silence says nothing.
    """

    def __init__(self, transport: SocketTransport, seconds: int) -> None:
        self._transport = transport
        self._seconds = seconds
        self._sent = -1
        self._received = -1
        self._silent_beats = 0
        self._timer = gevent.get_hub().loop.timer(seconds / BEATS, seconds / BEATS)
        self._timer.start(self._beat)

    def stop(self) -> None:
        """Beat no more."""
        self._timer.close()

    def _beat(self) -> None:
        transport = self._transport
        if transport.received_bytes != self._received or not transport.is_reading:
            self._silent_beats = 0
        else:
            self._silent_beats += 1
        if self._silent_beats >= SILENT_INTERVALS * BEATS:
            transport.abandon(f"nothing came for twice the heartbeat of {self._seconds} s")
            return
        if transport.sent_bytes == self._sent and not transport.outlet.unsent:
            transport.send(HEARTBEAT_FRAME)
        self._received, self._sent = transport.received_bytes, transport.sent_bytes
