from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from actors.harness import WAIT_SECONDS, Client, World, failing, settle, wait_until
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from unit.store.batches import contents_of

from dispatchd.actors import alarm, delayed_exchange
from dispatchd.actors.delayed_exchange import DUE_IN_ONE_TURN, DelayedExchangeActor, DelayOver
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Accepted, Add, Restart, Route
from dispatchd.actors.orders import DeleteVhost, carry_out
from dispatchd.actors.queue import QueueActor
from dispatchd.store.memory_store import MemoryStore

MINUTE = 60_000


class Clock:
    """The time as delayed exchanges see it."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def advance(self, exchange: DelayedExchangeActor, milliseconds: int = MINUTE) -> None:
        """Let time go by, and the exchange look at it until nothing is due."""
        settle(exchange.system)
        self.ahead += milliseconds
        exchange.ref.tell(DelayOver())
        wait_until(lambda: exchange._delays.next_due() > self())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (alarm, delayed_exchange):
        monkeypatch.setattr(module, "now_ms", clock)
    return clock


def declare(client: Client, name: str = "x", kind: str = "direct", *, durable: bool = False, **arguments: Any) -> None:
    given: Any = {"x-delayed-type": kind, **{key.replace("_", "-"): value for key, value in arguments.items()}}
    method = spec.Exchange.Declare(exchange=name, exchange_type="x-delayed-message", durable=durable, arguments=given)
    client.call(1, method, spec.Exchange.DeclareOk)


def declare_queue(client: Client, name: str = "q", exchange: str = "x", key: str = "q", **how: Any) -> None:
    client.call(1, spec.Queue.Declare(queue=name, **how), spec.Queue.DeclareOk)
    if exchange:
        client.call(1, spec.Queue.Bind(queue=name, exchange=exchange, routing_key=key), spec.Queue.BindOk)


def publication(
    body: bytes,
    delay: int = MINUTE,
    key: str = "q",
    *,
    exchange: str = "x",
    persistent: bool = False,
    mandatory: bool = False,
    **headers: Any,
) -> list[Any]:
    """The frames of one basic.publish with an x-delay and other headers."""
    properties = spec.Basic.Properties(delivery_mode=2 if persistent else 1, headers={"x-delay": delay, **headers})
    publish = spec.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
    return [publish, ContentHeader(0, len(body), properties), ContentBody(body)]


def publish(client: Client, body: bytes, delay: int = MINUTE, key: str = "q", **options: Any) -> None:
    client.send(1, *publication(body, delay, key, **options))


def confirming(client: Client) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)


def got(client: Client, queue: str = "q") -> list[bytes]:
    """Empty the queue."""
    bodies: list[bytes] = []
    while True:
        client.send(1, spec.Basic.Get(queue=queue, no_ack=True))
        answer: Any = client.expect(object, 1)
        if isinstance(answer, spec.Basic.GetEmpty):
            return bodies
        bodies.append(client._body(1))


def delayed(exchange: DelayedExchangeActor) -> int:
    return int(exchange.snapshot()["messages_delayed"])


@pytest.fixture
def exchange(world: World, client: Client, clock: Clock) -> DelayedExchangeActor:
    """A delayed direct exchange x with the queue q."""
    declare(client)
    declare_queue(client)
    return world.actor(DelayedExchangeActor)


def test_it_routes_by_the_bindings_of_the_later_moment(
    client: Client, clock: Clock, exchange: DelayedExchangeActor
) -> None:
    publish(client, b"second", 2 * MINUTE)
    publish(client, b"first")
    publish(client, b"also first", key="r")
    publish(client, b"at once", 0)
    assert got(client) == [b"at once"]
    assert delayed(exchange) == 3
    declare_queue(client, "r", key="r")
    clock.advance(exchange)
    assert (got(client), got(client, "r")) == ([b"first"], [b"also first"])
    client.call(1, spec.Queue.Unbind(queue="q", exchange="x", routing_key="q"), spec.Queue.UnbindOk)
    clock.advance(exchange)
    assert got(client) == []
    snapshot = exchange.snapshot()
    assert (snapshot["messages_delayed"], snapshot["published_in"], snapshot["published_out"]) == (0, 4, 3)


def test_the_timer_is_that_of_the_earliest(world: World, client: Client) -> None:
    declare(client)
    declare_queue(client)
    client.call(1, spec.Basic.Consume(queue="q", no_ack=True), spec.Basic.ConsumeOk)
    for delay in (MINUTE, 40, 20):
        publish(client, b"%d" % delay, delay)
    assert [client.delivery()[1] for _ in range(2)] == [b"20", b"40"]
    assert delayed(world.actor(DelayedExchangeActor)) == 1


def test_what_is_delayed_is_confirmed_at_once_and_not_returned(
    client: Client, clock: Clock, exchange: DelayedExchangeActor
) -> None:
    confirming(client)
    publish(client, b"a", key="nowhere", mandatory=True)
    client.expect(spec.Basic.Ack, 1)
    client.transport.assert_all_credit_is_back()
    publish(client, b"b", 0, key="nowhere", mandatory=True)
    assert client.returned()[1] == b"b"
    client.expect(spec.Basic.Ack, 1)
    clock.advance(exchange)
    client.expect_nothing()
    client.transport.assert_all_credit_is_back()


def test_a_batch_of_both_is_confirmed_when_both_are_there(
    world: World, client: Client, exchange: DelayedExchangeActor
) -> None:
    confirming(client)
    queue = world.actor(QueueActor)
    queue.actor_inbox.pause()
    client.send(1, *publication(b"a", 0), *publication(b"b"), *publication(b"c", 0))
    client.expect_nothing()
    assert delayed(exchange) == 1
    queue.actor_inbox.resume()
    ack = client.expect(spec.Basic.Ack, 1)
    assert (ack.delivery_tag, ack.multiple) == (3, True)
    assert got(client) == [b"a", b"c"]


def test_a_transaction(client: Client, clock: Clock, exchange: DelayedExchangeActor) -> None:
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    publish(client, b"a")
    client.call(1, spec.Tx.Rollback(), spec.Tx.RollbackOk)
    publish(client, b"b")
    assert delayed(exchange) == 0
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)
    clock.advance(exchange)
    assert got(client) == [b"b"]


def test_copies_go_out_together(client: Client, clock: Clock, exchange: DelayedExchangeActor) -> None:
    declare_queue(client, "cc", key="cc")
    declare_queue(client, "bcc", key="bcc")
    publish(client, b"a", CC=["cc", "q"], BCC=["bcc"])
    clock.advance(exchange)
    assert [got(client, queue) for queue in ("q", "cc", "bcc")] == [[b"a"]] * 3


def test_the_alternate_exchange_gets_what_nothing_matches_when_it_is_due(
    world: World, client: Client, clock: Clock
) -> None:
    client.call(1, spec.Exchange.Declare(exchange="ae", exchange_type="fanout"), spec.Exchange.DeclareOk)
    declare(client, alternate_exchange="ae")
    declare_queue(client)
    declare_queue(client, "caught", "ae")
    publish(client, b"a", key="nowhere")
    publish(client, b"b")
    assert got(client, "caught") == []
    clock.advance(world.actor(DelayedExchangeActor))
    assert (got(client), got(client, "caught")) == ([b"b"], [b"a"])


def test_between_other_exchanges_a_message_waits_once(world: World, client: Client, clock: Clock) -> None:
    client.call(1, spec.Exchange.Declare(exchange="in", exchange_type="fanout"), spec.Exchange.DeclareOk)
    declare(client, "x", "fanout")
    declare(client, "y", "fanout")
    for source, destination in (("in", "x"), ("x", "y"), ("y", "x")):
        client.call(1, spec.Exchange.Bind(destination=destination, source=source), spec.Exchange.BindOk)
    declare_queue(client, "now", "in")
    declare_queue(client, "later", "y")
    confirming(client)
    publish(client, b"a", exchange="in", mandatory=True)
    client.expect(spec.Basic.Ack, 1)
    assert (got(client, "now"), got(client, "later")) == ([b"a"], [])
    clock.advance(world.actor(DelayedExchangeActor, "x"))
    world.settle()
    assert [delayed(each) for each in world.actors(DelayedExchangeActor)] == [0, 0]
    assert got(client, "later") == [b"a"]
    client.transport.assert_all_credit_is_back()


def test_the_dead_wait_in_it(world: World, client: Client, clock: Clock, exchange: DelayedExchangeActor) -> None:
    arguments: Any = {"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": "q"}
    declare_queue(client, "dying", "", arguments=arguments)
    publish(client, b"a", exchange="", key="dying")
    client.get("dying")
    client.send(1, spec.Basic.Reject(1, requeue=False))
    wait_until(lambda: delayed(exchange) == 1)
    assert world.actor(QueueActor, "dying")._dead_letterer.on_their_way == {}
    clock.advance(exchange)
    assert got(client) == [b"a"]


def test_history_is_of_what_was_routed(world: World, client: Client, clock: Clock) -> None:
    declare(client, kind="x-recent-history")
    publish(client, b"late")
    publish(client, b"at once", 0)
    declare_queue(client, "early")
    assert got(client, "early") == [b"at once"]
    clock.advance(world.actor(DelayedExchangeActor))
    declare_queue(client)
    world.settle()
    assert (got(client, "early"), got(client)) == ([b"late"], [b"at once", b"late"])
    assert world.actor(DelayedExchangeActor)._republisher.on_their_way == {}


def test_a_duplicate_is_dropped_and_what_is_due_is_none(world: World, client: Client, clock: Clock) -> None:
    arguments: Any = {"x-message-deduplication": True}
    headers: Any = {"x-deduplication-header": "same"}
    declare(client, **arguments)
    declare_queue(client)
    for number in range(2):
        publish(client, b"%d" % number, **headers)
    clock.advance(world.actor(DelayedExchangeActor))
    assert got(client) == [b"0"]


# What is stored


def entries(store: MemoryStore) -> list[bytes]:
    """The bodies of everything in the store."""
    return sorted(body for queue in contents_of(store).values() for _, body in queue)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def begin(store: MemoryStore) -> Iterator[Callable[[], tuple[World, Client]]]:
    """A broker on what the one before it has stored."""
    worlds: list[World] = []

    def begin() -> tuple[World, Client]:
        for world in worlds:
            world.end()
        worlds[:] = [World(store)]
        return worlds[0], Client(worlds[0]).open().open_channel()

    yield begin
    for world in worlds:
        world.end()


Begin = Callable[[], tuple[World, Client]]


def test_a_confirm_means_that_it_is_stored_and_it_outlives_the_broker(
    store: MemoryStore, begin: Begin, clock: Clock
) -> None:
    _, client = begin()
    declare(client, durable=True)
    declare(client, "transient")
    for name in ("x", "transient"):
        declare_queue(client, exchange=name, durable=True)
    confirming(client)
    publish(client, b"late", 2 * MINUTE, persistent=True, CC=["nowhere"], BCC=["hidden"])
    client.expect(spec.Basic.Ack, 1)
    assert entries(store) == [b"late"]
    publish(client, b"not persistent")
    publish(client, b"not durable", persistent=True, exchange="transient")
    publish(client, b"early", persistent=True)
    wait_until(lambda: entries(store) == [b"early", b"late"])
    for _ in range(2):
        world, client = begin()
        exchange = world.actor(DelayedExchangeActor)
        assert delayed(exchange) == 2
    declare_queue(client, "hidden", key="hidden")
    clock.advance(exchange)
    assert got(client) == [b"early"]
    clock.advance(exchange)
    assert (got(client), got(client, "hidden")) == ([b"late"], [b"late"])
    world.flush()
    assert entries(store) == []


def test_what_became_due_while_the_broker_was_down_is_routed_at_start(begin: Begin, clock: Clock) -> None:
    _, client = begin()
    declare(client, durable=True)
    declare_queue(client, durable=True)
    confirming(client)
    publish(client, b"a", persistent=True)
    client.expect(spec.Basic.Ack, 1)
    clock.ahead = MINUTE
    _, client = begin()
    client.call(1, spec.Basic.Consume(queue="q", no_ack=True), spec.Basic.ConsumeOk)
    assert client.delivery()[1] == b"a"


def test_it_is_forgotten_only_when_every_queue_has_it(store: MemoryStore, begin: Begin, clock: Clock) -> None:
    world, client = begin()
    declare(client, durable=True)
    declare_queue(client, durable=True)
    publish(client, b"a", persistent=True)
    world.flush()
    queue = world.actor(QueueActor)
    queue.actor_inbox.pause()
    clock.advance(world.actor(DelayedExchangeActor))
    world.flush()
    assert entries(store) == [b"a"]
    queue.actor_inbox.resume()
    assert got(client) == [b"a"]
    world.flush()
    assert entries(store) == []


def test_a_deleted_exchange_takes_what_waits_with_it(store: MemoryStore, begin: Begin) -> None:
    world, client = begin()
    declare(client, durable=True)
    declare_queue(client, durable=True)
    confirming(client)
    publish(client, b"a", persistent=True)
    client.expect(spec.Basic.Ack, 1)
    client.call(1, spec.Exchange.Delete(exchange="x"), spec.Exchange.DeleteOk)
    world.flush()
    assert entries(store) == []
    declare(client, durable=True)
    publish(client, b"b", persistent=True)
    client.expect(spec.Basic.Ack, 1)
    assert entries(store) == [b"b"]
    world, client = begin()
    assert delayed(world.actor(DelayedExchangeActor)) == 1
    declare_queue(client, "new", "", durable=True)
    client.publish(1, b"c", "new", persistent=True)
    world.flush()
    assert entries(store) == [b"b", b"c"]
    assert len(store.recover().queues) == 2


def test_a_deleted_vhost_takes_what_waits_with_it(store: MemoryStore, begin: Begin) -> None:
    world, client = begin()
    declare(client, durable=True)
    confirming(client)
    publish(client, b"a", persistent=True)
    client.expect(spec.Basic.Ack, 1)
    carry_out(world.ref, DeleteVhost("/"), WAIT_SECONDS)
    world.flush()
    assert entries(store) == []


# Many at once, and failures


def test_many_that_are_due_together_take_several_turns(
    world: World, client: Client, clock: Clock, exchange: DelayedExchangeActor
) -> None:
    count = 2 * DUE_IN_ONE_TURN + 1
    for number in range(count):
        publish(client, b"%d" % number)
    world.settle()
    assert delayed(exchange) == count
    client.transport.assert_all_credit_is_back()
    exchange.actor_inbox.pause()
    clock.ahead = 2 * MINUTE
    exchange.ref.tell(DelayOver())
    exchange.actor_inbox.step()
    wait_until(lambda: delayed(exchange) < count)
    assert delayed(exchange) == count - DUE_IN_ONE_TURN
    exchange.actor_inbox.resume()
    wait_until(lambda: delayed(exchange) == 0)
    world.settle()
    assert got(client) == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("error", [ValueError, gevent.Timeout, gevent.GreenletExit])
def test_a_failure_keeps_what_is_delayed(
    world: World, client: Client, clock: Clock, exchange: DelayedExchangeActor, error: type[BaseException]
) -> None:
    confirming(client)
    publish(client, b"a")
    client.expect(spec.Basic.Ack, 1)
    with failing(exchange, Route, error):
        publish(client, b"refused")
        client.expect(spec.Basic.Nack, 1)
    assert delayed(exchange) == 1
    with failing(exchange, DelayOver, error):
        clock.ahead = MINUTE
        exchange.ref.tell(DelayOver())
        wait_until(lambda: delayed(exchange) == 0)
    assert got(client) == [b"a"]
    client.transport.assert_all_credit_is_back()


def test_what_can_not_be_routed_when_it_is_due_stays(
    world: World, client: Client, clock: Clock, exchange: DelayedExchangeActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(client, b"a")
    world.settle()

    def broken(*_: object) -> None:
        raise ValueError("no way")

    with monkeypatch.context() as patch:
        patch.setattr(ExchangeActor, "_routing", broken)
        clock.ahead = 2 * MINUTE
        exchange.ref.tell(DelayOver())
        wait_until(lambda: exchange.is_quarantined)
    assert delayed(exchange) == 1
    exchange.ref.tell(Restart())
    wait_until(lambda: delayed(exchange) == 0)
    world.settle()
    assert got(client) == [b"a"]


def test_what_was_on_its_way_when_it_was_quarantined_is_routed_again(
    world: World, client: Client, clock: Clock, exchange: DelayedExchangeActor
) -> None:
    confirming(client)
    publish(client, b"a")
    client.expect(spec.Basic.Ack, 1)
    queue = world.actor(QueueActor)
    queue.actor_inbox.pause()
    clock.advance(exchange)
    assert delayed(exchange) == 0
    with failing(exchange, Route, ValueError, times=6):
        for _ in range(6):
            publish(client, b"refused")
            client.expect(spec.Basic.Nack, 1)
    assert exchange.is_quarantined
    assert delayed(exchange) == 1
    queue.actor_inbox.resume()
    world.settle()
    exchange.ref.tell(Restart())
    wait_until(lambda: delayed(exchange) == 0)
    world.settle()
    assert got(client) == [b"a", b"a"]
    assert exchange._republisher.on_their_way == {}


def test_what_a_queue_refuses_is_gone(
    world: World, client: Client, clock: Clock, exchange: DelayedExchangeActor
) -> None:
    arguments: Any = {"x-max-length": 0, "x-overflow": "reject-publish"}
    declare_queue(client, "full", arguments=arguments)
    publish(client, b"a")
    world.settle()
    clock.advance(exchange)
    assert (got(client), got(client, "full")) == ([b"a"], [])
    assert exchange._republisher.on_their_way == {}


def test_what_the_store_could_not_take_is_nacked(begin: Begin, clock: Clock) -> None:
    world, client = begin()
    declare(client, durable=True)
    confirming(client)
    with failing(world.persistence, Add, ValueError, times=2):
        publish(client, b"a", persistent=True)
        client.expect(spec.Basic.Nack, 1)
    client.transport.assert_all_credit_is_back()


def test_it_keeps_the_credit_of_nobody(world: World, client: Client, exchange: DelayedExchangeActor) -> None:
    publish(client, b"x" * 5000)
    world.settle()
    client.transport.assert_all_credit_is_back()
    client.disconnect()
    wait_until(lambda: client.transport.is_closed)
    world.settle()
    assert delayed(exchange) == 1
    exchange.ref.tell(Accepted(exchange._republisher.publishing([])))
    world.settle()
    assert exchange.failures.total == 0


def test_a_transaction_is_stored_with_what_it_delays() -> None:
    world = World(coalesce_seconds=60)
    client = Client(world).open().open_channel()
    declare(client, durable=True)
    declare_queue(client, durable=True)
    world.flush()
    commits = world.persistence.snapshot()["commits"]
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.send(1, *publication(b"delayed", persistent=True), *publication(b"at once", 0, persistent=True))
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)
    assert world.persistence.snapshot()["commits"] == commits + 1
    assert world.store.statistics()["entries"] == 2
    world.end()
