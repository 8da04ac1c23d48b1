from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest
from broker.process import BrokerProcess, Oracle
from broker.raw import RawClient
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import AMQPError

Connect = Callable[..., BlockingConnection]
Fresh = Callable[[str], str]
OpenRaw = Callable[..., RawClient]

ORACLE = "RABBITMQ_PORT"
"""With a RabbitMQ's port in this variable, the tests that need no broker of their own ask that one."""

rabbitmq_differs = partial(pytest.mark.skipif, ORACLE in os.environ)


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess | Oracle]:
    if ORACLE in os.environ:
        yield Oracle(int(os.environ[ORACLE]))
        return
    process = BrokerProcess(tmp_path_factory.mktemp("shared-broker"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def broker(shared_broker: BrokerProcess | Oracle) -> Iterator[BrokerProcess | Oracle]:
    """The broker that tests share; each of them sees to it that nothing in there failed."""
    begin = len(shared_broker.log)
    yield shared_broker
    assert not shared_broker.trouble_since(begin)


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., BrokerProcess]]:
    """Start a broker for this test alone, with further options; it stores in the test's own folder."""
    started: list[BrokerProcess] = []

    def start(*options: str) -> BrokerProcess:
        process = BrokerProcess(tmp_path / "data", *options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        if process.is_running:
            process.kill()


@pytest.fixture
def own_broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    return start_broker()


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Connect to the shared broker, or to `to`; closed when the test ends."""
    opened: list[BlockingConnection] = []

    def connect(to: BrokerProcess | None = None, **parameters: Any) -> BlockingConnection:
        target = to or request.getfixturevalue("broker")
        parameters.setdefault("heartbeat", 0)
        connection = BlockingConnection(pika.ConnectionParameters(target.host, target.port, **parameters))
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        if connection.is_open:
            with suppress(AMQPError):  # a test that ends the broker has ended this too
                connection.close()


@pytest.fixture
def connection(connect: Connect) -> BlockingConnection:
    return connect()


@pytest.fixture
def channel(connection: BlockingConnection) -> BlockingChannel:
    return connection.channel()


@pytest.fixture
def raw(broker: BrokerProcess | Oracle) -> Iterator[OpenRaw]:
    """A raw client of the shared broker, only connected."""
    opened: list[RawClient] = []

    def open_raw(**options: Any) -> RawClient:
        client = RawClient(broker.host, broker.port, **options)
        opened.append(client)
        return client

    yield open_raw
    for client in opened:
        client.close()


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Fresh:
    """Names that no other test has: `fresh("q")` is one of this test and ends in q."""
    prefix = f"{re.sub(r'[^a-z0-9_]', '-', request.node.name)}-{secrets.token_hex(3)}"
    return lambda name: f"{prefix}-{name}"


@pytest.fixture
def queue(channel: BlockingChannel, fresh: Fresh) -> str:
    """The name of a transient queue that every connection may use."""
    name = fresh("queue")
    channel.queue_declare(name)
    return name
