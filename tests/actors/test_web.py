import base64
import gc
import gzip
import hashlib
import http.client
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bottle
import gevent
import pytest
from actors.harness import settle
from admin_fakes import (
    EVIL,
    ME,
    Explode,
    Fake,
    FakeBroker,
    FakeChannel,
    FakeConnection,
    FakeExchange,
    FakePersistence,
    FakeQueue,
    FakeUser,
    Hang,
    begin,
    channel_facts,
    connection_facts,
    exchange_facts,
    queue_facts,
    serving,
    stuck,
)
from gevent.event import Event

from dispatchd.actors.failures import QUARANTINE_FAILURES
from dispatchd.actors.runtime import System
from dispatchd.web import server as server_module
from dispatchd.web.auth import basic_credentials
from dispatchd.web.encoding import TEXT_CHARACTERS, plain
from dispatchd.web.fields import completed
from dispatchd.web.files import FOLDER, Files
from dispatchd.web.lists import Lists
from dispatchd.web.meter import Meter
from dispatchd.web.server import BODY_OCTETS, AdminServer
from dispatchd.web.snapshots import FAILED, LATE, Snapshots

VITALS = {
    "id", "kind", "name", "parent", "state", "waits_for", "resumes_in_ms", "mailbox_depth", "mailbox_peak", "oldest_ms",
    "wait_p50_ms", "wait_p99_ms", "handled", "handled_per_second", "mean_ms", "p99_ms", "max_ms", "busy_percent",
    "busy_ms", "handling", "handling_ms", "age_ms", "slow", "blocks", "failures", "restarts",
    "last_failure",
}  # fmt: skip
RATES = {
    "connections": {"recv_oct_details", "send_oct_details"},
    "channels": {"message_stats"},
    "exchanges": {"message_stats"},
    "queues": {
        "message_stats", "consumer_capacity", "consumer_utilisation", "messages_details", "messages_ready_details",
        "messages_unacknowledged_details",
    },
}  # fmt: skip
API = ["overview", "connections", "channels", "exchanges", "queues", "actors", "actors/1"]


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def login(user: str = "me", password: str = "pass") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def ask(
    server: AdminServer,
    path: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, body, login() if headers is None else headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def admin(system: System) -> Iterator[AdminServer]:
    with serving(system) as server:
        yield server


# --- Who may look


@pytest.mark.parametrize("path", ["/x", "/api/nothing", *(f"/api/{name}" for name in API)])
def test_everything_wants_a_login(admin: AdminServer, path: str) -> None:
    for headers in ({}, login(password="wrong"), login(user="you"), {"Authorization": "Bearer x"}):
        answer = ask(admin, path, headers=headers)
        assert answer.status == 401
        assert 'realm="RabbitMQ Management"' in answer.headers["WWW-Authenticate"]
        assert answer.json["error"] == "not_authorized"


def test_the_authenticator_gets_user_password_and_peer(system: System) -> None:
    seen = []

    def authenticate(user: str, password: bytes, peer: str) -> FakeUser:
        seen.append((user, password, peer))
        return ME

    with serving(system, authenticate) as server:
        claims = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
        assert ask(server, "/api/actors", headers=login("zoë", "pass:wörd") | claims).status == 200
    assert seen == [("zoë", "pass:wörd".encode(), "127.0.0.1")]


@pytest.mark.parametrize("header", [None, "", "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Digest dTpw", "Basic dTpw*"])
def test_what_is_no_basic_login(header: str | None) -> None:
    assert basic_credentials(header) is None


def test_credentials_need_not_be_utf8() -> None:
    encoded = base64.b64encode(b"\xe9t\xe9:\xff:\x00").decode()
    assert basic_credentials(f"bAsIc {encoded}") == ("été", b"\xff:\x00")


def test_checks_need_no_login(system: System) -> None:
    ready = False
    with serving(system, authenticate=lambda *_: None, is_ready=lambda: ready) as server:
        assert (ask(server, "/livez", headers={}).status, ask(server, "/livez", headers={}).body) == (200, b"ok")
        assert ask(server, "/readyz", headers={}).status == 503
        ready = True
        assert (ask(server, "/readyz", headers={}).status, ask(server, "/readyz", headers={}).body) == (200, b"ok")


# --- The API


def test_lists_tell_what_actors_tell(system: System, admin: AdminServer) -> None:
    made = {
        "connections": begin(FakeConnection(system, "one -> two", told=connection_facts())),
        "channels": begin(FakeChannel(system, "one -> two (1)", told=channel_facts())),
        "exchanges": begin(FakeExchange(system, "topics", told=exchange_facts())),
        "queues": begin(FakeQueue(system, "orders", told=queue_facts(3, 2))),
    }
    for path, actor in made.items():
        answer = ask(admin, f"/api/{path}")
        assert answer.headers["Content-Type"] == "application/json"
        [row] = answer.json
        rates = {name: row.pop(name) for name in list(row) if name in RATES[path]}
        assert rates.keys() == RATES[path]
        own = {"name": actor.name, **plain(actor.told), "id": actor.number, "mailbox_depth": 0,
               "actor_state": "running"}  # fmt: skip
        assert row == {name: value for name, value in completed(actor.kind, own).items() if value is not None}


def test_rows_are_sorted_by_name(system: System, admin: AdminServer) -> None:
    for name in ("b", "c", "a"):
        begin(FakeQueue(system, name))
    assert [row["name"] for row in ask(admin, "/api/queues").json] == ["a", "b", "c"]


def test_a_list_of_many_asks_nobody_and_is_sorted(system: System) -> None:
    names = [f"q{number:04}" for number in range(2_500)]
    actors = [begin(FakeQueue(system, name, told=queue_facts(1))) for name in reversed(names)]
    settle(system)
    snapshots = Snapshots(system)
    assert [row["name"] for row in snapshots.of_kind("queue")] == names
    meter = Meter(system)
    meter.look()
    assert meter.totals()["messages_ready"] == len(names)
    assert {actor.handled for actor in actors} == {0}


def test_values_that_clients_send_become_json(system: System, admin: AdminServer) -> None:
    begin(FakeConnection(system, "c", told=connection_facts()))
    properties = ask(admin, "/api/connections").json[0]["client_properties"]
    assert properties == {
        "product": "pika", "version": "1.3", "icon": "ÿ\0", "price": "1.50", "nan": "nan",
        "born": "2020-01-02T00:00:00+00:00", "capabilities": {"basic.nack": True}, "key": [1, None],
    }  # fmt: skip


def test_long_text_is_cut() -> None:
    assert plain({"key": b"x" * 100_000}) == {"key": "x" * TEXT_CHARACTERS + "…"}


@pytest.mark.parametrize("count", [0, 1, 250, 10_000])
def test_a_list_is_sent_in_parts(
    system: System, admin: AdminServer, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    rows = [{"number": number, "text": "é" * 20} for number in range(count)]
    monkeypatch.setattr(Lists, "rows", lambda _self, _actors: iter(rows))
    answer = ask(admin, "/api/queues")
    assert answer.json == rows
    assert answer.headers["Content-Length"] == str(len(answer.body))


def test_overview_adds_up_the_queues(system: System, admin: AdminServer) -> None:
    begin(FakeQueue(system, "a", told=queue_facts(3, 2, consumers=1, published=10, delivered=7, acknowledged=5)))
    begin(FakeQueue(system, "b", told=queue_facts(4, 0, consumers=2, published=4)))
    begin(FakeChannel(system, "ch"))
    begin(FakePersistence(system, "persistence", told={"commits": 7, "last_commit_ms": 1.5}))
    begin(FakeQueue(system, "stuck", told=queue_facts(100))).actor_inbox.pause()
    begin(FakeQueue(system, "broken", told=ValueError("no")))
    told = ask(admin, "/api/overview").json
    assert (told["product"], told["version"], told["uptime_ms"]) == ("dispatchd", "0.1.0", 3_723_000)
    assert told["totals"].items() >= {
        "connections": 0, "channels": 1, "exchanges": 0, "queues": 4, "consumers": 3, "messages_ready": 107,
        "messages_unacknowledged": 2, "published": 114, "delivered": 7, "acknowledged": 5, "redelivered": 0,
        "recv_oct": 0, "send_oct": 0, "late": 1,
    }.items()  # fmt: skip
    assert told["persistence"]["commits"] == 7
    assert told["actors"]["total"] == 6
    assert told["actors"]["paused"] == 1


def test_the_brokers_own_figures_go_first(system: System) -> None:
    own = {"version": "1", "totals": {"published": 99}, "persistence": {"commits": 98}}
    with serving(system, overview=lambda: own) as server:
        begin(FakePersistence(system, "persistence", told={"commits": 1}))
        told = ask(server, "/api/overview").json
    assert told["totals"]["published"] == 99
    assert told["totals"]["queues"] == 0
    assert told["persistence"]["commits"] == 98


def test_vitals_of_all_actors(system: System, admin: AdminServer) -> None:
    parent = begin(FakeBroker(system, "broker"))
    child = begin(FakeQueue(system, "q", parent.ref))
    first, second = ask(admin, "/api/actors?sort=id").json["items"]
    assert first.keys() == second.keys() == VITALS
    assert (first["kind"], first["name"], first["parent"]) == ("broker", "broker", None)
    assert (second["kind"], second["id"], second["parent"]) == ("queue", child.number, parent.number)


def test_one_actor_with_its_failures(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q", told=queue_facts(1)))
    actor.ref.tell(Explode("first"))
    actor.ref.tell(Explode("second"))
    told = ask(admin, f"/api/actors/{actor.number}").json
    assert told.keys() > VITALS
    assert (told["failures"], told["restarts"], told["state"]) == (2, 2, "idle")
    assert [failure["error"] for failure in told["kept_failures"]] == ["ValueError: second", "ValueError: first"]
    assert "on_explode" in told["last_failure"]["traceback"]
    assert told["snapshot"]["messages_ready"] == 1


# --- Actors in trouble


def test_a_late_actor_does_not_hold_up_the_others(system: System, admin: AdminServer) -> None:
    late = [begin(FakeQueue(system, f"late {number}")) for number in range(20)]
    begin(FakeQueue(system, "prompt", told=queue_facts(1)))
    for actor in late:
        actor.told = queue_facts(7)
    with stuck(*late):
        began = time.monotonic()
        *rows, prompt = ask(admin, "/api/queues").json
        assert 0.2 < time.monotonic() - began < 3  # for one after the other it would be five
    assert "late" not in prompt
    assert prompt["messages_ready"] == 1
    assert len(rows) == 20
    for row in rows:
        told = {"late": LATE, "mailbox_depth": 1, "actor_state": "running", "messages_ready": 7}
        assert row.items() >= told.items()


def test_looking_at_a_stuck_actor_does_not_fill_its_mailbox(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    with stuck(actor):
        for _ in range(3):
            ask(admin, "/api/queues")
        [vitals] = ask(admin, "/api/actors").json["items"]
    assert vitals["mailbox_depth"] == 1
    assert vitals["oldest_ms"] > 700


def test_a_paused_actor_is_looked_at_and_not_asked(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q", told=queue_facts(3)))
    actor.actor_inbox.pause()
    [row] = ask(admin, "/api/queues").json
    assert (row["actor_state"], row["messages_ready"], "late" in row) == ("paused", 3, False)
    assert ask(admin, f"/api/actors/{actor.number}").json["snapshot"]["messages_ready"] == 3
    assert len(actor.actor_inbox) == 0


def test_an_answer_that_came_too_late_is_not_shown_later(system: System) -> None:
    snapshots = Snapshots(system)
    actor = begin(FakeQueue(system, "q", told={"messages": 1}))
    with stuck(actor):
        assert snapshots.of_kind("queue")[0]["late"] == LATE
    settle(system)
    actor.told = {"messages": 2}
    assert snapshots.of_kind("queue")[0]["messages"] == 2


def test_questions_to_actors_that_are_gone_are_forgotten(system: System) -> None:
    snapshots = Snapshots(system)
    actor = begin(FakeQueue(system, "q"))
    with stuck(actor):
        assert snapshots.of_kind("queue")[0]["late"] == LATE
        actor.end()
    with gevent.Timeout(5):
        while system.actors:
            gevent.sleep(0.001)
    assert snapshots.of_kind("queue") == []
    del actor
    gc.collect()
    assert len(snapshots._unanswered) == 0


def test_an_actor_that_stops_meanwhile_has_no_row(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q"))
    event = Event()
    actor.ref.tell(Hang(event))
    gevent.sleep(0.01)

    def end() -> None:
        actor.end()
        event.set()

    gevent.spawn_later(0.05, end)
    assert ask(admin, "/api/queues").json == []
    assert ask(admin, f"/api/actors/{actor.number}").status == 404


def test_an_actor_that_cannot_tell(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q", told=RuntimeError("no")))
    [row] = ask(admin, "/api/queues").json
    assert (row["name"], row["late"], row["id"]) == ("q", FAILED, actor.number)
    assert ask(admin, f"/api/actors/{actor.number}").json["snapshot"]["late"] == FAILED


def test_a_quarantined_actor_shows(system: System, admin: AdminServer) -> None:
    actor = begin(FakeQueue(system, "q", told=queue_facts()))
    for _ in range(QUARANTINE_FAILURES + 1):
        actor.ref.tell(Explode())
    [row] = ask(admin, "/api/queues").json
    assert (row["actor_state"], row["state"]) == ("quarantined", "running")
    [vitals] = ask(admin, "/api/actors").json["items"]
    assert (vitals["state"], vitals["failures"]) == ("quarantined", QUARANTINE_FAILURES + 1)
    assert ask(admin, "/api/overview").json["actors"]["quarantined"] == 1


def test_a_stuck_actor_shows_what_it_handles(system: System, admin: AdminServer) -> None:
    go = gevent.event.Event()

    class Stuck(Fake):
        def snapshot(self) -> dict[str, Any]:
            go.wait(10)
            return {}

    actor = begin(Stuck(system, "stuck"))
    told = ask(admin, f"/api/actors/{actor.number}").json
    go.set()
    assert told["handling"] == "Snapshot"
    assert told["handling_ms"] > 200
    assert told["busy_ms"] > 200
    assert told["snapshot"]["late"] == LATE


# --- HTTP


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/actors", "/api/nothing", "/livez", "/readyz"])
def test_security_headers(admin: AdminServer, path: str) -> None:
    for headers in ({}, login()):
        answer = ask(admin, path, headers=headers)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_what_the_api_says_is_not_kept(admin: AdminServer) -> None:
    assert ask(admin, "/api/actors").headers["Cache-Control"] == "no-store"
    assert ask(admin, "/api/nothing").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api/actors/99", "/api/actors/x", "/static/nothing", "/x"])
def test_unknown_paths(admin: AdminServer, path: str) -> None:
    answer = ask(admin, path)
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["error"] == "not_found"
    assert answer.json["reason"]


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "//etc/passwd"])
def test_only_the_pages_files_are_served(admin: AdminServer, path: str) -> None:
    answer = ask(admin, path)
    assert answer.status in (403, 404)
    assert b"import" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/queues", "/api/actors/1", "/livez"])
def test_wrong_methods(admin: AdminServer, method: str, path: str) -> None:
    answer = ask(admin, path, method)
    assert answer.status == 405
    assert answer.json["error"] == "method_not_allowed"
    assert answer.headers["Allow"] == "HEAD, GET, OPTIONS"


@pytest.mark.parametrize("headers", [login(), {}])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "HEAD, GET, OPTIONS"),
        ("/api/queues", "HEAD, GET, OPTIONS"),
        ("/api/queues/", "HEAD, GET, OPTIONS"),
        ("/api/bindings/%2F/e/amq.direct/q/none", "HEAD, GET, OPTIONS"),
        ("/api/login", "POST, OPTIONS"),
    ],
)
def test_the_methods_of_an_address_are_told(
    admin: AdminServer, path: str, allowed: str, headers: dict[str, str]
) -> None:
    """As RabbitMQ 3.10.8 tells everybody, with a login or without."""
    answer = ask(admin, path, "OPTIONS", headers)
    assert (answer.status, answer.body, answer.headers["Allow"]) == (200, b"", allowed)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert ask(admin, "/api/frob", "OPTIONS", headers).status == 404


def test_a_failing_overview_is_said_without_its_inside(system: System) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("inner secret")

    with serving(system, overview=fail) as server:
        answer = ask(server, "/api/overview")
        assert answer.status == 500
        assert answer.json["error"] == "internal_error"
        assert b"secret" not in answer.body
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert ask(server, "/livez").status == 200


@pytest.mark.parametrize("headers", [{"Content-Length": str(BODY_OCTETS + 1)}, {"Transfer-Encoding": "chunked"}])
def test_a_large_body_is_refused_before_it_is_read(admin: AdminServer, headers: dict[str, str]) -> None:
    assert ask(admin, "/api/queues", "POST", {**login(), **headers}).status == 413
    assert ask(admin, "/livez").status == 200


def test_a_slow_client_loses_its_connection(admin: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    for begun in (
        b"",
        b"GET /livez HT",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", admin.port), timeout=5) as client:
            client.sendall(begun)
            while client.recv(4096):
                pass


def test_a_port_that_is_taken_is_said(admin: AdminServer) -> None:
    with pytest.raises(OSError, match="in use"):
        AdminServer(None, "127.0.0.1", admin.port).start()


def test_a_stopped_server_answers_no_more(system: System) -> None:
    with serving(system) as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        idle.request("GET", "/livez")
        assert idle.getresponse().read() == b"ok"
        server.stop()
        with pytest.raises(OSError, match="refused"):
            ask(server, "/livez")
        idle.close()


# --- The page


def test_the_page_and_its_files(admin: AdminServer) -> None:
    page = ask(admin, "/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Cache-Control"] == "no-cache"
    for name, kind in {"app.js": "javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}.items():
        assert f"static/{name}".encode() in page.body
        answer = ask(admin, f"/static/{name}")
        assert answer.status == 200
        assert kind in answer.headers["Content-Type"]
        assert answer.body == (FOLDER / name).read_bytes()


def test_files_are_packed_and_not_sent_again(admin: AdminServer) -> None:
    plain_one = ask(admin, "/static/app.js")
    packed = ask(admin, "/static/app.js", headers={"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain_one.body
    assert packed.headers["ETag"] == plain_one.headers["ETag"]
    again = ask(admin, "/static/app.js", headers={"If-None-Match": packed.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert ask(admin, "/static/app.js", headers={"If-None-Match": '"another"'}).status == 200


def test_all_of_the_page_takes_less_than_100_kb() -> None:
    files = [path for path in FOLDER.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < 100_000


def test_a_file_that_was_changed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("one")
    files = Files(tmp_path)
    app = bottle.Bottle()
    app.get("/<name:path>", callback=files.send)
    server = AdminServer(app, "127.0.0.1", 0)
    server.start()
    try:
        assert ask(server, "/a.js").body == b"one"
        (tmp_path / "a.js").write_text("two")
        os.utime(tmp_path / "a.js", ns=(1, 1))
        assert ask(server, "/a.js").body == b"two"
        (tmp_path / "a.js").unlink()
        assert ask(server, "/a.js").status == 404
    finally:
        server.stop()


def test_vendored_files_are_what_was_published() -> None:
    folder = FOLDER / "vendor"
    lines = (folder / "uPlot.sha256").read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "MIT License" in (folder / "uPlot.LICENSE").read_text()


def test_nothing_on_the_page_comes_from_elsewhere_or_is_made_of_markup() -> None:
    ours = [
        path for path in FOLDER.rglob("*") if path.suffix in (".js", ".html", ".css") and "vendor" not in path.parts
    ]
    assert len(ours) > 15
    for path in ours:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("http://user:password@", "")
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=", text), (
            path
        )


def test_names_of_clients_stay_text_in_json(system: System, admin: AdminServer) -> None:
    begin(FakeQueue(system, EVIL, told=queue_facts(arguments={EVIL: EVIL})))
    answer = ask(admin, "/api/queues")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json[0]["name"] == EVIL
    assert answer.json[0]["arguments"] == {EVIL: EVIL}
