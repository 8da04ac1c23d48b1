"""The part of the API that is about users, carried out on the data of a broker that does not run."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from dispatchd.actors.credentials import users_of_file
from dispatchd.actors.directory import Directory
from dispatchd.actors.limit_requests import user_limit_order
from dispatchd.actors.user_orders import (
    ClearPermission,
    ClearTopicPermission,
    DeleteUser,
    UserOrder,
    carry_out_on,
)
from dispatchd.actors.user_requests import permission_order, topic_permission_order, user_order
from dispatchd.amqp.errors import AmqpError
from dispatchd.config import Config
from dispatchd.model.journal import Changes
from dispatchd.model.stored_definitions import read_rows, user_records
from dispatchd.model.users import Users
from dispatchd.remote import Api, RemoteError
from dispatchd.store.interface import StoreError
from dispatchd.store.lmdb_store import LmdbStore


class OfflineApi(Api):
    """Asks the store in the place of a broker, which nobody can start meanwhile. To be left with `with`."""

    def __init__(self, config: Config) -> None:
        """Raises RemoteError if a broker runs, or the data can't be read."""
        try:
            self._store = LmdbStore(config.persist_dir, config.store_size_limit)
        except StoreError as error:
            raise RemoteError(str(error)) from None
        try:
            definitions = self._store.recover().definitions
            # A broker that finds no vhost makes this one.
            self._vhosts = [name for name, each in read_rows(definitions).items() if each.definition]
            self._vhosts = self._vhosts or [config.default_vhost]
            self._users = Users(users_of_file(config.users))
            self._users.restore(user_records(definitions), self._vhosts)
        except (StoreError, LookupError, TypeError, ValueError) as error:
            self._store.close()
            raise RemoteError(f"{config.persist_dir}: can't be read: {error}") from None

    def __enter__(self) -> OfflineApi:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._store.close()

    def ask(
        self,
        method: str,
        *names: str,
        body: dict[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """What `Api.ask` does, of users and permissions alone. Raises RemoteError for what would be denied."""
        if method == "GET":
            return self._look(*names)
        try:
            rows, _ = carry_out_on(self._users, _order(method, names, body or {}), self._vhosts)
            changes = Changes()
            changes.definitions = dict(rows)
            self._store.commit(changes)
        except AmqpError as error:
            raise RemoteError(error.text.partition(" - ")[2]) from None
        except StoreError as error:
            raise RemoteError(str(error)) from None
        return None

    def _look(self, kind: str, *names: str) -> Any:
        directory = Directory(self._users)
        if not names:
            return {
                "users": directory.users,
                "permissions": directory.permissions,
                "topic-permissions": directory.topic_permissions,
            }[kind]()
        row = directory.user(names[0])
        if row is None:
            raise RemoteError(f"no user '{names[0]}'")
        return row


def _order(method: str, names: tuple[str, ...], body: dict[str, Any]) -> UserOrder:
    match method, names:
        case "PUT", ("users", name):
            return user_order(name, body)
        case "DELETE", ("users", name):
            return DeleteUser(name)
        case "PUT", ("permissions", vhost, name):
            return permission_order(name, vhost, body)
        case "DELETE", ("permissions", vhost, name):
            return ClearPermission(name, vhost)
        case "PUT", ("topic-permissions", vhost, name):
            return topic_permission_order(name, vhost, body)
        case "PUT", ("user-limits", name, limit):
            return user_limit_order(name, limit, body["value"])
        case "DELETE", ("user-limits", name, limit):
            return user_limit_order(name, limit, None)
        case "DELETE", ("topic-permissions", vhost, name, *exchange):
            return ClearTopicPermission(name, vhost, exchange[0] if exchange else None)
    raise ValueError(f"{method} {'/'.join(names)} is not about users")
