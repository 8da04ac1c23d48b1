"""What queues and exchanges that drop duplicates do, also when something fails."""

from __future__ import annotations

from typing import Any

import pytest
from actors.harness import Client, World, failing
from pamqp import commands as spec

from dispatchd.actors import queue as queue_actor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Bind, Enqueue, Forget, Settle
from dispatchd.actors.queue import QueueActor

ON: Any = {"x-message-deduplication": True}


def declare_queue(client: Client, name: str = "q", durable: bool = False, **arguments: Any) -> None:
    named: Any = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    client.call(1, spec.Queue.Declare(queue=name, durable=durable, arguments=named), spec.Queue.DeclareOk)


def bind(client: Client, queue: str, exchange: str = "x") -> None:
    client.call(1, spec.Queue.Bind(queue=queue, exchange=exchange), spec.Queue.BindOk)


@pytest.fixture
def queue(world: World, client: Client) -> QueueActor:
    """It drops duplicates; the client confirms."""
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    declare_queue(client, message_deduplication=True)
    return world.actor(QueueActor, "q")


@pytest.fixture
def exchange(world: World, client: Client) -> ExchangeActor:
    """A fanout that drops duplicates, with a queue q that doesn't; the client confirms."""
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="fanout", arguments=ON), spec.Exchange.DeclareOk)
    declare_queue(client)
    bind(client, "q")
    return world.actor(ExchangeActor, "x")


def send(client: Client, value: str, body: bytes = b"", **options: Any) -> None:
    client.publish(1, body or value.encode(), headers={"x-deduplication-header": value}, **options)


def acked(client: Client) -> None:
    client.expect(spec.Basic.Ack, 1)


def refused(client: Client) -> None:
    client.expect(spec.Basic.Nack, 1)


def bodies(client: Client, queue: str = "q") -> list[bytes]:
    found = []
    while client.call(1, spec.Queue.Declare(queue=queue, passive=True), spec.Queue.DeclareOk).message_count:
        found.append(client.get(queue, no_ack=True)[1])
    return found


def test_a_queue_drops_and_confirms_duplicates(client: Client, queue: QueueActor) -> None:
    for value, body in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        send(client, value, body, mandatory=True)
        acked(client)
    assert bodies(client) == [b"1", b"2"]
    send(client, "a")
    acked(client)
    assert bodies(client) == []
    snapshot = queue.snapshot()
    assert (snapshot["published"], snapshot["duplicates_dropped"]) == (2, 2)
    client.transport.assert_all_credit_is_back()


def test_what_comes_back_is_no_duplicate(client: Client, queue: QueueActor) -> None:
    send(client, "a")
    acked(client)
    client.get()
    client.send(1, spec.Basic.Reject(1, requeue=True))
    assert bodies(client) == [b"a"]


def test_an_exchange_drops_and_confirms_duplicates(client: Client, exchange: ExchangeActor) -> None:
    for value, body in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        send(client, value, body, exchange="x")
        acked(client)
    send(client, "a", b"4", exchange="x", mandatory=True)
    assert client.returned()[1] == b"4"
    acked(client)
    assert bodies(client) == [b"1", b"2"]
    snapshot = exchange.snapshot()
    assert (snapshot["published_in"], snapshot["published_out"], snapshot["duplicates_dropped"]) == (4, 2, 2)
    client.transport.assert_all_credit_is_back()


def test_an_exchange_behind_another_drops_duplicates_too(client: Client, exchange: ExchangeActor) -> None:
    client.call(1, spec.Exchange.Declare(exchange="y", exchange_type="fanout"), spec.Exchange.DeclareOk)
    client.call(1, spec.Exchange.Bind(destination="x", source="y"), spec.Exchange.BindOk)
    declare_queue(client, "r")
    bind(client, "r", "y")
    for body in (b"1", b"2"):
        send(client, "a", body, exchange="y", mandatory=True)
        acked(client)
    assert (bodies(client), bodies(client, "r")) == ([b"1"], [b"1", b"2"])


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_what_a_full_queue_refused_may_come_again(world: World, client: Client, overflow: str) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    declare_queue(client, message_deduplication=True, max_length=1, overflow=overflow)
    send(client, "a")
    acked(client)
    for _ in range(2):
        send(client, "b")
        refused(client)
    send(client, "a")
    acked(client)
    assert bodies(client) == [b"a"]
    send(client, "b")
    acked(client)
    assert bodies(client) == [b"b"]
    assert world.actor(QueueActor).snapshot()["duplicates_dropped"] == 1


def test_a_queue_that_failed_takes_what_it_refused(
    client: Client, queue: QueueActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, "a")
    acked(client)

    def fail(*_: Any) -> None:
        raise ValueError

    with monkeypatch.context() as patched:
        patched.setattr(queue_actor, "Accepted", fail)
        send(client, "b", b"refused when it was in the queue, and gone from there")
        refused(client)
    for value in "aabb":
        send(client, value)
        acked(client)
    assert queue.restarts == 2
    assert bodies(client) == [b"a", b"b"]


def test_a_queue_that_failed_before_it_took_anything_forgets_nothing(
    client: Client, queue: QueueActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, "a")
    acked(client)

    def fail() -> int:
        raise ValueError

    with monkeypatch.context() as patched:
        patched.setattr(queue_actor, "now_ms", fail)
        send(client, "b")
        refused(client)
    send(client, "a")
    acked(client)
    assert queue.restarts == 2
    assert bodies(client) == [b"a"]


def test_a_queue_that_failed_otherwise_forgets_nothing(client: Client, queue: QueueActor) -> None:
    send(client, "a")
    acked(client)
    client.get()
    with failing(queue, Settle, ValueError) as failed:
        client.send(1, spec.Basic.Ack(1))
        client.world.settle()
    assert (len(failed), queue.restarts) == (1, 1)
    send(client, "a")
    acked(client)
    assert bodies(client) == []


def test_an_exchange_that_failed_takes_what_it_refused(
    client: Client, exchange: ExchangeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, "a", exchange="x")
    acked(client)

    def fail(*_: object) -> None:
        raise ValueError

    with monkeypatch.context() as patched:
        patched.setattr(exchange, "_routing", fail)
        send(client, "b", exchange="x")
        refused(client)
    for value in "ab":
        send(client, value, exchange="x")
        acked(client)
    assert exchange.restarts == 1
    assert bodies(client) == [b"a", b"b"]


def test_an_exchange_that_failed_otherwise_forgets_nothing(client: Client, exchange: ExchangeActor) -> None:
    send(client, "a", exchange="x")
    acked(client)
    declare_queue(client, "r")
    with failing(exchange, Bind, ValueError) as failed:
        bind(client, "r")
        client.world.settle()
    send(client, "a", exchange="x")
    acked(client)
    assert len(failed) == 1
    assert (bodies(client), bodies(client, "r")) == ([b"a"], [])


def test_an_exchange_lets_come_again_what_a_queue_refused(
    world: World, client: Client, exchange: ExchangeActor
) -> None:
    with failing(world.actor(QueueActor, "q"), Enqueue, ValueError, times=2):
        send(client, "a", exchange="x")
        refused(client)
    for _ in range(2):
        send(client, "a", exchange="x")
        acked(client)
    assert bodies(client) == [b"a"]
    exchange.ref.tell(Forget([]))
    world.actor(ExchangeActor, "amq.direct").ref.tell(Forget([]))
    world.settle()
    assert not world.actor(ExchangeActor, "amq.direct").failures.total
    client.transport.assert_all_credit_is_back()


def test_a_queue_knows_what_it_still_holds_after_a_restart_of_the_broker(world: World, client: Client) -> None:
    declare_queue(client, durable=True, message_deduplication=True)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    for value in "ab":
        send(client, value, persistent=True)
        acked(client)
    client.get(no_ack=True)
    world.flush()
    client = Client(World(world.store)).open().open_channel()
    for value in "ab":
        send(client, value, b"again", persistent=True)
    assert bodies(client) == [b"b", b"again"]
    client.world.end()
