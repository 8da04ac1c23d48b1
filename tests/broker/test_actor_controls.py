"""Operators touch actors of a running broker, over HTTP, while clients are connected to it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
import pytest
from broker.admin import api
from broker.conftest import Connect
from broker.process import BrokerProcess
from broker.raw import RawClient
from pamqp import commands as spec
from pamqp.heartbeat import Heartbeat
from pika.exceptions import ConnectionClosedByBroker

SECONDS = 20


@pytest.fixture(scope="module")
def touched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker for these tests; each leaves its actors as it found them."""
    broker = BrokerProcess(tmp_path_factory.mktemp("actor-controls"))
    broker.start()
    yield broker
    broker.kill()


def find(broker: BrokerProcess, kind: str, name: str) -> int:
    """The number of the one actor of this kind with this name."""
    status, found = api(broker, "GET", f"actors?kind={kind}&name={name}")
    [row] = [row for row in found["items"] if name in row["name"]]
    assert status == 200
    return int(row["id"])


def act(broker: BrokerProcess, number: int, action: str, **body: Any) -> Any:
    status, found = api(broker, "PUT", f"actors/{number}/{action}", body)
    assert status == 200, found
    return found


def has_in_mailbox(broker: BrokerProcess, number: int, count: int) -> bool:
    return bool(api(broker, "GET", f"actors/{number}/mailbox")[1]["total"] == count)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        gevent.sleep(0.02)
    return found


def test_a_paused_connection_sends_heartbeats_and_is_not_dropped(touched: BrokerProcess) -> None:
    client = RawClient(touched.host, touched.port)
    client.open(heartbeat=1)
    number = find(touched, "connection", str(client.socket.getsockname()[1]))
    act(touched, number, "pause", **{"for": None})
    began = time.monotonic()
    for _ in range(4):
        client.send(Heartbeat())
        channel, frame = client.receive()
        assert (channel, type(frame)) == (0, Heartbeat)
    assert time.monotonic() - began > 2  # so long it may be silent
    client.send(spec.Channel.Open(), 1)
    assert api(touched, "GET", f"actors/{number}")[1]["state"] == "paused"
    act(touched, number, "resume")
    client.expect(spec.Channel.OpenOk)
    client.close()


def test_a_publisher_to_a_paused_queue_is_held_back_alone(touched: BrokerProcess, connect: Connect) -> None:
    setup, other = connect(touched).channel(), connect(touched).channel()
    for name in ("paused", "other"):
        setup.queue_declare(name)
    number = find(touched, "queue", "paused")
    act(touched, number, "pause", **{"for": None})
    flood = RawClient(touched.host, touched.port)
    flood.open()
    flood.open_channel(1)
    flood.socket.settimeout(0.5)
    sent = 0
    with pytest.raises(socket.timeout):  # noqa: PT012 - until the broker reads no more
        while sent < 5_000:
            flood.publish(1, "paused", b"x" * 32_768)
            sent += 1
    assert 0 < sent < 5_000
    other.confirm_delivery()
    for _ in range(200):
        other.basic_publish("", "other", b"x")  # returns when it is confirmed
    row = api(touched, "GET", f"actors/{number}")[1]
    assert (row["state"], row["mailbox_depth"] > 0) == ("paused", True)
    overview = api(touched, "GET", "overview")[1]
    assert [held["name"] for held in overview["actors"]["held"]] == ["paused"]
    held_back = wait_for(lambda: [row for row in api(touched, "GET", "connections")[1] if row.get("blocked_by_credit")])
    assert len(held_back) == 1
    act(touched, number, "resume")
    wait_for(lambda: setup.queue_declare("paused", passive=True).method.message_count >= sent - 40)
    flood.close()


def test_a_paused_queue_is_stepped_through(touched: BrokerProcess, connect: Connect) -> None:
    channel = connect(touched).channel()
    channel.queue_declare("q")
    number = find(touched, "queue", "q")
    act(touched, number, "pause")
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", "q", body)
        wait_for(partial(has_in_mailbox, touched, number, int(body)))
    act(touched, number, "step", n=1)
    wait_for(partial(has_in_mailbox, touched, number, 2))
    head = api(touched, "GET", f"actors/{number}/mailbox")[1]["items"][0]
    assert head["type"] == "Enqueue"
    assert "'q', 1 B" in head["summary"]
    status, _ = api(touched, "DELETE", f"actors/{number}/mailbox/0?confirm=q")
    assert status == 200
    act(touched, number, "resume")
    wait_for(lambda: channel.queue_declare("q", passive=True).method.message_count == 2)
    assert [channel.basic_get("q")[2] for _ in range(2)] == [b"1", b"3"]


def test_a_connection_is_stopped_with_a_reason(touched: BrokerProcess, connect: Connect) -> None:
    connection = connect(touched)
    own = connection._impl._transport._sock.getsockname()
    [name] = [row["name"] for row in api(touched, "GET", "connections")[1] if row["peer_port"] == own[1]]
    number = find(touched, "connection", name.partition(" ")[0])
    act(touched, number, "stop", confirm=name, reason="go away")
    with pytest.raises(ConnectionClosedByBroker, match="go away"):
        connection.process_data_events(SECONDS)


def test_a_broker_stops_though_all_of_it_is_paused(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    channel.queue_declare("q", durable=True)
    _, found = api(own_broker, "GET", "actors?limit=1000")
    for row in found["items"]:
        if row["kind"] != "authenticator":
            act(own_broker, row["id"], "pause", confirm=row["name"], **{"for": None})
    assert own_broker.stop() == 0


def test_actions_can_be_off(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--admin-actions", "off")
    number = find(broker, "persistence", "persistence")
    status, found = api(broker, "PUT", f"actors/{number}/pause", {})
    assert (status, found["error"]) == (403, "access_refused")
    broker.stop()  # so that all of its log is here
    assert any("dispatchd.audit" in line and "was refused to pause" in line for line in broker.log)
