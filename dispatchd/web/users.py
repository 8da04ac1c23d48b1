"""Users and their permissions in the API, as RabbitMQ's management has them."""

from __future__ import annotations

import json

import bottle
import gevent

from dispatchd.actors.directory import Directory, Row
from dispatchd.actors.runtime import Ref
from dispatchd.actors.user_orders import ClearPermission, ClearTopicPermission, DeleteUser
from dispatchd.actors.user_requests import permission_order, topic_permission_order, user_order
from dispatchd.web.answers import answer_json, created
from dispatchd.web.encoding import json_list
from dispatchd.web.requests import body_object, denials, give


class Users:
    """The handlers: the directory is what they show, the authenticator is told what they change."""

    def __init__(self, authenticator: Ref, directory: Directory) -> None:
        self._authenticator = authenticator
        self._directory = directory

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/users", callback=self.show_users)
        app.get("/api/users/without-permissions", callback=self.show_outsiders)
        app.post("/api/users/bulk-delete", callback=self.delete_many)
        app.get("/api/users/<user:name>", callback=self.show_user)
        app.put("/api/users/<user:name>", callback=self.put_user)
        app.delete("/api/users/<user:name>", callback=self.delete_user)
        for kind, rows in (
            ("permissions", self._directory.permissions),
            ("topic-permissions", self._directory.topic_permissions),
        ):
            app.get(f"/api/{kind}", callback=lambda rows=rows: answer_json(json_list(rows())))
            app.get(
                f"/api/users/<user:name>/{kind}",
                callback=lambda user, rows=rows: self._answer_of("user", user, rows()),
            )
            app.get(
                f"/api/vhosts/<vhost:name>/{kind}",
                callback=lambda vhost, rows=rows: self._answer_of("vhost", vhost, rows()),
            )
        app.get("/api/permissions/<vhost:name>/<user:name>", callback=self.show_permission)
        app.put("/api/permissions/<vhost:name>/<user:name>", callback=self.set_permission)
        app.delete("/api/permissions/<vhost:name>/<user:name>", callback=self.clear_permission)
        app.get("/api/topic-permissions/<vhost:name>/<user:name>", callback=self.show_topic_permissions)
        app.put("/api/topic-permissions/<vhost:name>/<user:name>", callback=self.set_topic_permission)
        app.delete("/api/topic-permissions/<vhost:name>/<user:name>", callback=self.clear_topic_permissions)
        app.delete(
            "/api/topic-permissions/<vhost:name>/<user:name>/<exchange:name>", callback=self.clear_topic_permissions
        )

    # Users

    def show_users(self) -> str:
        """All users, by name."""
        return answer_json(json_list(self._directory.users()))

    def show_outsiders(self) -> str:
        """The users who may not come into any vhost."""
        insiders = {row["user"] for row in self._directory.permissions()}
        rows = [row for row in self._directory.users() if row["name"] not in insiders and not row["of_file"]]
        return answer_json(json_list(rows))

    def show_user(self, user: str) -> str:
        """One user. Raises 404."""
        return answer_json(json.dumps(self._user(user)))

    def put_user(self, user: str) -> str:
        """Add a user, or change one. Raises 400."""
        with denials():
            order = gevent.get_hub().threadpool.apply(user_order, (user, body_object()))
        return created(give(self._authenticator, order))

    def delete_user(self, user: str) -> str:
        """Delete a user, and close its connections. Raises 404."""
        give(self._authenticator, DeleteUser(user))
        return created(is_new=False)

    def delete_many(self) -> str:
        """Delete the users whom the body names. Raises 400 if there is one who is not there; then nobody is deleted."""
        names = body_object().get("users")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise bottle.HTTPError(400, "users is missing, expected a list of names")
        for name in names:
            if self._directory.user(name) is None:
                raise bottle.HTTPError(400, f"no user '{name}'")
        for name in dict.fromkeys(names):
            give(self._authenticator, DeleteUser(name))
        return created(is_new=False)

    def _user(self, name: str) -> Row:
        row = self._directory.user(name)
        if row is None:
            raise bottle.HTTPError(404, f"no user '{name}'")
        return row

    def _answer_of(self, key: str, name: str, rows: list[Row]) -> str:
        if key == "user":
            self._user(name)
        return answer_json(json_list([row for row in rows if row[key] == name]))

    # Permissions

    def show_permission(self, vhost: str, user: str) -> str:
        """What a user may do in a vhost. Raises 404."""
        for row in self._directory.permissions():
            if (row["vhost"], row["user"]) == (vhost, user):
                return answer_json(json.dumps(row))
        raise bottle.HTTPError(404, f"user '{user}' has no permissions in vhost '{vhost}'")

    def set_permission(self, vhost: str, user: str) -> str:
        """Let a user into a vhost. Raises 400."""
        with denials():
            order = permission_order(user, vhost, body_object())
        self._expect(user)
        return created(give(self._authenticator, order))

    def clear_permission(self, vhost: str, user: str) -> str:
        """Let a user into a vhost no more. Raises 404."""
        give(self._authenticator, ClearPermission(user, vhost))
        return created(is_new=False)

    def show_topic_permissions(self, vhost: str, user: str) -> str:
        """Which routing keys a user may use in a vhost. Raises 404 if all."""
        rows = [row for row in self._directory.topic_permissions() if (row["vhost"], row["user"]) == (vhost, user)]
        if not rows:
            raise bottle.HTTPError(404, f"user '{user}' has no topic permissions in vhost '{vhost}'")
        return answer_json(json_list(rows))

    def set_topic_permission(self, vhost: str, user: str) -> str:
        """Restrict a user's routing keys. Raises 400."""
        with denials():
            order = topic_permission_order(user, vhost, body_object())
        self._expect(user)
        return created(give(self._authenticator, order))

    def clear_topic_permissions(self, vhost: str, user: str, exchange: str | None = None) -> str:
        """Restrict them no more, to one exchange or to all. Raises 404."""
        give(self._authenticator, ClearTopicPermission(user, vhost, exchange))
        return created(is_new=False)

    def _expect(self, user: str) -> None:
        if self._directory.user(user) is None:
            raise bottle.HTTPError(400, "vhost_or_user_not_found")
