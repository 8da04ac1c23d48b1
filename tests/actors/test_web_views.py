"""What the admin shows of a broker as a whole: who waits for whom, what leads where, what is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from actors.harness import Client, World, settle
from actors.test_operations import Api
from admin_fakes import ME, serving
from pamqp import commands as spec

from dispatchd.actors import held_credit
from dispatchd.actors.messages import AlarmRaised
from dispatchd.actors.queue import QueueActor
from dispatchd.model.alarms import MEMORY
from dispatchd.web import topology as topology_module
from dispatchd.web.app import Section
from dispatchd.web.events import Events
from dispatchd.web.flow import Flow
from dispatchd.web.log import KEPT_LINES, Log, LogRing
from dispatchd.web.meter import Meter
from dispatchd.web.topology import Topology

logger = logging.getLogger("dispatchd.tests")


@pytest.fixture
def ring() -> Iterator[LogRing]:
    ring = LogRing()
    logger.addHandler(ring)
    logger.setLevel(logging.DEBUG)
    yield ring
    logger.removeHandler(ring)


@pytest.fixture
def api(world: World, ring: LogRing) -> Iterator[Api]:
    meter = Meter(world.system)
    events = Events(meter)
    sections: list[Section] = [
        Topology(world.system, meter),
        Flow(world.system, events, world.broker.alarms.rows),
        Log(ring, events),
    ]
    with serving(world.system, lambda *_: ME, sections=sections, meter=meter, events=events) as server:
        yield Api(server)


def declare(client: Client, *queues: str, **arguments: Any) -> None:
    for queue in queues:
        client.call(1, spec.Queue.Declare(queue=queue, arguments=arguments or None), spec.Queue.DeclareOk)


# --- Flow


def test_nobody_waits(client: Client, api: Api) -> None:
    assert api("GET", "flow") == {"alarms": [], "connections": [], "queues": [], "actors": []}


def test_who_waits_for_a_paused_queue(world: World, client: Client, api: Api) -> None:
    declare(client, "q")
    queue = world.actor(QueueActor, "q")
    queue.actor_inbox.pause()
    client.publish(1, b"x", "q")
    client.publish(1, b"y", "q")
    settle(world.system)
    client.transport.waits_for_credit = True
    told = api("GET", "flow")
    [connection] = told["connections"]
    assert (connection["name"], connection["blocked_by_credit"]) == (client.connection.name, True)
    [place] = connection["waits_for"]
    assert place == {
        "id": queue.number, "kind": "queue", "name": "q", "vhost": "/", "why": "its mailbox", "state": "paused",
        "publishings": 2, "channel": f"{client.connection.name} (1)",
    }  # fmt: skip
    [actor] = told["actors"]
    assert (actor["name"], actor["state"], actor["mailbox_depth"]) == ("q", "paused", 2)
    queue.actor_inbox.resume()


def test_who_is_held_back_by_a_queue(world: World, client: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_credit, "BACKLOG_THAT_HOLDS_CREDIT", 2)
    monkeypatch.setattr(held_credit, "REVIEW_SECONDS", 60)
    declare(client, "q")
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    for _ in range(5):
        client.publish(1, b"x", "q")
    settle(world.system)
    client.transport.waits_for_credit = True
    told = api("GET", "flow")
    channel = f"{client.connection.name} (1)"
    [queue] = told["queues"]
    assert (queue["name"], queue["holds_credit"]) == ("q", True)
    assert queue["held_publishings"] == {channel: 3}
    [place] = told["connections"][0]["waits_for"]
    assert (place["name"], place["why"], place["publishings"]) == ("q", "it lets its consumers catch up", 3)


def test_who_is_blocked_by_an_alarm(world: World, client: Client, api: Api) -> None:
    declare(client, "q")
    world.ref.tell(AlarmRaised(MEMORY, "too much"))
    settle(world.system)
    told = api("GET", "flow")
    assert told["alarms"] == [{"cause": "memory", "detail": "too much"}]
    assert [each["state"] for each in told["connections"]] == ["blocking"]
    client.publish(1, b"x", "q")
    settle(world.system)
    assert [each["state"] for each in api("GET", "flow")["connections"]] == ["blocked"]


# --- Topology


def test_what_leads_where(world: World, client: Client, api: Api) -> None:
    declare(client, "q", "lonely")
    for name, kind in (("in", "topic"), ("out", "fanout")):
        client.call(1, spec.Exchange.Declare(exchange=name, exchange_type=kind), spec.Exchange.DeclareOk)
    client.call(1, spec.Exchange.Bind(destination="out", source="in", routing_key="a.#"), spec.Exchange.BindOk)
    client.call(1, spec.Queue.Bind(queue="q", exchange="out"), spec.Queue.BindOk)
    for tag in ("one", "two"):
        client.call(1, spec.Basic.Consume(queue="q", consumer_tag=tag), spec.Basic.ConsumeOk)
    settle(world.system)
    told = api("GET", "topology/%2F")
    nodes = {node["id"]: node for node in told["nodes"]}
    client_id = f"connection:{client.connection.name}"
    assert nodes.keys() == {"exchange:in", "exchange:out", "queue:q", "queue:lonely", client_id}
    assert (nodes["queue:q"]["consumers"], nodes["exchange:in"]["type"]) == (2, "topic")
    edges = {(edge["from"], edge["to"], edge["label"]) for edge in told["edges"]}
    assert edges == {
        ("exchange:in", "exchange:out", "a.#"),
        ("exchange:out", "queue:q", ""),
        ("queue:q", client_id, "2 consumers"),
    }
    api("GET", "topology/none", status=404)


def test_a_part_with_all_that_it_is_bound_to(client: Client, api: Api) -> None:
    declare(client, "orders", "mail", "other")
    for queue in ("orders", "mail"):
        client.call(1, spec.Queue.Bind(queue=queue, exchange="amq.topic", routing_key="x"), spec.Queue.BindOk)
    told = api("GET", "topology/%2F?name=ORD")
    assert {node["id"] for node in told["nodes"]} == {"exchange:amq.topic", "queue:orders"}
    told = api("GET", "topology/%2F?name=topic")
    assert {node["id"] for node in told["nodes"]} == {"exchange:amq.topic", "queue:orders", "queue:mail"}


def test_too_many_for_a_picture(client: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology_module, "MOST_NODES", 2)
    declare(client, "a", "b", "c")
    assert api("GET", "topology/%2F") == {"total": 3, "nodes": [], "edges": []}
    assert len(api("GET", "topology/%2F?name=a")["nodes"]) == 1


# --- Log


def test_lines_of_the_log(ring: LogRing, api: Api) -> None:
    logger.info("one %d", 1)
    try:
        raise ValueError("oh")
    except ValueError:
        logger.exception("two")
    first, second = api("GET", "log")
    assert (first["level"], first["logger"], first["message"]) == ("INFO", "dispatchd.tests", "one 1")
    assert second["message"].startswith("two\nTraceback")
    assert second["message"].endswith("ValueError: oh")
    assert [line["number"] for line in api("GET", f"log?after={first['number']}")] == [second["number"]]
    assert [line["message"][:3] for line in api("GET", "log?level=warning")] == ["two"]
    assert [line["number"] for line in api("GET", "log?limit=1")] == [second["number"]]
    api("GET", "log?level=loud", status=400)
    api("GET", "log?after=x", status=400)


def test_the_log_keeps_so_many_lines(ring: LogRing) -> None:
    for number in range(KEPT_LINES + 5):
        logger.debug("%d", number)
    assert len(ring.lines) == KEPT_LINES
    assert ring.lines[0]["message"] == "5"
    assert ring.last == ring.lines[-1]["number"] == KEPT_LINES + 5


def test_lines_that_can_not_be_made_harm_nobody(
    ring: LogRing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("%d", "no number")
    assert not ring.lines
