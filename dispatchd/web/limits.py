"""Limits of vhosts and users in the API, as RabbitMQ's management has them."""

from __future__ import annotations

from typing import Any

import bottle

from dispatchd.actors.directory import Directory
from dispatchd.actors.limit_requests import user_limit_order, vhost_limit_order
from dispatchd.actors.runtime import Ref, System
from dispatchd.web.answers import answer_json, created
from dispatchd.web.encoding import json_list
from dispatchd.web.requests import body_object, denials, give
from dispatchd.web.roles import current, sees_vhost
from dispatchd.web.snapshots import Row, Snapshots


class Limits:
    """The handlers: vhosts have limits themselves, those of users the authenticator changes."""

    def __init__(self, authenticator: Ref, directory: Directory, system: System) -> None:
        self._authenticator = authenticator
        self._directory = directory
        self._system = system
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/vhost-limits", callback=self.of_vhosts)
        app.get("/api/vhost-limits/<vhost:name>", callback=self.of_vhosts)
        app.put("/api/vhost-limits/<vhost:name>/<limit:name>", callback=self.limit_vhost)
        app.delete("/api/vhost-limits/<vhost:name>/<limit:name>", callback=self.free_vhost)
        app.get("/api/user-limits", callback=self.of_users)
        app.get("/api/user-limits/<user:name>", callback=self.of_users)
        app.put("/api/user-limits/<user:name>/<limit:name>", callback=self.limit_user)
        app.delete("/api/user-limits/<user:name>/<limit:name>", callback=self.free_user)

    def of_vhosts(self, vhost: str | None = None) -> str:
        """The limits of those vhosts that have some, or of one."""
        who = current()
        rows: list[Row] = [
            {"vhost": row["name"], "value": row["limits"]}
            for row in self._snapshots.of_kind("vhost")
            if vhost in (None, row["name"]) and row.get("limits") and sees_vhost(who, row["name"])
        ]
        return answer_json(json_list(rows))

    def limit_vhost(self, vhost: str, limit: str) -> str:
        """Set a limit. Raises 400 and 404."""
        with denials():
            order = vhost_limit_order(limit, _value())
        give(self._vhost(vhost), order)
        return created(is_new=False)

    def free_vhost(self, vhost: str, limit: str) -> str:
        """Clear a limit. Raises 400 and 404."""
        with denials():
            order = vhost_limit_order(limit, None)
        give(self._vhost(vhost), order)
        return created(is_new=False)

    def of_users(self, user: str | None = None) -> str:
        """The limits of those users that have some, or of one; who is no administrator sees its own."""
        who = current()
        rows = [row for row in self._directory.limits() if user in (None, row["user"])]
        if "administrator" not in who.tags:
            rows = [row for row in rows if row["user"] == who.name]
        return answer_json(json_list(rows))

    def limit_user(self, user: str, limit: str) -> str:
        """Set a limit. Raises 400 and 404."""
        with denials():
            order = user_limit_order(user, limit, _value())
        give(self._authenticator, order)
        return created(is_new=False)

    def free_user(self, user: str, limit: str) -> str:
        """Clear a limit. Raises 400 and 404."""
        with denials():
            order = user_limit_order(user, limit, None)
        give(self._authenticator, order)
        return created(is_new=False)

    def _vhost(self, name: str) -> Ref:
        for actor in self._system.actors.values():
            if actor.kind == "vhost" and actor.name == name:
                return actor.ref
        raise bottle.HTTPError(404, f"no vhost '{name}'")


def _value() -> Any:
    body = body_object()
    if "value" not in body:
        raise bottle.HTTPError(400, "[{key_missing,value}]")
    return body["value"]
