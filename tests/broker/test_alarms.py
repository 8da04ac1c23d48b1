"""Alarms as clients and operators see them: a disk that takes no more, memory that runs short."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from itertools import product

import pika
import psutil
import pytest
from actors.harness import wait_until
from broker.clients import get_all, persistent
from broker.process import BrokerProcess
from broker.raw import RawClient
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pika.adapters.blocking_connection import BlockingConnection
from unit.store.batches import contents_of

from dispatchd.actors import committer
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
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.01)
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


# Contents that are not complete

MIB = 1 << 20
PART = bytes(131_072 - 8)
PARTS = 127


def begin_contents(client: RawClient, channels: int) -> None:
    """Publish on so many channels at once, a message of 16 MiB on each of them, up to its last part."""
    for number in range(1, channels + 1):
        client.open_channel(number)
    for number in range(1, channels + 1):
        client.send(spec.Basic.Publish(routing_key="q"), number)
        client.send(ContentHeader(0, (PARTS + 1) * len(PART), spec.Basic.Properties()), number)
    for _, number in product(range(PARTS), range(1, channels + 1)):
        client.send(ContentBody(PART), number)


def private(broker: BrokerProcess) -> int:
    memory = psutil.Process(broker.pid).memory_info()
    return int(memory.rss - memory.shared)


def test_contents_that_nobody_completes_end_at_the_watermark(start_broker: Callable[..., BrokerProcess]) -> None:
    """Of 1.3 GB which this client would have the broker keep, it keeps what the watermark lets it, and little more."""
    watermark = 112 * MIB
    broker = start_broker("--memory-high-watermark", str(watermark))
    client = RawClient(broker.host, broker.port, timeout=1.5)
    client.open(heartbeat=2, capabilities={"connection.blocked": True})
    with pytest.raises(TimeoutError):  # it is not read any further
        begin_contents(client, 80)
    assert client.expect(spec.Connection.Blocked).reason == "low on memory"
    print(f"{private(broker) / MIB:.0f} MiB with a watermark of {watermark / MIB:.0f} MiB")
    assert private(broker) < watermark + 96 * MIB
    client.close()
    wait_until(lambda: any("the alarm (memory) is over" in line for line in broker.log))


def test_who_hangs_up_while_it_is_blocked_is_heard(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--memory-high-watermark", "1MiB")
    wait_until(lambda: any("alarm (memory)" in line for line in broker.log))
    client = RawClient(broker.host, broker.port)
    client.open(capabilities={"connection.blocked": True})
    client.open_channel()
    client.send(spec.Queue.Declare(queue="q"), 1)
    client.expect(spec.Queue.DeclareOk)
    client.send(spec.Basic.Publish(routing_key="q"), 1)
    client.send(ContentHeader(0, 2, spec.Basic.Properties()), 1)
    client.expect(spec.Connection.Blocked)
    client.send(ContentBody(b"12"), 1)
    client.close()
    wait_until(lambda: any("closed in vhost '/'" in line for line in broker.log))
    assert get_all(BlockingConnection(pika.ConnectionParameters(broker.host, broker.port)).channel(), "q") == [b"12"]


def test_many_large_messages_at_once_take_their_time_and_arrive(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker()
    client = RawClient(broker.host, broker.port, timeout=20)
    client.open()
    client.open_channel(9)
    client.send(spec.Queue.Declare(queue="q"), 9)
    client.expect(spec.Queue.DeclareOk)
    began = time.monotonic()
    begin_contents(client, 6)
    for number in range(1, 7):
        client.send(ContentBody(PART), number)
        client.send(spec.Confirm.Select(), number)
        client.expect(spec.Confirm.SelectOk)
    took = time.monotonic() - began
    print(f"96 MiB in {took:.2f} s")
    assert took > 0.9  # 32 MiB a second beyond 64 MiB
    client.send(spec.Queue.Declare(queue="q", passive=True), 9)
    assert client.expect(spec.Queue.DeclareOk).message_count == 6
    client.close()
