"""Actors in the API: pages, tree, failures, mailboxes, stacks, what is done to them, and who may."""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import gevent
import pytest
from actors.harness import settle, wait_until
from admin_fakes import EVIL, Explode, Fake, FakeBroker, FakeConnection, FakePersistence, FakeQueue, begin, serving
from gevent.event import Event

from dispatchd.actors.controls import pause
from dispatchd.actors.messages import ActorMessage, Route, Snapshot
from dispatchd.actors.runtime import System, receives
from dispatchd.actors.vitals import look
from dispatchd.amqp.message import Message
from dispatchd.model.router import Publishing
from dispatchd.web import server as server_module
from dispatchd.web.actors import SORTS
from dispatchd.web.server import AdminServer

LOGIN = {"Authorization": "Basic bWU6cGFzcw=="}
OWN = {"X-Requested-With": "tests"}


@dataclass(frozen=True, slots=True)
class Wait(ActorMessage):
    """Makes a fake wait for an event."""

    event: Event = field(default_factory=Event, repr=False)


class Patient(FakeQueue):
    @receives(Wait)
    def on_wait(self, message: Wait) -> None:
        waits_here(message.event)


def waits_here(event: Event) -> None:
    event.wait(10)


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def admin(system: System) -> Iterator[AdminServer]:
    with serving(system) as server:
        yield server


def ask(server: AdminServer, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        sent = None if body is None else json.dumps(body).encode()
        connection.request(method, f"/api/actors{path}", sent, {**LOGIN, **OWN, **headers})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text)
    finally:
        connection.close()


def get(server: AdminServer, path: str) -> Any:
    status, found = ask(server, path)
    assert status == 200, found
    return found


def names(found: Any) -> list[str]:
    return [row["name"] for row in found["items"]]


# --- Lists


def test_pages_and_counts(system: System, admin: AdminServer) -> None:
    for number in range(7):
        begin(FakeQueue(system, f"queue {number}"))
    begin(FakeConnection(system, "connection"))
    found = get(admin, "?sort=name&limit=3&offset=2")
    assert names(found) == ["queue 1", "queue 2", "queue 3"]
    assert (found["total"], found["matched"], found["limit"], found["offset"]) == (8, 8, 3, 2)
    assert found["kinds"] == {"queue": 7, "connection": 1}
    assert found["states"]["idle"] == 8
    assert names(get(admin, "?sort=name&order=desc&limit=2")) == ["queue 6", "queue 5"]
    assert names(get(admin, "?sort=name&limit=3&offset=7")) == ["queue 6"]
    assert names(get(admin, "?sort=name&offset=8")) == []


def test_filters(system: System, admin: AdminServer) -> None:
    for name in ("Orders", "invoices"):
        begin(FakeQueue(system, name))
    last = begin(FakeConnection(system, "orders -> here"))
    begin(FakeBroker(system, "broker"))
    pause(last, None)
    assert names(get(admin, "?sort=id&name=ORDERS")) == ["Orders", "orders -> here"]
    assert names(get(admin, "?sort=id&kind=queue,broker")) == ["Orders", "invoices", "broker"]
    assert names(get(admin, "?state=paused")) == ["orders -> here"]
    assert names(get(admin, f"?name=%23{last.number}")) == ["orders -> here"]
    found = get(admin, "?kind=queue&name=o&limit=1")
    assert (found["total"], found["matched"], len(found["items"])) == (4, 2, 1)


def test_the_worst_comes_first(system: System, admin: AdminServer) -> None:
    begin(FakeQueue(system, "idle"))
    pause(begin(FakeQueue(system, "paused")), None)
    begin(FakeQueue(system, "bad")).is_quarantined = True
    assert names(get(admin, "")) == ["bad", "paused", "idle"]


@pytest.mark.parametrize("sort", [*SORTS, "mailbox", "busy", "rate"])
def test_by_whatever_they_are_sorted_all_are_there(system: System, admin: AdminServer, sort: str) -> None:
    busy = begin(FakeQueue(system, "busy"))
    begin(FakeQueue(system, "new"))
    for _ in range(3):
        busy.ref.tell(Explode())
    settle(system)
    look(system, 2.0)
    for order in ("asc", "desc"):
        found = get(admin, f"?sort={sort}&order={order}")
        assert sorted(names(found)) == ["busy", "new"]
        key = {"mailbox": "mailbox_depth", "busy": "busy_percent", "rate": "handled_per_second"}.get(sort, sort)
        values = [row[key] for row in found["items"]]
        if sort != "age_ms" and all(isinstance(value, int | float) for value in values):  # that goes on meanwhile
            assert values == sorted(values, reverse=order == "desc")


def test_the_deepest_mailbox_is_found_among_thousands_without_waking_anybody(system: System) -> None:
    for number in range(3_000):
        begin(FakeQueue(system, f"queue {number}"))
    deep = begin(FakeQueue(system, "deep"))
    pause(deep, None)
    for _ in range(5):
        deep.ref.tell(Explode())
    gevent.sleep(0)
    turns: list[int] = []

    def others() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    with serving(system) as admin:
        other = gevent.spawn(others)
        found = get(admin, "?sort=mailbox&limit=2")
        other.kill()
    assert (found["items"][0]["name"], found["items"][0]["mailbox_depth"]) == ("deep", 5)
    assert (found["total"], len(found["items"])) == (3_001, 2)
    assert len(turns) > 10


@pytest.mark.parametrize("query", ["sort=nothing", "order=up", "limit=x", "limit=-1", "offset=1e3", "limit=٣"])
def test_a_question_that_makes_no_sense(admin: AdminServer, query: str) -> None:
    status, found = ask(admin, f"?{quote(query, safe='=&')}")
    assert (status, found["error"]) == (400, "bad_request")


def test_a_row_has_its_failure_in_brief(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, EVIL))
    actor.ref.tell(Explode("boom"))
    settle(system)
    [row] = get(admin, "")["items"]
    assert row["name"] == EVIL
    assert row["last_failure"].keys() == {"id", "at", "error"}
    assert row["last_failure"]["error"] == "ValueError: boom"


# --- One actor


def test_one_actor_with_relatives_and_types(system: System, admin: AdminServer) -> None:
    parent = begin(FakeBroker(system, "broker"))
    actor = begin(FakeConnection(system, "c", parent.ref))
    child = begin(FakeQueue(system, "child", actor.ref))
    actor.ref.tell(Explode())
    settle(system)
    told = get(admin, f"/{actor.number}")
    assert (told["parent"], told["parent_name"]) == (parent.number, "broker")
    assert [each["id"] for each in told["children"]] == [child.number]
    assert (told["children_total"], told["is_essential"], told["can_stop"], told["may_act"]) == (1, False, False, True)
    assert ("Explode", 1, 1) in [(row["type"], row["count"], row["failures"]) for row in told["types"]]
    assert get(admin, f"/{parent.number}")["is_essential"] is True


def test_the_tree(system: System, admin: AdminServer) -> None:
    broker = begin(FakeBroker(system, "broker"))
    connection = begin(FakeConnection(system, "c", broker.ref))
    for name in ("b", "a", "worst"):
        begin(FakeQueue(system, name, connection.ref))
    system.actors[connection.number + 3].is_quarantined = True
    [root] = get(admin, "/tree")
    [found] = root["children"]
    assert (root["name"], found["name"], found["children_total"]) == ("broker", "c", 3)
    assert [each["name"] for each in found["children"]] == ["worst", "a", "b"]
    [root] = get(admin, f"/tree?root={connection.number}&limit=1&depth=1")
    assert (root["name"], root["children_total"], len(root["children"])) == ("c", 3, 1)
    assert get(admin, "/tree?depth=0")[0]["children"] == []
    assert ask(admin, "/tree?root=99")[0] == 404


def test_a_mailbox_is_looked_at_without_taking_anything_or_showing_contents(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    pause(actor, None)
    messages = [Message("x", "key", b"", body=b"the secret") for _ in range(3)]
    actor.ref.tell(Route(Publishing(actor.ref, messages, 0, confirm=False), messages))
    actor.ref.ask(Snapshot(), block=False)
    for _ in range(5):
        actor.ref.tell(Explode())
    found = get(admin, f"/{actor.number}/mailbox?limit=2")
    route, snapshot = found["items"]
    assert (found["total"], len(actor.actor_inbox)) == (7, 7)
    assert (route["position"], route["type"], route["count"], route["octets"]) == (0, "Route", 3, 30)
    assert "[3 Message: Message('x', 'key', 10 B)]" in route["summary"]
    assert "secret" not in json.dumps(found)
    assert (snapshot["type"], snapshot["is_asked"], route["is_asked"]) == ("Snapshot", True, False)
    assert route["age_ms"] >= snapshot["age_ms"] >= 0
    assert len(get(admin, f"/{actor.number}/mailbox")["items"]) == 7


def test_the_stack_of_one_that_is_stuck_and_of_one_that_rests(system: System, admin: AdminServer) -> None:
    actor, message = begin(Patient(system, "q")), Wait()
    actor.ref.tell(message)
    wait_until(lambda: actor.handling is not None)
    found = get(admin, f"/{actor.number}/stack")
    assert "in waits_here" in "".join(found["stack"])
    assert (found["state"], found["note"]) == ("running", None)
    message.event.set()
    resting = begin(FakeQueue(system, "resting"))
    gevent.sleep(0)
    found = get(admin, f"/{resting.number}/stack")
    assert (found["stack"], found["state"]) == ([], "idle")
    assert "no greenlet" in found["note"]


@pytest.mark.parametrize("path", ["/99", "/99/mailbox", "/99/stack", "/99/trace"])
def test_one_that_is_not_there(admin: AdminServer, path: str) -> None:
    assert ask(admin, path)[0] == 404


# --- Failures


def test_failures_of_all_outlive_their_actors(system: System, admin: AdminServer) -> None:
    first, second = begin(FakeQueue(system, "first")), begin(FakeQueue(system, EVIL))
    for actor in (first, second, first):
        actor.ref.tell(Explode(f"in {actor.number}"))
        settle(system)
    first.end()
    wait_until(lambda: first.number not in system.actors)
    found = get(admin, "/failures")
    assert [each["actor"]["name"] for each in found] == ["first", EVIL, "first"]
    assert [each["can_replay"] for each in found] == [True, True, True]
    assert "on_explode" in found[0]["traceback"]
    assert (found[0]["message_type"], found[0]["fate"], found[0]["replays"]) == ("Explode", "refused", 0)
    assert [each["id"] for each in get(admin, f"/failures?actor={second.number}")] == [found[1]["id"]]
    assert len(get(admin, "/failures?limit=1")) == 1


def test_a_replay(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    actor.ref.tell(Explode())
    settle(system)
    [failure] = get(admin, "/failures")
    status, told = ask(admin, f"/failures/{failure['id']}/replay", "POST")
    assert (status, told["replays"]) == (200, 1)
    wait_until(lambda: actor.failures.total == 2)
    assert ask(admin, "/failures/99/replay", "POST")[0] == 404
    actor.end()
    wait_until(lambda: not system.actors)
    assert ask(admin, f"/failures/{failure['id']}/replay", "POST") == (
        409,
        {"error": "conflict", "reason": "the actor is gone"},
    )


# --- Actions


def test_pause_step_and_resume(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    status, row = ask(admin, f"/{actor.number}/pause", "PUT")
    assert (status, row["state"]) == (200, "paused")
    assert 59_000 < row["resumes_in_ms"] <= 60_000
    assert ask(admin, f"/{actor.number}/pause", "PUT", {"for": None})[1]["resumes_in_ms"] is None
    for _ in range(3):
        actor.ref.tell(Explode())
    assert ask(admin, f"/{actor.number}/step", "PUT", {"n": 2})[0] == 200
    wait_until(lambda: actor.failures.total == 2)
    assert get(admin, f"/{actor.number}/mailbox")["total"] == 1
    assert ask(admin, f"/{actor.number}/resume", "PUT")[1]["state"] in ("running", "idle")
    wait_until(lambda: actor.failures.total == 3)
    assert ask(admin, f"/{actor.number}/step", "PUT")[0] == 409


def test_what_is_grave_is_confirmed_by_name(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, EVIL))
    for action in ("restart", "quarantine", "stop"):
        for body in (None, {"confirm": ""}, {"confirm": "another"}):
            status, told = ask(admin, f"/{actor.number}/{action}", "PUT", body)
            assert (status, told["error"]) == (400, "bad_request")
            assert "actor's name" in told["reason"]
    assert (actor.restarts, actor.is_quarantined) == (0, False)
    assert ask(admin, f"/{actor.number}/restart", "PUT", {"confirm": EVIL})[0] == 200
    wait_until(lambda: actor.restarts == 1)
    assert ask(admin, f"/{actor.number}/quarantine", "PUT", {"confirm": EVIL, "reason": "it is odd"})[0] == 200
    wait_until(lambda: actor.is_quarantined)
    assert ask(admin, f"/{actor.number}/quarantine", "PUT", {"confirm": EVIL})[0] == 409
    assert ask(admin, f"/{actor.number}/release", "PUT")[0] == 200
    wait_until(lambda: not actor.is_quarantined)
    assert ask(admin, f"/{actor.number}/release", "PUT")[0] == 409
    status, told = ask(admin, f"/{actor.number}/stop", "PUT", {"confirm": EVIL})
    assert (status, "does not stop" in told["reason"]) == (409, True)


def test_to_pause_one_that_all_need_is_confirmed_too(system: System, admin: AdminServer) -> None:
    actor = begin(FakePersistence(system, "persistence (LMDB)"))
    for action in ("pause", "step"):
        status, told = ask(admin, f"/{actor.number}/{action}", "PUT", {"for": 5})
        assert (status, "can't go on without it" in told["reason"]) == (400, True)
    assert ask(admin, f"/{actor.number}/pause", "PUT", {"for": 5, "confirm": actor.name})[1]["state"] == "paused"
    assert ask(admin, f"/{actor.number}/resume", "PUT")[0] == 200


def test_the_head_of_a_mailbox_is_dropped(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    assert ask(admin, f"/{actor.number}/mailbox/0", "DELETE", {"confirm": "q"})[0] == 409
    pause(actor, None)
    for text in ("poison", "fine"):
        actor.ref.tell(Explode(text))
    assert ask(admin, f"/{actor.number}/mailbox/0", "DELETE")[0] == 400
    status, told = ask(admin, f"/{actor.number}/mailbox/0?confirm=q", "DELETE")
    assert (status, told["error"], told["message"]) == (200, "dropped by me", "Explode(text='poison')")
    assert [row["summary"] for row in get(admin, f"/{actor.number}/mailbox")["items"]] == ["Explode(text='fine')"]
    assert get(admin, "/failures")[0]["fate"] == "dropped"


BAD_BODIES: list[tuple[str, Any]] = [
    ("pause", {"for": "long"}), ("pause", {"for": -1}), ("pause", {"for": 1e9}), ("pause", {"for": True}),
    ("pause", []), ("step", {"n": 0}), ("step", {"n": 1.5}), ("step", {"n": "1"}), ("step", {"n": True}),
    ("quarantine", {"confirm": "q", "reason": "a\nb"}), ("quarantine", {"confirm": "q", "reason": 1}),
    ("quarantine", {"confirm": "q", "reason": "x" * 300}),
]  # fmt: skip


@pytest.mark.parametrize(("action", "body"), BAD_BODIES, ids=str)
def test_an_action_that_makes_no_sense(system: System, admin: AdminServer, action: str, body: Any) -> None:
    actor = begin(FakeQueue(system, "q"))
    assert ask(admin, f"/{actor.number}/{action}", "PUT", body)[0] == 400
    assert (actor.state, actor.restarts) == ("running", 0)


def test_there_is_no_other_action(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    assert ask(admin, f"/{actor.number}/explode", "PUT")[0] == 404
    assert ask(admin, f"/{actor.number}/pause")[0] == 405
    assert ask(admin, "/99/pause", "PUT")[0] == 404


# --- Who may, and what is written down


def test_with_actions_off_one_can_only_look(system: System) -> None:
    actor = begin(FakeQueue(system, "q"))
    actor.ref.tell(Explode())
    settle(system)
    with serving(system, are_actions_on=False) as admin:
        for method, path in (
            ("PUT", f"/{actor.number}/pause"), ("DELETE", f"/{actor.number}/mailbox/0?confirm=q"),
            ("POST", "/failures/1/replay"), ("GET", f"/{actor.number}/trace"),
        ):  # fmt: skip
            status, told = ask(admin, path, method)
            assert (status, told["error"]) == (403, "access_refused")
            assert "--admin-actions" in told["reason"]
        assert get(admin, "")["may_act"] is False
        assert get(admin, f"/{actor.number}")["may_act"] is False
        assert actor.state == "running"


def test_what_another_sites_page_could_send_does_nothing(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    connection = http.client.HTTPConnection("127.0.0.1", admin.port, timeout=10)
    connection.request("PUT", f"/api/actors/{actor.number}/pause", b"{}", {**LOGIN, "Content-Type": "text/plain"})
    response = connection.getresponse()
    assert (response.status, b"X-Requested-With" in response.read()) == (403, True)
    connection.close()
    assert actor.state == "running"


def test_everything_done_or_refused_is_in_the_audit_log(
    system: System, admin: AdminServer, caplog: pytest.LogCaptureFixture
) -> None:
    actor = begin(FakeQueue(system, "q\r\nforged"))
    with caplog.at_level(logging.INFO, "dispatchd.audit"):
        ask(admin, f"/{actor.number}/pause", "PUT", {"for": 5})
        ask(admin, f"/{actor.number}/restart", "PUT", {"confirm": actor.name})
        ask(admin, f"/{actor.number}/resume", "PUT", **{"X-Requested-With": ""})
    lines = [record.getMessage() for record in caplog.records if record.name == "dispatchd.audit"]
    where = f"queue 'q\\r\\nforged' ({actor.number})"
    assert lines == [
        f"'me' from 127.0.0.1: pause {where}: for 5 s",
        f"'me' from 127.0.0.1: restart {where}",
        f"'me' from 127.0.0.1: was refused to resume {where}: what changes something needs the header X-Requested-With",
    ]


# --- Traces


@contextmanager
def tracing(server: AdminServer, path: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", f"/api/actors{path}", headers=LOGIN)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """All of them, up to the one that says that it is the last."""
    name = ""
    while True:
        line = response.readline().decode().rstrip("\n")
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
            if name == "end":
                return


def test_a_trace(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    with tracing(admin, f"/{actor.number}/trace?seconds=1") as response:
        assert response.getheader("Content-Type") == "text/event-stream; charset=UTF-8"
        assert response.readline() == b": listening\n"
        assert ask(admin, f"/{actor.number}/trace")[0] == 409
        actor.ref.tell(Explode())
        actor.ref.tell(Snapshot())
        told = list(events(response))
    assert [(name, data.get("type"), data.get("outcome")) for name, data in told[:-1]] == [
        ("handled", "Explode", "failed"),
        ("handled", "Snapshot", "handled"),
    ]
    assert told[0][1]["took_ms"] > 0
    assert told[-1] == ("end", {"reason": "time is up", "left_out": 0})
    assert actor.traced_by is None


def test_a_trace_of_too_much_leaves_out_and_counts(system: System, admin: AdminServer) -> None:
    actor = begin(Fake(system, "q"))
    with tracing(admin, f"/{actor.number}/trace?seconds=60") as response:
        assert response.readline() == b": listening\n"
        for _ in range(1_200):
            actor.ref.tell(Snapshot())
        settle(system)
        actor.end()
        told = list(events(response))
    assert told[-1][0] == "end"
    assert told[-1][1]["reason"] == "the actor has stopped"
    assert 200 <= told[-1][1]["left_out"] <= 700
    assert len(told) - 1 + told[-1][1]["left_out"] == 1_200


def test_a_trace_ends_when_nobody_listens(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    with tracing(admin, f"/{actor.number}/trace?seconds=60") as response:
        assert response.readline() == b": listening\n"
        assert actor.traced_by is not None
        response.close()
    wait_until(lambda: actor.traced_by is None)


def test_a_trace_may_take_longer_than_a_request(
    system: System, admin: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.3)
    actor = begin(FakeQueue(system, "q"))
    with tracing(admin, f"/{actor.number}/trace?seconds=1") as response:
        assert [name for name, _ in events(response)] == ["end"]
