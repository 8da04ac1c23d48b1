"""Rules for the names of queues and exchanges: RabbitMQ has no others than these. And how names are shown."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from dispatchd.amqp.errors import AccessRefused

DEFAULT_EXCHANGE: Final = ""
TRACE_EXCHANGE: Final = "amq.rabbitmq.trace"
RESERVED_PREFIX: Final = "amq."
QUEUE_NAME_PREFIX: Final = "amq.gen-"
CONSUMER_TAG_PREFIX: Final = "amq.ctag-"
SERVER_NAME_OCTETS: Final = 16  # 22 characters


def clean_name(name: str) -> str:
    """A name as RabbitMQ takes it from a client: without carriage returns and line feeds."""
    return name.replace("\r", "").replace("\n", "")


def printable(text: str) -> str:
    """Text that clients may have chosen, for one line of a terminal, which would obey control characters."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def server_given_name(prefix: str, random_octets: Callable[[int], bytes]) -> str:
    """A name for a queue or a consumer that came without one."""
    octets = random_octets(SERVER_NAME_OCTETS)
    return prefix + urlsafe_b64encode(octets).decode().rstrip("=")


def refuse_default_exchange(name: str) -> None:
    """Raises AccessRefused (403) if this is the default exchange."""
    if name == DEFAULT_EXCHANGE:
        raise AccessRefused("operation not permitted on the default exchange")


def refuse_reserved_name(kind: str, name: str) -> None:
    """Raises AccessRefused (403) if clients may not create a queue or an exchange of this name."""
    if name.startswith(RESERVED_PREFIX):
        raise AccessRefused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")
