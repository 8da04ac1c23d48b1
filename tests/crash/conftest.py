from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pika
import pytest
from crash.durable_broker import DurableBroker
from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import AMQPError


class Connect:
    """Each call is a new connection."""

    def __init__(self, broker: DurableBroker) -> None:
        self._broker = broker
        self._opened: list[BlockingConnection] = []

    def __call__(self) -> BlockingConnection:
        broker = self._broker
        connection = BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, heartbeat=0))
        self._opened.append(connection)
        return connection

    def close_all(self) -> None:
        for connection in self._opened:
            with suppress(AMQPError):  # its broker may be gone
                connection.close()
        self._opened.clear()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[DurableBroker]:
    """A broker with a store of its own, started."""
    started = DurableBroker(tmp_path / "data", "--coalesce-interval", "50ms")
    started.start()
    yield started
    if started.is_running:
        started.kill()


@pytest.fixture
def connect(broker: DurableBroker) -> Iterator[Connect]:
    """Connects to the broker as it is now; what a test leaves open is closed."""
    connect = Connect(broker)
    yield connect
    connect.close_all()
