from __future__ import annotations

from typing import Any

import pytest
from actors.harness import WAIT_SECONDS, Client, FakeTransport, World, failing, wait_until
from pamqp import commands as spec

from dispatchd.actors import connection
from dispatchd.actors.broker import BrokerActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.messages import AlarmEnded, AlarmRaised, Connect, ConnectionGone, Shutdown
from dispatchd.model.alarms import DISK
from dispatchd.store.interface import Recovered, StoreError
from dispatchd.store.memory_store import MemoryStore


def shut_down(world: World) -> Any:
    return world.ref.ask(Shutdown(), timeout=WAIT_SECONDS)


def test_shutting_down_closes_every_connection(world: World) -> None:
    clients = [Client(world).open() for _ in range(3)]
    gone = shut_down(world)
    for client in clients:
        close = client.expect(spec.Connection.Close)
        assert (close.reply_code, close.reply_text) == (
            320,
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        )
        assert not gone.is_set()
        client.send(0, spec.Connection.CloseOk())
    assert gone.wait(WAIT_SECONDS)
    assert world.actors(ConnectionActor) == []


def test_shutting_down_does_not_wait_for_the_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LEAVE_SECONDS", 0.01)
    Client(world)
    assert shut_down(world).wait(WAIT_SECONDS)


def test_nobody_comes_in_while_it_shuts_down(world: World) -> None:
    shut_down(world)
    transport = FakeTransport()
    world.ref.tell(Connect(transport))
    world.settle()
    assert transport.is_closed
    assert world.actors(ConnectionActor) == []


def test_a_failure_turns_one_client_away_and_others_go_on(world: World) -> None:
    client = Client(world).open().open_channel()
    broker = world.actor(BrokerActor)
    transport = FakeTransport()
    with failing(broker, Connect, ValueError):
        world.ref.tell(Connect(transport))
        world.settle()
    assert transport.is_closed
    client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)
    Client(world).open()


def test_a_connection_whose_end_it_failed_on_is_not_waited_for(world: World) -> None:
    client = Client(world).open()
    with failing(world.actor(BrokerActor), ConnectionGone, ValueError):
        client.disconnect()
        wait_until(lambda: not world.actors(ConnectionActor))
    world.settle()
    assert shut_down(world).wait(WAIT_SECONDS)


class DamagedStore(MemoryStore):
    def recover(self) -> Recovered:
        raise StoreError("damaged")


def test_a_store_that_can_not_be_read() -> None:
    with pytest.raises(StoreError, match="damaged"):
        World(DamagedStore())


def test_what_is_left_of_deleted_queues_is_removed(world: World, client: Client) -> None:
    store = MemoryStore()
    first = World(store)
    writer = Client(first).open().open_channel()
    writer.call(1, spec.Queue.Declare(queue="q", durable=True), spec.Queue.DeclareOk)
    writer.publish(1, b"a", persistent=True)
    first.flush()
    first.end()
    store._definitions.clear()
    second = World(store)
    second.flush()
    assert store.statistics()["entries"] == 0
    second.end()


def test_an_alarm_reaches_the_connections_that_there_are_and_those_that_come(world: World) -> None:
    capabilities = {"connection.blocked": True}
    world.ref.tell(AlarmRaised(DISK, "before there was anybody"))
    world.ref.tell(AlarmEnded(DISK))
    first = Client(world).open(capabilities).open_channel()
    world.ref.tell(AlarmRaised(DISK, "1 MiB free"))
    world.settle()
    second = Client(world).open(capabilities).open_channel()
    for client in (first, second):
        client.publish(1, b"x")
        assert client.expect(spec.Connection.Blocked).reason == "low on disk"
    assert world.actor(BrokerActor).snapshot()["blocked"] == "low on disk"
    world.ref.tell(AlarmEnded(DISK))
    for client in (first, second):
        client.expect(spec.Connection.Unblocked)
    third = Client(world).open(capabilities).open_channel()
    third.publish(1, b"x")
    third.expect_nothing(0)
    assert world.actor(BrokerActor).snapshot()["blocked"] is None
