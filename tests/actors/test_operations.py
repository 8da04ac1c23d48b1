from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import gevent
import pytest
from actors.harness import Client, World, settle, wait_until
from admin_fakes import ME, serving
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec

from dispatchd.actors import operations
from dispatchd.actors.ages import MOST_MARKS, RESOLUTION, Ages
from dispatchd.actors.desk import Desk
from dispatchd.actors.messages import Requeue, Settle
from dispatchd.actors.queue import QueueActor
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import Unavailable
from dispatchd.web import operations as web_operations
from dispatchd.web.app import Section
from dispatchd.web.details import Details
from dispatchd.web.events import Events
from dispatchd.web.meter import Meter
from dispatchd.web.permits import Permits
from dispatchd.web.server import AdminServer


class Api:
    """Asks the API of a broker in memory."""

    def __init__(self, server: AdminServer) -> None:
        self._server = server

    def __call__(self, method: str, path: str, body: Any = None, status: int | None = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        sent = {
            "Authorization": "Basic bWU6cGFzcw==",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        found = json.loads(told) if told else None
        assert answer.status == (status or (204 if method == "DELETE" else 200)), found
        return found


@pytest.fixture
def api(world: World) -> Iterator[Api]:
    meter = Meter(world.system)
    events = Events(meter)
    sections: list[Section] = [
        Details(world.system, meter, events),
        web_operations.Operations(world.system, Permits(world.system, lambda *_: None)),
    ]
    with serving(world.system, lambda *_: ME, sections=sections, meter=meter, events=events) as server:
        yield Api(server)


def fill(client: Client, queue: str, *bodies: bytes, **options: Any) -> None:
    client.call(1, spec.Queue.Declare(queue=queue, durable=True), spec.Queue.DeclareOk)
    for body in bodies:
        client.publish(1, body, queue, **options)
    settle(client.world.system)


def bodies(world: World, queue: str) -> list[bytes]:
    return [message.body for _, message in world.ready(queue)]


# --- Looking


def test_peek_leaves_messages_where_they_are(world: World, client: Client, api: Api) -> None:
    fill(client, "q", b"one", b"two", b"\xff", headers={"x": 1})
    rows = api("GET", "queues/%2F/q/peek?count=5")
    assert [row["payload"] for row in rows] == ["one", "two", "/w=="]
    assert [row["payload_encoding"] for row in rows] == ["string", "string", "base64"]
    assert rows[0]["properties"] == {"headers": {"x": 1}, "delivery_mode": 1}
    assert rows[0]["redelivered"] is False
    assert [row["payload"] for row in api("GET", "queues/%2F/q/peek?count=1&skip=1&truncate=2")] == ["tw"]
    assert bodies(world, "q") == [b"one", b"two", b"\xff"]
    [row] = [each for each in api("GET", "queues") if each["name"] == "q"]
    assert (row["delivered"], row["messages_unacknowledged"]) == (0, 0)


def test_peek_shows_the_highest_priority_first(client: Client, api: Api) -> None:
    client.call(1, spec.Queue.Declare(queue="p", arguments={"x-max-priority": 2}), spec.Queue.DeclareOk)
    client.publish(1, b"low", "p")
    client.publish(1, b"high", "p", priority=2)
    settle(client.world.system)
    assert [row["payload"] for row in api("GET", "queues/%2F/p/peek")] == ["high", "low"]


@pytest.mark.parametrize("query", ["count=0", "count=x", "count=1001", "skip=-1", "encoding=utf", "truncate=x"])
def test_peeks_that_make_no_sense(client: Client, api: Api, query: str) -> None:
    fill(client, "q")
    api("GET", f"queues/%2F/q/peek?{query}", status=400)


def test_a_queue_with_all_details(client: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(client, "q", b"one", b"two")
    client.call(1, spec.Queue.Bind(queue="q", exchange="amq.topic", routing_key="a.#"), spec.Queue.BindOk)
    row = api("GET", "queues/%2F/q")
    assert (row["name"], row["vhost"], row["messages_ready"], row["actor_state"]) == ("q", "/", 2, "running")
    assert 0 <= row["oldest_ready_ms"] < 5000
    assert row["bindings"] == [
        {"source": "amq.topic", "routing_key": "a.#", "arguments": {}, "properties_key": "a.%23"}
    ]
    assert row["message_stats"].keys() >= {"publish", "publish_details", "deliver_get", "ack"}
    assert row.keys() >= {"history", "held_publishings", "consumer_details"}
    api("GET", "queues/%2F/none", status=404)
    api("GET", "queues/none/q", status=404)


def test_the_oldest_is_as_old_as_what_has_come_back(client: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(client, "q", b"one")
    actor = client.world.actor(QueueActor, "q")
    assert actor._ages is not None
    actor._ages._times[0] -= 100
    actor._ages._next = 0
    client.publish(1, b"two", "q")
    settle(client.world.system)
    answer, _ = client.get("q")
    assert api("GET", "queues/%2F/q")["oldest_ready_ms"] < 50_000
    client.send(1, spec.Basic.Nack(answer.delivery_tag or 0))
    settle(client.world.system)
    assert api("GET", "queues/%2F/q")["oldest_ready_ms"] >= 100_000


def test_a_paused_queue_shows_what_can_be_seen(client: Client, api: Api) -> None:
    fill(client, "q", b"one")
    actor = client.world.actor(QueueActor, "q")
    actor.actor_inbox.pause()
    row = api("GET", "queues/%2F/q")
    assert (row["messages_ready"], row["actor_state"], row["bindings"], "late" in row) == (1, "paused", [], False)
    assert len(actor.actor_inbox) == 0
    actor.actor_inbox.resume()


def test_what_is_unacknowledged_and_who_has_it(client: Client, api: Api) -> None:
    fill(client, "q", b"one", b"two", b"three")
    client.call(1, spec.Basic.Qos(prefetch_count=2), spec.Basic.QosOk)
    client.call(1, spec.Basic.Consume(queue="q", consumer_tag="me"), spec.Basic.ConsumeOk)
    settle(client.world.system)
    told = api("GET", "queues/%2F/q/unacked")
    assert (told["total"], told["late"]) == (2, [])
    first = told["items"][0]
    assert (first["consumer_tag"], first["delivery_tag"], first["redelivered"]) == ("me", 1, False)
    assert (first["routing_key"], first["payload_bytes"]) == ("q", 3)
    assert 0 <= first["age_ms"] < 5000
    channel = api("GET", f"channels/{quote(first['channel'], safe='')}")
    assert [row["delivery_tag"] for row in channel["unacked"]] == [1, 2]
    assert channel["consumers"][0]["queue"] == "q"
    connection = api("GET", f"connections/{quote(channel['connection'], safe='')}")
    assert [row["name"] for row in connection["channel_details"]] == [first["channel"]]
    assert connection["auth_mechanism"] == "PLAIN"


def test_an_exchange_with_its_bindings(client: Client, api: Api) -> None:
    fill(client, "q")
    row = api("GET", "exchanges/%2F/amq.default")
    assert (row["name"], row["type"]) == ("", "direct")
    assert {"destination": "q", "destination_type": "queue", "routing_key": "q", "arguments": {}} in row["bindings"]
    api("GET", "exchanges/%2F/none", status=404)


# --- Doing


def test_purge(world: World, client: Client, api: Api) -> None:
    fill(client, "q", b"one", b"two", persistent=True)
    api("DELETE", "queues/%2F/q/contents")
    assert bodies(world, "q") == []
    api("DELETE", "queues/%2F/none/contents", status=404)


def test_delete(world: World, client: Client, api: Api) -> None:
    fill(client, "q", b"one")
    assert "not empty" in api("DELETE", "queues/%2F/q?if-empty=true", status=400)["reason"]
    api("DELETE", "queues/%2F/q?if-unused=true")
    api("DELETE", "queues/%2F/q", status=404)


def test_an_operator_deletes_exclusive_queues_too(client: Client, api: Api) -> None:
    client.call(1, spec.Queue.Declare(queue="mine", exclusive=True), spec.Queue.DeclareOk)
    api("DELETE", "queues/%2F/mine")


@pytest.mark.parametrize(
    ("ackmode", "left"),
    [
        ({}, [b"one", b"two"]),
        ({"ackmode": "ack_requeue_true"}, [b"one", b"two"]),
        ({"ackmode": "ack_requeue_false"}, [b"two"]),
        ({"ackmode": "reject_requeue_true"}, [b"one", b"two"]),
        ({"ackmode": "reject_requeue_false"}, [b"two"]),
        ({"requeue": False}, [b"two"]),
        ({"requeue": "true"}, [b"one", b"two"]),
    ],
)
def test_get(world: World, client: Client, api: Api, ackmode: dict[str, Any], left: list[bytes]) -> None:
    fill(client, "q", b"one", b"two", persistent=True)
    [row] = api("POST", "queues/%2F/q/get", {"count": "1", "encoding": "auto", **ackmode})
    assert (row["payload"], row["message_count"], row["properties"]["delivery_mode"]) == ("one", 1, 2)
    settle(world.system)
    assert bodies(world, "q") == left
    assert world.actor(QueueActor, "q")._queue.unacked == 0


@pytest.mark.parametrize("body", [{"count": 0}, {"count": "x"}, {"count": True}, {"ackmode": "?"}, {"encoding": "?"}])
def test_gets_that_make_no_sense(client: Client, api: Api, body: dict[str, Any]) -> None:
    fill(client, "q")
    api("POST", "queues/%2F/q/get", body, status=400)


def test_publish(world: World, client: Client, api: Api) -> None:
    fill(client, "q")
    message = {"routing_key": "q", "properties": {"delivery_mode": 2, "headers": {"n": 1}}, "payload": "zoë"}
    assert api("POST", "exchanges/%2F/amq.default/publish", message) == {"routed": True}
    encoded = {"routing_key": "q", "payload": "/w==", "payload_encoding": "base64"}
    assert api("POST", "exchanges/%2F/amq.default/publish", encoded) == {"routed": True}
    assert api("POST", "exchanges/%2F/amq.topic/publish", {"routing_key": "x", "payload": ""}) == {"routed": False}
    assert bodies(world, "q") == ["zoë".encode(), b"\xff"]
    assert world.ready("q")[0][1].persistent


@pytest.mark.parametrize(
    "change",
    [
        {"routing_key": None}, {"payload": 1}, {"properties": [1]}, {"properties": {"colour": "red"}},
        {"properties": {"headers": "none"}}, {"properties": {"priority": 300}}, {"properties": {"delivery_mode": "x"}},
        {"routing_key": "x" * 256}, {"payload_encoding": "rot13"}, {"payload": "?", "payload_encoding": "base64"},
    ],
)  # fmt: skip
def test_publishes_that_make_no_sense(client: Client, api: Api, change: dict[str, Any]) -> None:
    body = {"routing_key": "q", "payload": "", **change}
    assert api("POST", "exchanges/%2F/amq.default/publish", body, status=400)["reason"]


def test_nobody_publishes_to_internal_exchanges(client: Client, api: Api) -> None:
    body = {"routing_key": "q", "payload": ""}
    api("POST", "exchanges/%2F/amq.rabbitmq.trace/publish", body, status=403)
    api("POST", "exchanges/%2F/none/publish", body, status=404)


def test_move_all(world: World, client: Client, api: Api) -> None:
    many = [f"{number}".encode() for number in range(operations.MOVED_AT_ONCE + 10)]
    fill(client, "target")
    fill(client, "q", *many, persistent=True)
    assert api("POST", "queues/%2F/q/move", {"target": "target"}) == {"moved": len(many), "refused": 0}
    settle(world.system)
    assert bodies(world, "q") == []
    assert bodies(world, "target") == many
    assert world.actor(QueueActor, "q")._queue.unacked == 0


def test_move_some(world: World, client: Client, api: Api) -> None:
    fill(client, "target")
    fill(client, "q", b"one", b"two", b"three")
    assert api("POST", "queues/%2F/q/move", {"target": "target", "count": 2})["moved"] == 2
    assert (bodies(world, "q"), bodies(world, "target")) == ([b"three"], [b"one", b"two"])


def test_what_the_target_refuses_stays(world: World, client: Client, api: Api) -> None:
    limit: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
    client.call(1, spec.Queue.Declare(queue="target", arguments=limit), spec.Queue.DeclareOk)
    fill(client, "q", b"one", b"two", b"three")
    assert api("POST", "queues/%2F/q/move", {"target": "target"}) == {"moved": 1, "refused": 2}
    settle(world.system)
    assert (bodies(world, "q"), bodies(world, "target")) == ([b"two", b"three"], [b"one"])


@pytest.mark.parametrize(
    ("body", "status"), [({}, 400), ({"target": ""}, 400), ({"target": "q"}, 400), ({"target": "none"}, 404)]
)
def test_a_target_is_needed(world: World, client: Client, api: Api, body: dict[str, Any], status: int) -> None:
    fill(client, "q", b"one")
    api("POST", "queues/%2F/q/move", body, status=status)
    assert bodies(world, "q") == [b"one"]


def test_delete_an_exchange(client: Client, api: Api) -> None:
    client.call(1, spec.Exchange.Declare(exchange="x"), spec.Exchange.DeclareOk)
    api("DELETE", "exchanges/%2F/x")
    api("DELETE", "exchanges/%2F/x", status=404)
    assert "system" in api("DELETE", "exchanges/%2F/amq.topic", status=403)["reason"]


def test_close_a_connection_with_a_reason(client: Client, api: Api) -> None:
    name = client.connection.name
    [row] = api("GET", "connections")
    assert row["name"] == name
    closing = gevent.spawn(api, "DELETE", f"connections/{quote(name, safe='')}", X_Reason="go home")
    close = client.expect(spec.Connection.Close)
    assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - go home")
    client.send(0, spec.Connection.CloseOk())
    closing.get(timeout=10)
    api("DELETE", f"connections/{quote(name, safe='')}", status=404)


# --- Desks


def test_who_does_not_answer_in_time(client: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "OPERATION_SECONDS", 0.05)
    fill(client, "q", b"one")
    actor = client.world.actor(QueueActor, "q")
    actor.actor_inbox.pause()
    assert "no answer in time" in api("POST", "queues/%2F/q/get", {}, status=503)["reason"]
    actor.actor_inbox.resume()
    wait_until(lambda: actor._queue.delivered)
    settle(client.world.system)
    assert bodies(client.world, "q") == [b"one"]
    assert actor._queue.unacked == 0


def test_what_a_desk_has_in_hand_goes_back(client: Client) -> None:
    fill(client, "q", b"one", b"two", b"three")
    queue = client.world.actor(QueueActor, "q").ref
    desk = Desk(5)
    [first, second] = desk.get(queue, m.BasicGet(queue="q"), 2)
    assert first.entry is not None
    desk.settle([first.entry], Settle)
    desk.close()
    settle(client.world.system)
    assert bodies(client.world, "q") == [b"two", b"three"]
    assert not desk.is_alive()
    assert second.entry is not None
    assert second.entry.redelivered


def test_a_desk_at_a_queue_that_is_gone(client: Client) -> None:
    fill(client, "q", b"one")
    queue = client.world.actor(QueueActor, "q").ref
    client.call(1, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)
    desk = Desk(5)
    with pytest.raises(Unavailable):
        desk.get(queue, m.BasicGet(queue="q"), 2)
    with pytest.raises(Unavailable):
        desk.order(queue, m.QueuePurge(queue="q"))
    desk.close()
    assert Requeue.is_repeatable


# --- Ages


@given(st.lists(st.tuples(st.floats(0.001, 50), st.integers(1, 50)), min_size=1, max_size=900))
def test_ages_are_nearly_right(steps: list[tuple[float, int]]) -> None:
    ages, now, number, came = Ages(), 0.0, 0, {}
    for seconds, count in steps:
        now += seconds
        number += count
        came[number] = now
        ages.note(number, now)
    assert len(ages._times) <= MOST_MARKS
    for each, at in came.items():
        age = ages.age(each, now)
        assert age is not None
        assert age >= now - at - 1e-6
        if len(steps) < MOST_MARKS:
            assert age <= now - at + RESOLUTION
    assert ages.age(number + 1, now) is None


def test_old_marks_are_thinned_out() -> None:
    ages = Ages()
    for second in range(1, 400):
        ages.note(second * 10, float(second))
    assert len(ages._times) <= MOST_MARKS
    assert ages.age(3990, 400.0) == 1
    assert ages.age(3980, 400.0) == 2
    oldest = ages.age(1, 400.0)
    assert oldest is not None
    assert 395 <= oldest <= 399
