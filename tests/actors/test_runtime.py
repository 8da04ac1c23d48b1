from __future__ import annotations

import importlib.metadata
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gevent
import pykka
import pytest
from actors.harness import make_fail, settle, wait_until
from gevent.event import Event
from pykka._envelope import Envelope
from pykka.messages import _ActorStop

from dispatchd.actors.failures import Failure, FailureHistory
from dispatchd.actors.messages import ActorMessage, Restart, Snapshot
from dispatchd.actors.runtime import PAUSED, QUARANTINED, RUNNING, STOPPED, Actor, Ref, System, receives


@dataclass(frozen=True, slots=True)
class Do(ActorMessage):
    """Run `action` in the actor; `refused` keeps why it could not be."""

    action: Callable[[], Any] = lambda: None
    refused: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        self.refused.append(reason)


@dataclass(frozen=True, slots=True)
class Note(Do):
    """Reaches the actor even when it is quarantined."""

    reaches_quarantined = True


@dataclass(frozen=True, slots=True)
class LetGo(Do):
    """Is tried once more."""

    is_repeatable = True


@dataclass(frozen=True, slots=True)
class Strange(ActorMessage):
    """Nobody has a handler for this."""


class Worker(Actor):
    kind = "worker"

    def __init__(self, system: System, name: str = "ann", parent: Ref | None = None) -> None:
        super().__init__(system, name, parent)
        self.restarted_by: Callable[[], None] = lambda: None
        self.quarantined_by: Callable[[], None] = lambda: None
        self.farewells: list[str] = []
        self.stopped = False

    @receives(Do)
    @receives(Note)
    @receives(LetGo)
    def on_do(self, message: Do) -> Any:
        return message.action()

    def restarted(self) -> None:
        self.restarted_by()

    def quarantined(self, reason: str) -> None:
        self.farewells.append(reason)
        self.quarantined_by()

    def on_stop(self) -> None:
        self.stopped = True


def raiser(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


class Unprintable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS = [
    ValueError("boom"),
    AssertionError(),
    gevent.Timeout(1),
    gevent.GreenletExit(),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    RecursionError(),
    Unprintable(),
]


@pytest.fixture
def worker(system: System) -> Worker:
    worker = Worker(system)
    worker.begin()
    return worker


@pytest.fixture
def bystander(system: System) -> Worker:
    worker = Worker(system, "bystander")
    worker.begin()
    return worker


def is_well(actor: Actor) -> bool:
    return bool(actor.ref.ask(Do(lambda: "well"), timeout=5) == "well")


# What we rely on in Pykka


def test_pykka_is_the_version_whose_insides_we_know() -> None:
    assert importlib.metadata.version("pykka").startswith("4.5.")


def test_pykka_leaves_three_hooks_to_actor_types() -> None:
    hooks = {"_create_actor_inbox", "_create_future", "_start_actor_loop"}
    assert pykka.Actor.__abstractmethods__ == hooks
    assert hooks <= vars(Actor).keys()


def test_what_else_is_overridden_exists() -> None:
    parts = {"_actor_loop", "_actor_loop_setup", "_actor_loop_running", "_actor_loop_teardown", "_stop"}
    assert parts <= vars(pykka.Actor).keys()
    assert "on_receive" in vars(pykka.Actor)
    assert {"tell", "ask", "is_alive"} <= vars(pykka.ActorRef).keys()
    assert list(inspect.signature(Envelope.__init__).parameters) == ["self", "message", "reply_to"]


def test_an_ask_puts_an_envelope_into_the_inbox(worker: Worker) -> None:
    answer = Worker._create_future()
    worker.actor_inbox.put(Envelope(Do(lambda: 7), reply_to=answer))
    assert answer.get(timeout=5) == 7


def test_pykkas_teardown_would_use_empty_and_get() -> None:
    names = pykka.Actor._actor_loop_teardown.__code__.co_names
    assert {"actor_inbox", "empty", "get"} <= set(names)


def test_the_global_registry_is_not_used(worker: Worker) -> None:
    assert is_well(worker)
    assert pykka.ActorRegistry.get_all() == []


def test_the_future_of_an_ask_is_ours(worker: Worker) -> None:
    future = worker.ref.ask(Do(lambda: 7), block=False)
    assert future.get(timeout=5) == 7


# Failures


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_nothing_that_is_raised_ends_an_actor_or_stops_another(
    system: System, worker: Worker, bystander: Worker, error: BaseException
) -> None:
    behind: list[str] = []
    for actor in (worker, bystander):
        actor.ref.tell(Do(lambda: behind.append("before")))
    poison = Do(raiser(error))
    worker.ref.tell(poison)
    worker.ref.tell(Do(lambda: behind.append("behind")))
    settle(system)
    assert sorted(behind) == ["before", "before", "behind"]
    assert is_well(worker)
    assert is_well(bystander)
    assert (worker.failures.total, worker.restarts, bystander.failures.total) == (1, 1, 0)
    assert type(error).__name__ in poison.refused[0]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hook", ["restarted_by", "quarantined_by"])
def test_nothing_that_a_hook_raises_ends_an_actor(
    system: System, worker: Worker, bystander: Worker, hook: str, error: BaseException
) -> None:
    worker.restarted_by = raiser(ValueError("no new state"))
    setattr(worker, hook, raiser(error))
    worker.ref.tell(Do(raiser(ValueError())))
    settle(system)
    assert worker.state == QUARANTINED
    assert not worker.actor_stopped.is_set()
    assert is_well(bystander)
    worker.restarted_by = lambda: None
    worker.ref.tell(Restart())
    assert is_well(worker)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_nothing_that_refusing_raises_ends_an_actor(
    system: System, worker: Worker, bystander: Worker, error: BaseException
) -> None:
    class Stubborn(list[str]):
        def append(self, _reason: str) -> None:
            raise error

    worker.ref.tell(Do(raiser(ValueError()), Stubborn()))
    settle(system)
    assert is_well(worker)
    assert is_well(bystander)


def test_killed_while_it_handles(system: System, worker: Worker, bystander: Worker) -> None:
    never, behind = Event(), Do(lambda: behind_ran.append(1))
    behind_ran: list[int] = []
    worker.ref.tell(Do(never.wait))
    worker.ref.tell(behind)
    wait_until(lambda: worker.handling is not None)
    make_fail(worker)
    settle(system)
    assert behind_ran == [1]
    assert worker.failures.total == 1
    assert is_well(worker)
    assert is_well(bystander)


def test_failing_before_anything_else(system: System) -> None:
    worker = Worker(system)
    ref = worker.begin()
    done: list[int] = []
    ref.tell(Do(lambda: done.append(1)))
    make_fail(worker)
    settle(system)
    assert done == [1]
    assert is_well(worker)


def test_failing_while_paused(system: System, worker: Worker) -> None:
    settle(system)
    worker.actor_inbox.pause()
    done: list[int] = []
    worker.ref.tell(Do(lambda: done.append(1)))
    settle(system)
    make_fail(worker)
    settle(system)
    assert (worker.failures.total, done) == (1, [])
    worker.actor_inbox.resume()
    settle(system)
    assert done == [1]


def test_a_message_that_nobody_understands(system: System, worker: Worker) -> None:
    worker.ref.tell(Strange())
    settle(system)
    last = worker.failures.last
    assert last is not None
    assert last.error == "TypeError: a worker does not understand Strange()"
    assert is_well(worker)


def test_a_failure_leaves_a_record(system: System, worker: Worker) -> None:
    began = time.time()
    poison = Do(raiser(ValueError("boom")))
    worker.ref.tell(poison)
    settle(system)
    last = worker.failures.last
    assert last is not None
    assert (last.actor, last.message, last.error) == ("ann", poison, "ValueError: boom")
    assert began <= last.at <= time.time()
    assert "in fail\n    raise error" in last.traceback
    summary = worker.vitals()["last_failure"]
    assert summary["error"] == "ValueError: boom"
    assert "Do(" in summary["message"]
    assert poison.refused == ["worker ann failed: ValueError: boom"]


def test_a_restart_keeps_reference_and_mailbox(system: System, worker: Worker) -> None:
    ref, mailbox = worker.ref, worker.actor_inbox
    worker.actor_inbox.pause()
    done: list[int] = []
    ref.tell(Do(raiser(ValueError())))
    for number in range(3):
        ref.tell(Do(partial(done.append, number)))
    restarts: list[int] = []
    worker.restarted_by = lambda: restarts.append(len(mailbox))
    worker.actor_inbox.resume()
    settle(system)
    assert restarts == [3]
    assert done == [0, 1, 2]
    assert (worker.ref, worker.actor_inbox) == (ref, mailbox)


def test_a_failing_ask_is_answered(worker: Worker) -> None:
    assert worker.ref.ask(Do(raiser(ValueError())), timeout=5) is None
    assert worker.failures.total == 1


def test_what_lets_go_of_something_is_tried_once_more(system: System, worker: Worker) -> None:
    calls: list[str] = []
    worker.restarted_by = lambda: calls.append("restart")

    def fail_first() -> None:
        calls.append("try")
        if len(calls) == 1:
            raise ValueError

    message = LetGo(fail_first)
    worker.ref.tell(message)
    settle(system)
    assert calls == ["try", "restart", "try"]
    assert (message.refused, worker.failures.total) == ([], 1)


def test_but_not_twice_more(system: System, worker: Worker) -> None:
    tries: list[int] = []

    def fail_always() -> None:
        tries.append(1)
        raise ValueError("boom")

    message = LetGo(fail_always)
    worker.ref.tell(message)
    settle(system)
    assert (len(tries), message.refused) == (2, ["worker ann failed: ValueError: boom"])
    assert worker.failures.total == 2
    assert is_well(worker)


def test_something_that_is_no_message_of_ours(system: System, worker: Worker) -> None:
    text: Any = "hello"
    worker.ref.tell(text)
    settle(system)
    assert worker.failures.total == 1
    assert is_well(worker)


# Quarantine


def fail(worker: Worker, times: int) -> None:
    for _ in range(times):
        worker.ref.tell(Do(raiser(ValueError("boom"))))
    settle(worker.system)


def test_more_than_five_failures_quarantine_that_actor_alone(worker: Worker, bystander: Worker) -> None:
    fail(worker, 5)
    assert (worker.state, worker.restarts) == (RUNNING, 5)
    fail(worker, 1)
    assert (worker.state, worker.restarts) == (QUARANTINED, 5)
    assert worker.farewells == ["worker ann is quarantined after repeated failures: ValueError: boom"]
    assert bystander.state == RUNNING
    assert is_well(bystander)


def test_a_quarantined_actor_refuses_with_the_reason(system: System, worker: Worker) -> None:
    fail(worker, 6)
    message, note = Do(), Note(lambda: notes.append(1))
    notes: list[int] = []
    worker.ref.tell(message)
    worker.ref.tell(note)
    settle(system)
    assert message.refused == worker.farewells
    assert (notes, note.refused) == ([1], [])
    assert worker.ref.ask(Do(), timeout=5) is None
    assert worker.ref.ask(Snapshot(), timeout=5) == {"name": "ann"}


def test_a_restart_revives(system: System, worker: Worker) -> None:
    fail(worker, 6)
    worker.ref.tell(Restart())
    settle(system)
    assert worker.state == RUNNING
    assert is_well(worker)
    fail(worker, 5)
    assert worker.state == RUNNING  # it begins to count anew


def test_a_restart_that_fails_leaves_it_in_quarantine(system: System, worker: Worker) -> None:
    worker.restarted_by = raiser(ValueError("still broken"))
    worker.ref.tell(Restart())
    settle(system)
    assert worker.state == QUARANTINED
    last = worker.failures.last
    assert last is not None
    assert last.error == "ValueError: still broken"


def test_failures_far_apart_are_not_too_many() -> None:
    def history(*times: float) -> bool:
        known = FailureHistory()
        return [known.add(Failure("ann", None, "", ""), now) for now in times][-1]

    assert history(0, 1, 2, 3, 4, 5)
    assert history(0, 2, 4, 6, 8, 10)
    assert not history(0, 2, 4, 6, 8, 10.1)
    assert not history(0, 1, 2, 3, 4)
    assert history(0, 20, 21, 22, 23, 24, 25)


def test_old_failures_are_forgotten_but_counted() -> None:
    known = FailureHistory()
    for number in range(50):
        known.add(Failure("ann", number, "", ""), number * 100.0)
    assert known.total == 50
    assert [failure.message for failure in known.kept] == list(range(30, 50))


# Pause, step, stop


def test_pause_step_and_resume(system: System, worker: Worker) -> None:
    done: list[int] = []
    worker.actor_inbox.pause()
    assert worker.state == PAUSED
    for number in range(5):
        worker.ref.tell(Do(partial(done.append, number)))
    settle(system)
    assert done == []
    worker.actor_inbox.step(1)
    wait_until(lambda: done)
    for _ in range(5):
        gevent.sleep(0)
    assert (done, worker.handled) == ([0], 1)
    worker.actor_inbox.resume()
    settle(system)
    assert done == [0, 1, 2, 3, 4]
    assert worker.state == RUNNING


def test_a_paused_actor_can_be_ended(worker: Worker) -> None:
    worker.actor_inbox.pause()
    waiting = Do()
    worker.ref.tell(waiting)
    worker.end()
    wait_until(lambda: worker.stopped)
    assert waiting.refused == ["worker ann has stopped"]
    assert worker.number not in worker.system.actors
    assert worker.state == STOPPED


def test_stopping_refuses_what_waits_and_what_comes(worker: Worker) -> None:
    asked = worker.ref.ask(Do(worker.end), block=False)
    waiting = [Do(), Do()]
    for message in waiting:
        worker.ref.tell(message)
    late_ask = worker.ref.ask(Do(), block=False)
    wait_until(lambda: worker.stopped)
    asked.get(timeout=5)
    assert late_ask.get(timeout=5) is None
    late = Do()
    worker.ref.tell(late)
    for message in [*waiting, late]:
        assert message.refused == ["worker ann has stopped"]


def test_ending_twice_is_ending_once(worker: Worker) -> None:
    worker.end()
    worker.end()
    wait_until(lambda: worker.stopped)
    worker.end()
    assert worker.actor_inbox.empty()


def test_stopping_by_pykkas_own_means(worker: Worker) -> None:
    worker.actor_inbox.put(Envelope(_ActorStop()))
    wait_until(lambda: worker.stopped)
    assert worker.system.actors == {}


# Seen from outside


def test_vitals(system: System, worker: Worker) -> None:
    child = Worker(system, "child", worker.ref)
    child.begin()
    assert is_well(child)
    assert (
        child.vitals().items()
        >= {
            "id": child.number,
            "kind": "worker",
            "name": "child",
            "parent": worker.number,
            "state": "idle",
            "mailbox_depth": 0,
            "mailbox_peak": 1,
            "oldest_ms": 0.0,
            "handled": 1,
            "failures": 0,
            "restarts": 0,
            "last_failure": None,
        }.items()
    )


def test_a_stuck_actor_can_be_looked_at(worker: Worker) -> None:
    go = Event()
    worker.ref.tell(Do(go.wait))
    wait_until(lambda: worker.handling is not None)
    worker.ref.tell(Do())
    wait_until(lambda: worker.vitals()["oldest_ms"] > 2 and worker.vitals()["busy_ms"] > 2)
    assert worker.vitals()["mailbox_depth"] == 1
    go.set()
    settle(worker.system)
    assert worker.vitals()["busy_ms"] > 2
    assert worker.vitals()["mailbox_depth"] == 0


def test_handlers_are_inherited_and_overridden() -> None:
    class Lazy(Worker):
        @receives(Do)
        def on_do(self, message: Do) -> Any:
            return "no"

    assert Lazy._handlers[Do] is Lazy.on_do
    assert Lazy._handlers[Note] is Worker.on_do
    assert Lazy._handlers[Snapshot] is Actor.on_snapshot


def test_to_look_at_a_broken_actor_does_nothing_to_it() -> None:
    class Broken(Worker):
        def snapshot(self) -> dict[str, Any]:
            raise ValueError("no")

    broken = Broken(System())
    assert broken.begin().ask(Snapshot(), timeout=5) is None
    assert (broken.failures.total, broken.restarts, broken.state) == (0, 0, RUNNING)
    broken.end()
