"""What connections and channels need of a socket. `net` has the real one; tests have theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dispatchd.model.flow import Outlet

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.encoder import Piece

__all__ = ["Outlet", "Transport"]  # Outlet for net, which knows the actors but not the model


class Transport(Protocol):
    """One connected socket, its reader and its writer: what they brought and sent, and in how many goes.

    `outlet` is the room that deliveries may take on their way to it; `peer` and `local` are (address, port).
    """

    outlet: Outlet
    peer: tuple[str, int]
    local: tuple[str, int]
    received_bytes: int
    reads: int
    sent_bytes: int
    writes: int

    @property
    def certified_name(self) -> str:
        """The name in the client's certificate, which was verified; "" without one."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What the admin shows of how the socket is secured: `ssl`, and more if it is true."""
        ...

    @property
    def waits_for_credit(self) -> bool:
        """Whether the socket isn't read because what it sent before is still on its way to queues."""
        ...

    @property
    def unfinished(self) -> int:
        """Octets that have come of contents which are not complete. That there are some is told as what `Arrived`."""
        ...

    def begin(self, connection: Ref) -> None:
        """Read for this connection from now on."""
        ...

    def send(self, data: bytes) -> None:
        """Queue bytes for the peer; never blocks."""
        ...

    def send_all(self, pieces: list[Piece]) -> None:
        """Likewise, one piece behind the other; what they are made of must not change any more."""
        ...

    def grant(self, credit: int) -> None:
        """Give publish credit back: the reader may take as much in again."""
        ...

    def block(self) -> None:
        """Read no more of what the peer sends until it has ended its half; its silence is no sign of its end then."""
        ...

    def unblock(self) -> None:
        """Read on."""
        ...

    def tuned(self, frame_max: int, heartbeat: int) -> None:
        """Apply what was negotiated: octets of a frame, seconds between heartbeats (0 = none)."""
        ...

    def opened(self) -> None:
        """The handshake is over: its deadline no longer applies."""
        ...

    def end_channels(self) -> None:
        """Skip what comes for channels: the connection is closing (section 4.9: it has to be discarded)."""
        ...

    def close(self, *, after_peer: bool = False) -> None:
        """Send what is queued, then close the socket; the reader ends. `after_peer`: the peer is the first to close."""
        ...
