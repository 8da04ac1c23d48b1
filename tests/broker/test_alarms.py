"""Alarms as clients and operators see them: a disk that takes no more, memory that runs short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection

import pika
import pytest
from actors.harness import wait_until
from broker.clients import get_all, persistent
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingConnection
from unit.store.batches import contents_of

from dispatchd.actors import persistence
from dispatchd.config import Config
from dispatchd.model.journal import Changes
from dispatchd.server import Server
from dispatchd.store.interface import Dropped, StoreError, StoreFull
from dispatchd.store.memory_store import MemoryStore


class Sick(MemoryStore):
    """Takes nothing in while there is an error to raise."""

    error: StoreError | None = None

    def commit(self, changes: Changes, *, is_awaited: bool = False) -> Dropped:
        if self.error is not None and (changes.entries or changes.contents):
            raise self.error
        return super().commit(changes, is_awaited=is_awaited)


class Rig:
    def __init__(self) -> None:
        self.store = Sick()
        ports = {"amqp_port": 0, "admin_port": 0, "debug_port": 0}
        self.server = Server(Config(**ports, bind="127.0.0.1", coalesce_interval=0.01), self.store)  # type: ignore[arg-type]
        self.server.start()
        self.blocked: list[str] = []

    def connect(self) -> BlockingConnection:
        connection = BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.server.amqp_port))
        connection.add_on_connection_blocked_callback(lambda _, method: self.blocked.append(method.method.reason))
        connection.add_on_connection_unblocked_callback(lambda *_: self.blocked.append(""))
        return connection

    def ready(self) -> int:
        with closing(HTTPConnection("127.0.0.1", self.server.admin_port, timeout=10)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(persistence, "RETRY_SECONDS", 0.01)
    rig = Rig()
    yield rig
    rig.server.stop()


@pytest.mark.parametrize(
    ("error", "reason", "ready"),
    [(StoreFull("full"), "low on disk", 200), (StoreError("input/output error"), "the disk is failing", 503)],
)
def test_a_store_that_takes_nothing_blocks_publishers_alone(
    rig: Rig, error: StoreError, reason: str, ready: int
) -> None:
    publisher, consumer = rig.connect(), rig.connect().channel()
    channel = publisher.channel()
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"1", persistent())
    rig.store.error = error
    channel.basic_publish("", "q", b"2", persistent())
    wait_until(lambda: rig.server._broker.alarms)
    channel.basic_publish("", "q", b"3", persistent())
    wait_until(lambda: publisher.process_data_events(0.01) or rig.blocked)
    assert rig.blocked == [reason]
    assert rig.ready() == ready
    assert [row["detail"] for row in rig.server._overview()["alarms"]] == [str(error)]
    assert get_all(consumer, "q") == [b"1", b"2", b"3"]
    channel.basic_publish("", "q", b"4", persistent())
    rig.store.error = None
    wait_until(lambda: publisher.process_data_events(0.01) or len(rig.blocked) == 2)
    assert rig.blocked[1] == ""
    assert rig.ready() == 200
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"5", persistent())
    assert [body for rows in contents_of(rig.store).values() for _, body in rows] == [b"4", b"5"]


def test_memory_that_runs_short_makes_publishers_wait(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--memory-high-watermark", "1MiB")
    wait_until(lambda: any("alarm (memory)" in line for line in broker.log))
    connection = BlockingConnection(pika.ConnectionParameters(broker.host, broker.port))
    blocked: list[str] = []
    connection.add_on_connection_blocked_callback(lambda _, method: blocked.append(method.method.reason))
    channel = connection.channel()
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"1")
    wait_until(lambda: connection.process_data_events(0.01) or blocked)
    assert blocked == ["low on memory"]
