"""What the arguments of a queue ask of it: how long messages live, how many fit, where they go when they die.

Checks and reply texts are RabbitMQ 3.10's (rabbit_amqqueue, `declare_args`), deduplication's checks LavinMQ's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mypy_extensions import i64

from dispatchd.amqp.constants import SHORTSTR_MAX
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.ack_timeouts import CONSUMER_TIMEOUT
from dispatchd.model.arguments import (
    CACHE_SIZE,
    CACHE_TTL,
    CLASSIC,
    DEDUPLICATION_HEADER,
    MESSAGE_DEDUPLICATION,
    QUEUE_TYPE,
    field_type,
)

NO_LIMIT: Final = -1

LAZY: Final = "lazy"
DROP_HEAD: Final = "drop-head"
REJECT_PUBLISH: Final = "reject-publish"
REJECT_PUBLISH_DLX: Final = "reject-publish-dlx"
HIGHEST_PRIORITY: Final = 255


class QueueRules:
    """The arguments of one queue, read. Times are in milliseconds; NO_LIMIT stands for none."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.message_ttl: i64 = arguments.get("x-message-ttl", NO_LIMIT)
        self.expires: i64 = arguments.get("x-expires", NO_LIMIT)
        self.max_length: i64 = arguments.get("x-max-length", NO_LIMIT)
        self.max_bytes: i64 = arguments.get("x-max-length-bytes", NO_LIMIT)
        self.overflow: str = arguments.get("x-overflow", DROP_HEAD)
        self.dead_letter_exchange: str | None = arguments.get("x-dead-letter-exchange")
        self.dead_letter_routing_key: str | None = arguments.get("x-dead-letter-routing-key")
        self.delivery_limit: i64 = arguments.get("x-delivery-limit", NO_LIMIT)
        self.max_priority: i64 = arguments.get("x-max-priority", 0)
        self.lazy: bool = arguments.get("x-queue-mode") == LAZY
        self.single_active_consumer: bool = arguments.get("x-single-active-consumer", False)

    @property
    def has_limit(self) -> bool:
        """Whether there is a length that the queue may not exceed."""
        return self.max_length != NO_LIMIT or self.max_bytes != NO_LIMIT

    @property
    def rejects_publishes(self) -> bool:
        """Whether it is the new message that has to go when the queue is full, not the oldest."""
        return self.has_limit and self.overflow != DROP_HEAD


def check_queue_arguments(resource: str, arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for arguments of a new queue that can't be honoured."""
    _check(resource, arguments, _CHECKS)


def check_deduplication_arguments(resource: str, arguments: dict[str, Any]) -> None:
    """The same for those arguments of a queue that an exchange may have too."""
    _check(resource, arguments, _DEDUPLICATION_CHECKS)


def _check(resource: str, arguments: dict[str, Any], checks: dict[str, Check]) -> None:
    for name, check in checks.items():
        if name in arguments:
            problem = check(arguments[name], arguments)
            if problem:
                raise PreconditionFailed(f"invalid arg '{name}' for {resource}: {problem}")


Check = Callable[[Any, dict[str, Any]], str]
"""From the value and all arguments to what is wrong, as RabbitMQ shows it; empty if nothing is."""


def _integer(value: Any, _arguments: dict[str, Any]) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and field_type(value) != "timestamp":
        return ""
    return f'"expected integer, got {field_type(value)}"'


def _not_negative(value: Any, arguments: dict[str, Any]) -> str:
    return _integer(value, arguments) or ("" if value >= 0 else f"{{value_negative,{value}}}")


def _positive(value: Any, arguments: dict[str, Any]) -> str:
    return _integer(value, arguments) or ("{value_zero,0}" if value == 0 else _not_negative(value, arguments))


def _priority(value: Any, arguments: dict[str, Any]) -> str:
    problem = _not_negative(value, arguments)
    return problem or ("" if value <= HIGHEST_PRIORITY else f"{{max_value_exceeded,{value}}}")


def _text(value: Any, _arguments: dict[str, Any]) -> str:
    return "" if isinstance(value, str) else f"{{unacceptable_type,{field_type(value)}}}"


def _dead_letter_routing_key(value: Any, arguments: dict[str, Any]) -> str:
    """Of a length that can be published with, or no dead letter could be delivered: RabbitMQ's consumers crash then."""
    problem = _text(value, arguments)
    if not problem and "x-dead-letter-exchange" not in arguments:
        return "routing_key_but_no_dlx_defined"
    too_long = not problem and len(value.encode()) > SHORTSTR_MAX
    return f"{{max_octets_exceeded,{SHORTSTR_MAX}}}" if too_long else problem


def _overflow(value: Any, arguments: dict[str, Any]) -> str:
    known = value in (DROP_HEAD, REJECT_PUBLISH, REJECT_PUBLISH_DLX)
    return _text(value, arguments) or ("" if known else "invalid_overflow")


def _mode(value: Any, arguments: dict[str, Any]) -> str:
    known = value in ("default", LAZY)
    return _text(value, arguments) or ("" if known else f"\"unsupported queue mode '{value}'\"")


def _truth(value: Any, _arguments: dict[str, Any]) -> str:
    return "" if isinstance(value, bool) else f"{{unacceptable_type,{field_type(value)}}}"


def _type(value: Any, arguments: dict[str, Any]) -> str:
    """All queues are classic."""
    return _text(value, arguments) or ("" if value == CLASSIC else f"\"unsupported queue type '{value}'\"")


_DEDUPLICATION_CHECKS: Final[dict[str, Check]] = {
    MESSAGE_DEDUPLICATION: _truth,
    CACHE_SIZE: _not_negative,
    CACHE_TTL: _not_negative,
    DEDUPLICATION_HEADER: _text,
}
_CHECKS: Final[dict[str, Check]] = {
    "x-expires": _positive,
    "x-message-ttl": _not_negative,
    "x-delivery-limit": _not_negative,
    CONSUMER_TIMEOUT: _not_negative,
    "x-dead-letter-exchange": _text,
    "x-dead-letter-routing-key": _dead_letter_routing_key,
    "x-max-length": _not_negative,
    "x-max-length-bytes": _not_negative,
    "x-max-priority": _priority,
    "x-overflow": _overflow,
    "x-queue-mode": _mode,
    "x-single-active-consumer": _truth,
    QUEUE_TYPE: _type,
    **_DEDUPLICATION_CHECKS,
}
