"""The overview of the broker, as RabbitMQ's management has it, with our own facts; for each user of what it may see."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.identity import COMPATIBLE_VERSION, KNOWN_EXCHANGE_TYPES
from dispatchd.actors.runtime import System
from dispatchd.web.answers import answer_json
from dispatchd.web.encoding import plain
from dispatchd.web.events import Events
from dispatchd.web.meter import Meter, figures_of, rates_of_sums, totals_of
from dispatchd.web.node import NODE, named
from dispatchd.web.roles import MONITORING, Who, current, has_role
from dispatchd.web.snapshots import Row, Snapshots, actor_totals
from dispatchd.web.sums import Sums

TOTALS_SECONDS: Final = 0.3
OF_THE_NODE: Final = ("actors", "data", "history", "listeners", "persistence", "resources")
"""What is not shown to users without the tag `monitoring`."""

Facts = Callable[[], dict[str, Any]]


class Share(NamedTuple):
    """What somebody sees: sums by kind, how many connections and channels, and whether that is all there is."""

    sums: dict[str, Sums]
    connections: int
    channels: int
    is_all: bool = True


def all_of(meter: Meter) -> Share:
    """What users with the tag `monitoring` see."""
    sums = meter.sums_of()
    return Share(sums, sums["connection"].count, sums["channel"].count)


def share_of(who: Who, system: System, meter: Meter) -> Share:
    """What a user sees: without the tag `monitoring` what is in vhosts that it has permissions in, and its connections.

    The sums are over everybody's channels in those vhosts, as in RabbitMQ (rabbit_mgmt_wm_overview).
    """
    if has_role(who, MONITORING):
        return all_of(meter)
    seen: set[str] = set()
    own = dict.fromkeys(("connection", "channel"), 0)
    for actor in in_turns(list(system.actors.values())):
        if actor.kind == "vhost" and who.rights_in(actor.name) is not None:
            seen.add(actor.name)
        elif actor.kind in own:
            own[actor.kind] += (figures_of(actor) or {}).get("user") == who.name
    return Share(meter.sums_of(seen), own["connection"], own["channel"], is_all=False)


class Overview:
    """The handlers. `facts` are those of the broker, see `make_app`."""

    def __init__(self, system: System, facts: Facts, meter: Meter, events: Events) -> None:
        self._system = system
        self._facts = facts
        self._meter = meter
        self._events = events
        self._snapshots = Snapshots(system)
        self._totals: dict[str, Any] = {}
        self._totals_at = -math.inf

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is, and which topics there are."""
        app.get("/api/overview", callback=self.show)
        self._events.offer_to_each("overview", self.told)
        self._events.offer_to_each("status", self.status)

    def show(self) -> str:
        """See `told` and `overview_row`."""
        told, share = self._told(current())
        return answer_json(json.dumps(plain({**told, **overview_row(told, self._meter, share)})))

    def told(self, who: Who) -> Row:
        """Facts about the broker, totals and rates over all actors, these by state, and how persistence does.

        What the broker says itself goes before what is added up here. `history` is as `History.to_row` has it. What is
        OF_THE_NODE, who may not monitor is not told.
        """
        return self._told(who)[0]

    def _told(self, who: Who) -> tuple[Row, Share]:
        self._meter.look()
        facts, share = self._facts(), share_of(who, self._system, self._meter)
        own = {kind: self._snapshots.of_kind(kind) for kind in ("persistence", "monitor")}
        told = {
            **facts,
            "at": time.time(),
            "totals": {
                **totals_of(share.sums),
                "connections": share.connections,
                "channels": share.channels,
                **facts.get("totals", {}),
            },
            "rates": rates_of_sums(share.sums),
            "history": self._meter.history(),
            "lag_ms": round(self._events.lag_ms, 2),
            "actors": self._actor_totals(),
            "resources": own["monitor"][0] if own["monitor"] else {},
            "persistence": {**(own["persistence"] or [{}])[0], **facts.get("persistence", {})},
        }
        return (told if share.is_all else _without(told, OF_THE_NODE)), share

    def status(self, who: Who) -> Row:
        """What every page says: the alarms that are on, the actors by state, how late the loop is."""
        told = {
            "alarms": self._facts().get("alarms", []),
            "actors": self._actor_totals(),
            "lag_ms": round(self._events.lag_ms, 2),
        }
        return told if has_role(who, MONITORING) else _without(told, OF_THE_NODE)

    def _actor_totals(self) -> dict[str, Any]:
        """Of all actors, for all who ask at about the same time: with 100,000 it takes a tenth of a second."""
        if time.monotonic() - self._totals_at > TOTALS_SECONDS:
            self._totals = actor_totals(self._system)
            self._totals_at = time.monotonic()
        return self._totals


def _without(row: Row, names: tuple[str, ...]) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def overview_row(facts: Row, meter: Meter, share: Share) -> Row:
    """What RabbitMQ's overview has beside our facts, for somebody who sees this share.

    Its `erlang_version` is that of what the broker runs on, for tools that need one. As in RabbitMQ who may not monitor
    is not told of listeners and consumers.
    """
    queues, channels = share.sums["queue"], share.sums["channel"]
    levels = queues.level_stats()
    row: Row = {
        "product_name": "dispatchd",
        "product_version": facts["version"],
        "rabbitmq_version": COMPATIBLE_VERSION,
        "management_version": COMPATIBLE_VERSION,
        "erlang_version": platform.python_version(),
        "erlang_full_version": f"Python {platform.python_version()} ({platform.python_implementation()})",
        "node": NODE,
        "cluster_name": NODE,
        "rates_mode": "basic",
        "statistics_db_event_queue": 0,
        "disable_stats": False,
        "enable_queue_totals": False,
        "exchange_types": named(KNOWN_EXCHANGE_TYPES),
        "uptime": facts.get("uptime_ms", 0),
        "object_totals": {
            "connections": share.connections,
            "channels": share.channels,
            "exchanges": share.sums["exchange"].count,
            "queues": queues.count,
        },
        "queue_totals": {name: value for name, value in levels.items() if name.startswith("messages")},
        "message_stats": {**queues.stats(), **channels.stats()},
        "churn_rates": meter.churn(),
    }
    if share.is_all:
        row["object_totals"]["consumers"] = levels["consumers"]
        row["listeners"] = [
            {**listener, "node": NODE, "ip_address": listener.get("address", listener.get("host"))}
            for listener in facts.get("listeners", ())
        ]
    return row
