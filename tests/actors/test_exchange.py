from __future__ import annotations

from typing import Any

import gevent
import pytest
from actors.harness import Client, World, failing, wait_until
from pamqp import commands as spec

from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Bind, Enqueue, Restart, Route, Unbind
from dispatchd.actors.queue import QueueActor


@pytest.fixture
def exchange(world: World, client: Client) -> ExchangeActor:
    """A fanout with the queue q."""
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="fanout"), spec.Exchange.DeclareOk)
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    client.call(1, spec.Queue.Bind(queue="q", exchange="x"), spec.Queue.BindOk)
    return world.actor(ExchangeActor, "x")


def test_what_is_published_after_bind_ok_is_matched(client: Client, exchange: ExchangeActor) -> None:
    client.publish(1, b"a", exchange="x")
    assert client.get()[1] == b"a"
    client.call(1, spec.Queue.Unbind(queue="q", exchange="x"), spec.Queue.UnbindOk)
    client.publish(1, b"b", exchange="x", mandatory=True)
    returned, body = client.returned()
    assert (returned.reply_code, returned.reply_text, body) == (312, "NO_ROUTE", b"b")


def test_a_way_through_two_exchanges_and_a_loop(client: Client, exchange: ExchangeActor) -> None:
    client.call(1, spec.Exchange.Declare(exchange="y", exchange_type="topic"), spec.Exchange.DeclareOk)
    for destination, source in (("y", "x"), ("x", "y")):
        bind: Any = spec.Exchange.Bind(destination=destination, source=source, routing_key="#")
        client.call(1, bind, spec.Exchange.BindOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.publish(1, b"a", exchange="y")
    client.expect(spec.Basic.Ack, 1)
    answer, body = client.get()
    assert (body, answer.message_count) == (b"a", 0)
    client.transport.assert_all_credit_is_back()


@pytest.mark.parametrize("error", [ValueError, gevent.Timeout, gevent.GreenletExit])
def test_a_failure_keeps_bindings_and_nacks(
    world: World, client: Client, exchange: ExchangeActor, error: type[BaseException]
) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    with failing(exchange, Route, error):
        client.publish(1, b"refused", exchange="x")
        assert client.expect(spec.Basic.Nack, 1).delivery_tag == 1
    client.publish(1, b"a", exchange="x")
    assert client.expect(spec.Basic.Ack, 1).delivery_tag == 2
    assert client.get()[1] == b"a"
    world.settle()
    client.transport.assert_all_credit_is_back()


@pytest.mark.parametrize("message_type", [Bind, Unbind])
def test_a_binding_that_it_failed_on_is_made_up_for(
    world: World, client: Client, exchange: ExchangeActor, message_type: type
) -> None:
    with failing(exchange, message_type, ValueError) as failed:
        client.call(1, spec.Queue.Declare(queue="r"), spec.Queue.DeclareOk)
        client.call(1, spec.Queue.Bind(queue="r", exchange="x"), spec.Queue.BindOk)
        client.call(1, spec.Queue.Unbind(queue="q", exchange="x"), spec.Queue.UnbindOk)
        world.settle()
    assert len(failed) == 1
    client.publish(1, b"a", exchange="x")
    assert client.get("r")[1] == b"a"
    client.call(1, spec.Basic.Get(queue="q"), spec.Basic.GetEmpty)


def test_quarantine_nacks_and_other_exchanges_go_on(world: World, client: Client, exchange: ExchangeActor) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    with failing(exchange, Route, ValueError, times=6):
        for number in range(1, 8):
            client.publish(1, b"refused", exchange="x")
            assert client.expect(spec.Basic.Nack, 1).delivery_tag == number
    assert exchange.is_quarantined
    client.publish(1, b"direct")
    client.expect(spec.Basic.Ack, 1)
    exchange.ref.tell(Restart())
    client.publish(1, b"revived", exchange="x")
    client.expect(spec.Basic.Ack, 1)
    assert [client.get()[1] for _ in range(2)] == [b"direct", b"revived"]
    client.transport.assert_all_credit_is_back()


def test_a_paused_exchange_holds_only_what_goes_through_it(
    world: World, client: Client, exchange: ExchangeActor
) -> None:
    client.open_channel(2)
    exchange.actor_inbox.pause()
    client.publish(1, b"held", exchange="x")
    client.publish(2, b"direct")
    assert client.get(channel=2)[1] == b"direct"
    exchange.actor_inbox.step()
    assert client.get()[1] == b"held"


def test_a_deleted_exchange_lets_go_of_what_waits(world: World, client: Client, exchange: ExchangeActor) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.open_channel(2)
    exchange.actor_inbox.pause()
    client.publish(1, b"a", exchange="x")
    world.settle()
    exchange.end()
    assert client.expect(spec.Basic.Nack, 1).delivery_tag == 1
    client.transport.assert_all_credit_is_back()
    assert world.actor(QueueActor).snapshot()["messages"] == 0


def test_an_alternate_exchange_takes_what_nobody_takes_when_there_is_one(client: Client) -> None:
    ae: Any = {"alternate-exchange": "ae"}
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="direct", arguments=ae), spec.Exchange.DeclareOk)
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.publish(1, b"no alternate", exchange="x", mandatory=True)
    assert client.returned()[1] == b"no alternate"
    client.expect(spec.Basic.Ack, 1)
    client.call(1, spec.Exchange.Declare(exchange="ae", exchange_type="fanout", internal=True), spec.Exchange.DeclareOk)
    client.call(1, spec.Queue.Bind(queue="q", exchange="ae"), spec.Queue.BindOk)
    client.publish(1, b"alternate", exchange="x", mandatory=True)
    client.expect(spec.Basic.Ack, 1)
    assert client.get()[1] == b"alternate"
    client.transport.assert_all_credit_is_back()


def test_a_failed_alternate_exchange_nacks(world: World, client: Client) -> None:
    ae: Any = {"alternate-exchange": "ae"}
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="direct", arguments=ae), spec.Exchange.DeclareOk)
    client.call(1, spec.Exchange.Declare(exchange="ae", exchange_type="fanout"), spec.Exchange.DeclareOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    with failing(world.actor(ExchangeActor, "ae"), Route, ValueError):
        client.publish(1, b"refused", exchange="x")
        client.expect(spec.Basic.Nack, 1)
    client.transport.assert_all_credit_is_back()


def bind(client: Client, queue: str, exchange: str = "h") -> None:
    client.call(1, spec.Queue.Declare(queue=queue), spec.Queue.DeclareOk)
    client.call(1, spec.Queue.Bind(queue=queue, exchange=exchange), spec.Queue.BindOk)


@pytest.fixture
def history(world: World, client: Client) -> ExchangeActor:
    """An x-recent-history exchange with the messages 1 and 2 in it; the client confirms."""
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.call(1, spec.Exchange.Declare(exchange="h", exchange_type="x-recent-history"), spec.Exchange.DeclareOk)
    for body in (b"1", b"2"):
        client.publish(1, body, exchange="h", persistent=True)
        client.expect(spec.Basic.Ack, 1)
    return world.actor(ExchangeActor, "h")


def test_history_comes_before_what_is_new(world: World, client: Client, history: ExchangeActor) -> None:
    bind(client, "q")
    client.publish(1, b"3", exchange="h")
    client.expect(spec.Basic.Ack, 1)
    assert [client.get(no_ack=True)[1] for _ in range(3)] == [b"1", b"2", b"3"]
    snapshot = history.snapshot()
    assert (snapshot["published_in"], snapshot["published_out"]) == (3, 3)
    world.settle()
    assert len(history.actor_inbox) == 0
    client.transport.assert_all_credit_is_back()


def test_history_is_kept_by_a_restart(world: World, client: Client, history: ExchangeActor) -> None:
    with failing(history, Route, ValueError):
        client.publish(1, b"refused", exchange="h")
        client.expect(spec.Basic.Nack, 1)
    bind(client, "q")
    world.settle()
    assert [client.get(no_ack=True)[1] for _ in range(2)] == [b"1", b"2"]
    client.call(1, spec.Basic.Get(queue="q"), spec.Basic.GetEmpty)


def test_history_that_a_queue_refuses_is_nobodys_loss(world: World, client: Client, history: ExchangeActor) -> None:
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    queue = world.actor(QueueActor)
    with failing(queue, Enqueue, ValueError, times=2):
        bind(client, "q")
        world.settle()
    assert (queue.failures.total, history.failures.total) == (2, 0)
    client.publish(1, b"3", exchange="h")
    client.expect(spec.Basic.Ack, 1)
    assert client.get()[1] == b"3"


def test_a_long_history_goes_in_parts(world: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatchd.actors.exchange.MESSAGES_IN_ONE_TURN", 3)
    length: Any = {"x-recent-history-length": 8}
    declare = spec.Exchange.Declare(exchange="h", exchange_type="x-recent-history", arguments=length)
    client.call(1, declare, spec.Exchange.DeclareOk)
    for number in range(10):
        client.publish(1, b"%d" % number, exchange="h")
    bind(client, "q")
    queue = world.actor(QueueActor)
    wait_until(lambda: queue.snapshot()["messages"] == 8)
    assert [client.get(no_ack=True)[1] for _ in range(8)] == [b"%d" % number for number in range(2, 10)]
