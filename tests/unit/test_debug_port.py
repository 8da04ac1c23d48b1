"""The debug port beside its stacks: the profile, memory, the loop, the log level; and who may ask."""

from __future__ import annotations

import http.client
import logging
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gevent
import pytest

from dispatchd.actors.messages import ActorMessage
from dispatchd.actors.runtime import Actor, System, receives
from dispatchd.web.debug import DebugServer
from dispatchd.web.flame import flame_graph

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert(1)</script>&\x00\x1b]]>"


@dataclass(frozen=True, slots=True)
class Do(ActorMessage):
    act: Callable[[], Any]


class QueueActor(Actor):
    kind = "queue"

    @receives(Do)
    def on_do(self, message: Do) -> None:
        message.act()


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def server(system: System) -> Iterator[DebugServer]:
    server = DebugServer(0, system)
    server.start()
    yield server
    server.stop()
    for actor in list(system.actors.values()):
        actor.end()


def ask(
    server: DebugServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read().decode()
    finally:
        connection.close()


def get(server: DebugServer, path: str) -> str:
    status, kind, body = ask(server, path)
    assert (status, kind) == (200, "text/plain; charset=utf-8"), body
    return body


def computes() -> None:
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass


@pytest.fixture
def busy(system: System) -> Iterator[QueueActor]:
    """An actor that computes all the time, a little in each turn."""
    actor = QueueActor(system, EVIL, None)
    actor.begin()

    def feed() -> None:
        while True:
            actor.ref.tell(Do(computes))
            gevent.sleep(0.025)

    feeder = gevent.spawn(feed)
    yield actor
    feeder.kill()


# The profile


def test_the_profile_attributes_time_to_actors(server: DebugServer, busy: QueueActor) -> None:
    lines = get(server, "/profile?seconds=0.5&format=folded").splitlines()
    assert not any("_WorkerGreenlet" in line for line in lines)  # a thread that waits
    [line] = [line for line in lines if "computes" in line]
    stack, _, count = line.rpartition(" ")
    assert stack.split(";")[:3] == ["queues", "queue <script>alert(1)</script>&??]]>", "Do"]
    assert stack.split(";")[3:] == ["test_debug_port.QueueActor.on_do", "test_debug_port.computes"]
    assert int(count) > 5


def test_the_flame_graph(server: DebugServer, busy: QueueActor) -> None:
    status, kind, body = ask(server, "/profile?seconds=0.3")
    assert (status, kind) == (200, "image/svg+xml; charset=utf-8")
    tree = ET.fromstring(body)
    titles = [each.text or "" for each in tree.iter(f"{SVG}title")]
    assert titles[0].startswith("all: ")
    assert any(title.startswith("test_debug_port.computes: ") for title in titles)
    assert any(title.startswith("queue <script>alert(1)</script>&\ufffd\ufffd]]>: ") for title in titles)
    assert not list(tree.iter(f"{SVG}script"))
    assert "the loop had nothing to do in" in body


def test_the_loop_goes_on_while_it_is_looked_at(server: DebugServer) -> None:
    asking = gevent.spawn(ask, server, "/profile?seconds=0.4")
    turns = 0
    while not asking.ready():
        gevent.sleep(0.01)
        turns += 1
    assert turns > 10


def test_one_at_a_time(server: DebugServer) -> None:
    first = gevent.spawn(ask, server, "/profile?seconds=0.5")
    gevent.sleep(0.1)
    assert ask(server, "/heap/lines?seconds=0.1")[0] == 409
    assert first.get(timeout=10)[0] == 200
    assert ask(server, "/profile?seconds=0.05")[0] == 200


@pytest.mark.parametrize("seconds", ["0", "-1", "61", "x", "nan", "inf", ""])
@pytest.mark.parametrize("path", ["/profile", "/heap/lines"])
def test_seconds_that_make_no_sense(server: DebugServer, path: str, seconds: str) -> None:
    assert ask(server, f"{path}?seconds={seconds}")[0] == 400


def test_boxes_are_as_wide_as_their_share() -> None:
    tree = ET.fromstring(flame_graph({("a", "b"): 3, ("a", "c"): 1, ("d",): 4}, "title"))
    widths = {}
    for group in tree.iter(f"{SVG}g"):
        title, box = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        if title is not None and box is not None:
            widths[(title.text or "").partition(":")[0]] = float(box.get("width", ""))
    assert widths == {"all": 1180, "a": 590, "b": 442.5, "c": 147.5, "d": 590}


def test_a_flame_graph_of_nothing() -> None:
    assert "all: 0 samples, nothing" in flame_graph({}, "title")


# Memory


class Peculiar:
    """Nothing else has this name."""

    def __init__(self) -> None:
        self.me = [self]


def test_the_heap_by_type(server: DebugServer) -> None:
    kept = [Peculiar() for _ in range(20_000)]
    total, _, heading, *lines = get(server, "/heap").splitlines()
    assert heading.split() == ["count", "KiB", "type"]
    [found] = [line.split() for line in lines if line.endswith(".Peculiar")]
    assert int(found[0]) == len(kept)
    assert float(found[1].replace(",", "")) > 20_000 * 40 / 1024
    assert int(total.split()[0]) > len(kept)


def test_what_is_allocated_meanwhile(server: DebugServer) -> None:
    kept: list[bytes] = []

    def allocates() -> None:
        gevent.sleep(0.3)
        kept.extend(bytes(1000) for _ in range(5_000))

    gevent.spawn(allocates)
    lines = get(server, "/heap/lines?seconds=1").splitlines()
    assert "test_debug_port.py" in lines[1]
    assert float(lines[1].split()[0].replace(",", "")) > 4_000
    assert kept


def test_garbage(server: DebugServer) -> None:
    lines = get(server, "/garbage").splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["0", "1", "2"]
    assert any(line.startswith("could not be freed: ") for line in lines)


# The loop and the log


def test_figures_of_the_hub(server: DebugServer, busy: QueueActor) -> None:
    facts = dict(line.split(": ") for line in get(server, "/hub").splitlines())
    assert facts["actors"] == "1"
    assert float(facts["one turn of the loop, ms"]) >= 0
    assert facts["gevent"] == gevent.__version__


def test_the_log_level_is_changed_while_it_runs(server: DebugServer) -> None:
    logger, root = logging.getLogger("dispatchd.of_this_test"), logging.getLogger()
    before = root.level
    try:
        status, _, body = ask(server, "/log-level?logger=dispatchd.of_this_test", "PUT", b"debug\n")
        assert (status, logger.level) == (200, logging.DEBUG)
        assert "dispatchd.of_this_test: debug" in body
        assert ask(server, "/log-level", "PUT", b"ERROR")[0] == 200
        assert root.level == logging.ERROR
        assert get(server, "/log-level").startswith("error\n")
        for wrong in (b"loud", b"", b"\xff", b"critical"):
            assert ask(server, "/log-level", "PUT", wrong)[0] == 400
    finally:
        root.setLevel(before)
        logger.setLevel(logging.NOTSET)


# Who may ask


@pytest.mark.parametrize("host", ["evil.example", "evil.example:6060", "127.0.0.1.evil.example", "[::2]", ""])
def test_a_name_that_only_leads_here_is_refused(server: DebugServer, host: str) -> None:
    assert ask(server, "/", Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:6060", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:6060"])
def test_names_of_this_machine(server: DebugServer, host: str) -> None:
    assert ask(server, "/", Host=host)[0] == 200


@pytest.mark.parametrize("path", ["/profile", "/heap", "/heap/lines", "/garbage", "/hub"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_these_are_looked_at_only(server: DebugServer, path: str, method: str) -> None:
    assert ask(server, path, method)[0] == 405
