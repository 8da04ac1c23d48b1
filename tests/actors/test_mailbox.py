from __future__ import annotations

import time
from typing import Any

import gevent
import pytest
from gevent.event import Event
from pykka._envelope import Envelope

from dispatchd.actors.mailbox import Mailbox
from dispatchd.actors.messages import Killed


class Receiver:
    """Gets from a mailbox for ever, and keeps what it gets."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.got: list[Any] = []
        self.greenlet = gevent.spawn(self._receive, mailbox)

    def _receive(self, mailbox: Mailbox) -> None:
        while True:
            message = mailbox.get().message
            self.got.append(message)

    def take(self) -> list[Any]:
        """What came since the last call, when all that can come has come."""
        for _ in range(5):
            gevent.sleep(0)
        got, self.got = self.got, []
        return got


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def receiver(mailbox: Mailbox) -> Receiver:
    receiver = Receiver(mailbox)
    assert receiver.take() == []
    return receiver


def fill(mailbox: Mailbox, *messages: Any) -> None:
    for message in messages:
        mailbox.put(Envelope(message))


def test_what_is_put_is_got_in_order(mailbox: Mailbox, receiver: Receiver) -> None:
    fill(mailbox, 1, 2, 3)
    assert receiver.take() == [1, 2, 3]
    fill(mailbox, 4)
    assert receiver.take() == [4]


def test_put_does_not_let_others_run(mailbox: Mailbox) -> None:
    others: list[str] = []
    gevent.spawn(others.append, "ran")
    fill(mailbox, *range(1000))
    assert others == []


def test_what_is_there_is_got_without_letting_others_run(mailbox: Mailbox) -> None:
    fill(mailbox, "a")
    others: list[str] = []
    gevent.spawn(others.append, "ran")
    assert mailbox.get().message == "a"
    assert others == []


def test_depth_and_peak(mailbox: Mailbox) -> None:
    assert (len(mailbox), mailbox.peak, mailbox.empty()) == (0, 0, True)
    fill(mailbox, 1, 2, 3)
    assert (len(mailbox), mailbox.peak, mailbox.empty()) == (3, 3, False)
    mailbox.get()
    mailbox.get()
    assert (len(mailbox), mailbox.peak) == (1, 3)
    fill(mailbox, 4)
    assert (len(mailbox), mailbox.peak) == (2, 3)


def test_age_of_the_oldest(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert mailbox.oldest_age() == 0.0
    fill(mailbox, "old")
    now[0] += 2
    fill(mailbox, "new")
    now[0] += 1
    assert mailbox.oldest_age() == 3.0
    mailbox.get()
    assert mailbox.oldest_age() == 1.0
    mailbox.get()
    assert mailbox.oldest_age() == 0.0


def test_looking_takes_nothing_away(mailbox: Mailbox) -> None:
    fill(mailbox, 1, 2, 3)
    assert mailbox.peek(2) == [1, 2]
    assert mailbox.peek(9) == [1, 2, 3]
    assert len(mailbox) == 3


def test_draining_passes_a_closed_gate(mailbox: Mailbox) -> None:
    mailbox.pause()
    fill(mailbox, 1, 2)
    assert [envelope.message for envelope in mailbox.drain()] == [1, 2]
    assert mailbox.empty()


def test_paused_keeps_what_arrives(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.pause()
    fill(mailbox, 1, 2)
    assert receiver.take() == []
    mailbox.resume()
    assert receiver.take() == [1, 2]
    fill(mailbox, 3)
    assert receiver.take() == [3]


def test_a_step_lets_exactly_one_through(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.pause()
    fill(mailbox, 1, 2, 3, 4)
    mailbox.step()
    assert receiver.take() == [1]
    mailbox.step(2)
    assert receiver.take() == [2, 3]
    assert mailbox.permits == 0


def test_a_step_waits_for_what_arrives_later(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.pause()
    mailbox.step()
    assert receiver.take() == []
    fill(mailbox, 1, 2)
    assert receiver.take() == [1]


def test_a_step_closes_an_open_gate(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.step()
    fill(mailbox, 1, 2)
    assert receiver.take() == [1]


def test_pausing_after_a_wake_up_still_holds(mailbox: Mailbox, receiver: Receiver) -> None:
    fill(mailbox, 1)
    mailbox.pause()
    assert receiver.take() == []
    mailbox.resume()
    assert receiver.take() == [1]


def test_put_first_passes_others_and_a_closed_gate(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.pause()
    fill(mailbox, 1, 2)
    mailbox.put_first(Envelope("stop"))
    assert receiver.take() == ["stop"]
    assert len(mailbox) == 2


def test_a_kill_while_waiting_is_something_to_get(mailbox: Mailbox, receiver: Receiver) -> None:
    receiver.greenlet.kill(block=False)
    (killed,) = receiver.take()
    assert isinstance(killed, Killed)
    assert isinstance(killed.cause, gevent.GreenletExit)
    fill(mailbox, 1)
    assert receiver.take() == [1]


def test_a_timeout_while_waiting_is_something_to_get(mailbox: Mailbox) -> None:
    with gevent.Timeout(0.001) as timeout:
        message = mailbox.get().message
    assert isinstance(message, Killed)
    assert message.cause is timeout


def test_a_kill_together_with_a_message_loses_nothing(mailbox: Mailbox, receiver: Receiver) -> None:
    fill(mailbox, 1)
    receiver.greenlet.kill(block=False)
    fill(mailbox, 2)
    got = receiver.take()
    assert [message for message in got if not isinstance(message, Killed)] == [1, 2]
    fill(mailbox, 3)
    assert receiver.take() == [3]


def test_a_kill_while_paused_leaves_what_waits(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.pause()
    fill(mailbox, 1)
    receiver.greenlet.kill(block=False)
    (killed,) = receiver.take()
    assert isinstance(killed, Killed)
    mailbox.resume()
    assert receiver.take() == [1]


def test_wakes_for_what_another_greenlet_puts(mailbox: Mailbox) -> None:
    got = Event()

    def receive() -> None:
        assert mailbox.get().message == "hello"
        got.set()

    gevent.spawn(receive)
    gevent.spawn_later(0.001, fill, mailbox, "hello")
    assert got.wait(5)
