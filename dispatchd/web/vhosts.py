"""Virtual hosts in the API, as RabbitMQ's management has them."""

from __future__ import annotations

import json
from typing import Any

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.orders import DefineVhost, DeleteVhost
from dispatchd.actors.runtime import Ref, System
from dispatchd.actors.user_requests import permission_order
from dispatchd.web.answers import answer_json, created
from dispatchd.web.encoding import json_list
from dispatchd.web.meter import Meter
from dispatchd.web.node import NODE
from dispatchd.web.requests import body_object, give, text_of_body, truth_of_body
from dispatchd.web.roles import current, sees_vhost
from dispatchd.web.snapshots import Row, Snapshots

LONGEST_NAME = 255
"""Octets: clients name the vhost in a short string."""
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


class Vhosts:
    """The handlers: what they show the vhosts tell, what they change the broker is told."""

    def __init__(self, broker: Ref, authenticator: Ref, system: System, meter: Meter) -> None:
        self._broker = broker
        self._authenticator = authenticator
        self._meter = meter
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/vhosts", callback=self.show_all)
        app.get("/api/vhosts/<vhost:name>", callback=self.show)
        app.put("/api/vhosts/<vhost:name>", callback=self.define)
        app.delete("/api/vhosts/<vhost:name>", callback=self.delete)

    def show_all(self) -> str:
        """All vhosts that the user may see, by name."""
        who = current()
        rows = [row for row in self._snapshots.of_kind("vhost") if sees_vhost(who, row["name"])]
        return answer_json(json_list(self._rows(rows)))

    def show(self, vhost: str) -> str:
        """One vhost. Raises 404."""
        rows = [row for row in self._snapshots.of_kind("vhost") if row["name"] == vhost]
        if not rows:
            raise bottle.HTTPError(404, f"no vhost '{vhost}'")
        return answer_json(json.dumps(self._rows(rows)[0]))

    def define(self, vhost: str) -> str:
        """Make a vhost, or change its description, tags or tracing. Raises 400 for a name that can't be one.

        Who makes one may do everything in it.
        """
        if len(vhost.encode()) > LONGEST_NAME or not vhost.isprintable():
            raise bottle.HTTPError(400, f"a vhost's name has at most {LONGEST_NAME} octets, all of them printable")
        body = body_object()
        description, tags = text_of_body(body, "description"), _tags(body.get("tags"))
        is_new = give(self._broker, DefineVhost(vhost, description, tags, truth_of_body(body, "tracing")))
        who = current()
        if is_new and who.rights_in(vhost) is None:
            give(self._authenticator, permission_order(who.name, vhost, EVERYTHING))
        return created(is_new)

    def delete(self, vhost: str) -> str:
        """Delete a vhost with everything in it. Raises 404."""
        give(self._broker, DeleteVhost(vhost))
        return created(is_new=False)

    def _rows(self, vhosts: list[Row]) -> list[Row]:
        self._meter.look()
        return [self._row(vhost) for vhost in in_turns(vhosts)]

    def _row(self, vhost: Row) -> Row:
        sums = self._meter.sums_of([vhost["name"]])
        return {
            **vhost,
            **{name: value for name, value in sums["queue"].level_stats().items() if name.startswith("messages")},
            **sums["connection"].stats(),
            "message_stats": {**sums["queue"].stats(), **sums["channel"].stats()},
            "cluster_state": {NODE: "running"},
            "metadata": {"description": vhost.get("description", ""), "tags": vhost.get("tags", [])},
            "default_queue_type": "classic",
        }


def _tags(given: Any) -> list[str] | None:
    """Tags of a vhost: a list, or one text with commas. Raises 400."""
    if given is None:
        return None
    tags = given.split(",") if isinstance(given, str) else given
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise bottle.HTTPError(400, f"tags is {given!r}, expected a list of strings, or a string with commas")
    return [tag.strip() for tag in tags if tag.strip()]
