"""The time of day, as messages and queues have it."""

from __future__ import annotations

from time import time_ns


def now_ms() -> int:
    """Unix time in ms: it goes on while the broker is stopped."""
    return time_ns() // 1_000_000
