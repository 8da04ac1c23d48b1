import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from actors.harness import wait_until
from admin_fakes import ME, FakeQueue, FakeUser, begin, queue_facts, serving

from dispatchd.actors.runtime import System
from dispatchd.web import events as events_module
from dispatchd.web import server as server_module
from dispatchd.web.events import MOST_STREAMS, Events, Stream, Topic
from dispatchd.web.meter import Meter
from dispatchd.web.roles import MONITORING
from dispatchd.web.server import AdminServer


class Listener:
    """A browser's EventSource, more or less."""

    def __init__(self, server: AdminServer, topics: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self._socket.sendall(
            f"GET /api/events?topics={topics} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic bWU6cGFzcw==\r\n\r\n".encode()
        )
        self._lines = self._socket.makefile("rb")
        self.status = int(self._lines.readline().split()[1])
        self.headers = {}
        while line := self._lines.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name] = value

    def line(self) -> str:
        """The next line that begins an event or a comment; "" at the end."""
        while line := self._lines.readline():
            if line.startswith((b"data:", b":")):
                return line.decode().strip()
        return ""

    def event(self) -> Any:
        line = self.line()
        return json.loads(line.removeprefix("data: ")) if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@contextmanager
def listening(server: AdminServer, topics: str) -> Iterator[Listener]:
    listener = Listener(server, topics)
    yield listener
    listener.close()


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def admin(system: System) -> Iterator[AdminServer]:
    with serving(system) as server:
        yield server


def test_who_listens_is_told_at_once_and_again(
    system: System, admin: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "SAMPLE_SECONDS", 0.05)
    begin(FakeQueue(system, "q", told=queue_facts(5)))
    with listening(admin, "overview") as listener:
        assert listener.headers["Content-Type"] == "text/event-stream; charset=UTF-8"
        for _ in range(3):
            event = listener.event()
            assert event["topic"] == "overview"
            assert event["told"]["product"] == "dispatchd"
        wait_until(lambda: listener.event()["told"]["totals"]["messages_ready"] == 5)


def test_a_stream_outlives_the_deadline_of_a_request(admin: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(events_module, "SAMPLE_SECONDS", 0.05)
    with listening(admin, "overview") as listener:
        for _ in range(8):
            assert listener.event()["topic"] == "overview"


def test_a_client_without_news_gets_comments(admin: AdminServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_SECONDS", 0.05)
    with listening(admin, "overview") as listener:
        wait_until(lambda: listener.line() == ": still here")


@pytest.mark.parametrize("topics", ["", ",", "nothing", "overview,nothing", "overview:x", "overview%0A"])
def test_topics_that_there_are_not(admin: AdminServer, topics: str) -> None:
    with listening(admin, topics) as listener:
        assert listener.status == 400


def test_who_may_listen_to_what(system: System) -> None:
    begin(FakeQueue(system, "q", told=queue_facts(5)))
    you = FakeUser("you", ["management"], ["mine"])
    meter = Meter(system)
    events = Events(meter)
    events.offer("of", lambda *names: names, names=2)
    events.offer("for", lambda name: name, names=1, role=MONITORING)
    with serving(system, lambda *_: you, meter=meter, events=events) as server:
        for topics, status in (("status,overview", 200), ("of:mine:q", 200), ("of:other:q", 401), ("for:some", 401)):
            with listening(server, topics) as listener:
                assert listener.status == status, topics


def test_there_is_a_limit_to_streams_and_places_become_free(
    admin: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "SAMPLE_SECONDS", 0.02)
    listeners = [Listener(admin, "overview") for _ in range(MOST_STREAMS)]
    with listening(admin, "overview") as one_more:
        assert one_more.status == 503
    for listener in listeners:
        listener.close()

    def is_let_in() -> bool:
        with listening(admin, "overview") as listener:
            return listener.status == 200

    wait_until(is_let_in)


def test_streams_end_with_the_server(system: System) -> None:
    with serving(system) as server:
        listener = Listener(server, "overview")
        assert listener.event()["topic"] == "overview"
    assert [line for line in iter(listener.line, "") if not line.startswith("data")] == []
    listener.close()


def test_a_slow_client_gets_the_newest() -> None:
    stream = Stream(ME, {"a": Topic.of("a"), "b": Topic.of("b")})
    stream.offer("a", "1")
    stream.offer("b", "2")
    stream.offer("a", "3")
    assert stream.take() == "data: 3\n\ndata: 2\n\n"
    gevent.spawn(stream.end)
    assert stream.take() is None


def test_topics_with_names() -> None:
    assert Topic.of("queue:%2F:a%3Ab%2Cc") == ("queue", ("/", "a:b,c"))
