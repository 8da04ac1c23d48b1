"""How fast things go: a look at the counters of actors, from outside, every second or so.

Nobody is asked: a paused actor has figures as well. What actors count never shrinks, so two looks make a rate. Sums
over all actors of a kind go on growing when one that was counted is gone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from dispatchd.actors.breath import breathe
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.history import History

logger = logging.getLogger(__name__)

LEAST_SECONDS: Final = 0.9
"""Between two looks: with less, one message more or less would show in a rate."""
ACTORS_PER_TURN: Final = 100
MOST_READINGS: Final = 20_000
MOST_HISTORIES: Final = 500

Figures = dict[str, Any]


class Metered(NamedTuple):
    """What is looked at of a kind of actors: what only grows, with the name of its rate, and what goes up and down."""

    counters: dict[str, str]
    gauges: tuple[str, ...]
    has_history: bool = False


METERED: Final = {
    "queue": Metered(
        {"published": "publish", "delivered": "deliver_get", "acknowledged": "ack", "redelivered": "redeliver"},
        ("messages_ready", "messages_unacknowledged", "consumers"),
        has_history=True,
    ),
    "channel": Metered(
        {"published": "publish", "delivered": "deliver_get", "acknowledged": "ack"},
        ("messages_unacknowledged", "messages_unconfirmed"),
    ),
    "exchange": Metered({"published_in": "publish_in", "published_out": "publish_out"}, (), has_history=True),
    "connection": Metered({"recv_oct": "recv_oct", "send_oct": "send_oct"}, (), has_history=True),
}
BROKER_WIDE: Final = {
    "published": "queue", "delivered": "queue", "acknowledged": "queue", "redelivered": "queue",
    "recv_oct": "connection", "send_oct": "connection",
    "messages_ready": "queue", "messages_unacknowledged": "queue",
}  # fmt: skip
"""What the history of the whole broker has, and the kind that it is summed up over."""


class Reading:
    """What was seen of one actor last: its counters, and how fast they grew."""

    __slots__ = ("counters", "history", "rates")

    def __init__(self, width: int) -> None:
        self.counters = [0] * width
        self.rates = [0.0] * width
        self.history: History | None = None


class Sums:
    """Over all actors of a kind: how many there are, how many of them can't tell, and their figures.

    `active` are those that the first of what is counted was ever seen of, as channels that publish.
    """

    def __init__(self, metered: Metered, grown: list[int] | None = None) -> None:
        self._metered = metered
        self.count = 0
        self.late = 0
        self.active = 0
        self.grown = grown or [0] * len(metered.counters)
        self.rates = [0.0] * len(metered.counters)
        self.gauges = [0] * len(metered.gauges)
        self.gauge_rates = [0.0] * len(metered.gauges)

    def begun(self) -> Sums:
        """Those of the next look: what has grown goes on growing."""
        return Sums(self._metered, list(self.grown))

    def add(self, figures: Figures) -> None:
        """Add the levels of one actor."""
        for place, name in enumerate(self._metered.gauges):
            self.gauges[place] += figures.get(name, 0)

    def add_growth(self, grown: list[int], rates: list[float]) -> None:
        """Add what the counters of one actor grew by."""
        for place, count in enumerate(grown):
            self.grown[place] += count
            self.rates[place] += rates[place]

    def compare(self, before: Sums, seconds: float) -> None:
        """See how fast the levels rose, or fell, since the look before."""
        self.gauge_rates = [(now - then) / seconds for now, then in zip(self.gauges, before.gauges, strict=True)]

    def stats(self) -> Figures:
        """The sums of what grows under RabbitMQ's names, with their rates."""
        return details(self._metered.counters.values(), self.grown, self.rates)

    def levels(self) -> Figures:
        """The sums of what goes up and down, with the rates of that."""
        return details(self._metered.gauges, self.gauges, self.gauge_rates)

    def to_row(self) -> Figures:
        """All sums by the names of what was summed up."""
        metered = self._metered
        return {
            **dict(zip(metered.counters, self.grown, strict=True)),
            **dict(zip(metered.gauges, self.gauges, strict=True)),
        }


class Churn:
    """Who came and went: counts of the system's, and how fast they grew."""

    names: ClassVar[dict[str, str]] = {
        "connection_created": "connection_created", "connection_closed": "connection_ended",
        "channel_created": "channel_created", "channel_closed": "channel_ended",
        "queue_declared": "queue_declared", "queue_created": "queue_created", "queue_deleted": "queue_ended",
    }  # fmt: skip

    def __init__(self) -> None:
        self._counts = [0] * len(self.names)
        self._rates = [0.0] * len(self.names)

    def update(self, churn: Mapping[str, int], seconds: float) -> None:
        """Take in the counts of now, which are so many seconds after the last ones."""
        counts = [churn.get(name, 0) for name in self.names.values()]
        self._rates = [(new - old) / seconds for new, old in zip(counts, self._counts, strict=True)]
        self._counts = counts

    def to_row(self) -> Figures:
        """RabbitMQ's `churn_rates`."""
        return details(self.names, self._counts, self._rates)


class Meter:
    """Looks, and remembers: whoever shows figures calls `look` first, as often as he likes."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._readings: dict[int, Reading] = {}
        self._new_readings: dict[int, Reading] = {}
        self._gone = {kind: [0] * len(metered.counters) for kind, metered in METERED.items()}
        system.parting = self._see_last
        self._looked_at = -math.inf
        self._histories = 0
        self._sums = {kind: Sums(metered) for kind, metered in METERED.items()}
        self._history = History(tuple(BROKER_WIDE))
        self._churned = Churn()
        self.cost = 0.0
        """Seconds that the last look took, without those that others had meanwhile."""

    def look(self) -> None:
        """See how things are, unless that was done less than LEAST_SECONDS ago."""
        now = time.monotonic()
        since, at = now - self._looked_at, time.time()
        if since < LEAST_SECONDS:
            return
        self._looked_at = now
        sums = {kind: each.begun() for kind, each in self._sums.items()}
        readings = self._new_readings = {}
        histories = 0
        for actor, figures in self._look():
            sum_of = sums[actor.kind]
            sum_of.count += 1
            if figures is None:
                sum_of.late += 1
                continue
            sum_of.add(figures)
            metered = METERED[actor.kind]
            counters = [figures.get(name, 0) for name in metered.counters]
            gauges = [figures.get(name, 0) for name in metered.gauges]
            reading = self._readings.get(actor.number)
            if reading is None and (any(counters) or any(gauges)) and len(readings) < MOST_READINGS:
                reading = Reading(len(counters))
            if reading is None:
                continue
            readings[actor.number] = reading
            grown = [max(0, new - old) for new, old in zip(counters, reading.counters, strict=True)]
            reading.counters, reading.rates = counters, [each / since for each in grown]
            sum_of.add_growth(grown, reading.rates)
            sum_of.active += counters[0] > 0
            if reading.history is None and metered.has_history and self._histories < MOST_HISTORIES:
                reading.history = History((*metered.counters, *metered.gauges))
            if reading.history is not None:
                histories += 1
                reading.history.add(at, [*reading.rates, *gauges])
        for kind, each in sums.items():
            each.compare(self._sums[kind], since)
            each.grown = [grown + gone for grown, gone in zip(each.grown, self._gone[kind], strict=True)]
            self._gone[kind] = [0] * len(each.grown)
        self._churned.update(self._system.churn, since)
        self._sums, self._readings, self._histories = sums, readings, histories
        now_at: Figures = {**self.totals(), **self.rates()}
        self._history.add(at, [now_at[name] for name in BROKER_WIDE])

    def _see_last(self, actor: Actor) -> None:
        """An actor ends: what it counted since it was seen last is not lost to the sums."""
        metered = METERED.get(actor.kind)
        figures = figures_of(actor) if metered is not None else None
        if metered is None or figures is None:
            return
        reading = self._new_readings.get(actor.number) or self._readings.get(actor.number)
        gone = self._gone[actor.kind]
        for place, name in enumerate(metered.counters):
            gone[place] += max(0, figures.get(name, 0) - (reading.counters[place] if reading is not None else 0))

    def _look(self) -> Iterator[tuple[Actor, Figures | None]]:
        """The actors, each with what is seen of it; None if it can't be looked at. Others have turns meanwhile."""
        actors = [actor for actor in list(self._system.actors.values()) if actor.kind in METERED]
        cost = 0.0
        for start in range(0, len(actors), ACTORS_PER_TURN):
            began = time.perf_counter()
            for actor in actors[start : start + ACTORS_PER_TURN]:
                if actor.number in self._system.actors:
                    yield actor, figures_of(actor)
            cost += time.perf_counter() - began
            breathe()
        self.cost = cost

    def totals(self) -> Figures:
        """Sums over all actors at the last look, and how many there were of each kind.

        `late` is the number of queues that are not in the sums, because they could not be looked at.
        """
        return {
            **{f"{kind}s": each.count for kind, each in self._sums.items()},
            **self._sums["connection"].to_row(),
            **self._sums["queue"].to_row(),
            "late": self._sums["queue"].late,
        }

    def rates(self) -> dict[str, float]:
        """How fast the sums grew before the last look, per second."""
        return {
            name: self._sums[kind].rates[place]
            for kind in ("connection", "queue")
            for place, name in enumerate(METERED[kind].counters)
        }

    def sums_of(self, kind: str) -> Sums:
        """Those over all actors of this kind, at the last look."""
        return self._sums[kind]

    def churn(self) -> Figures:
        """How many connections, channels and queues came and went, as RabbitMQ has it, with the rates of that."""
        return self._churned.to_row()

    def history(self) -> dict[str, Any]:
        """How the whole broker did lately; see `History.to_row`."""
        return self._history.to_row()

    def history_of(self, actor: Actor) -> dict[str, Any] | None:
        """How one actor did; None if nothing was ever seen of it, or too many others had been seen before."""
        reading = self._readings.get(actor.number)
        return reading.history.to_row() if reading is not None and reading.history is not None else None

    def rates_of(self, actor: Actor) -> dict[str, Any]:
        """The rates of one actor as RabbitMQ's management has them, `{"publish_details": {"rate": 1.5}}`, with counts.

        For a connection they belong into its row, for others under `message_stats`.
        """
        metered = METERED[actor.kind]
        reading = self._readings.get(actor.number) or Reading(len(metered.counters))
        return details(metered.counters.values(), reading.counters, reading.rates)


def details(names: Iterable[str], counts: Iterable[int], rates: Iterable[float]) -> Figures:
    """Counts and rates in RabbitMQ's form: `{"publish": 3, "publish_details": {"rate": 1.5}}`."""
    found: Figures = {}
    for name, count, rate in zip(names, counts, rates, strict=True):
        found[name] = count
        found[f"{name}_details"] = {"rate": round(rate, 2)}
    return found


def figures_of(actor: Actor) -> Figures | None:
    """What can be seen of an actor from outside; None if it is in no state to be looked at."""
    try:
        return actor.figures()
    except Exception:
        logger.exception("%s %s can't show its figures", actor.kind, actor.name)
        return None
