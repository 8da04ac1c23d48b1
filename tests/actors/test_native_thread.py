"""The native thread that writes: one thing after the other, and the loop goes on."""

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from actors.harness import wait_until
from gevent import get_hub
from gevent.monkey import get_original
from gevent.queue import Queue

from dispatchd.actors.native_thread import Call, NativeThread

SECONDS = 10
get_ident = get_original("_thread", "get_ident")


class OddError(Exception):
    pass


class Told:
    """Takes calls that are over, and can be waited for."""

    def __init__(self) -> None:
        self.calls: Queue[Call] = Queue()

    def next(self) -> Call:
        return self.calls.get(timeout=SECONDS)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def thread(told: Told) -> Iterator[NativeThread]:
    thread = NativeThread(told.calls.put)
    yield thread
    thread.end()


def fail() -> None:
    raise OddError("odd")


def test_calls_are_made_one_after_the_other_on_one_other_thread(thread: NativeThread, told: Told) -> None:
    made: list[int] = []
    calls = [thread.spawn(made.append, number) for number in range(100)] + [thread.spawn(get_ident) for _ in range(3)]
    assert [told.next() for _ in calls] == calls
    assert made == list(range(100))
    assert all(call.is_over and call.error is None for call in calls)
    assert len({call.value for call in calls[-3:]} | {threading.get_ident()}) == 2


def test_the_loop_goes_on_meanwhile(thread: NativeThread, told: Told) -> None:
    wait, go = os.pipe()
    call = thread.spawn(os.read, wait, 1)
    gevent.sleep(0.001)
    assert not call.is_over
    os.write(go, b"x")
    assert told.next().value == b"x"
    os.close(wait)
    os.close(go)


def test_what_is_raised_is_told_and_the_next_call_is_made(
    thread: NativeThread, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(get_hub(), "handle_error", lambda _context, kind, *_: shown.append(kind))
    thread.spawn(fail)
    thread.spawn(int, "7")
    failed, next_one = told.next(), told.next()
    assert isinstance(failed.error, OddError)
    assert failed.value is None
    assert (next_one.value, next_one.error) == (7, None)
    assert shown == [OddError]


def test_what_is_written_is_not_held_until_the_next_call(thread: NativeThread, told: Told) -> None:
    class Batch: ...

    batch = Batch()
    held = weakref.ref(batch)
    thread.spawn(id, batch)
    del batch
    told.next()
    wait_until(lambda: held() is None)


def test_what_was_spawned_before_the_end_is_done(told: Told) -> None:
    thread = NativeThread(told.calls.put)
    for number in range(5):
        thread.spawn(abs, -number)
    thread.end()
    assert [told.next().value for _ in range(5)] == list(range(5))


def test_one_that_never_began_ends(told: Told) -> None:
    NativeThread(told.calls.put).end()
