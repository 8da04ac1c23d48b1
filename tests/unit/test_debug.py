import http.client
import logging
import os
import signal
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent.event import Event
from gevent.threadpool import ThreadPool

from dispatchd.actors.messages import Restart
from dispatchd.actors.runtime import Actor, System, receives
from dispatchd.web.debug import DebugServer
from dispatchd.web.stacks import install_signal, stacks


class QueueActor(Actor):
    kind = "queue"
    event: Event

    @receives(Restart)
    def on_restart(self, _message: Restart) -> None:
        stuck_here(self.event)


@pytest.fixture
def server() -> Iterator[DebugServer]:
    server = DebugServer(0, System())
    server.start()
    yield server
    server.stop()


def ask(server: DebugServer, method: str, path: str) -> tuple[int, str | None, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0)


def stuck_here(event: Event) -> None:
    event.wait()


def group_of(name: str, text: str) -> str:
    """The part of the text that has this greenlet's name in its heading."""
    (group,) = (part for part in text.split("\n\n") if name in part.partition("\n")[0])
    return group


def test_each_actor_is_there_by_name_with_its_stack() -> None:
    system = System()
    event = Event()
    actors = [QueueActor(system, name, None) for name in ("orders", "invoices")]
    for actor in actors:
        actor.event = event
        actor.begin().tell(Restart())  # without anything to do they would need no greenlet
    stuck = gevent.spawn(stuck_here, event)
    stuck.name = "stuck one"
    gevent.sleep(0)
    text = stacks()
    assert group_of("queue orders", text) == group_of("queue invoices", text)
    assert "in on_restart" in group_of("queue orders", text)
    assert "in stuck_here" in group_of("stuck one", text)
    event.set()
    stuck.join(timeout=10)
    for actor in actors:
        actor.end()
        wait_for(actor.actor_stopped.is_set)
    text = stacks()
    assert "queue orders" not in text
    assert "stuck one" not in text


def test_a_crowd_at_one_place_is_one_stack_after_the_rarer_ones() -> None:
    event = Event()
    crowd = [gevent.spawn(stuck_here, event) for _ in range(60)]
    for number, each in enumerate(crowd):
        each.name = f"crowd {number:02}"
    alone = gevent.spawn(lambda: stuck_here(event))
    alone.name = "alone"
    gevent.sleep(0)
    text = stacks()
    event.set()
    gevent.joinall(crowd, timeout=10)
    alone.join(timeout=10)
    heading = group_of("crowd 00", text).partition("\n")[0]
    assert heading.startswith("60: crowd 00, crowd 01, ")
    assert heading.endswith("crowd 49 and 10 more")
    assert text.index("1: alone") < text.index("60: crowd")


def test_who_asks_is_seen_whole() -> None:
    def asks() -> str:
        return stacks()

    asking = gevent.spawn(asks)
    asking.name = "asking"
    assert "in asks" in group_of("asking", asking.get(timeout=10))


def test_native_threads_are_there() -> None:
    go_on = os.pipe()

    def native() -> None:
        os.read(go_on[0], 1)

    pool = ThreadPool(1)
    result = pool.spawn(native)
    with gevent.Timeout(10):
        while "in native" not in stacks().partition("=== native threads")[2]:
            gevent.sleep(0.01)
    os.write(go_on[1], b"x")
    result.get(timeout=10)
    pool.kill()
    for end in go_on:
        os.close(end)


def test_no_value_is_shown() -> None:
    event = Event()

    def check(password: str) -> None:
        event.wait()

    greenlet = gevent.spawn(check, "the password")
    gevent.sleep(0)
    text = stacks()
    event.set()
    greenlet.join(timeout=10)
    assert "in check" in text
    assert "the password" not in text


def test_pages(server: DebugServer) -> None:
    status, kind, body = ask(server, "GET", "/")
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    assert "/greenlets" in body
    status, kind, body = ask(server, "GET", "/greenlets")
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    assert "in test_pages" in body
    assert ask(server, "GET", "/other")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(server: DebugServer, method: str) -> None:
    assert ask(server, method, "/greenlets")[0] == 405


def test_it_listens_on_loopback_only(server: DebugServer) -> None:
    assert server._server.address[0] == "127.0.0.1"


def test_a_port_in_use_is_an_error(server: DebugServer) -> None:
    with pytest.raises(OSError, match="in use"):
        DebugServer(server.port, System()).start()


def test_the_signal_is_heard_by_a_greenlet_that_never_waits(caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    install_signal()
    try:

        def never_waits() -> None:
            os.kill(os.getpid(), signal.SIGUSR1)
            while not caplog.records:
                pass

        with caplog.at_level(logging.WARNING, "dispatchd.web.stacks"):
            gevent.spawn(never_waits).get(timeout=10)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "in never_waits" in caplog.text
