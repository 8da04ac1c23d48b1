"""What the management counts of the same traffic, on dispatchd and on RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pika
import pytest
from broker.admin import api
from broker.process import BrokerProcess
from broker.traffic import counted, persistent_steps, send, until
from compat.rabbitmq import RabbitMQ
from pika.adapters.blocking_connection import BlockingConnection

OF_QUEUES = (
    "messages", "messages_ready", "messages_unacknowledged", "message_bytes", "message_bytes_ready",
    "message_bytes_unacknowledged", "message_bytes_ram", "messages_ram", "messages_ready_ram",
    "messages_unacknowledged_ram", "head_message_timestamp", "consumers",
)  # fmt: skip
OF_CHANNELS = (
    "messages_unacknowledged", "messages_unconfirmed", "messages_uncommitted", "acks_uncommitted", "consumer_count",
    "confirm", "transactional", "prefetch_count",
)  # fmt: skip
USER = "figures"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


@contextmanager
def busy(broker: Any, vhost: str) -> Iterator[None]:
    """A vhost with traffic, and a user who sees only that, and may not monitor."""
    api(broker, "PUT", f"vhosts/{vhost}", {})
    api(broker, "PUT", f"users/{USER}", {"password": USER, "tags": "management"})
    for user in ("guest", USER):
        api(broker, "PUT", f"permissions/{vhost}/{user}", EVERYTHING)
    connection = BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, vhost, heartbeat=0))
    send(connection)
    yield
    connection.close()
    api(broker, "DELETE", f"vhosts/{vhost}")


def figures(broker: Any, vhost: str) -> dict[str, Any]:
    """All that is said of a vhost."""
    channels = sorted(api(broker, "GET", f"vhosts/{vhost}/channels")[1], key=lambda row: row["number"])
    queues, exchanges = (api(broker, "GET", f"{kind}/{vhost}")[1] for kind in ("queues", "exchanges"))
    overview = api(broker, "GET", "overview", user=USER, password=USER)[1]
    totals = {name: overview["queue_totals"].get(name) for name in ("messages", "messages_ready")}
    return {
        "vhost": counted(api(broker, "GET", f"vhosts/{vhost}")[1]),
        "channels": [[counted(row), *(row.get(name) for name in OF_CHANNELS)] for row in channels],
        "queues": {row["name"]: [counted(row), *(row.get(name) for name in OF_QUEUES)] for row in queues},
        # RabbitMQ's default exchange counts as `publish_out` what is for a queue that there is not.
        "exchanges": {row["name"]: row.get("message_stats", {}).get("publish_in", 0) for row in exchanges},
        "overview": [counted(overview), totals, overview["object_totals"], "listeners" in overview],
    }


@pytest.mark.timeout(120)
def test_the_same_figures(rabbitmq: RabbitMQ, dispatchd: BrokerProcess) -> None:
    vhost = "counted"
    with busy(dispatchd, vhost), busy(rabbitmq, vhost):
        until(dispatchd, f"vhosts/{vhost}", lambda row: counted(row).get("publish"), 12)
        ours = figures(dispatchd, vhost)
        until(rabbitmq, "whoami", lambda _told: figures(rabbitmq, vhost), ours)


@pytest.mark.timeout(120)
def test_the_same_is_persistent(rabbitmq: RabbitMQ, dispatchd: BrokerProcess) -> None:
    def told(broker: Any) -> list[tuple[int, int]]:
        rows = [api(broker, "GET", f"queues/%2F/{name}")[1] for name in ("kept", "brief")]
        return [(row.get("messages_persistent", 0), row.get("message_bytes_persistent", 0)) for row in rows]

    parameters = [pika.ConnectionParameters(each.host, each.port, heartbeat=0) for each in (dispatchd, rabbitmq)]
    connections = [BlockingConnection(each) for each in parameters]
    steps = [persistent_steps(connection.channel(), "kept", "brief") for connection in connections]
    for _ in zip(*steps, strict=True):
        until(rabbitmq, "whoami", lambda _told: told(rabbitmq), told(dispatchd))
    for connection in connections:
        for name in ("kept", "brief"):
            connection.channel().queue_delete(name)
        connection.close()
