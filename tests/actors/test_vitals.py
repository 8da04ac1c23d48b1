"""What is noted of actors while they work, as it is seen from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.event
import pytest
from actors.harness import settle, wait_until
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.actors.messages import ActorMessage
from dispatchd.actors.runtime import Actor, System, receives
from dispatchd.actors.vitals import doing, look, percentile, turn, types_of, waits
from dispatchd.actors.windows import SLOW_NS, Window


@dataclass(frozen=True, slots=True)
class Do(ActorMessage):
    act: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class DoOther(Do):
    pass


class Worker(Actor):
    kind = "worker"
    waits: str | None = None

    def __init__(self, system: System, name: str = "ann") -> None:
        super().__init__(system, name, None)

    @receives(Do)
    @receives(DoOther)
    def on_do(self, message: Do) -> Any:
        return message.act()

    def waits_for(self) -> str | None:
        if self.waits == "broken":
            raise ValueError
        return self.waits


@pytest.fixture
def worker(system: System) -> Worker:
    worker = Worker(system)
    worker.begin()
    return worker


def do(worker: Worker, act: Callable[[], Any] = int, times: int = 1) -> None:
    for _ in range(times):
        worker.ref.tell(Do(act))
    settle(worker.system)


def fail() -> None:
    raise ValueError("boom")


def test_before_it_did_anything_there_are_no_figures(worker: Worker) -> None:
    told = worker.vitals()
    assert {told[name] for name in ("wait_p50_ms", "wait_p99_ms", "mean_ms", "p99_ms", "max_ms")} == {None}
    assert (told["handled"], told["state"]) == (0, "idle")


def test_times_of_handlers_and_waits(worker: Worker) -> None:
    do(worker, lambda: gevent.sleep(0.02))
    do(worker, times=9)
    told = worker.vitals()
    assert told["handled"] == 10
    assert 20 <= told["max_ms"] < 1000
    assert told["mean_ms"] == pytest.approx(told["busy_ms"] / 10, abs=0.01)
    assert told["p99_ms"] <= told["max_ms"]
    assert told["p99_ms"] > 10
    assert 0 <= told["wait_p50_ms"] <= told["wait_p99_ms"]


def test_who_stands_behind_a_slow_one_has_waited(worker: Worker) -> None:
    worker.ref.tell(Do(lambda: gevent.sleep(0.02)))
    do(worker)
    assert worker.vitals()["wait_p99_ms"] > 10


def test_figures_by_type(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    do(worker, times=3)
    worker.ref.tell(DoOther(fail))
    settle(worker.system)
    first, second = types_of(worker)
    assert (first["type"], first["count"], first["failures"]) == ("Do", 3, 0)
    assert (second["type"], second["count"], second["failures"]) == ("DoOther", 1, 1)
    assert first["mean_ms"] * 3 == pytest.approx(first["time_ms"], abs=0.01)


def test_a_minute_later_it_is_forgotten(system: System, worker: Worker) -> None:
    do(worker, times=3)
    assert list(system.measured) == [worker.number]
    turn(system)
    assert worker.vitals()["mailbox_peak"] == 3
    assert worker.vitals()["max_ms"] is not None
    do(worker)
    assert [row["count"] for row in types_of(worker)] == [4]
    turn(system)
    assert [row["count"] for row in types_of(worker)] == [1]
    assert worker.vitals()["mailbox_peak"] == 1
    turn(system)
    assert (worker.vitals()["max_ms"], worker.vitals()["mailbox_peak"]) == (None, 0)
    turn(system)
    assert (system.measured, worker.handled) == ({}, 4)


def test_the_peak_of_one_that_is_paused_stays(system: System, worker: Worker) -> None:
    do(worker)
    worker.actor_inbox.pause()
    for _ in range(5):
        worker.ref.tell(Do(int))
    for _ in range(4):
        turn(system)
        assert worker.vitals()["mailbox_peak"] == 5


def test_rates_are_those_of_the_last_look(system: System, worker: Worker) -> None:
    do(worker, lambda: gevent.sleep(0.01), times=4)
    look(system, 2.0)
    told = worker.vitals()
    assert told["handled_per_second"] == 2.0
    assert told["busy_percent"] == pytest.approx(told["busy_ms"] / 2000 * 100, abs=0.01)
    look(system, 2.0)
    assert (worker.vitals()["handled_per_second"], worker.vitals()["busy_percent"]) == (0.0, 0.0)


def test_one_that_is_stuck_is_busy(system: System, worker: Worker) -> None:
    go_on = gevent.event.Event()
    worker.ref.tell(Do(go_on.wait))
    wait_until(lambda: worker.handling is not None)
    wait_until(lambda: worker.vitals()["handling_ms"] > 5)
    system.measured[worker.number] = worker
    turn(system)  # also when it did nothing else for so long
    look(system, 0.001)
    told = worker.vitals()
    assert (told["state"], told["handling"], told["busy_percent"]) == ("running", "Do", 100.0)
    go_on.set()


def test_slow_handlers_are_listed(system: System, worker: Worker) -> None:
    do(worker, lambda: gevent.sleep(SLOW_NS / 1e9))
    do(worker)
    [slow] = system.slow.rows()
    assert slow["actor"] == {"id": worker.number, "kind": "worker", "name": "ann"}
    assert (slow["message_type"], slow["took_ms"] >= SLOW_NS / 1e6) == ("Do", True)
    assert (worker.vitals()["slow"], system.slow.figures()["total"]) == (1, 1)
    worker.end()
    wait_until(lambda: not system.actors)
    assert (system.slow.by_actor, system.slow.total) == ({}, 1)


def test_states(system: System, worker: Worker) -> None:
    seen: list[str] = []
    assert doing(worker) == "idle"
    worker.ref.tell(Do(lambda: seen.append(doing(worker))))
    assert doing(worker) == "running"
    settle(system)
    worker.waits = "the disk"
    assert (doing(worker), worker.vitals()["waits_for"]) == ("waiting", "the disk")
    worker.waits = "broken"
    assert (doing(worker), worker.vitals()["waits_for"]) == ("idle", None)
    worker.actor_inbox.pause()
    assert doing(worker) == "paused"
    worker.is_quarantined = True
    assert doing(worker) == "quarantined"
    worker.end()
    wait_until(lambda: not system.actors)
    assert doing(worker) == "dead"
    assert seen == ["running"]


def test_restarting_shows(system: System) -> None:
    class Slow(Worker):
        def restarted(self) -> None:
            seen.append(doing(self))

    seen: list[str] = []
    slow = Slow(system)
    slow.begin()
    do(slow, fail)
    assert seen == ["restarting"]
    assert doing(slow) == "idle"


@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_right_to_the_power_of_two(times: list[int], share: float) -> None:
    windows = [Window(0, 0, None), Window(0, 0, None)]
    for number, waited in enumerate(times):
        windows[number % 2].note(Do, waited, 0)
    found = percentile(waits(windows), share) * 1e6
    wanted = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    bits = wanted.bit_length()
    assert (1 << bits - 1 if bits else 0) * 0.999999 <= found <= (1 << bits) * 1.000001


def test_however_long_it_waited_or_took_it_is_counted(worker: Worker) -> None:
    month = 30 * 86_400 * 10**9
    now = time.perf_counter_ns()
    worker.duty.note(Do(int), now - 2 * month, now - month)
    told = worker.vitals()
    assert told["handled"] == 1
    assert told["max_ms"] >= month / 1e6
    assert told["wait_p99_ms"] > 86_400_000  # what is longer than a day and a half is not told apart
    assert worker.system.slow.total == 1
    assert [row["count"] for row in types_of(worker)] == [1]


def test_what_is_traced_tells_how_it_went(system: System, worker: Worker) -> None:
    seen: list[tuple[str, str]] = []
    worker.traced_by = lambda message_type, waited, took, outcome: (
        seen.append((message_type.__name__, outcome)) if waited >= 0 and took >= 0 else None
    )
    do(worker)
    do(worker, fail)
    worker.is_quarantined = True
    do(worker)
    assert seen == [("Do", "handled"), ("Do", "failed"), ("Do", "refused")]
