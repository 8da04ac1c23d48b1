"""Arguments of basic.consume: which are refused, with RabbitMQ's texts (rabbit_amqqueue, `consume_args`)."""

from typing import Any, Final

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.model.arguments import field_type

PRIORITY: Final = "x-priority"
CANCEL_ON_FAILOVER: Final = "x-cancel-on-ha-failover"
STREAM_OFFSET: Final = "x-stream-offset"

_INTEGERS: Final = ("signedint", "long")


def check_consumer_arguments(queue: str, arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for arguments that no consumer of `queue`, named as a resource, can have."""
    if PRIORITY in arguments:
        kind = field_type(arguments[PRIORITY])
        if kind not in _INTEGERS:
            raise PreconditionFailed(f"invalid arg '{PRIORITY}' for {queue}: \"expected integer, got {kind}\"")
    if CANCEL_ON_FAILOVER in arguments:
        kind = field_type(arguments[CANCEL_ON_FAILOVER])
        if kind != "bool":
            raise PreconditionFailed(f"invalid arg '{CANCEL_ON_FAILOVER}' for {queue}: {{unacceptable_type,{kind}}}")
    if STREAM_OFFSET in arguments:
        raise PreconditionFailed(f"invalid arg '{STREAM_OFFSET}' for {queue} of queue type rabbit_classic_queue")
