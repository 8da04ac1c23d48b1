"""How fast things go: a look at the counters of actors, from outside, every second or so.

Nobody is asked: a paused actor has figures as well. What actors count never shrinks, so two looks make a rate. Sums
over all actors of a kind go on growing when one that was counted is gone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Final

from dispatchd.actors.breath import breathe
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.history import History
from dispatchd.web.sums import METERED, Figures, Place, Reading, Sums, details

logger = logging.getLogger(__name__)

LEAST_SECONDS: Final = 0.9
"""Between two looks: with less, one message more or less would show in a rate."""
ACTORS_PER_TURN: Final = 100
MOST_READINGS: Final = 20_000
MOST_HISTORIES: Final = 500

BROKER_WIDE: Final = {
    "published": "queue", "delivered": "queue", "acknowledged": "queue", "redelivered": "queue",
    "recv_oct": "connection", "send_oct": "connection",
    "messages_ready": "queue", "messages_unacknowledged": "queue",
}  # fmt: skip
"""What the history of the whole broker has, and the kind that it is summed up over."""


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
        self._gone: dict[Place, list[int]] = {}
        system.parting = self._see_last
        self._looked_at = -math.inf
        self._at = 0.0
        self._histories = 0
        self._parts: dict[Place, Sums] = {}
        self._deleted = {kind: Sums(metered) for kind, metered in METERED.items()}
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
        parts: dict[Place, Sums] = {}
        readings = self._new_readings = {}
        histories = 0
        for actor, figures in self._look():
            place = _place_of(actor, figures)
            metered, part = METERED[actor.kind], parts.get(place)
            if part is None:
                part = parts[place] = Sums(metered, self._parts.get(place))
            part.count += 1
            if figures is None:
                part.late += 1
                continue
            counters = [figures.get(name, 0) for name in metered.counters]
            levels = [figures.get(name, 0) for name in metered.gauges]
            part.add_levels(levels)
            reading = self._readings.get(actor.number)
            if reading is None and (any(counters) or any(levels)) and len(readings) < MOST_READINGS:
                reading = Reading(metered, at)
            if reading is None:
                continue
            readings[actor.number] = reading
            grown = reading.update(counters, levels, since, at)
            if grown is not None:
                part.add_growth(grown, reading.rates)
            part.active += counters[0] > 0
            if reading.history is None and metered.history and self._histories < MOST_HISTORIES:
                reading.history = History(metered.history)
            if reading.history is not None:
                histories += 1
                reading.history.add(at, reading.values())
        self._add_up(parts, since)
        self._churned.update(self._system.churn, since)
        self._readings, self._histories, self._at = readings, histories, at
        now_at: Figures = {**self.totals(), **self.rates()}
        self._history.add(at, [now_at[name] for name in BROKER_WIDE])

    def _add_up(self, parts: dict[Place, Sums], since: float) -> None:
        """Make sums over all vhosts of those of each, and forget vhosts that are deleted, but not what they counted."""
        there = {vhost for _, vhost in parts}  # every vhost has exchanges
        gone, self._gone = self._gone, {}
        sums = {kind: Sums(metered) for kind, metered in METERED.items()}
        for place in dict.fromkeys([*parts, *self._parts, *gone]):
            kind, vhost = place
            before = self._parts.get(place)
            part = parts.get(place) or Sums(METERED[kind], before)
            if place in gone:
                part.grown = [grown + more for grown, more in zip(part.grown, gone[place], strict=True)]
            part.compare(before, since)
            if vhost is None or vhost in there:
                parts[place] = part
                sums[kind].add_sums(part)
            else:
                parts.pop(place, None)
                self._deleted[kind].add_sums(part)
        for kind, deleted in self._deleted.items():
            sums[kind].grown = [grown + more for grown, more in zip(sums[kind].grown, deleted.grown, strict=True)]
        self._sums, self._parts = sums, parts

    def _see_last(self, actor: Actor) -> None:
        """An actor ends: what it counted since it was seen last is not lost to the sums."""
        metered = METERED.get(actor.kind)
        figures = figures_of(actor) if metered is not None else None
        if metered is None or figures is None:
            return
        reading = self._new_readings.get(actor.number) or self._readings.get(actor.number)
        gone = self._gone.setdefault(_place_of(actor, figures), [0] * len(metered.counters))
        for place, name in enumerate(metered.counters):
            gone[place] += max(0, figures.get(name, 0) - (reading.counters[place] if reading is not None else 0))

    def _look(self) -> Iterator[tuple[Actor, Figures | None]]:
        """The actors, each with what is seen of it; None if it can't be looked at. Others have turns meanwhile."""
        actors = list(self._system.actors.values())
        cost = 0.0
        for start in range(0, len(actors), ACTORS_PER_TURN):
            began = time.perf_counter()
            for actor in actors[start : start + ACTORS_PER_TURN]:
                if actor.kind in METERED and actor.number in self._system.actors:
                    yield actor, figures_of(actor)
            cost += time.perf_counter() - began
            breathe()
        self.cost = cost

    def totals(self) -> Figures:
        """Sums over all actors at the last look, and how many there were of each kind.

        `late` is the number of queues that are not in the sums, because they could not be looked at.
        """
        return totals_of(self._sums)

    def rates(self) -> dict[str, float]:
        """How fast the sums grew before the last look, per second."""
        return rates_of_sums(self._sums)

    def sums_of(self, vhosts: Collection[str] | None = None) -> dict[str, Sums]:
        """Those over all actors of each kind, or over those in some vhosts, at the last look."""
        if vhosts is None:
            return self._sums
        found = {kind: Sums(metered) for kind, metered in METERED.items()}
        for kind, sums in found.items():
            for vhost in vhosts:
                if (part := self._parts.get((kind, vhost))) is not None:
                    sums.add_sums(part)
        return found

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

    def reading_of(self, actor: Actor) -> Reading:
        """What was seen of one actor; of one in which nothing was ever seen, zeros since it is there."""
        reading = self._readings.get(actor.number)
        if reading is None:
            age = (time.perf_counter_ns() - actor.began_at) / 1e9
            reading = Reading(METERED[actor.kind], time.time() - age)
        return reading

    def rates_of(self, actor: Actor) -> dict[str, Any]:
        """The rates of one actor as RabbitMQ's management has them, `{"publish_details": {"rate": 1.5}}`, with counts.

        For a connection they belong into its row, for others under `message_stats`.
        """
        reading = self.reading_of(actor)
        return details(METERED[actor.kind].counters.values(), reading.counters, reading.rates)

    def idle_since(self, actor: Actor) -> float | None:
        """Since when nothing was seen to happen in an actor, as a Unix time; None if something was at the last look.

        Also None for actors beyond MOST_READINGS, which are not remembered.
        """
        if actor.number not in self._readings and len(self._readings) >= MOST_READINGS:
            return None
        changed_at = self.reading_of(actor).changed_at
        return None if changed_at == self._at else changed_at


def totals_of(sums: Mapping[str, Sums]) -> Figures:
    """What `Meter.totals` returns, of sums by kind."""
    return {
        **{f"{kind}s": each.count for kind, each in sums.items()},
        **sums["connection"].to_row(),
        **sums["queue"].to_row(),
        "late": sums["queue"].late,
    }


def rates_of_sums(sums: Mapping[str, Sums]) -> dict[str, float]:
    """What `Meter.rates` returns, of sums by kind."""
    return {
        name: sums[kind].rates[place]
        for kind in ("connection", "queue")
        for place, name in enumerate(METERED[kind].counters)
    }


def _place_of(actor: Actor, figures: Figures | None) -> Place:
    return actor.kind, figures.get("vhost") if figures is not None else None


def figures_of(actor: Actor) -> Figures | None:
    """What can be seen of an actor from outside; None if it is in no state to be looked at."""
    try:
        return actor.figures()
    except Exception:
        logger.exception("%s %s can't show its figures", actor.kind, actor.name)
        return None
