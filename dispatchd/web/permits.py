"""What a user may do to queues and exchanges with the API: no more than with AMQP, unless it is an administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bottle

from dispatchd.actors.lookup import find_exchange_definition
from dispatchd.actors.runtime import System
from dispatchd.amqp.errors import AccessRefused
from dispatchd.web.requests import denials
from dispatchd.web.roles import ADMINISTRATOR, Forbidden, current, has_role

FindAccess = Callable[[str, str], Any]
"""The name of a user and a vhost, to what it may do there with AMQP; None if it may not even come in."""


class Permits:
    """Asks the permissions of whoever sends the request."""

    def __init__(self, system: System, find_access: FindAccess) -> None:
        self._system = system
        self._find_access = find_access

    def access(self, vhost: str) -> Any:
        """With what the user's methods are carried out; None for an administrator, who may do everything.

        Raises 401 for somebody who may not come in.
        """
        who = current()
        if has_role(who, ADMINISTRATOR):
            return None
        access = self._find_access(who.name, vhost)
        if access is None:
            raise Forbidden(401, "User not authorised to access virtual host")
        return access

    def require(self, operation: str, kind: str, vhost: str, name: str) -> None:
        """See that the user may configure, write or read a queue or an exchange. Raises 401."""
        access = self.access(vhost)
        if access is not None:
            with refusals(access):
                access.check(operation, kind, name)

    def require_publish(self, vhost: str, exchange: str, routing_key: str, properties: dict[str, Any]) -> None:
        """See that the user may publish this. Raises 400, 401 and 404."""
        access = self.access(vhost)
        if access is None:
            return
        with denials():
            definition = find_exchange_definition(self._system, vhost, exchange)
        with refusals(access):
            access.check_publish(exchange)
            topic = access.topic_access(definition)
            if topic is not None:
                topic.check_write(routing_key)
        claimed = properties.get("user_id")
        if claimed is not None and claimed != access.user and not access.may_impersonate:
            raise bottle.HTTPError(400, f"user_id is {claimed!r}, but it is '{access.user}' who publishes")


@contextmanager
def refusals(access: Any) -> Iterator[None]:
    """Turn what permissions refuse into the 401 that RabbitMQ answers; an administrator (None) lacks none."""
    try:
        yield
    except AccessRefused as error:
        if access is None:
            raise
        raise Forbidden(401, error.text) from None
