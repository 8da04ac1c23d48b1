"""Arguments of declarations: which are refused, and which must be equal when something is declared again."""

from decimal import Decimal
from typing import Any, Final

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.field_table import Timestamp
from dispatchd.model.binding import canonical

ALTERNATE_EXCHANGE: Final = "alternate-exchange"
MESSAGE_DEDUPLICATION: Final = "x-message-deduplication"
CACHE_SIZE: Final = "x-cache-size"
CACHE_TTL: Final = "x-cache-ttl"
DEDUPLICATION_HEADER: Final = "x-deduplication-header"
QUEUE_TYPE: Final = "x-queue-type"
CLASSIC: Final = "classic"

DEDUPLICATION_ARGUMENTS: Final = (MESSAGE_DEDUPLICATION, CACHE_SIZE, CACHE_TTL, DEDUPLICATION_HEADER)

# What a declaration is compared by (RabbitMQ's rabbit_exchange and rabbit_classic_queue); other arguments may differ.
EXCHANGE_ARGUMENTS: Final = (ALTERNATE_EXCHANGE, *DEDUPLICATION_ARGUMENTS)
QUEUE_ARGUMENTS: Final = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-queue-master-locator",
    *DEDUPLICATION_ARGUMENTS,
)


def field_type(value: Any) -> str:
    """RabbitMQ's name for the field type of a value; of the integers, the smaller of the two that clients use."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Timestamp):
        return "timestamp"
    if isinstance(value, int):
        return "signedint" if -(2**31) <= value < 2**31 else "long"
    if isinstance(value, str):
        return "longstr"
    if isinstance(value, float):
        return "double"
    if isinstance(value, bytes):
        return "binary"
    if isinstance(value, Decimal):
        return "decimal"
    if isinstance(value, dict):
        return "table"
    if isinstance(value, list):
        return "array"
    return "void"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "undefined"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str) else repr(value)


def _shown_argument(arguments: dict[str, Any], name: str, alone: bool) -> str:
    """An argument in a reply text: with its type only when the other side has none, as in RabbitMQ."""
    if name not in arguments:
        return "none"
    value = arguments[name]
    if alone:
        return f"the value '{_shown(value)}' of type '{field_type(value)}'"
    return "none" if value is None else f"'{_shown(value)}'"


def check_same_field(resource: str, name: str, received: Any, current: Any) -> None:
    """Raises PreconditionFailed (406) if a declaration differs from what exists, in a field of the method."""
    if received != current:
        raise PreconditionFailed(
            f"inequivalent arg '{name}' for {resource}: "
            f"received '{_shown(received)}' but current is '{_shown(current)}'"
        )


def check_same_arguments(
    resource: str, names: tuple[str, ...], received: dict[str, Any], current: dict[str, Any]
) -> None:
    """Raises PreconditionFailed (406) if a declaration differs from what exists, in one of the arguments `names`.

    No x-queue-type and "classic" are the same.
    """
    for name in names:
        if name in received and name in current:
            same = canonical(received[name]) == canonical(current[name])
        elif name == QUEUE_TYPE:
            same = received.get(name, CLASSIC) == current.get(name, CLASSIC)
        else:
            same = name not in received and name not in current
        if not same:
            alone = name not in received or name not in current
            raise PreconditionFailed(
                f"inequivalent arg '{name}' for {resource}: received {_shown_argument(received, name, alone)} "
                f"but current is {_shown_argument(current, name, alone)}"
            )


def check_exchange_arguments(resource: str, arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for arguments of a new exchange that can't be honoured."""
    alternate = arguments.get(ALTERNATE_EXCHANGE, "")
    if not isinstance(alternate, str):
        raise PreconditionFailed(f"invalid type '{field_type(alternate)}' for arg '{ALTERNATE_EXCHANGE}' in {resource}")
