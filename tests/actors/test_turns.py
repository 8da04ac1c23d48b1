"""Who is due has a turn after the others; who waits in the middle of his keeps the greenlet, and nobody else waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import pytest
from actors.harness import wait_until
from gevent.event import Event

from dispatchd.actors.turns import SHORT_NS, SHORT_ONES_FIRST, SLICE_NS, Turns, TurnTaker


class Taker(TurnTaker):
    """Does what it is told when it has a turn."""

    @property
    def title(self) -> str:
        return "taker"

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def take_turn(self) -> int:
        self._act()
        return time.perf_counter_ns()


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_turns_come_in_the_order_of_the_line_and_on_one_greenlet(turns: Turns) -> None:
    had: list[tuple[int, object]] = []

    def note(number: int) -> None:
        had.append((number, gevent.getcurrent()))

    for number in range(100):
        turns.add(Taker(partial(note, number)))
    assert (had, len(turns)) == ([], 100)
    wait_until(lambda: len(had) == 100)
    assert [number for number, _ in had] == list(range(100))
    assert len({greenlet for _, greenlet in had}) == len(turns.idle) == 1


def test_who_is_added_in_a_turn_has_one_too(turns: Turns) -> None:
    had: list[str] = []
    turns.add(Taker(lambda: turns.add(Taker(lambda: had.append("second")))))
    wait_until(lambda: had)
    assert len(turns.idle) == 1


def test_who_waits_keeps_his_greenlet_and_others_go_on(turns: Turns) -> None:
    waits, had = Event(), list[str]()

    def wait() -> None:
        waits.wait()
        had.append("waited")
        turns.add(Taker(lambda: had.append("after it")))

    turns.add(Taker(wait))
    turns.add(Taker(wait))
    turns.add(Taker(lambda: had.append("behind")))
    wait_until(lambda: had)
    turns.add(Taker(lambda: had.append("later")))
    wait_until(lambda: len(had) == 2)
    assert had == ["behind", "later"]
    waits.set()
    wait_until(lambda: len(had) == 6)
    assert sorted(had[2:]) == ["after it", "after it", "waited", "waited"]
    wait_until(lambda: len(turns.idle) == 3)


def test_the_greenlet_is_called_as_who_has_the_turn(turns: Turns) -> None:
    waits, workers = Event(), list[Any]()

    def wait() -> None:
        workers.append(gevent.getcurrent())
        waits.wait()

    turns.add(Taker(wait))
    wait_until(lambda: workers)
    assert workers[0].name == "taker"
    waits.set()
    wait_until(lambda: turns.idle)
    assert workers[0].name == "between turns"


def test_sockets_and_timers_are_not_kept_waiting(turns: Turns) -> None:
    done: list[int] = []

    def work() -> None:
        until = time.monotonic() + SLICE_NS / 5e9
        while time.monotonic() < until:
            pass
        done.append(1)
        if not timer.dead:
            turns.add(taker)

    taker = Taker(work)
    timer = gevent.spawn_later(0.001, int)
    turns.add(taker)
    timer.join(timeout=10)
    assert timer.dead
    assert done


def test_who_has_little_to_do_goes_before_who_has_much_but_not_for_ever(turns: Turns) -> None:
    had: list[str] = []

    def work() -> None:
        until = time.perf_counter_ns() + 2 * SHORT_NS
        while time.perf_counter_ns() < until:
            pass
        had.append("much")

    much = Taker(work)
    turns.add(much)
    wait_until(lambda: had)
    assert not much.is_short
    had.clear()
    turns.add(much)
    for _ in range(2 * SHORT_ONES_FIRST):
        turns.add(Taker(lambda: had.append("little")))
    assert len(turns) == 2 * SHORT_ONES_FIRST + 1
    wait_until(lambda: len(had) == 2 * SHORT_ONES_FIRST + 1)
    assert had.index("much") == SHORT_ONES_FIRST


def test_a_greenlet_that_is_killed_is_replaced(turns: Turns) -> None:
    had: list[int] = []
    turns.add(Taker(lambda: had.append(1)))
    wait_until(lambda: turns.idle)
    turns.idle[0].kill()
    turns.add(Taker(lambda: had.append(2)))
    wait_until(lambda: len(had) == 2)
    assert len(turns.idle) == 1
