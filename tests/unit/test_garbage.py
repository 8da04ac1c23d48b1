from __future__ import annotations

import gc
import time

import pytest

from dispatchd import garbage
from dispatchd.garbage import ENDED_ACTORS, GarbageCollection


class Cycle:
    def __init__(self) -> None:
        self.me = self


def count_cycles() -> int:
    return sum(isinstance(each, Cycle) for each in gc.get_objects())


def test_ended_actors_call_for_a_collection() -> None:
    ended = 0
    collection = GarbageCollection(lambda: ended)
    gc.collect()
    Cycle()
    assert not collection.collect_if_due()
    ended = ENDED_ACTORS
    assert collection.collect_if_due()
    assert count_cycles() == 0
    assert not collection.collect_if_due()


def test_a_slow_collection_is_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10 * garbage.FAST_SECONDS])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    ended = ENDED_ACTORS
    collection = GarbageCollection(lambda: ended)
    assert collection.collect_if_due()
    ended += 10 * ENDED_ACTORS - 1
    assert not collection.collect_if_due()
