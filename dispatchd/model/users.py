"""The users of a broker, what they may do where, and the records of them for the store.

A user is one record with all that is known of him, so that a change of it is one row. Users of the configuration file
are not stored: the file says who they are, and they may do everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from dispatchd.amqp.errors import NotFound, PreconditionFailed
from dispatchd.model.access import ALL_RIGHTS, OPERATIONS, Access, Rights, TopicAccess, TopicRights, permitting
from dispatchd.model.definitions import Record
from dispatchd.model.patterns import PatternError
from dispatchd.model.stored_definitions import user_key, user_row

Row = tuple[bytes, bytes | None]

ADMINISTRATOR: Final = "administrator"
IMPERSONATOR: Final = "impersonator"


class User:
    """One user. `hash` is the text of a password's hash, "" if no password is right, and `algorithm` how it was made.

    `rights` are by vhost, `topics` by vhost and exchange.
    """

    def __init__(
        self, name: str, hash: str, algorithm: str, tags: list[str] | None = None, *, is_of_file: bool = False
    ) -> None:
        self.name = name
        self.hash = hash
        self.algorithm = algorithm
        self.tags: list[str] = tags or []
        self.is_of_file: bool = is_of_file
        self.limits: dict[str, int] = {}
        self.rights: dict[str, Rights] = {}
        self.topics: dict[str, dict[str, TopicRights]] = {}

    def rights_in(self, vhost: str) -> Rights | None:
        """What the user may do in a vhost; None if not even come in."""
        return ALL_RIGHTS if self.is_of_file else self.rights.get(vhost)

    def to_record(self) -> Record:
        """The user as JSON has it."""
        return {
            "name": self.name,
            "password_hash": self.hash,
            "hashing_algorithm": self.algorithm,
            "tags": self.tags,
            "limits": self.limits,
            "permissions": {vhost: _of_rights(rights) for vhost, rights in self.rights.items()},
            "topic_permissions": {
                vhost: {exchange: _of_topic_rights(rights) for exchange, rights in topics.items()}
                for vhost, topics in self.topics.items()
            },
        }

    def __repr__(self) -> str:
        return f"user {self.name!r}"


def _of_rights(rights: Rights) -> Record:
    return {"configure": rights.configure, "write": rights.write, "read": rights.read}


def _of_topic_rights(rights: TopicRights) -> Record:
    return {"write": rights.write, "read": rights.read}


def user_from_record(record: Record) -> User:
    """The reverse of `User.to_record`; KeyError for a damaged one."""
    user = User(record["name"], record["password_hash"], record["hashing_algorithm"], list(record["tags"]))
    user.limits = dict(record.get("limits", {}))
    for vhost, rights in record["permissions"].items():
        user.rights[vhost] = Rights(rights["configure"], rights["write"], rights["read"])
    for vhost, topics in record["topic_permissions"].items():
        user.topics[vhost] = {
            exchange: TopicRights(rights["write"], rights["read"]) for exchange, rights in topics.items()
        }
    return user


class Users:
    """All users by name. Each change returns the rows that the store is to have of it, and is in force at once.

    What it denies it denies before it changes anything.
    """

    def __init__(self, of_file: Iterable[User] = ()) -> None:
        self._users: dict[str, User] = {user.name: user for user in of_file}
        self._hidden: dict[str, User] = {}
        """Of the store, and of no account while the file names users: of the same names, or all others than them."""
        self._accesses: dict[tuple[str, str], Access] = {}
        self.changes: int = 0
        """How many there have been: who works something out of all users need not before this changes."""

    def restore(self, records: Iterable[Record], vhosts: Iterable[str]) -> list[Row]:
        """Take in what the store kept, without rights in vhosts that are gone; users whom the file names are hidden.

        Returns the rows that have to change for that. Raises KeyError for records that make no sense.
        """
        there = set(vhosts)
        rows: list[Row] = []
        self.changes += 1
        for record in records:
            user = user_from_record(record)
            (self._hidden if user.name in self._users else self._users)[user.name] = user
            if not there.issuperset([*user.rights, *user.topics]):
                for vhost in [*user.rights, *user.topics]:
                    if vhost not in there:
                        user.rights.pop(vhost, None)
                        user.topics.pop(vhost, None)
                rows.append(user_row(user.to_record()))
        return rows

    # What there is

    def __iter__(self) -> Any:
        return iter(list(self._users.values()))

    def __len__(self) -> int:
        return len(self._users)

    def find(self, name: str) -> User | None:
        """The user of this name."""
        return self._users.get(name)

    def get(self, name: str) -> User:
        """The user of this name; raises NotFound."""
        user = self._users.get(name)
        if user is None:
            raise NotFound(f"no user '{name}'")
        return user

    def access(self, name: str, vhost: str) -> Access | None:
        """What a user may do in a vhost, from now on; None for somebody who may not come in."""
        user = self._users.get(name)
        if user is None or user.rights_in(vhost) is None:
            return None
        access = self._accesses.get((name, vhost))
        if access is None:
            access = Access(name, vhost)
            self._let_know(access)
            self._accesses[name, vhost] = access
        return access

    def hide(self, name: str) -> None:
        """Act as if a stored user were not there, as long as the file names users."""
        user = self._users.pop(name, None)
        if user is not None:
            self._hidden[name] = user

    def replace_those_of_file(self, users: Iterable[User]) -> list[str]:
        """Other users are in the file now; returns the names of those who were users before, and are not any more.

        Stored users who were hidden are back, unless the file names them. Nothing of this is stored.
        """
        before = set(self._users)
        named = {user.name: user for user in users}
        for name in [user.name for user in self._users.values() if user.is_of_file]:
            del self._users[name]
        self._users.update(self._hidden)
        self._hidden = {}
        for name in named:
            self.hide(name)
        self._users.update(named)
        self.changes += 1
        for access in list(self._accesses.values()):
            self._let_know(access)
        return sorted(before - set(self._users))

    # Changes

    def add(self, user: User) -> list[Row]:
        """Add a user of whose name there is none."""
        self._users[user.name] = user
        self._hidden.pop(user.name, None)
        return self._changed(user)

    def put(self, name: str, hash: str | None, algorithm: str, tags: list[str] | None) -> list[Row]:
        """Add a user, or change one: None leaves what is there. Raises PreconditionFailed (406)."""
        self._refuse_of_file(name)
        user = self._users.get(name)
        if user is None:
            user = User(name, hash or "", algorithm, tags)
            self._users[name] = user
            self._hidden.pop(name, None)
        else:
            if hash is not None:
                user.hash, user.algorithm = hash, algorithm
            if tags is not None:
                user.tags = tags
        return self._changed(user)

    def delete(self, name: str) -> list[Row]:
        """Remove a user. Raises NotFound (404) and PreconditionFailed (406)."""
        self._refuse_of_file(name)
        self.get(name)
        key = user_key(name)
        for access in list(self._accesses.values()):
            if access.user == name:
                self._shut_out(access)
        del self._users[name]
        self.changes += 1
        return [(key, None)]

    def set_rights(self, name: str, vhost: str, rights: Rights) -> list[Row]:
        """Let a user into a vhost. Raises NotFound (404) and PreconditionFailed (406)."""
        self._refuse_of_file(name)
        user = self.get(name)
        try:
            for operation in OPERATIONS:
                permitting(rights.of(operation))
        except PatternError as error:
            raise _bad_pattern(error) from None
        user.rights[vhost] = rights
        return self._changed(user)

    def clear_rights(self, name: str, vhost: str) -> list[Row]:
        """Let a user into a vhost no more. Raises NotFound (404) and PreconditionFailed (406)."""
        self._refuse_of_file(name)
        user = self.get(name)
        if vhost not in user.rights:
            raise NotFound(f"user '{name}' has no permissions in vhost '{vhost}'")
        del user.rights[vhost]
        return self._changed(user)

    def set_topic_rights(self, name: str, vhost: str, exchange: str, rights: TopicRights) -> list[Row]:
        """Restrict a user's routing keys. Raises NotFound (404) and PreconditionFailed (406)."""
        self._refuse_of_file(name)
        user = self.get(name)
        try:
            TopicAccess(Access(name, vhost), exchange, rights)
        except PatternError as error:
            raise _bad_pattern(error) from None
        user.topics.setdefault(vhost, {})[exchange] = rights
        return self._changed(user)

    def clear_topic_rights(self, name: str, vhost: str, exchange: str | None) -> list[Row]:
        """Restrict them no more, to one exchange or (None) to all. Raises NotFound (404), PreconditionFailed (406)."""
        self._refuse_of_file(name)
        user = self.get(name)
        topics = user.topics.get(vhost, {})
        if not topics or (exchange is not None and exchange not in topics):
            raise NotFound(f"user '{name}' has no such topic permissions in vhost '{vhost}'")
        if exchange is not None:
            del topics[exchange]
        if exchange is None or not topics:
            del user.topics[vhost]
        return self._changed(user)

    def set_limit(self, name: str, limit: str, value: int | None) -> list[Row]:
        """Limit a user, or (None) no more. Raises NotFound (404) and PreconditionFailed (406)."""
        self._refuse_of_file(name)
        user = self.get(name)
        if value is None:
            user.limits.pop(limit, None)
        else:
            user.limits[limit] = value
        return self._changed(user)

    def forget_vhost(self, vhost: str) -> list[Row]:
        """A vhost is gone, and with it what anybody may do there."""
        known = (*self._users.values(), *self._hidden.values())
        concerned = [user for user in known if vhost in user.rights or vhost in user.topics]
        for access in list(self._accesses.values()):
            if access.vhost == vhost:
                self._shut_out(access)
        for user in concerned:
            user.rights.pop(vhost, None)
            user.topics.pop(vhost, None)
        return [user_row(user.to_record()) for user in concerned]

    # Inside

    def _refuse_of_file(self, name: str) -> None:
        user = self._users.get(name)
        if user is not None and user.is_of_file:
            raise PreconditionFailed(f"user '{name}' is of the configuration file: that is where to change it")

    def _changed(self, user: User) -> list[Row]:
        """Let those know who hold what the user may do."""
        self.changes += 1
        for access in list(self._accesses.values()):
            if access.user == user.name:
                self._let_know(access)
        return [user_row(user.to_record())]

    def _let_know(self, access: Access) -> None:
        user = self._users.get(access.user)
        rights = user.rights_in(access.vhost) if user is not None else None
        if user is None or rights is None:
            self._shut_out(access)
        else:
            topics = user.topics.get(access.vhost, {})
            access.change(rights, topics, may_impersonate=IMPERSONATOR in user.tags)

    def _shut_out(self, access: Access) -> None:
        """Whoever still holds it may do nothing."""
        access.change(None, {}, may_impersonate=False)
        self._accesses.pop((access.user, access.vhost), None)


def _bad_pattern(error: PatternError) -> PreconditionFailed:
    return PreconditionFailed(f"a permission is no regular expression that can be used: {error}")
