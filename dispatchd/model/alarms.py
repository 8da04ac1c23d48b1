"""Alarms: what the broker runs short of, and what publishers are told of it (RabbitMQ's texts, rabbit_alarm)."""

from __future__ import annotations

from typing import Final

MEMORY: Final = "memory"
DISK: Final = "disk"
STORE: Final = "store"
SCRATCH: Final = "scratch"
FAILING: Final = "failing"

_SHORT_OF: Final = {MEMORY: "memory", DISK: "disk", STORE: "disk", SCRATCH: "disk"}
"""A store that takes no more is a full disk to clients, who know of two resources."""
FAILING_TEXT: Final = "the disk is failing"


class Alarms:
    """The alarms that are on, each with its cause in detail. While there is one, whoever publishes has to wait."""

    def __init__(self) -> None:
        self._details: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._details)

    def __contains__(self, cause: str) -> bool:
        return cause in self._details

    def raise_(self, cause: str, detail: str) -> bool:
        """Note an alarm; whether it is new."""
        is_new = cause not in self._details
        self._details[cause] = detail
        return is_new

    def end(self, cause: str) -> bool:
        """Note the end of an alarm; whether it was on."""
        return self._details.pop(cause, None) is not None

    def reason(self) -> str:
        """What `connection.blocked` says, such as "low on memory & disk"; "" without an alarm."""
        short_of = dict.fromkeys(text for cause, text in _SHORT_OF.items() if cause in self._details)
        parts = [f"low on {' & '.join(short_of)}"] if short_of else []
        if FAILING in self._details:
            parts.append(FAILING_TEXT)
        return "; ".join(parts)

    def rows(self) -> list[dict[str, str]]:
        """The alarms as the admin shows them."""
        return [{"cause": cause, "detail": detail} for cause, detail in self._details.items()]


def tightened(most: int, used: float) -> int:
    """How many entries of a queue may be in memory, of `most`, when this share of the memory's high watermark is used.

    All of them below a half; then the fewer the more is used, so that backlogs leave memory before it runs short.
    """
    if used < 0.5:
        return most
    if used < 0.75:
        return max(most // 4, 1)
    return max(most // 32, 1)
