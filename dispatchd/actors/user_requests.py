"""Orders for users and permissions out of JSON, as the API and definitions have it, with RabbitMQ's reasons."""

from __future__ import annotations

import base64
from typing import Any, Final

from dispatchd.actors.hashing import BCRYPT, DEFAULT_ROUNDS, DEFAULT_SALTED, PasswordHash, hash_password
from dispatchd.actors.user_orders import PutUser, SetPermission, SetTopicPermission
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.access import Rights, TopicRights

LONGEST_NAME: Final = 255
"""Octets: clients name users in a short string, in `user_id`."""


def user_order(name: str, body: dict[str, Any]) -> PutUser:
    """Add a user, or change one. To hash a password takes its time: this belongs on a native thread.

    Raises PreconditionFailed (406).
    """
    if not name or len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise PreconditionFailed(f"a user's name has 1 to {LONGEST_NAME} octets, all of them printable")
    if "tags" not in body:
        raise PreconditionFailed("tags_not_present")
    hashed, algorithm = _password(body)
    return PutUser(name, hashed, algorithm, _tags(body["tags"]))


def permission_order(user: str, vhost: str, body: dict[str, Any]) -> SetPermission:
    """Let a user into a vhost. Raises PreconditionFailed (406)."""
    return SetPermission(user, vhost, Rights(*_texts(body, "configure", "write", "read")))


def topic_permission_order(user: str, vhost: str, body: dict[str, Any]) -> SetTopicPermission:
    """Restrict a user's routing keys. Raises PreconditionFailed (406)."""
    exchange, write, read = _texts(body, "exchange", "write", "read")
    return SetTopicPermission(user, vhost, exchange, TopicRights(write, read))


def _texts(body: dict[str, Any], *keys: str) -> list[str]:
    """What is at these keys; says of all that are missing."""
    missing = ",".join(f"{{key_missing,{key}}}" for key in keys if key not in body)
    if missing:
        raise PreconditionFailed(f"[{missing}]")
    for key in keys:
        if not isinstance(body[key], str):
            raise PreconditionFailed(f"{key} is {body[key]!r}, expected a string")
    return [body[key] for key in keys]


def _tags(given: Any) -> list[str]:
    tags = given.split(",") if isinstance(given, str) else given
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise PreconditionFailed(f"tags is {given!r}, expected a list of strings, or a string with commas")
    return list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))


def _password(body: dict[str, Any]) -> tuple[str | None, str]:
    """The hash that is to be kept, None for the one that there is. What is wrong is not shown: it may be a password."""
    password, hashed = body.get("password"), body.get("password_hash")
    if password is not None and hashed is not None:
        raise PreconditionFailed("both_password_and_password_hash_are_provided")
    if password is not None:
        if not isinstance(password, str):
            raise PreconditionFailed("password is not a string")
        if not password:
            return "", BCRYPT
        try:
            return base64.b64encode(hash_password(password.encode(), DEFAULT_ROUNDS)).decode(), BCRYPT
        except ValueError as error:
            raise PreconditionFailed(str(error)) from None
    if not hashed:
        return hashed, BCRYPT
    algorithm = body.get("hashing_algorithm", DEFAULT_SALTED)
    if not isinstance(hashed, str) or not isinstance(algorithm, str):
        raise PreconditionFailed("password_hash or hashing_algorithm is not a string")
    try:
        PasswordHash.of_text(algorithm, hashed)
    except ValueError as error:
        raise PreconditionFailed(str(error)) from None
    return hashed, algorithm
