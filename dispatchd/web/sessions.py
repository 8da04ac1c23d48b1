"""Logins by form: who has given a password is known by a cookie, which no script and no other site can use."""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import gevent

logger = logging.getLogger(__name__)

COOKIE: Final = "dispatchd-session"
IDLE_SECONDS: Final = 8 * 3600.0
MOST_SESSIONS: Final = 1000
SAVED_SECONDS: Final = 600.0
"""How much of the time that a session was idle may be wrong after a restart."""


class Sessions:
    """Who is logged in. Tokens are kept as hashes; when there are too many, the session goes that was idle longest.

    A session has a seal: what was so of the user when it began, and ends it when it is not so any more. With a `path`
    sessions outlive the broker: people who restart it while they look for something need not log in again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._sessions: dict[str, tuple[str, str, float]] = {}
        self._saved_at = time.time()
        if path is not None:
            self._sessions = _read(path)

    def open(self, user: str, seal: str) -> str:
        """Begin a session; returns its token."""
        token = secrets.token_urlsafe(32)
        self._sessions[_hashed(token)] = user, seal, time.time()
        if len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._save()
        return token

    def find(self, token: str | None) -> tuple[str, str]:
        """Whose session this is, and its seal; two empty texts if it is none, or was idle for IDLE_SECONDS."""
        user, seal, used = self._sessions.pop(_hashed(token or ""), ("", "", 0.0))
        now = time.time()
        if not user or now - used > IDLE_SECONDS:
            return "", ""
        self._sessions[_hashed(token or "")] = user, seal, now
        if now - self._saved_at > SAVED_SECONDS:
            self._save()
        return user, seal

    def close(self, token: str | None) -> None:
        """End a session."""
        if self._sessions.pop(_hashed(token or ""), None) is not None:
            self._save()

    def _save(self) -> None:
        """Write all sessions, on a native thread that nobody but the caller waits for."""
        self._saved_at = time.time()
        if self._path is not None:
            gevent.get_hub().threadpool.apply(_write, (self._path, json.dumps(self._sessions)))


def _hashed(token: str) -> str:
    return sha256(token.encode(errors="replace")).hexdigest()


def _write(path: Path, text: str) -> None:
    """Replace a file that is for the broker's user alone. Without it sessions end with the broker, and no more."""
    new = path.with_name(f"{path.name}.new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
    except OSError as error:
        logger.warning("the sessions of the admin can't be kept: %s", error)


def _read(path: Path) -> dict[str, tuple[str, str, float]]:
    try:
        found: Any = json.loads(path.read_bytes())
        return {str(key): (str(user), str(seal), float(used)) for key, (user, seal, used) in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("the sessions of the admin are lost: %s: %s", path, error)
        return {}
