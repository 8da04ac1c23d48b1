"""One connection, channel, exchange or queue: all that it tells, and how it did lately."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.inspection import inspected
from dispatchd.actors.lookup import find_by_name, find_exchange, find_queue
from dispatchd.actors.messages import Inspect
from dispatchd.actors.runtime import Actor, Ref, System
from dispatchd.web.answers import answer_json
from dispatchd.web.encoding import plain
from dispatchd.web.events import Events
from dispatchd.web.fields import completed
from dispatchd.web.lists import rates_of
from dispatchd.web.meter import Meter, figures_of
from dispatchd.web.requests import denials
from dispatchd.web.roles import MANAGEMENT, MONITORING
from dispatchd.web.snapshots import Row, Snapshots


class Details:
    """The handlers. Each thing is also a topic of the live figures, such as `queue:%2F:orders`."""

    def __init__(self, system: System, meter: Meter, events: Events) -> None:
        self._system = system
        self._meter = meter
        self._events = events
        self._inspections = Snapshots(system, Inspect, inspected)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are, and of which topics they are."""
        for kind, path, show in (
            ("connection", "/api/connections/<name:name>", self.connection),
            ("channel", "/api/channels/<name:name>", self.channel),
            ("exchange", "/api/exchanges/<vhost:name>/<name:name>", self.exchange),
            ("queue", "/api/queues/<vhost:name>/<name:name>", self.queue),
        ):
            app.get(path, callback=partial(_answer, show))
            names = path.count("<")
            self._events.offer(kind, show, names, MANAGEMENT if names == 2 else MONITORING)
        app.get("/api/queues/<vhost:name>/<name:name>/unacked", callback=partial(_answer, self.unacked))

    def connection(self, name: str) -> Row:
        """A connection, with the rows of its channels. Raises 404."""
        actor = self._by_name("connection", name)
        row = self._row(actor)
        row["channel_details"] = [
            self._seen(each)
            for each in in_turns(list(self._system.actors.values()))
            if each.kind == "channel" and each.parent_number == actor.number
        ]
        return row

    def channel(self, name: str) -> Row:
        """A channel, with its consumers and the oldest of what it has not acknowledged. Raises 404."""
        return self._row(self._by_name("channel", name))

    def exchange(self, vhost: str, name: str) -> Row:
        """An exchange, with its bindings. `amq.default` stands for the default exchange. Raises 404."""
        return self._row(self._actor(lambda: find_exchange(self._system, vhost, exchange_name(name))))

    def queue(self, vhost: str, name: str) -> Row:
        """A queue, with its consumers and bindings. Raises 404."""
        return self._row(self._actor(lambda: find_queue(self._system, vhost, name)))

    def unacked(self, vhost: str, name: str) -> Row:
        """The messages of a queue that are out, the oldest first: `items`, as their channels tell.

        `late` are the names of channels that did not answer. Of each channel only its oldest deliveries are known.
        """
        queue = self._actor(lambda: find_queue(self._system, vhost, name))
        holders = [
            actor
            for actor in in_turns(list(self._system.actors.values()))
            if actor.kind == "channel"
            and (figures := figures_of(actor))
            and figures["messages_unacknowledged"]
            and figures["vhost"] == vhost
        ]
        told = self._inspections.of(holders)
        items = [row for each in told for row in each.get("unacked", ()) if row["queue"] == queue.name]
        items.sort(key=lambda row: -(row["age_ms"] or 0))
        count = (figures_of(queue) or {}).get("messages_unacknowledged", 0)
        return {"items": items, "total": count, "late": [each["name"] for each in told if "late" in each]}

    def _by_name(self, kind: str, name: str) -> Actor:
        with denials():
            return find_by_name(self._system, kind, name)

    def _actor(self, find: Callable[[], Ref]) -> Actor:
        with denials():
            ref = find()
        actor = self._system.actors.get(ref.number)
        if actor is None:
            raise bottle.HTTPError(404, f"{ref.name} is gone")
        return actor

    def _row(self, actor: Actor) -> Row:
        self._meter.look()
        for told in self._inspections.of([actor]):
            row = {**self._seen(actor), **told, "history": self._meter.history_of(actor)}
            return completed(actor.kind, row)
        raise bottle.HTTPError(404, f"{actor.name} is gone")

    def _seen(self, actor: Actor) -> Row:
        seen = {"id": actor.number, "name": actor.name, "actor_state": actor.state, **(figures_of(actor) or {})}
        return {**plain(seen), **rates_of(self._meter, actor)}


def exchange_name(given: str) -> str:
    """The name of an exchange as AMQP has it; in addresses of the API the default one can't be empty."""
    return "" if given == "amq.default" else given


def _answer(show: Callable[..., Row], **names: str) -> str:
    return answer_json(json.dumps(plain(show(**names)), allow_nan=False))
