from __future__ import annotations

import time
from typing import Any

import gevent
import pykka
import pytest
from pykka._envelope import Envelope

from dispatchd.actors import mailbox as mailbox_module
from dispatchd.actors.mailbox import Mailbox
from dispatchd.actors.turns import Turns, TurnTaker


class Receiver(TurnTaker):
    """Takes everything out of its mailbox that comes, and keeps it."""

    @property
    def title(self) -> str:
        return "receiver"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.mailbox = Mailbox(self, Turns())
        self.mailbox.begin()

    def take_turn(self) -> int:
        while self.mailbox.waiting and self.mailbox.lets_through():
            self.got.append(self.mailbox.waiting.popleft()[1])
        self.mailbox.turn_ended()
        return time.perf_counter_ns()

    def take(self) -> list[Any]:
        """What came since the last call, when all that can come has come."""
        for _ in range(5):
            gevent.sleep(0)
        got, self.got = self.got, []
        return got


@pytest.fixture
def mailbox(receiver: Receiver) -> Mailbox:
    return receiver.mailbox


@pytest.fixture
def receiver() -> Receiver:
    receiver = Receiver()
    assert receiver.take() == []
    return receiver


def fill(mailbox: Mailbox, *messages: Any) -> None:
    for message in messages:
        mailbox.add(message)


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


def test_what_pykka_puts_is_its_envelopes_content(mailbox: Mailbox) -> None:
    future = pykka.ThreadingFuture[int]()
    mailbox.put(Envelope("question", reply_to=future))
    assert mailbox.waiting.popleft()[1:] == ("question", future)


def test_depth_and_peak(mailbox: Mailbox) -> None:
    assert (len(mailbox), mailbox.peak, mailbox.empty()) == (0, 0, True)
    fill(mailbox, 1, 2, 3)
    assert (len(mailbox), mailbox.peak, mailbox.empty()) == (3, 3, False)
    mailbox.waiting.popleft()
    mailbox.waiting.popleft()
    assert (len(mailbox), mailbox.peak) == (1, 3)
    fill(mailbox, 4)
    assert (len(mailbox), mailbox.peak) == (2, 3)


def test_age_of_the_oldest(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(mailbox_module, "perf_counter_ns", lambda: int(now[0] * 1e9))
    assert mailbox.oldest_age() == 0.0
    fill(mailbox, "old")
    now[0] += 2
    fill(mailbox, "new")
    now[0] += 1
    assert mailbox.oldest_age() == 3.0
    mailbox.waiting.popleft()
    assert mailbox.oldest_age() == 1.0
    mailbox.waiting.popleft()
    assert mailbox.oldest_age() == 0.0


def test_looking_takes_nothing_away(mailbox: Mailbox) -> None:
    fill(mailbox, 1, 2, 3)
    assert mailbox.peek(2) == [1, 2]
    assert mailbox.peek(9) == [1, 2, 3]
    assert len(mailbox) == 3


def test_draining_passes_a_closed_gate(mailbox: Mailbox) -> None:
    mailbox.pause()
    fill(mailbox, 1, 2)
    assert [message for _, message, _ in mailbox.drain()] == [1, 2]
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


def test_what_is_added_first_passes_others_and_a_closed_gate(mailbox: Mailbox, receiver: Receiver) -> None:
    mailbox.pause()
    fill(mailbox, 1, 2)
    mailbox.add_first("stop")
    assert receiver.take() == ["stop"]
    assert len(mailbox) == 2


def test_before_the_owner_begins_nothing_is_got() -> None:
    receiver = Receiver.__new__(Receiver)
    TurnTaker.__init__(receiver)
    mailbox = Mailbox(receiver, Turns())
    receiver.got, receiver.mailbox = [], mailbox
    fill(mailbox, 1)
    assert receiver.take() == []
    mailbox.begin()
    assert receiver.take() == [1]
