"""The watchdog sees who blocks the loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gevent
import pytest
from actors.harness import wait_until
from gevent import monkey

from dispatchd.actors import watchdog as watchdog_module
from dispatchd.actors.messages import ActorMessage
from dispatchd.actors.runtime import Actor, System, receives
from dispatchd.actors.watchdog import Watchdog

really_sleep = monkey.get_original("time", "sleep")


@dataclass(frozen=True, slots=True)
class Do(ActorMessage):
    act: Callable[[], Any]


class Worker(Actor):
    kind = "worker"

    def __init__(self, system: System) -> None:
        super().__init__(system, "ann\n", None)

    @receives(Do)
    def on_do(self, message: Do) -> Any:
        return message.act()


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    watchdog = Watchdog(system)
    watchdog.start()
    yield system
    watchdog.stop()
    for actor in list(system.actors.values()):
        actor.end()
    wait_until(lambda: not system.actors)


@pytest.fixture
def worker(system: System) -> Worker:
    worker = Worker(system)
    worker.begin()
    return worker


def computes(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def sleeps(seconds: float) -> None:
    really_sleep(seconds)


@pytest.mark.parametrize("blocks", [computes, sleeps])
def test_who_blocks_the_loop_is_named_with_his_stack(
    system: System, worker: Worker, caplog: pytest.LogCaptureFixture, blocks: Callable[[float], None]
) -> None:
    with caplog.at_level(logging.INFO, "dispatchd.actors.watchdog"):
        worker.ref.tell(Do(lambda: blocks(0.4)))
        wait_until(lambda: system.blocks.total)
    [block] = system.blocks.rows()
    assert block["actor"] == {"id": worker.number, "kind": "worker", "name": "ann\n"}
    assert block["message_type"] == "Do"
    assert f"in {blocks.__name__}" in block["stack"]
    assert 100 < block["took_ms"] < 2_000
    [record] = caplog.records
    assert f"by worker 'ann\\n' ({worker.number}), which handled Do\n" in record.getMessage()
    assert record.levelname == "INFO"
    assert worker.vitals()["blocks"] == 1


def test_a_long_one_is_told_while_it_lasts(
    system: System, worker: Worker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog_module, "LONG_SECONDS", 0.2)
    told: list[str] = []

    def until_it_is_told() -> None:
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            pass
        told.extend(record.getMessage() for record in caplog.records)

    with caplog.at_level(logging.INFO, "dispatchd.actors.watchdog"):
        worker.ref.tell(Do(until_it_is_told))
        wait_until(lambda: system.blocks.total)
    [first] = told
    assert first.startswith("the loop has been blocked for 0.")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_what_is_no_actor(system: System) -> None:
    gevent.spawn(computes, 0.4).join(10)
    wait_until(lambda: system.blocks.total)
    [block] = system.blocks.rows()
    assert (block["actor"], block["message_type"]) == (None, None)
    assert "in computes" in block["stack"]


def test_who_waits_blocks_nobody(system: System, worker: Worker) -> None:
    worker.ref.tell(Do(lambda: gevent.sleep(0.4)))
    wait_until(lambda: worker.handled)
    gevent.sleep(0.15)
    assert (system.blocks.total, system.slow.total) == (0, 1)


def test_what_was_not_let_run_is_not_blocked(system: System, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watchdog, "_stolen", lambda _: time.monotonic())  # all that passes is given to others
    worker.ref.tell(Do(lambda: computes(0.4)))
    wait_until(lambda: worker.handled)
    gevent.sleep(0.15)
    assert system.blocks.total == 0


def test_a_loop_that_waits_for_events_is_only_late(
    system: System, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine is suspended: nobody of ours runs, and it is nobody's fault."""
    monkeypatch.setattr(Watchdog, "_tick", lambda _: None)
    late = Watchdog(system)
    late.start()
    gevent.sleep(0.5)
    late._ticks += 1
    gevent.sleep(0.15)
    late.stop()
    assert system.blocks.total == 0
