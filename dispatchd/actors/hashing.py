"""Hashes of passwords: bcrypt, of which those are that are stored here, and RabbitMQ's salted ones."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

import bcrypt

# bcrypt reads no more of a password. To ignore the rest would let different passwords pass for the same.
LONGEST_PASSWORD: Final = 72
LEAST_ROUNDS: Final = 4
MOST_ROUNDS: Final = 31
DEFAULT_ROUNDS: Final = 11  # the seed's

BCRYPT: Final = "bcrypt"
SALTED: Final = {f"rabbit_password_hashing_{name}": name for name in ("sha256", "sha512", "md5")}
"""RabbitMQ's names, and hashlib's. The text is the base64 of a salt and the digest of salt and password."""
DEFAULT_SALTED: Final = "rabbit_password_hashing_sha256"
ALGORITHMS: Final = (BCRYPT, *SALTED)
_SALT_OCTETS: Final = 4

# The last character of the salt and of the digest stand for 2 and 4 bits: their other bits must be 0.
_HASH: Final = re.compile(
    rb"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
_ANY: Final = b"$2b$%02d$NGqeySGVyOMhS9ESzhde2uCVFk6PlOV5n0Lauqb.13byzsVBDta46"


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


def salted_hash(password: bytes, algorithm: str) -> str:
    """Return what RabbitMQ makes of a password, in base64. `algorithm` is one of SALTED."""
    salt = secrets.token_bytes(_SALT_OCTETS)
    return base64.b64encode(salt + hashlib.new(SALTED[algorithm], salt + password).digest()).decode()


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """A hash as definitions have it: how it was made, and its octets."""

    algorithm: str
    value: bytes = field(repr=False)

    @classmethod
    def of_text(cls, algorithm: str, text: str) -> PasswordHash:
        """Read the base64 of definitions. Raises ValueError that says what is wrong, without showing it."""
        if algorithm not in ALGORITHMS:
            raise ValueError(f"hashing_algorithm is {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("password_hash is not base64") from None
        if algorithm == BCRYPT and not is_bcrypt_hash(value):
            raise ValueError(f"password_hash is the base64 of {len(value)} bytes that are no bcrypt hash")
        if algorithm != BCRYPT and len(value) != _SALT_OCTETS + hashlib.new(SALTED[algorithm]).digest_size:
            raise ValueError(f"password_hash is the base64 of {len(value)} bytes, which is not what {algorithm} makes")
        return cls(algorithm, value)

    @property
    def rounds(self) -> int:
        """The cost of a check, as bcrypt's power of two; 0 for next to nothing."""
        return int(self.value[4:6]) if self.algorithm == BCRYPT else 0

    def matches(self, password: bytes) -> bool:
        """Whether it is of this password. bcrypt's takes its time, so it belongs on a native thread."""
        if self.algorithm == BCRYPT:
            return len(password) <= LONGEST_PASSWORD and bcrypt.checkpw(password, self.value)
        salt, digest = self.value[:_SALT_OCTETS], self.value[_SALT_OCTETS:]
        return hmac.compare_digest(hashlib.new(SALTED[self.algorithm], salt + password).digest(), digest)


def spend(password: bytes, rounds: int) -> None:
    """Take as long as a check of a bcrypt hash with so many rounds does."""
    bcrypt.checkpw(password[:LONGEST_PASSWORD], _ANY % rounds)
