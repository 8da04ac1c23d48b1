"""Where the broker is, and as whom to connect: an amqp:// URI as RabbitMQ's specification of them has it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

DEFAULT_PORT = 5672


@dataclass(frozen=True)
class Address:
    """All that an AMQP URI says."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_address(uri: str) -> Address:
    """The address in `amqp://user:password@host:port/vhost`, of which only `amqp://` has to be there.

    Without a vhost, also with nothing behind the slash, it is "/". Raises ValueError if there is anything else in it.
    """
    parts = urlsplit(uri)
    if parts.scheme == "amqps":
        raise ValueError("amqps is not supported, only amqp: connect to a port without TLS")
    if parts.scheme != "amqp":
        raise ValueError(f"expected amqp://user:password@host:port/vhost, got {uri!r}")
    if parts.query or parts.fragment:
        raise ValueError(f"an AMQP URI has no parameters here, got {uri!r}")
    if "/" in parts.path[1:]:
        raise ValueError(f"a slash in the vhost's name is written %2f, got {uri!r}")
    return Address(
        host=parts.hostname or "localhost",
        port=parts.port or DEFAULT_PORT,  # raises ValueError too
        user="guest" if parts.username is None else unquote(parts.username),
        password="guest" if parts.password is None else unquote(parts.password),
        vhost=unquote(parts.path[1:]) or "/",
    )
