"""What operators order of users and permissions: told to the authenticator, or carried out on a store at rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dispatchd.actors.orders import Order
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.access import Rights, TopicRights
from dispatchd.model.users import Row, User, Users


@dataclass(frozen=True, slots=True)
class UserOrder(Order):
    """One change of the users."""

    def apply_to(self, users: Users) -> tuple[list[Row], Any]:
        """Change them; returns the rows that the store is to have, and the answer.

        Raises NotFound (404) or PreconditionFailed (406); then nothing is changed.
        """
        raise NotImplementedError

    @property
    def vhost_needed(self) -> str | None:
        """The vhost that has to be there for this."""
        return None


@dataclass(frozen=True, slots=True)
class PutUser(UserOrder):
    """Add a user, or change one; None leaves what is there. The answer is whether the user is new."""

    name: str
    password_hash: str | None = field(repr=False)
    hashing_algorithm: str
    tags: list[str] | None

    def apply_to(self, users: Users) -> tuple[list[Row], bool]:
        """See above."""
        is_new = users.find(self.name) is None
        return users.put(self.name, self.password_hash, self.hashing_algorithm, self.tags), is_new


@dataclass(frozen=True, slots=True)
class DeleteUser(UserOrder):
    """Remove a user, and close its connections."""

    name: str

    def apply_to(self, users: Users) -> tuple[list[Row], None]:
        """See above."""
        return users.delete(self.name), None


@dataclass(frozen=True, slots=True)
class SetPermission(UserOrder):
    """Let a user into a vhost, with these rights. The answer is whether it was outside before."""

    user: str
    vhost: str
    rights: Rights

    def apply_to(self, users: Users) -> tuple[list[Row], bool]:
        """See above."""
        is_new = self.vhost not in users.get(self.user).rights
        return users.set_rights(self.user, self.vhost, self.rights), is_new

    @property
    def vhost_needed(self) -> str:
        """See above."""
        return self.vhost


@dataclass(frozen=True, slots=True)
class ClearPermission(UserOrder):
    """Let a user into a vhost no more. Denied if it was outside."""

    user: str
    vhost: str

    def apply_to(self, users: Users) -> tuple[list[Row], None]:
        """See above."""
        return users.clear_rights(self.user, self.vhost), None


@dataclass(frozen=True, slots=True)
class SetTopicPermission(UserOrder):
    """Say which routing keys a user may use with a topic exchange. The answer is whether it is the first there."""

    user: str
    vhost: str
    exchange: str
    rights: TopicRights

    def apply_to(self, users: Users) -> tuple[list[Row], bool]:
        """See above."""
        is_new = not users.get(self.user).topics.get(self.vhost)
        return users.set_topic_rights(self.user, self.vhost, self.exchange, self.rights), is_new

    @property
    def vhost_needed(self) -> str:
        """See above."""
        return self.vhost


@dataclass(frozen=True, slots=True)
class ClearTopicPermission(UserOrder):
    """Permit all routing keys again, with one exchange or (None) with all. Denied if they were permitted."""

    user: str
    vhost: str
    exchange: str | None

    def apply_to(self, users: Users) -> tuple[list[Row], None]:
        """See above."""
        return users.clear_topic_rights(self.user, self.vhost, self.exchange), None


@dataclass(frozen=True, slots=True)
class LimitUser(UserOrder):
    """Set a limit of a user, or (None) clear it."""

    user: str
    limit: str
    value: int | None

    def apply_to(self, users: Users) -> tuple[list[Row], None]:
        """See above."""
        return users.set_limit(self.user, self.limit, self.value), None


@dataclass(frozen=True, slots=True)
class ReplaceUsersOfFile(Order):
    """The configuration file was read again, and names these users now.

    The answer are the names of those who are no users any more; their connections are closed.
    """

    users: list[User] = field(repr=False)


def carry_out_on(users: Users, order: UserOrder, vhosts: Any) -> tuple[list[Row], Any]:
    """Carry out an order, if the vhost that it needs is one of `vhosts`. Raises NotFound or PreconditionFailed."""
    needed = order.vhost_needed
    if needed is not None and needed not in vhosts:
        raise PreconditionFailed(f"no vhost '{needed}'")
    return order.apply_to(users)
