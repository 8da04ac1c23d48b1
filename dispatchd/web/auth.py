"""HTTP Basic for the admin (RFC 7617): who may look, and the challenge for who has not said yet."""

from __future__ import annotations

import base64

from dispatchd.web.encoding import text_of

CHALLENGE = 'Basic realm="RabbitMQ Management", charset="UTF-8"'
"""RabbitMQ's realm: tools written in Perl send their password nowhere else."""


def basic_credentials(header: str | None) -> tuple[str, bytes] | None:
    """Read an `Authorization` header: user and password (as octets), or None if it is missing or not well-formed."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return None
    user, colon, password = decoded.partition(b":")
    return (text_of(user), password) if colon else None
