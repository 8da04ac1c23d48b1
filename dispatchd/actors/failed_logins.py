"""How long a peer waits for the answer to a login that failed: the longer, the more of them did."""

from __future__ import annotations

from typing import Final

from dispatchd.actors.credentials import is_loopback

FIRST_SECONDS: Final = 0.25
LONGEST_SECONDS: Final = 3.0
"""RabbitMQ's delay for clients that it does not tell why."""
FORGOTTEN_AFTER_SECONDS: Final = 60.0
MOST_PEERS: Final = 10_000


class FailedLogins:
    """Failures by peer, each of which doubles the wait; a minute without one, or a login, and they are forgotten.

    This machine's own addresses never wait: what all clients of a proxy on it share must not be any one's fault.
    """

    def __init__(self) -> None:
        self._of_peers: dict[str, tuple[int, float]] = {}

    def seconds(self, peer: str, now: float) -> float:
        """Note another failure; returns how long its answer is to wait. `now` is in seconds."""
        if is_loopback(peer):
            return 0.0
        count, last = self._of_peers.pop(peer, (0, now))
        count = 1 if now - last > FORGOTTEN_AFTER_SECONDS else count + 1
        if len(self._of_peers) >= MOST_PEERS:
            del self._of_peers[next(iter(self._of_peers))]
        self._of_peers[peer] = count, now
        return min(FIRST_SECONDS * 2.0 ** min(count - 1, 10), LONGEST_SECONDS)

    def forget(self, peer: str) -> None:
        """Somebody logged in from there."""
        self._of_peers.pop(peer, None)

    def __len__(self) -> int:
        return len(self._of_peers)
