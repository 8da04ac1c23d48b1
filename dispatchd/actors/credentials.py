"""Who may log in, and from where, and a memory of passwords that were right. No actor, no greenlet."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from dispatchd.actors.hashing import BCRYPT, DEFAULT_ROUNDS, LEAST_ROUNDS, PasswordHash, hash_password, spend
from dispatchd.model.access import ALL_RIGHTS
from dispatchd.model.definitions import Record
from dispatchd.model.users import ADMINISTRATOR, Row, User, Users

BUILT_IN_USER: Final = "guest"
# Of the password "guest", as in RabbitMQ. It is no secret, so it has the lowest cost.
BUILT_IN_HASH: Final = base64.b64encode(b"$2b$04$NGqeySGVyOMhS9ESzhde2uCVFk6PlOV5n0Lauqb.13byzsVBDta46").decode()


@lru_cache(maxsize=1_000)
def is_loopback(peer: str) -> bool:
    """Whether the address of a socket's other end is this machine's own (127.0.0.0/8, ::1, ::ffff:127.0.0.0/104)."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def users_of_file(hashes: Mapping[str, bytes]) -> list[User]:
    """The users that a configuration file names, with the bcrypt hashes of their passwords. They are administrators."""
    return [
        User(name, base64.b64encode(value).decode(), BCRYPT, [ADMINISTRATOR], is_of_file=True)
        for name, value in hashes.items()
    ]


def built_in_user(vhosts: list[str]) -> User:
    """Guest with the password guest, an administrator who may do everything in the vhosts that there are."""
    user = User(BUILT_IN_USER, BUILT_IN_HASH, BCRYPT, [ADMINISTRATOR])
    user.rights = dict.fromkeys(vhosts, ALL_RIGHTS)
    return user


def first_user(name: str, password: str, vhosts: list[str]) -> User:
    """An administrator whom the operator chose in the place of guest, who may do everything in the vhosts there are."""
    user = User(name, base64.b64encode(hash_password(password.encode(), DEFAULT_ROUNDS)).decode(), BCRYPT)
    user.tags = [ADMINISTRATOR]
    user.rights = dict.fromkeys(vhosts, ALL_RIGHTS)
    return user


class Credentials:
    """The passwords of users, as others change them.

    A user called guest comes from loopback peers only, unless `guest_from_anywhere` (RabbitMQ's `loopback_users`) or
    the configuration file is where it comes from. Where there are no users at all the `first` is made, by default
    guest, with all rights in the given vhosts.
    """

    def __init__(
        self, users: Users, guest_from_anywhere: bool, *, first: Callable[[list[str]], User] | None = built_in_user
    ) -> None:
        self.users = users
        self._guest_from_anywhere = guest_from_anywhere
        self._first = first
        self._key = secrets.token_bytes(hashlib.blake2b.MAX_KEY_SIZE)
        self._proven: dict[str, tuple[str, bytes]] = {}
        self._most_rounds = -1, 0

    def restore(self, records: list[Record], vhosts: list[str]) -> list[Row]:
        """Take in the users that a store kept; if there are none at all, the first is made.

        While the file names users, a guest whose password was never changed is hidden. Returns the rows that have to
        change. Raises KeyError for records that make no sense.
        """
        names_users = len(self.users) > 0
        rows = self.users.restore(records, vhosts)
        if names_users:
            self._hide_built_in_user()
        return [*rows, *self._make_first(vhosts)]

    def replace_users_of_file(self, users: list[User], vhosts: list[str]) -> tuple[list[Row], list[str]]:
        """The configuration file was read again, and names these users. It is as if the broker had begun with them.

        Returns the rows that have to change, and the names of those who are no users any more.
        """
        before = {user.name for user in self.users}
        self.users.replace_those_of_file(users)
        if users:
            self._hide_built_in_user()
        rows = self._make_first(vhosts)
        return rows, sorted(before - {user.name for user in self.users})

    def _hide_built_in_user(self) -> None:
        guest = self.users.find(BUILT_IN_USER)
        if guest is not None and not guest.is_of_file and guest.hash == BUILT_IN_HASH:
            self.users.hide(BUILT_IN_USER)

    def _make_first(self, vhosts: list[str]) -> list[Row]:
        return self.users.add(self._first(vhosts)) if not len(self.users) and self._first is not None else []

    def permits_peer(self, user: str, peer: str) -> bool:
        """Whether this user may come from `peer`, the IP address of the other end of the socket."""
        if user != BUILT_IN_USER or self._guest_from_anywhere:
            return True
        known = self.users.find(user)
        return (known is not None and known.is_of_file) or is_loopback(peer)

    def is_cached(self, user: str, password: bytes) -> bool:
        """Whether this password was found to be right before, and is the user's still. Takes microseconds."""
        proven, known = self._proven.get(user), self.users.find(user)
        digest = self._digest(user, password)  # also of who is nobody: one could tell by the time
        if proven is None or known is None or proven[0] != known.hash:
            return False
        return hmac.compare_digest(proven[1], digest)

    def check(self, user: str, password: bytes) -> bool:
        """Whether this is the user's password. Takes as long as bcrypt does, so it belongs on a native thread.

        An unknown user takes the same time as a wrong password, whatever the costs of the users' hashes. Nobody has an
        empty password, as in RabbitMQ.
        """
        if not password:
            return False
        if self.is_cached(user, password):  # by a check that this one has waited for
            return True
        known = self.users.find(user)
        most = self._costliest()
        hashed = _hash_of(known) if known is not None else None
        if known is not None and hashed is not None and hashed.matches(password):
            if len(self._proven) > len(self.users):  # some are gone
                self._proven.clear()
            self._proven[user] = known.hash, self._digest(user, password)
            return True
        spent = hashed.rounds if hashed is not None else 0
        if not spent and most:
            spent = LEAST_ROUNDS
            spend(password, spent)
        # Each round doubles the work: n, then n, n+1, ... m-1 add up to the work of m.
        for rounds in range(spent, most):
            spend(password, rounds)
        return False

    def _costliest(self) -> int:
        """The rounds of the costliest hash."""
        changes, rounds = self._most_rounds
        if changes != self.users.changes:
            changes = self.users.changes
            rounds = max([hashed.rounds for each in self.users if (hashed := _hash_of(each)) is not None], default=0)
            self._most_rounds = changes, rounds
        return rounds

    def _digest(self, user: str, password: bytes) -> bytes:
        return hashlib.blake2b(user.encode(errors="surrogatepass") + b"\0" + password, key=self._key).digest()


def _hash_of(user: User) -> PasswordHash | None:
    return _read(user.algorithm, user.hash) if user.hash else None


@lru_cache(maxsize=10_000)
def _read(algorithm: str, text: str) -> PasswordHash:
    return PasswordHash.of_text(algorithm, text)
