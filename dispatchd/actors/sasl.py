"""What a client's connection.start-ok says of who it is."""

from __future__ import annotations

from dispatchd.amqp.errors import AmqpSyntaxError, CommandInvalid
from dispatchd.amqp.field_table import decode_table

MECHANISMS = ("PLAIN", "AMQPLAIN")
EXTERNAL = "EXTERNAL"


def mechanisms(certified_name: str) -> tuple[str, ...]:
    """What is offered: EXTERNAL (RFC 4422) only to a client whose certificate has a name."""
    return (*MECHANISMS, EXTERNAL) if certified_name else MECHANISMS


def read_credentials(mechanism: str, response: bytes, certified_name: str) -> tuple[str, bytes | None]:
    """User and password in a SASL response; the password is None if a certificate has proven who it is.

    PLAIN is RFC 4616's, whose authorization identity is ignored; AMQPLAIN is a field table without its size; of
    EXTERNAL the response is ignored, as in RabbitMQ.
    Raises CommandInvalid (503) for another mechanism, and AmqpSyntaxError (502) for a response that isn't one.
    """
    if mechanism == EXTERNAL and certified_name:
        return certified_name, None
    if mechanism == "PLAIN":
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise AmqpSyntaxError(f"a PLAIN response has 3 parts, separated by NUL, not {len(parts)}")
        user, password = parts[1], parts[2]
    elif mechanism == "AMQPLAIN":
        table, _ = decode_table(len(response).to_bytes(4, "big") + response, 0, len(response) + 4)
        if "LOGIN" not in table or "PASSWORD" not in table:
            raise AmqpSyntaxError("an AMQPLAIN response has LOGIN and PASSWORD")
        user, password = _octets(table["LOGIN"]), _octets(table["PASSWORD"])
    else:
        raise CommandInvalid(f"unknown authentication mechanism '{mechanism}'")
    try:
        return user.decode(), password
    except UnicodeDecodeError:
        raise AmqpSyntaxError("the user name is not UTF-8") from None


def _octets(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else b""
