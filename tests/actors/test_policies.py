"""Policies: how a change of them comes to queues and exchanges, and what survives a failure and a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from actors.harness import Client, World, failing, wait_until
from pamqp import commands as spec

from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.governor import MATCHES_IN_ONE_TURN, ReviewPolicies
from dispatchd.actors.messages import Define, Govern, Restart, Retire
from dispatchd.actors.orders import ClearPolicy, DefineVhost, DeleteVhost, Order, SetPolicy, ShowPolicies, carry_out
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.queue_contents import HEADS_IN_ONE_TURN, DropMore
from dispatchd.actors.vhost import VhostActor
from dispatchd.amqp.errors import NotFound, PreconditionFailed, Unavailable
from dispatchd.model.residency import Residency
from dispatchd.model.stored_definitions import StoredVhost, read_rows
from dispatchd.store.memory_store import MemoryStore

SECONDS = 10


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def world(store: MemoryStore) -> Iterator[World]:
    world = World(store)
    yield world
    world.end()


@pytest.fixture
def client(world: World) -> Client:
    return Client(world).open().open_channel()


def order(world: World, order: Order, vhost: str = "/") -> Any:
    return carry_out(world.actor(VhostActor, vhost).ref, order, SECONDS)


def setting(
    name: str = "p", pattern: str = "^q", is_operator: bool = False, priority: Any = 0, **asked: Any
) -> SetPolicy:
    definition = {key.replace("_", "-"): value for key, value in asked.items()}
    return SetPolicy(name, is_operator, pattern, definition, priority)


def set_policy(world: World, *given: Any, **asked: Any) -> Any:
    return order(world, setting(*given, **asked))


def declare(client: Client, name: str = "q", **options: Any) -> spec.Queue.DeclareOk:
    return client.call(1, spec.Queue.Declare(queue=name, **options), spec.Queue.DeclareOk)


def count(client: Client, name: str = "q") -> int:
    return int(declare(client, name, passive=True).message_count or 0)


def publish(client: Client, number: int, **options: Any) -> None:
    for each in range(number):
        client.publish(1, b"%d" % each, **options)


def stored(world: World) -> StoredVhost:
    world.flush()
    return read_rows(world.store.recover().definitions)["/"]


def policies_of(actor: QueueActor | ExchangeActor) -> tuple[Any, Any, Any]:
    row = actor.snapshot()
    return row["policy"], row["operator_policy"], row["effective_policy_definition"]


def test_a_queue_obeys_by_the_time_that_the_order_is_fulfilled(world: World, client: Client) -> None:
    declare(client)
    publish(client, 5)
    assert count(client) == 5
    assert set_policy(world, max_length=2) is True
    assert count(client) == 2
    assert set_policy(world, max_length=1) is False
    assert count(client) == 1
    assert set_policy(world, "o", "^q", is_operator=True, max_length=0) is True
    assert count(client) == 0
    assert policies_of(world.actor(QueueActor)) == ("p", "o", {"max-length": 0})


def test_what_is_declared_afterwards_is_governed_too(world: World, client: Client) -> None:
    set_policy(world, max_length=1)
    for name, options in (("q", {}), ("q-exclusive", {"exclusive": True}), ("q-auto", {"auto_delete": True})):
        declare(client, name, **options)
        publish(client, 3, routing_key=name)
        assert count(client, name) == 1
    declare(client, "other")
    publish(client, 3, routing_key="other")
    assert count(client, "other") == 3


def test_an_exchange_gets_and_loses_its_alternate(world: World, client: Client) -> None:
    client.call(1, spec.Exchange.Declare(exchange="x"), spec.Exchange.DeclareOk)
    declare(client)
    client.call(1, spec.Queue.Bind(queue="q", exchange="amq.fanout"), spec.Queue.BindOk)
    set_policy(world, "p", "^x$", alternate_exchange="amq.fanout")
    client.publish(1, b"1", "k", "x", mandatory=True)
    assert client.get()[1] == b"1"
    exchange = world.actor(ExchangeActor, "x")
    assert policies_of(exchange) == ("p", None, {"alternate-exchange": "amq.fanout"})
    exchange.ref.tell(Restart())
    client.publish(1, b"2", "k", "x", mandatory=True)
    assert client.get()[1] == b"2"
    order(world, ClearPolicy("p", is_operator=False))
    client.publish(1, b"3", "k", "x", mandatory=True)
    assert client.returned()[1] == b"3"


def test_many_are_told_a_few_at_a_time(world: World, client: Client) -> None:
    number = 2 * MATCHES_IN_ONE_TURN
    for each in range(number):
        client.send(1, spec.Queue.Declare(queue=f"q{each}", nowait=True))
    declare(client, "last")
    vhost = world.actor(VhostActor)
    handled = vhost.handled
    set_policy(world, max_length=1)
    assert vhost.handled - handled > number // MATCHES_IN_ONE_TURN
    for each in (0, number // 2, number - 1):
        publish(client, 2, routing_key=f"q{each}")
        assert count(client, f"q{each}") == 1


def test_orders_that_come_together_are_all_carried_out(world: World, client: Client) -> None:
    for each in range(MATCHES_IN_ONE_TURN):
        client.send(1, spec.Queue.Declare(queue=f"q{each}", nowait=True))
    declare(client)
    vhost = world.actor(VhostActor).ref
    orders: list[Order] = [
        setting(max_length=3),
        setting("other", priority=1, max_length=2),
        setting(max_length=1),
        ClearPolicy("other", is_operator=False),
    ]
    for each_order in orders:
        vhost.tell(each_order)
    assert [each_order.outcome.get(timeout=SECONDS) for each_order in orders] == [True, True, False, None]
    assert {policies_of(queue)[2]["max-length"] for queue in world.actors(QueueActor)} == {1}
    assert [record["name"] for record in stored(world).policies] == ["p"]


def test_only_those_are_told_for_whom_something_changes(world: World, client: Client) -> None:
    declare(client, "q")
    declare(client, "other")
    set_policy(world, max_length=5)
    world.settle()
    handled = {queue.name: queue.handled for queue in world.actors(QueueActor)}
    set_policy(world, max_length=5)
    set_policy(world, "more", "^other", max_length=5)
    world.settle()
    changed = {queue.name: queue.handled - handled[queue.name] for queue in world.actors(QueueActor)}
    assert changed == {"q": 0, "other": 1}


def test_a_long_queue_is_shortened_over_several_turns(world: World, client: Client) -> None:
    declare(client)
    declare(client, "grave")
    publish(client, 3 * HEADS_IN_ONE_TURN)
    assert count(client) == 3 * HEADS_IN_ONE_TURN
    set_policy(world, max_length=1, dead_letter_exchange="", dead_letter_routing_key="grave")
    world.settle()
    assert count(client) == 1
    assert count(client, "grave") == 3 * HEADS_IN_ONE_TURN - 1
    assert [client.get("grave", no_ack=True)[1] for _ in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
def test_a_queue_whose_middle_is_on_disk_is_shortened_too(store: MemoryStore, overflow: str) -> None:
    world = World(store, resident=Residency(8, 1 << 20))
    client = Client(world).open().open_channel()
    declare(client, durable=True)
    publish(client, 300, persistent=True)
    wait_until(lambda: world.actor(QueueActor).snapshot()["messages_paged_out"] > 200)
    set_policy(world, max_length=2, overflow=overflow)
    wait_until(lambda: count(client) == 2)
    assert [client.get()[1] for _ in range(2)] == [b"298", b"299"]
    world.end()


def test_a_queue_becomes_lazy_when_a_policy_says_so(world: World, client: Client) -> None:
    declare(client, durable=True)
    publish(client, 1000, persistent=True)
    world.flush()
    queue = world.actor(QueueActor)
    assert queue.snapshot()["messages_paged_out"] == 0
    set_policy(world, queue_mode="lazy")
    wait_until(lambda: queue.snapshot()["messages_paged_out"] >= 400)
    assert client.get()[1] == b"0"


def test_what_comes_while_a_queue_is_shortened_stands_behind(world: World, client: Client) -> None:
    declare(client)
    publish(client, 3 * HEADS_IN_ONE_TURN)
    world.settle()
    queue = world.actor(QueueActor)
    with failing(queue, DropMore, lambda: ValueError("boom")):
        set_policy(world, max_length=2)
        client.publish(1, b"new")
        world.settle()
    assert count(client) == 2
    assert [client.get()[1] for _ in range(2)] == [b"%d" % (3 * HEADS_IN_ONE_TURN - 1), b"new"]


def test_a_failure_on_the_way_is_made_up_for(world: World, client: Client) -> None:
    declare(client)
    publish(client, 5)
    with failing(world.actor(QueueActor), Govern, lambda: ValueError("boom")) as failed:
        set_policy(world, max_length=2)
        assert count(client) == 2
    assert len(failed) == 1
    with failing(world.actor(VhostActor), ReviewPolicies, lambda: ValueError("boom")) as failed:
        set_policy(world, max_length=1)
        assert count(client) == 1
    assert len(failed) == 1


def test_a_restarted_queue_obeys_still(world: World, client: Client) -> None:
    declare(client)
    set_policy(world, max_length=2, overflow="reject-publish")
    world.actor(QueueActor).ref.tell(Restart())
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    publish(client, 3)
    assert client.rest()[-1].name == "Basic.Nack"
    assert count(client) == 2


def test_a_timeout_of_acknowledgements_is_for_who_consumes_from_then_on(world: World, client: Client) -> None:
    declare(client)
    set_policy(world, consumer_timeout=20)
    client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    client.publish(1, b"1")
    client.delivery()
    close = client.expect(spec.Channel.Close, 1)
    assert close.reply_code == 406


def test_an_unused_queue_goes_when_a_policy_says_so(world: World, client: Client) -> None:
    declare(client, arguments={"x-expires": 3_600_000})
    set_policy(world, expires=20)
    wait_until(lambda: not world.actors(QueueActor))


def test_an_unused_queue_stays_when_no_policy_says_so_any_more(world: World, client: Client) -> None:
    declare(client)
    set_policy(world, expires=100)
    order(world, ClearPolicy("p", is_operator=False))
    set_policy(world, "other", "^q", expires=3_600_000)
    declare(client, "q-soon", arguments={"x-expires": 200})
    wait_until(lambda: [queue.name for queue in world.actors(QueueActor)] == ["q"])


def test_policies_outlive_the_broker(store: MemoryStore) -> None:
    world = World(store)
    client = Client(world).open().open_channel()
    declare(client, durable=True)
    set_policy(world, "a", "^q", priority=1.5, max_length=2)
    set_policy(world, "a", "^q", is_operator=True, expires=3_600_000)
    set_policy(world, "b", r"^amq\.topic", alternate_exchange="amq.fanout")
    publish(client, 2, persistent=True)
    world.flush()
    world.end()
    world = World(store)
    client = Client(world).open().open_channel()
    assert policies_of(world.actor(QueueActor)) == ("a", "a", {"max-length": 2, "expires": 3_600_000})
    assert policies_of(world.actor(ExchangeActor, "amq.topic"))[0] == "b"
    client.publish(1, b"new")
    wait_until(lambda: count(client) == 2)  # when its head has been read
    assert [row["name"] for row in order(world, ShowPolicies(is_operator=False))] == ["a", "b"]
    order(world, ClearPolicy("a", is_operator=True))
    assert stored(world).operator_policies == []
    world.end()


def test_an_order_is_fulfilled_when_it_is_on_disk(world: World) -> None:
    world.persistence.actor_inbox.pause()
    given = setting(max_length=2)
    world.actor(VhostActor).ref.tell(given)
    world.settle()
    assert not given.outcome.ready()
    world.persistence.actor_inbox.resume()
    assert given.outcome.get(timeout=SECONDS) is True
    assert [record["definition"] for record in stored(world).policies] == [{"max-length": 2}]
    with (
        failing(world.persistence, Define, lambda: ValueError("boom"), times=2),
        pytest.raises(Unavailable, match="boom"),
    ):
        set_policy(world, max_length=3)


def test_what_makes_no_sense_is_denied_and_changes_nothing(world: World, client: Client) -> None:
    declare(client)
    set_policy(world, max_length=2)
    with pytest.raises(PreconditionFailed, match='<<"x">> is not a valid maximum length'):
        set_policy(world, max_length="x")
    with pytest.raises(PreconditionFailed, match="are not recognised policy settings"):
        set_policy(world, "o", "^q", is_operator=True, overflow="drop-head")
    assert [record["definition"] for record in stored(world).policies] == [{"max-length": 2}]
    assert stored(world).operator_policies == []


def test_what_is_not_there_cannot_be_cleared(world: World) -> None:
    set_policy(world, max_length=2)
    with pytest.raises(NotFound, match="no operator policy 'p' in vhost '/'"):
        order(world, ClearPolicy("p", is_operator=True))
    with pytest.raises(NotFound, match="no policy 'x' in vhost '/'"):
        order(world, ClearPolicy("x", is_operator=False))


def test_vhosts_share_no_policies_and_take_theirs_with_them(world: World, client: Client) -> None:
    carry_out(world.ref, DefineVhost("v"), SECONDS)
    order(world, setting(max_length=1), "v")
    order(world, setting(is_operator=True, max_length=1), "v")
    declare(client)
    assert policies_of(world.actor(QueueActor))[0] is None
    assert order(world, ShowPolicies(is_operator=False)) == []
    carry_out(world.ref, DeleteVhost("v"), SECONDS)
    world.flush()
    assert list(read_rows(world.store.recover().definitions)) == ["/"]


def test_a_vhost_that_goes_denies_orders(world: World) -> None:
    carry_out(world.ref, DefineVhost("v"), SECONDS)
    vhost = world.actor(VhostActor, "v").ref
    world.persistence.actor_inbox.pause()
    given, late = setting(max_length=1), setting(max_length=2)
    for message in (given, Retire(), late):
        vhost.tell(message)
    world.settle()
    world.persistence.actor_inbox.resume()
    for each in (given, late):
        with pytest.raises(Unavailable):
            each.outcome.get(timeout=SECONDS)
