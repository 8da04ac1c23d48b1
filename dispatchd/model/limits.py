"""How many connections, channels, queues and bindings vhosts and users may have, and how many there are.

Names and texts of limits are RabbitMQ 3.10's (rabbit_vhost_limit, rabbit_auth_backend_internal, rabbit_reader);
`max-bindings` is our own.
"""

from __future__ import annotations

from typing import Any, Final

from dispatchd.amqp.errors import NotAllowed, PreconditionFailed
from dispatchd.model.erlang import shown_term

MAX_CONNECTIONS: Final = "max-connections"
MAX_CHANNELS: Final = "max-channels"
MAX_QUEUES: Final = "max-queues"
MAX_BINDINGS: Final = "max-bindings"
OF_VHOSTS: Final = (MAX_CONNECTIONS, MAX_QUEUES, MAX_BINDINGS)
OF_USERS: Final = (MAX_CONNECTIONS, MAX_CHANNELS)

Limits = dict[str, int]
"""By name. A negative one is none, as is one that is missing."""


def check_limit(names: tuple[str, ...], of: str, name: str, value: Any) -> int:
    """The value of a limit, which a client may have sent as a string. Raises PreconditionFailed (406), as RabbitMQ."""
    problem = ""
    if name not in names:
        problem = f"Unrecognised terms [{{{shown_term(name)},{shown_term(value)}}}] in {of}"
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        value = int(value)
    if not problem and type(value) is not int:
        problem = f"{name} should be a number, actually was {shown_term(value)}"
    if problem:
        raise PreconditionFailed(f"Validation failed\n\n{problem}\n" if names == OF_VHOSTS else problem)
    return int(value)


def reached(limits: Limits, name: str, count: int) -> bool:
    """Whether no more may be added to so many."""
    limit = limits.get(name, -1)
    return 0 <= limit <= count


def check_new_queue(limits: Limits, vhost: str, queue: str, count: int) -> None:
    """Raises PreconditionFailed (406) if a vhost with so many queues may have no other one."""
    if reached(limits, MAX_QUEUES, count):
        raise PreconditionFailed(
            f"cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limits[MAX_QUEUES]}) is reached"
        )


def check_new_binding(limits: Limits, vhost: str, destination: str, count: int) -> None:
    """Raises PreconditionFailed (406) if a vhost with so many bindings may have no other one."""
    if reached(limits, MAX_BINDINGS, count):
        raise PreconditionFailed(
            f"cannot bind to {destination}: binding limit in vhost '{vhost}' ({limits[MAX_BINDINGS]}) is reached"
        )


class ChannelsUsedUp(NotAllowed):
    """The user may have no more channels. RabbitMQ says so without naming the method that asked for one."""

    def blame(self, class_id: int, method_id: int) -> None:
        """Nobody."""


class Tally:
    """How many connections are open, in all, by vhost and by user, and how many channels, by user."""

    def __init__(self) -> None:
        self.connections: int = 0
        self._of_vhosts: dict[str, int] = {}
        self._of_users: dict[str, int] = {}
        self._channels: dict[str, int] = {}

    def enter(self, vhost: str, user: str) -> None:
        """A connection opens."""
        self.connections += 1
        _count(self._of_vhosts, vhost, 1)
        _count(self._of_users, user, 1)

    def leave(self, vhost: str, user: str) -> None:
        """It is closed."""
        self.connections -= 1
        _count(self._of_vhosts, vhost, -1)
        _count(self._of_users, user, -1)

    def count_channels(self, user: str, change: int) -> None:
        """Channels of a user come or go."""
        _count(self._channels, user, change)

    def __len__(self) -> int:
        """Names that it has counts of: no more than vhosts and users with connections."""
        return len(self._of_vhosts) + len(self._of_users) + len(self._channels)

    def check_broker(self, limit: int | None) -> None:
        """Raises NotAllowed (530) if the broker takes no more connections. The text is that of RabbitMQ 4."""
        if limit is not None and self.connections >= limit:
            raise NotAllowed(f"connection refused: node connection limit ({limit}) is reached")

    def check_vhost(self, vhost: str, user: str, limits: Limits) -> None:
        """Raises NotAllowed (530) if the vhost takes no more connections."""
        if reached(limits, MAX_CONNECTIONS, self._of_vhosts.get(vhost, 0)):
            raise NotAllowed(
                f"access to vhost '{vhost}' refused for user '{user}':"
                f" connection limit ({limits[MAX_CONNECTIONS]}) is reached"
            )

    def check_user(self, user: str, limits: Limits) -> None:
        """Raises NotAllowed (530) if the user may have no more connections."""
        if reached(limits, MAX_CONNECTIONS, self._of_users.get(user, 0)):
            limit = limits[MAX_CONNECTIONS]
            raise NotAllowed(f"connection refused for user '{user}': user connection limit ({limit}) is reached")

    def check_channel(self, user: str, limits: Limits) -> None:
        """Raises NotAllowed (530) if the user may have no more channels."""
        if reached(limits, MAX_CHANNELS, self._channels.get(user, 0)):
            limit = limits[MAX_CHANNELS]
            raise ChannelsUsedUp(
                f"number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
            )


def _count(counts: dict[str, int], name: str, change: int) -> None:
    count = counts.get(name, 0) + change
    if count:
        counts[name] = count
    else:
        counts.pop(name, None)
