"""Connections, channels, exchanges and queues: a page of them at a time, in any order; with 10,000 there too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.answers import Answer, answer_json, answer_rows
from dispatchd.web.encoding import plain
from dispatchd.web.fields import completed
from dispatchd.web.meter import Meter, figures_of
from dispatchd.web.paging import Paging, field_of
from dispatchd.web.roles import MONITORING, current, has_role, visible
from dispatchd.web.snapshots import Row, Snapshots
from dispatchd.web.sorting import in_order
from dispatchd.web.sums import METERED, details

KINDS: Final = {"connections": "connection", "channels": "channel", "exchanges": "exchange", "queues": "queue"}
"""Where a list is, and the kind of actor that its rows are asked of."""
HELD: Final = list(METERED["queue"].counters).index("held_ms")


class Lists:
    """The handlers. What is seen from outside chooses the rows; only those of the page are asked for the rest."""

    def __init__(self, system: System, meter: Meter) -> None:
        self._system = system
        self._meter = meter
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        for path, kind in KINDS.items():
            app.get(f"/api/{path}", callback=partial(self.show, kind))
        for path in ("exchanges", "queues"):
            app.get(f"/api/{path}/<vhost:name>", callback=partial(self.show_those_of, KINDS[path]))

    def show(self, kind: str) -> Answer:
        """All of a kind, or the page that the query asks for. Raises 400."""
        return self._answer([actor for actor in in_turns(list(self._system.actors.values())) if actor.kind == kind])

    def show_those_of(self, kind: str, vhost: str) -> Answer:
        """Those in one vhost. Raises 404."""
        if not any(actor.kind == "vhost" and actor.name == vhost for actor in self._system.actors.values()):
            raise bottle.HTTPError(404, f"no vhost '{vhost}'")
        actors = in_turns(list(self._system.actors.values()))
        return self._answer([actor for actor in actors if actor.kind == kind and vhost_of(actor) == vhost])

    def _answer(self, actors: list[Actor]) -> Answer:
        paging, who = Paging(), current()
        self._meter.look()
        if not has_role(who, MONITORING):
            actors = [actor for actor in in_turns(actors) if visible(who, [self._figures(actor)])]
        found = paging.filtered(actors, lambda actor: actor.name)
        found = in_order(found, lambda actor: (actor.name, vhost_of(actor) or "", actor.number))
        rows: Iterable[Row]
        if not paging.sort or not found or paging.sort[0] in self._seen(found[0]):
            if paging.sort:
                found = paging.sorted(found, lambda actor: self._field(actor, paging.sort))
            elif paging.is_reversed:
                found.reverse()
            rows = self.rows(paging.part(found))
        else:
            rows = paging.part(paging.sorted(list(self.rows(found)), lambda row: field_of(row, paging.sort)))
        pruned = map(paging.pruned, rows)
        if paging.page is None:
            return answer_rows(pruned)
        return answer_json(json.dumps(paging.answer(list(pruned), len(actors), len(found)), allow_nan=False))

    def _figures(self, actor: Actor) -> Row:
        return {"name": actor.name, "vhost": vhost_of(actor), **(figures_of(actor) or {})}

    def _seen(self, actor: Actor) -> Row:
        return {**self._figures(actor), **rates_of(self._meter, actor)}

    def _field(self, actor: Actor, path: tuple[str, ...]) -> Any:
        """A field of what is seen; rates are only looked at where they are asked for."""
        figures = self._figures(actor)
        return field_of(figures if path[0] in figures else rates_of(self._meter, actor), path)

    def rows(self, actors: list[Actor]) -> Iterator[Row]:
        """What they tell of themselves, in this order. Of those that don't answer, what is seen from outside.

        What is null is left out, as in RabbitMQ's rows of what is new: its rabbitmqadmin has no table with nulls.
        """
        for actor, row in self._snapshots.each(actors, wake=False):
            seen = plain(self._seen(actor)) if "late" in row else rates_of(self._meter, actor)
            whole = completed(actor.kind, {**seen, **row} if "late" in row else {**row, **seen})
            yield {name: value for name, value in whole.items() if value is not None}


def rates_of(meter: Meter, actor: Actor) -> Row:
    """The rates of an actor, where RabbitMQ's rows have them, and since when it was idle."""
    rates = meter.rates_of(actor)
    if actor.kind == "connection":
        return {name: rate for name, rate in rates.items() if name.endswith("_details")}
    found: Row = {"message_stats": rates}
    if actor.kind in ("channel", "queue") and (idle_since := meter.idle_since(actor)) is not None:
        found["idle_since"] = datetime.fromtimestamp(idle_since, UTC).isoformat(timespec="milliseconds")
    return {**found, **levels_of(meter, actor)} if actor.kind == "queue" else found


def levels_of(meter: Meter, actor: Actor) -> Row:
    """How fast a queue grew or shrank, and for which part of the last second its consumers had room for all of it."""
    reading, names = meter.reading_of(actor), METERED["queue"].gauges
    levels = details(names, reading.levels, reading.level_rates)
    has_consumers = levels["consumers"] > 0
    capacity = max(0.0, 1 - reading.rates[HELD] / 1000) if has_consumers else 0
    return {
        "consumer_capacity": capacity,
        "consumer_utilisation": capacity,
        **{f"{name}_details": levels[f"{name}_details"] for name in names if name.startswith("messages")},
    }


def vhost_of(actor: Actor) -> str | None:
    """The vhost of an exchange or queue, which is its parent."""
    parent: Any = actor.parent
    return parent.name if parent is not None and actor.kind in ("exchange", "queue") else None
