"""What belongs to something else: consumers of queues, channels of connections, connections of vhosts and users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.lookup import find_by_name, find_vhost
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.answers import Answer
from dispatchd.web.fields import consumer_row
from dispatchd.web.lists import Lists, vhost_of
from dispatchd.web.meter import figures_of
from dispatchd.web.requests import denials
from dispatchd.web.roles import current, sees_vhost, visible
from dispatchd.web.snapshots import Snapshots
from dispatchd.web.tables import answer_table


class Members:
    """The handlers."""

    def __init__(self, system: System, lists: Lists) -> None:
        self._system = system
        self._lists = lists
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/consumers", callback=self.consumers)
        app.get("/api/consumers/<vhost:name>", callback=self.consumers)
        app.get("/api/connections/username/<user:name>", callback=self.connections_of_user)
        app.get("/api/connections/<name:name>/channels", callback=self.channels_of_connection)
        app.get("/api/vhosts/<vhost:name>/connections", callback=self.connections_of_vhost)
        app.get("/api/vhosts/<vhost:name>/channels", callback=self.channels_of_vhost)

    def consumers(self, vhost: str | None = None) -> Answer:
        """All consumers that the user sees, or those of a vhost. Raises 404.

        Queues are asked that have some; of one that does not answer they are left out.
        """
        if vhost is not None:
            with denials():
                find_vhost(self._system, vhost)
        who = current()
        users: dict[str, str] = {}
        queues = []
        for actor in in_turns(list(self._system.actors.values())):
            if actor.kind == "channel":
                users[actor.name] = (figures_of(actor) or {}).get("user", "")
            elif actor.kind == "queue" and vhost in (None, host := vhost_of(actor)) and sees_vhost(who, host or ""):
                queues += [actor] if (figures_of(actor) or {}).get("consumers") else []
        return answer_table(
            [
                consumer_row(queue, told, users.get(told["channel"], ""))
                for queue in self._snapshots.of(queues, wake=False)
                for told in queue.get("consumer_details", ())
            ]
        )

    def connections_of_user(self, user: str) -> Answer:
        """The connections of a user."""
        return self._those("connection", lambda figures: figures.get("user") == user)

    def connections_of_vhost(self, vhost: str) -> Answer:
        """The connections to a vhost."""
        return self._those("connection", lambda figures: figures.get("vhost") == vhost)

    def channels_of_vhost(self, vhost: str) -> Answer:
        """The channels in a vhost."""
        return self._those("channel", lambda figures: figures.get("vhost") == vhost)

    def channels_of_connection(self, name: str) -> Answer:
        """The channels of a connection. Raises 404."""
        with denials():
            connection = find_by_name(self._system, "connection", name)
        channels = [
            actor
            for actor in in_turns(list(self._system.actors.values()))
            if actor.kind == "channel" and actor.parent_number == connection.number
        ]
        return self._answer(channels)

    def _those(self, kind: str, matches: Callable[[dict[str, Any]], bool]) -> Answer:
        actors = [actor for actor in in_turns(list(self._system.actors.values())) if actor.kind == kind]
        return self._answer([actor for actor in in_turns(actors) if matches(figures_of(actor) or {})])

    def _answer(self, actors: list[Actor]) -> Answer:
        return answer_table(visible(current(), list(self._lists.rows(actors))))
