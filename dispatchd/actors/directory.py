"""The users of a broker as rows, the way that RabbitMQ's management shows them."""

from __future__ import annotations

from typing import Any

from dispatchd.model.access import Rights, TopicRights
from dispatchd.model.users import User, Users

Row = dict[str, Any]


class Directory:
    """A look at users that others change; nobody is asked, so it costs no more than the rows."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def users(self) -> list[Row]:
        """All users, by name. Those of the configuration file are `of_file`: they can't be changed."""
        return [_user_row(user) for user in self._in_order()]

    def user(self, name: str) -> Row | None:
        """One of them."""
        user = self._users.find(name)
        return None if user is None else _user_row(user)

    def permissions(self) -> list[Row]:
        """Who may do what where; users of the configuration file may do everything, and are not among them."""
        return [
            _permission_row(user.name, vhost, rights)
            for user in self._in_order()
            for vhost, rights in sorted(user.rights.items())
        ]

    def topic_permissions(self) -> list[Row]:
        """Who is restricted in his routing keys, and how."""
        return [
            _topic_row(user.name, vhost, exchange, rights)
            for user in self._in_order()
            for vhost, topics in sorted(user.topics.items())
            for exchange, rights in sorted(topics.items())
        ]

    def limits(self) -> list[Row]:
        """The limits of users that have some."""
        return [{"user": user.name, "value": user.limits} for user in self._in_order() if user.limits]

    def _in_order(self) -> list[User]:
        return sorted(self._users, key=lambda user: user.name)


def _user_row(user: User) -> Row:
    return {
        "name": user.name,
        "password_hash": "" if user.is_of_file else user.hash,
        "hashing_algorithm": user.algorithm,
        "tags": user.tags,
        "limits": user.limits,
        "of_file": user.is_of_file,
    }


def _permission_row(user: str, vhost: str, rights: Rights) -> Row:
    return {"user": user, "vhost": vhost, "configure": rights.configure, "write": rights.write, "read": rights.read}


def _topic_row(user: str, vhost: str, exchange: str, rights: TopicRights) -> Row:
    return {"user": user, "vhost": vhost, "exchange": exchange, "write": rights.write, "read": rights.read}
