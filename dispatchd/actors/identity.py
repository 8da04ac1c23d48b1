"""What the broker tells clients of itself in connection.start."""

from __future__ import annotations

import platform
from typing import Any

from dispatchd import __version__
from dispatchd.model.exchanges.types import EXCHANGE_TYPES

KNOWN_EXCHANGE_TYPES = EXCHANGE_TYPES
COMPATIBLE_PRODUCT = "RabbitMQ"
COMPATIBLE_VERSION = "3.12.0"
"""Whose behaviour clients may rely on. kombu, and with it Celery, asks for these two to decide what basic.qos means;
under any other name it would expect `global=false` to change consumers that are there already."""

CAPABILITIES = (
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "direct_reply_to",
    "consumer_priorities",
    "exchange_exchange_bindings",
    "per_consumer_qos",
    "publisher_confirms",
)


def node_name() -> str:
    """What this broker is called where RabbitMQ names its node: `dispatchd@` and the short name of the host."""
    return "dispatchd@" + platform.node().partition(".")[0]


def server_properties() -> dict[str, Any]:
    """The peer properties of connection.start: `capabilities` names only what works."""
    return {
        "capabilities": dict.fromkeys(CAPABILITIES, True),
        "product": COMPATIBLE_PRODUCT,
        "version": COMPATIBLE_VERSION,
        "platform": f"dispatchd {__version__} on Python {platform.python_version()}",
        "broker": "dispatchd",
        "broker_version": __version__,
        "information": "Behaves as RabbitMQ does where the two can be compared",
    }
