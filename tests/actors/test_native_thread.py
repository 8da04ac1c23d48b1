"""The native thread that writes: one thing after the other, and the loop goes on."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent import get_hub
from gevent.monkey import get_original

from dispatchd.actors.native_thread import NativeThread

SECONDS = 10
get_ident = get_original("_thread", "get_ident")


class OddError(Exception):
    pass


@pytest.fixture
def thread() -> Iterator[NativeThread]:
    thread = NativeThread()
    yield thread
    thread.end()


def fail() -> None:
    raise OddError("odd")


def test_calls_are_made_one_after_the_other_on_one_other_thread(thread: NativeThread) -> None:
    made: list[int] = []
    results = [thread.spawn(made.append, number) for number in range(100)]
    places = {thread.spawn(get_ident).get(timeout=SECONDS) for _ in range(3)}
    assert made == list(range(100))
    assert all(result.get(timeout=SECONDS) is None for result in results)
    assert len(places) == 1
    assert places != {threading.get_ident()}


def test_the_loop_goes_on_meanwhile(thread: NativeThread) -> None:
    wait, go = os.pipe()
    result = thread.spawn(os.read, wait, 1)
    gevent.sleep(0.001)
    assert not result.ready()
    os.write(go, b"x")
    assert result.get(timeout=SECONDS) == b"x"
    os.close(wait)
    os.close(go)


def test_what_is_raised_is_told_and_the_next_call_is_made(
    thread: NativeThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(get_hub(), "handle_error", lambda _context, kind, *_: told.append(kind))
    failed, next_one = thread.spawn(fail), thread.spawn(int, "7")
    linked: list[Any] = []
    failed.rawlink(linked.append)
    assert next_one.get(timeout=SECONDS) == 7
    assert isinstance(failed.exception, OddError)
    assert failed.value is None
    gevent.sleep(0)
    assert linked == [failed]
    assert told == [OddError]


def test_who_made_the_thread_is_told_of_each_result() -> None:
    told: list[tuple[bool, Any]] = []
    thread = NativeThread(lambda result: told.append((result.ready(), result.value)))
    thread.spawn(int, "7")
    thread.spawn(int, "8").get(timeout=SECONDS)
    assert told == [(True, 7), (True, 8)]
    thread.end()


def test_what_was_spawned_before_the_end_is_done() -> None:
    thread = NativeThread()
    results = [thread.spawn(abs, -number) for number in range(5)]
    thread.end()
    assert [result.get(timeout=SECONDS) for result in results] == list(range(5))


def test_one_that_never_began_ends() -> None:
    NativeThread().end()
