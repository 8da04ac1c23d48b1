"""Who may log in: bcrypt hashes of passwords, and a memory of those that were right. No actor, no greenlet."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final

import bcrypt

# bcrypt reads no more of a password. To ignore the rest would let different passwords pass for the same.
LONGEST_PASSWORD: Final = 72
LEAST_ROUNDS: Final = 4
MOST_ROUNDS: Final = 31

BUILT_IN_USER: Final = "guest"
# Of the password "guest", as in RabbitMQ. It is no secret, so it has the lowest cost.
_BUILT_IN_HASH: Final = b"$2b$04$NGqeySGVyOMhS9ESzhde2uCVFk6PlOV5n0Lauqb.13byzsVBDta46"

# The last character of the salt and of the digest stand for 2 and 4 bits: their other bits must be 0.
_HASH: Final = re.compile(
    rb"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)


def is_bcrypt_hash(value: bytes) -> bool:
    """Whether `value` is what bcrypt makes of a password: version, cost, salt and digest."""
    return _HASH.fullmatch(value) is not None


def hash_password(password: bytes, rounds: int) -> bytes:
    """Return the bcrypt hash of a password, at a cost of 2**`rounds`.

    Raises:
        ValueError: the password is empty or longer than LONGEST_PASSWORD bytes.
    """
    if not password:
        raise ValueError("the password is empty")
    if len(password) > LONGEST_PASSWORD:
        raise ValueError(f"the password has {len(password)} bytes; bcrypt reads no more than {LONGEST_PASSWORD}")
    return bcrypt.hashpw(password, bcrypt.gensalt(rounds))


def is_loopback(peer: str) -> bool:
    """Whether the address of a socket's other end is this machine's own (127.0.0.0/8, ::1, ::ffff:127.0.0.0/104)."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


class Credentials:
    """The users with the bcrypt hashes of their passwords.

    Without users there is one, guest with the password guest, who comes from loopback peers only unless
    `guest_from_anywhere` (RabbitMQ's `loopback_users`).
    """

    def __init__(self, users: Mapping[str, bytes], guest_from_anywhere: bool) -> None:
        self._hashes = dict(users) or {BUILT_IN_USER: _BUILT_IN_HASH}
        self._only_loopback = set() if users or guest_from_anywhere else {BUILT_IN_USER}
        self._most_rounds = max(map(_rounds, self._hashes.values()))
        self._key = secrets.token_bytes(hashlib.blake2b.MAX_KEY_SIZE)
        self._proven: dict[str, bytes] = {}

    def permits_peer(self, user: str, peer: str) -> bool:
        """Whether this user may come from `peer`, the IP address of the other end of the socket."""
        return user not in self._only_loopback or is_loopback(peer)

    def is_cached(self, user: str, password: bytes) -> bool:
        """Whether this password was found to be right before. Takes microseconds."""
        proven = self._proven.get(user)
        return proven is not None and hmac.compare_digest(proven, self._digest(user, password))

    def check(self, user: str, password: bytes) -> bool:
        """Whether this is the user's password. Takes as long as bcrypt does, so it belongs on a native thread.

        An unknown user takes the same time as a wrong password, whatever the costs of the users' hashes.
        """
        if len(password) > LONGEST_PASSWORD:
            return False
        if self.is_cached(user, password):  # by a check that this one has waited for
            return True
        known = self._hashes.get(user)
        if known is None:
            bcrypt.checkpw(password, _at_rounds(self._most_rounds))
            return False
        if bcrypt.checkpw(password, known):
            self._proven[user] = self._digest(user, password)
            return True
        # Each round doubles the work: n, then n, n+1, ... m-1 add up to the work of m.
        for rounds in range(_rounds(known), self._most_rounds):
            bcrypt.checkpw(password, _at_rounds(rounds))
        return False

    def _digest(self, user: str, password: bytes) -> bytes:
        return hashlib.blake2b(user.encode() + b"\0" + password, key=self._key).digest()


def _rounds(known: bytes) -> int:
    return int(known[4:6])


def _at_rounds(rounds: int) -> bytes:
    """A hash that only serves to spend the time of a check with so many rounds."""
    return b"$2b$%02d$" % rounds + _BUILT_IN_HASH[7:]
