"""What a user may do in one vhost: RabbitMQ's configure, write and read permissions, and its topic permissions.

Codes, texts and what they are asked for are RabbitMQ 3.10's (rabbit_access_control, rabbit_auth_backend_internal).
"""

from __future__ import annotations

from typing import Final

from dispatchd.amqp.errors import AccessRefused
from dispatchd.model.binding import EXCHANGE
from dispatchd.model.definitions import ExchangeDefinition
from dispatchd.model.patterns import Pattern, quoted

Operation = str
CONFIGURE: Final = "configure"
WRITE: Final = "write"
READ: Final = "read"
OPERATIONS: Final = (CONFIGURE, WRITE, READ)

TOPIC_TYPE: Final = "topic"
DEFAULT_EXCHANGE_SHOWN: Final = "amq.default"
MOST_REMEMBERED: Final = 1_000
"""Names of an operation that were permitted. Clients choose names: more of them must not fill the memory."""


class Rights:
    """Three regular expressions for names; "" permits nothing (RabbitMQ takes it for `^$`)."""

    __slots__ = ("configure", "read", "write")

    def __init__(self, configure: str, write: str, read: str) -> None:
        self.configure = configure
        self.write = write
        self.read = read

    def of(self, operation: Operation) -> str:
        """The expression for an operation."""
        if operation == CONFIGURE:
            return self.configure
        return self.write if operation == WRITE else self.read


class TopicRights:
    """Two regular expressions for routing keys, in which `{username}` and `{vhost}` stand for the user's own."""

    __slots__ = ("read", "write")

    def __init__(self, write: str, read: str) -> None:
        self.write = write
        self.read = read


ALL_RIGHTS: Final = Rights(".*", ".*", ".*")


class TopicAccess:
    """What one user may write to, and read from, one topic exchange."""

    def __init__(self, access: Access, exchange: str, rights: TopicRights) -> None:
        self._access = access
        self._exchange = exchange
        self._write = self._pattern(rights.write)
        self._read = self._pattern(rights.read)

    def _pattern(self, text: str) -> Pattern:
        access = self._access
        known = text.replace("{username}", quoted(access.user)).replace("{vhost}", quoted(access.vhost))
        return permitting(known)

    def check_write(self, routing_key: str) -> None:
        """Raises AccessRefused (403)."""
        if not self._write.matches(routing_key):
            raise self._refusal(routing_key)

    def check_read(self, routing_key: str) -> None:
        """Raises AccessRefused (403)."""
        if not self._read.matches(routing_key):
            raise self._refusal(routing_key)

    def _refusal(self, routing_key: str) -> AccessRefused:
        access = self._access
        return AccessRefused(
            f"access to topic '{routing_key}' in exchange '{self._exchange}' in vhost '{access.vhost}'"
            f" refused for user '{access.user}'"
        )


class Access:
    """One user in one vhost. It is shared by all channels of theirs, and changed under them when permissions change.

    What was permitted once is remembered until then, so that to ask again costs no more than to look in a set.
    `may_impersonate` is whether messages may claim another user. Without rights nothing is permitted.
    """

    def __init__(self, user: str, vhost: str) -> None:
        self.user = user
        self.vhost = vhost
        self.may_impersonate: bool = False
        self._rights: Rights | None = None
        self._patterns: dict[Operation, Pattern] = {}
        self._permitted: dict[Operation, set[tuple[str, str]]] = {}
        self._writable: set[str] = set()
        self._topics: dict[str, TopicAccess] = {}

    def change(self, rights: Rights | None, topics: dict[str, TopicRights], *, may_impersonate: bool) -> None:
        """Let other permissions be in force from now on. Raises PatternError; then all is as it was."""
        patterns: dict[Operation, Pattern] = {}
        if rights is not None:
            for operation in OPERATIONS:
                patterns[operation] = permitting(rights.of(operation))
        accesses = {exchange: TopicAccess(self, exchange, topic) for exchange, topic in topics.items()}
        self._rights, self._patterns, self._topics = rights, patterns, accesses
        self.may_impersonate = may_impersonate
        self._permitted = {operation: set() for operation in OPERATIONS}
        self._writable = set()

    def check(self, operation: Operation, kind: str, name: str) -> None:
        """See that the user may do this to a queue or an exchange. Raises AccessRefused (403)."""
        asked = (kind, name)
        permitted = self._permitted.get(operation)
        if permitted is not None and asked in permitted:
            return
        shown = DEFAULT_EXCHANGE_SHOWN if kind == EXCHANGE and not name else name
        pattern = self._patterns.get(operation)
        if pattern is None or permitted is None or not pattern.matches(shown):
            raise AccessRefused(f"access to {kind} '{shown}' in vhost '{self.vhost}' refused for user '{self.user}'")
        if len(permitted) >= MOST_REMEMBERED:
            permitted.clear()
        permitted.add(asked)

    def check_publish(self, exchange: str) -> None:
        """See that the user may publish to an exchange. Raises AccessRefused (403)."""
        if exchange in self._writable:
            return
        self.check(WRITE, EXCHANGE, exchange)
        if len(self._writable) >= MOST_REMEMBERED:
            self._writable.clear()
        self._writable.add(exchange)

    def topic_access(self, exchange: ExchangeDefinition) -> TopicAccess | None:
        """What the user's routing keys there have to match; None if all are permitted."""
        return self._topics.get(exchange.name) if exchange.type == TOPIC_TYPE else None


def permitting(text: str) -> Pattern:
    """The expression of a permission, where "" means no name at all. Raises PatternError."""
    return Pattern(text or "^$")


def unrestricted(user: str, vhost: str) -> Access:
    """Who may do everything there."""
    access = Access(user, vhost)
    access.change(ALL_RIGHTS, {}, may_impersonate=False)
    return access
