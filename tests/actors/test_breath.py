"""Long work lets sockets and timers have turns, at once and not only after many of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from socket import socketpair

import gevent
import pytest

from dispatchd.actors import breath
from dispatchd.actors.breath import TURN_SECONDS, in_turns


def busy(steps: int) -> Iterator[int]:
    """Each step takes as long as a turn may."""
    for step in range(steps):
        end = time.perf_counter() + TURN_SECONDS
        while time.perf_counter() < end:
            pass
        yield step


def test_a_socket_and_a_timer_have_turns_between_steps() -> None:
    ours, theirs = socketpair()
    heard: list[tuple[str, int]] = []
    at = 0

    def read() -> None:
        for _ in range(3):
            ours.recv(1)
            heard.append(("socket", at))

    reader = gevent.spawn(read)
    gevent.spawn_later(TURN_SECONDS, lambda: heard.append(("timer", at)))
    with ours, theirs:
        gevent.sleep(0)
        for at in in_turns(busy(60)):
            if at % 10 == 0:
                theirs.send(b"x")
        reader.join(5)
    steps = dict(heard)
    assert [what for what, _ in heard].count("socket") == 3
    assert steps["timer"] < 10
    assert steps["socket"] < 30, heard


def test_short_work_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breath, "TURN_SECONDS", 60.0)
    turns: list[str] = []
    other = gevent.spawn(lambda: turns.append("other"))
    assert list(in_turns(range(1000))) == list(range(1000))
    assert turns == []
    other.join()
