"""Logins by form: who has given a password is known by a cookie, which no script and no other site can use."""

from __future__ import annotations

import secrets
import time
from hashlib import sha256
from typing import Final

COOKIE: Final = "dispatchd-session"
IDLE_SECONDS: Final = 8 * 3600.0
MOST_SESSIONS: Final = 1000


class Sessions:
    """Who is logged in. Tokens are kept as hashes; when there are too many, the session goes that was idle longest.

    A session has a seal: what was so of the user when it began, and ends it when it is not so any more.
    """

    def __init__(self) -> None:
        self._sessions: dict[bytes, tuple[str, str, float]] = {}

    def open(self, user: str, seal: str) -> str:
        """Begin a session; returns its token."""
        token = secrets.token_urlsafe(32)
        self._sessions[_hashed(token)] = user, seal, time.monotonic()
        if len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return token

    def find(self, token: str | None) -> tuple[str, str]:
        """Whose session this is, and its seal; two empty texts if it is none, or was idle for IDLE_SECONDS."""
        user, seal, used = self._sessions.pop(_hashed(token or ""), ("", "", 0.0))
        now = time.monotonic()
        if not user or now - used > IDLE_SECONDS:
            return "", ""
        self._sessions[_hashed(token or "")] = user, seal, now
        return user, seal

    def close(self, token: str | None) -> None:
        """End a session."""
        self._sessions.pop(_hashed(token or ""), None)


def _hashed(token: str) -> bytes:
    return sha256(token.encode(errors="replace")).digest()
