"""Actors without anything to do have no greenlet, and nobody notices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gevent
import gevent.event
import pytest
from actors.harness import settle, wait_until

from dispatchd.actors.messages import ActorMessage
from dispatchd.actors.rest import look
from dispatchd.actors.runtime import PAUSED, RUNNING, Actor, System, receives


@dataclass(frozen=True, slots=True)
class Do(ActorMessage):
    act: Callable[[], object]


class Worker(Actor):
    kind = "worker"
    starts = 0

    def __init__(self, system: System) -> None:
        super().__init__(system, "worker", None)

    def on_start(self) -> None:
        self.starts += 1

    @receives(Do)
    def on_do(self, message: Do) -> object:
        return message.act()


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def worker(system: System) -> Worker:
    """It has worked."""
    worker = Worker(system)
    worker.begin()
    worker.ref.tell(Do(int))
    settle(system)
    assert worker.greenlet is not None
    return worker


def rest(system: System) -> None:
    for _ in range(2):
        look(system)
        settle(system)


def works(worker: Worker) -> bool:
    return worker.ref.ask(Do(lambda: "works"), timeout=5) == "works"


def test_who_has_nothing_to_do_at_first_rests(system: System) -> None:
    worker = Worker(system)
    worker.begin()
    settle(system)
    assert (worker.greenlet, worker.starts, worker.state) == (None, 1, RUNNING)
    assert works(worker)
    assert worker.starts == 1


def test_who_had_nothing_to_do_between_two_looks_rests(system: System, worker: Worker) -> None:
    look(system)
    settle(system)
    assert worker.greenlet is not None
    look(system)
    settle(system)
    assert not system.awake
    assert worker.state == RUNNING
    assert works(worker)
    assert list(system.awake.values()) == [worker]


def test_who_is_busy_does_not_rest(system: System, worker: Worker) -> None:
    go_on = gevent.event.Event()
    worker.ref.tell(Do(go_on.wait))
    worker.ref.tell(Do(int))
    wait_until(lambda: worker.handling is not None)
    greenlet = worker.greenlet
    for _ in range(3):
        look(system)
        gevent.sleep(0)
    go_on.set()
    settle(system)
    assert worker.greenlet is greenlet
    assert worker.handled == 3


def test_what_comes_together_with_the_dismissal_is_handled(system: System, worker: Worker) -> None:
    look(system)
    settle(system)
    look(system)
    done: list[int] = []
    worker.ref.tell(Do(lambda: done.append(1)))
    settle(system)
    assert done == [1]
    assert works(worker)


def test_who_is_paused_rests_too_and_goes_on_when_resumed(system: System, worker: Worker) -> None:
    worker.actor_inbox.pause()
    done: list[int] = []
    worker.ref.tell(Do(lambda: done.append(1)))
    rest(system)
    assert (worker.greenlet, worker.state, done) == (None, PAUSED, [])
    worker.ref.tell(Do(lambda: done.append(2)))
    worker.actor_inbox.step()
    settle(system)
    assert done == [1]
    rest(system)
    worker.actor_inbox.resume()
    settle(system)
    assert done == [1, 2]


def test_who_rests_can_be_stopped(system: System, worker: Worker) -> None:
    rest(system)
    worker.end()
    wait_until(lambda: not system.actors)
    assert (worker.greenlet, system.awake) == (None, {})


def test_who_rests_and_is_paused_can_be_stopped(system: System, worker: Worker) -> None:
    worker.actor_inbox.pause()
    rest(system)
    worker.end()
    wait_until(lambda: not system.actors)
