from __future__ import annotations

from typing import Any

import gevent
import pytest
from actors.harness import Listener, wait_until

from dispatchd.actors import alarm
from dispatchd.actors.alarm import Alarm
from dispatchd.actors.clock import now_ms
from dispatchd.actors.messages import Dispatch
from dispatchd.model.entry import NEVER

HOUR = 3_600_000


def set_alarm() -> tuple[Alarm, Any]:
    listener: Any = Listener()
    return Alarm(listener, Dispatch()), listener


def test_it_rings_once_at_the_earliest_moment() -> None:
    rings, listener = set_alarm()
    soon = now_ms() + 10
    for at in (now_ms() + HOUR, soon, now_ms() + 2 * HOUR):
        rings.set(at)
    wait_until(lambda: listener.told)
    rings.set(soon)
    gevent.sleep(0.01)
    listener.take(Dispatch)
    rings.rang()
    rings.set(now_ms() - HOUR)
    wait_until(lambda: listener.told)
    listener.take(Dispatch)


def test_it_rings_early_when_the_moment_is_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "LONGEST_TIMER_SECONDS", 0.001)
    rings, listener = set_alarm()
    for _ in range(2):
        rings.set(now_ms() + HOUR)
        wait_until(lambda: listener.told)
        listener.take(Dispatch)
        rings.rang()


def test_it_does_not_ring_without_a_moment_or_when_cancelled() -> None:
    rings, listener = set_alarm()
    rings.set(NEVER)
    rings.cancel()
    rings.set(now_ms() + 1)
    rings.cancel()
    gevent.sleep(0.01)
    assert listener.told == []
    rings.set(now_ms())
    wait_until(lambda: listener.told)
