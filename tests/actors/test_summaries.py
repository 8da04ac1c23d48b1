"""What is shown of messages between actors, and what never is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from actors.harness import Listener, sample_methods

from dispatchd.actors.messages import ActorMessage, Add, Authenticate, Define, Enqueue, Request, Snapshot
from dispatchd.actors.summaries import SHOWN_CHARACTERS, count, summary, weight
from dispatchd.actors.user_orders import PutUser
from dispatchd.amqp import methods as m
from dispatchd.amqp.message import Message
from dispatchd.model.entry import QueueEntry
from dispatchd.model.router import Publishing

SECRET = "the-secret"


@dataclass(frozen=True, slots=True)
class Odd(ActorMessage):
    value: Any
    hidden: str = field(default=SECRET, repr=False)


def listener() -> Any:
    return Listener("somebody")


def messages(number: int = 3) -> list[Message]:
    return [Message("x", "key", b"", body=SECRET.encode()) for _ in range(number)]


def test_what_a_message_is_about() -> None:
    enqueue = Enqueue(Publishing(listener(), messages(), 0, confirm=False), messages())
    shown = "[3 Message: Message('x', 'key', 10 B)]"
    assert summary(enqueue) == f"Enqueue(publishing=3 messages of somebody, messages={shown})"
    add = Add(7, [QueueEntry(each, listener(), 5) for each in messages()])
    assert (
        summary(add) == "Add(queue_id=7, entries=[3 QueueEntry: entry 5: Message('x', 'key', 10 B)], publishing=None)"
    )
    assert (count(enqueue), weight(enqueue), count(add), weight(add)) == (3, 30, 3, 30)
    assert (summary(Snapshot()), count(Snapshot()), weight(Snapshot())) == ("Snapshot()", 0, 0)
    request = Request(listener(), m.BasicGet(queue="orders"), 3, listener())
    assert summary(request).startswith("Request(reply_to=Listener somebody, method=BasicGet(queue='orders', ")


@pytest.mark.parametrize(
    "message",
    [
        Authenticate(listener(), "user", SECRET.encode(), "127.0.0.1"),
        PutUser("user", SECRET, "bcrypt", []),
        Define([(b"key", SECRET.encode())]),
        Enqueue(Publishing(listener(), messages(), 0, confirm=False), messages()),
        Request(listener(), m.ConnectionStartOk(response=SECRET.encode()), 3, listener()),
        Odd(SECRET.encode()),
        Odd([SECRET.encode()]),
        Odd(None),
    ],
    ids=lambda message: type(message).__name__,
)
def test_contents_and_secrets_are_never_shown(message: ActorMessage) -> None:
    assert SECRET not in summary(message)
    assert SECRET not in repr(message) or isinstance(message, Odd | Define | Request | Enqueue)


class Unshowable:
    @property
    def name(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize("value", [Unshowable(), {}, [], {"a": 1}, "x" * 10_000, ["x"] * 10_000, 1.5, ValueError("x")])
def test_whatever_a_value_is_it_is_a_short_line(value: Any) -> None:
    assert 0 < len(summary(Odd(value))) <= SHOWN_CHARACTERS
    assert weight(Odd(value)) == 0


def test_every_method_can_be_shown() -> None:
    for method in sample_methods():
        assert summary(Request(listener(), method, 1, listener())).startswith("Request(")


def test_what_is_no_message_of_ours() -> None:
    assert summary("restart") == "restart"
    assert summary(object()) == "object"
