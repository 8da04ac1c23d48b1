"""Who waits for whom: connections that are not read any further, and what keeps them from that."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.inspection import inspected
from dispatchd.actors.messages import Inspect
from dispatchd.actors.persistence import PersistenceActor
from dispatchd.actors.runtime import PAUSED, QUARANTINED, Actor, System
from dispatchd.web.answers import answer_json
from dispatchd.web.encoding import plain
from dispatchd.web.events import Events
from dispatchd.web.lists import vhost_of
from dispatchd.web.meter import figures_of
from dispatchd.web.roles import MONITORING
from dispatchd.web.snapshots import Row, Snapshots

LOOKED_AT: Final = 200
"""Messages of one mailbox: what waits longest is in front."""
SHOWN: Final = 200
BEHIND_SECONDS: Final = 0.1

Channels = Counter[str]
"""Publishings by the name of the channel that they come from."""


class Flow:
    """The handler, and the topic `flow`."""

    def __init__(self, system: System, events: Events, alarms: Callable[[], list[dict[str, str]]]) -> None:
        self._system = system
        self._alarms = alarms
        self._inspections = Snapshots(system, Inspect, inspected)
        events.offer("flow", self.facts, role=MONITORING)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is."""
        app.get("/api/flow", callback=lambda: answer_json(json.dumps(plain(self.facts()), allow_nan=False)))

    def facts(self) -> Row:
        """Who has to wait, and why.

        `alarms` block whoever publishes. `connections` are those that are blocked by them, will be with their next
        publish, or have no publish credit left; `waits_for` is where what they have published is. `queues` keep credit
        back so that their consumers can keep up. `actors` are paused or in quarantine, or are behind.
        """
        connections, holding, behind = self._look()
        places: dict[str, list[Row]] = defaultdict(list)
        for actor in behind:
            self._add(places, actor, "its mailbox", publishings_in(actor))
        for actor in self._system.actors.values():
            if isinstance(actor, PersistenceActor) and actor.pressure.held:
                self._add(places, actor, "the disk is behind", _by_channel(actor.pressure.held))
        channels = self._channels_of(connections[:SHOWN])
        queues = self._inspections.of(holding)
        for actor, row in zip(holding, queues, strict=False):
            self._add(places, actor, "it lets its consumers catch up", Counter(row.get("held_publishings", {})))
        return {
            "alarms": self._alarms(),
            "connections": [_connection_row(actor, channels[actor.number], places) for actor in connections[:SHOWN]],
            "queues": queues,
            "actors": [_actor_row(actor) for actor in behind[:SHOWN]],
        }

    def _look(self) -> tuple[list[Actor], list[Actor], list[Actor]]:
        """Connections that wait, queues that hold credit back, and actors that do not get on with their mailbox."""
        connections: list[Actor] = []
        holding: list[Actor] = []
        behind: list[Actor] = []
        for actor in in_turns(list(self._system.actors.values())):
            if actor.kind in ("connection", "queue"):
                figures = figures_of(actor) or {}
                if figures.get("blocked_by_credit") or figures.get("state") in ("blocked", "blocking"):
                    connections.append(actor)
                if figures.get("holds_credit") and len(holding) < SHOWN:
                    holding.append(actor)
            if actor.state in (PAUSED, QUARANTINED) or actor.actor_inbox.oldest_age() > BEHIND_SECONDS:
                behind.append(actor)
        behind.sort(key=lambda actor: -actor.actor_inbox.oldest_age())
        return connections, holding, behind

    @staticmethod
    def _add(places: dict[str, list[Row]], actor: Actor, why: str, channels: Channels) -> None:
        for channel, count in channels.items():
            place = {"id": actor.number, "kind": actor.kind, "name": actor.name, "vhost": vhost_of(actor)}
            places[channel].append({**place, "why": why, "state": actor.state, "publishings": count})

    def _channels_of(self, connections: list[Actor]) -> dict[int, list[str]]:
        """The names of their channels, by the number of the connection."""
        found: dict[int, list[str]] = {actor.number: [] for actor in connections}
        for actor in in_turns(list(self._system.actors.values())):
            if actor.kind == "channel" and actor.parent_number in found:
                found[actor.parent_number].append(actor.name)
        return found


def _connection_row(actor: Actor, channels: list[str], places: dict[str, list[Row]]) -> Row:
    figures = figures_of(actor) or {}
    return {
        "id": actor.number,
        "name": actor.name,
        **{key: figures.get(key) for key in ("user", "vhost", "state", "blocked_by_credit", "user_provided_name")},
        "waits_for": [{**place, "channel": name} for name in channels for place in places.get(name, ())],
    }


def publishings_in(actor: Actor) -> Channels:
    """Whose publishings wait in an actor's mailbox, as far as it is looked at."""
    return _by_channel(getattr(message, "publishing", None) for message in actor.actor_inbox.peek(LOOKED_AT))


def _by_channel(publishings: Any) -> Channels:
    return Counter(publishing.channel.name for publishing in publishings if publishing is not None)


def _actor_row(actor: Actor) -> Row:
    return {
        "id": actor.number,
        "kind": actor.kind,
        "name": actor.name,
        "state": actor.state,
        "mailbox_depth": len(actor.actor_inbox),
        "oldest_ms": round(actor.actor_inbox.oldest_age() * 1000),
    }
