"""What is looked at of actors, and what was seen of one of them, or of all of a kind in a vhost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from dispatchd.web.history import History

Figures = dict[str, Any]


class Metered(NamedTuple):
    """What is looked at of a kind of actors: what only grows, and what goes up and down.

    What grows has the name that RabbitMQ has for it, "" where others are made of it. Of `history` there are charts.
    """

    counters: dict[str, str]
    gauges: tuple[str, ...]
    history: tuple[str, ...] = ()


METERED: Final = {
    "queue": Metered(
        {
            "published": "publish", "delivered": "deliver_get", "delivered_ack": "deliver",
            "delivered_no_ack": "deliver_no_ack", "got": "get", "got_no_ack": "get_no_ack", "got_nothing": "get_empty",
            "acknowledged": "ack", "redelivered": "redeliver", "disk_reads": "disk_reads", "disk_writes": "disk_writes",
            "held_ms": "",
        },
        (
            "messages", "messages_ready", "messages_unacknowledged", "consumers", "message_bytes",
            "message_bytes_ready", "message_bytes_unacknowledged",
        ),
        (
            "published", "delivered", "acknowledged", "redelivered", "messages_ready", "messages_unacknowledged",
            "consumers",
        ),
    ),
    "channel": Metered(
        {
            "published": "publish", "published_to_confirm": "", "confirmed": "confirm",
            "returned": "return_unroutable", "dropped": "drop_unroutable", "delivered": "deliver_get",
            "delivered_ack": "deliver", "delivered_no_ack": "deliver_no_ack", "got": "get",
            "got_no_ack": "get_no_ack", "got_nothing": "get_empty", "acknowledged": "ack", "redelivered": "redeliver",
        },
        ("messages_unacknowledged", "messages_unconfirmed"),
    ),
    "exchange": Metered(
        {"published_in": "publish_in", "published_out": "publish_out"}, (), ("published_in", "published_out")
    ),
    "connection": Metered(
        {"recv_oct": "recv_oct", "send_oct": "send_oct", "recv_cnt": "", "send_cnt": ""}, (), ("recv_oct", "send_oct")
    ),
}  # fmt: skip

Place = tuple[str, str | None]
"""A kind of actors, and the vhost that they are in; None for connections that are in none yet."""


def details(names: Iterable[str], counts: Iterable[int], rates: Iterable[float]) -> Figures:
    """Counts and rates in RabbitMQ's form: `{"publish": 3, "publish_details": {"rate": 1.5}}`."""
    found: Figures = {}
    for name, count, rate in zip(names, counts, rates, strict=True):
        if name:
            found[name] = count
            found[f"{name}_details"] = {"rate": round(rate, 2)}
    return found


class Reading:
    """What was seen of one actor last: its counters and levels, how fast they went, and when they had changed."""

    __slots__ = ("_metered", "changed_at", "counters", "history", "level_rates", "levels", "rates")

    def __init__(self, metered: Metered, at: float) -> None:
        self._metered = metered
        self.counters = [0] * len(metered.counters)
        self.rates = [0.0] * len(metered.counters)
        self.levels = [0] * len(metered.gauges)
        self.level_rates = [0.0] * len(metered.gauges)
        self.changed_at = at
        self.history: History | None = None

    def update(self, counters: list[int], levels: list[int], since: float, at: float) -> list[int] | None:
        """Take in what is seen now, so many seconds after the last look. What counters grew by; None if nothing did."""
        if counters == self.counters and levels == self.levels:
            self.rates, self.level_rates = [0.0] * len(counters), [0.0] * len(levels)
            return None
        grown = [max(0, new - old) for new, old in zip(counters, self.counters, strict=True)]
        names = self._metered.counters.values()
        if levels != self.levels or any(each for each, name in zip(grown, names, strict=True) if name):
            self.changed_at = at
        self.rates = [each / since if each else 0.0 for each in grown]
        self.level_rates = [(new - old) / since for new, old in zip(levels, self.levels, strict=True)]
        self.counters, self.levels = counters, levels
        return grown

    def values(self) -> list[float]:
        """What its history is of: rates of what grows, and levels."""
        known = dict(zip(self._metered.counters, self.rates, strict=True))
        known.update(zip(self._metered.gauges, self.levels, strict=True))
        return [known[name] for name in self._metered.history]


class Sums:
    """Over some actors of a kind: how many there are, how many of them can't tell, and their figures.

    `active` are those that the first of what is counted was ever seen of, as channels that publish.
    """

    def __init__(self, metered: Metered, before: Sums | None = None) -> None:
        """Those of the next look after `before`: what has grown goes on growing."""
        self._metered = metered
        self.count = 0
        self.late = 0
        self.active = 0
        self.grown: list[int] = list(before.grown) if before is not None else [0] * len(metered.counters)
        self.rates = [0.0] * len(metered.counters)
        self.levels = [0] * len(metered.gauges)
        self.level_rates = [0.0] * len(metered.gauges)

    def add_levels(self, levels: list[int]) -> None:
        """Add those of one actor."""
        self.levels = _sum(self.levels, levels)

    def add_growth(self, grown: list[int], rates: list[float]) -> None:
        """Add what the counters of one actor grew by."""
        self.grown = _sum(self.grown, grown)
        self.rates = _sum(self.rates, rates)

    def add_sums(self, other: Sums) -> None:
        """Add those over other actors of the kind."""
        self.count += other.count
        self.late += other.late
        self.active += other.active
        self.add_growth(other.grown, other.rates)
        self.add_levels(other.levels)
        self.level_rates = _sum(self.level_rates, other.level_rates)

    def compare(self, before: Sums | None, seconds: float) -> None:
        """See how fast the levels rose, or fell, since the look before."""
        then = before.levels if before is not None else [0] * len(self.levels)
        self.level_rates = [(new - old) / seconds for new, old in zip(self.levels, then, strict=True)]

    def stats(self) -> Figures:
        """The sums of what grows under RabbitMQ's names, with their rates."""
        return details(self._metered.counters.values(), self.grown, self.rates)

    def level_stats(self) -> Figures:
        """The sums of what goes up and down, with the rates of that."""
        return details(self._metered.gauges, self.levels, self.level_rates)

    def to_row(self) -> Figures:
        """All sums by the names of what was summed up."""
        found: Figures = dict(zip(self._metered.counters, self.grown, strict=True))
        found.update(zip(self._metered.gauges, self.levels, strict=True))
        return found


def _sum(some: list[Any], others: list[Any]) -> list[Any]:
    return [one + other for one, other in zip(some, others, strict=True)]
