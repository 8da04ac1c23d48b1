from __future__ import annotations

import gc
import sys

import pytest

from dispatchd.garbage import BLOCKS_FOR_ONE_MORE, ENDED_ACTORS, GarbageCollection


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
    ended = 2 * ENDED_ACTORS
    assert collection.collect_if_due()
    assert count_cycles() == 0
    assert not collection.collect_if_due()


def test_a_collection_of_much_is_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = 1000
    monkeypatch.setattr(sys, "getallocatedblocks", lambda: blocks)
    ended = ENDED_ACTORS + 9
    collection = GarbageCollection(lambda: ended)
    blocks += 10 * BLOCKS_FOR_ONE_MORE
    assert not collection.collect_if_due()
    ended += 1
    assert collection.collect_if_due()
    assert not collection.collect_if_due()
