"""The firehose between actors: who tells a tracer what, and that nobody depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gevent
import pytest
from actors.harness import Client, World, failing, published
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from dispatchd.actors import tap
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import Delivered, Published, Restart, Route
from dispatchd.actors.orders import DefineVhost, DeleteVhost, carry_out
from dispatchd.actors.tracer import TracerActor
from dispatchd.actors.vhost import VhostActor
from dispatchd.store.memory_store import MemoryStore

SECONDS = 10
TRACE = "amq.rabbitmq.trace"


@dataclass
class Copy:
    """What the firehose shows of one message."""

    key: str
    body: bytes
    headers: dict[str, Any]


class Watcher:
    """A client that consumes all copies of its vhost, from a queue that only it has."""

    def __init__(self, world: World, vhost: str = "/", key: str = "#") -> None:
        self.client = Client(world).open(vhost=vhost).open_channel()
        declare(self.client, "watched", exclusive=True)
        self.client.call(1, spec.Queue.Bind(queue="watched", exchange=TRACE, routing_key=key), spec.Queue.BindOk)
        self.client.call(1, spec.Basic.Consume(queue="watched", no_ack=True), spec.Basic.ConsumeOk)

    def copies(self) -> list[Copy]:
        """What has come since the last call, once the actors are at rest."""
        found: list[Copy] = []
        for frame in self.client.rest():
            if isinstance(frame, spec.Basic.Deliver):
                assert frame.exchange == TRACE
                found.append(Copy(str(frame.routing_key), b"", {}))
            elif isinstance(frame, ContentHeader):
                found[-1].headers = dict(frame.properties.headers or {})
            elif isinstance(frame, ContentBody):
                found[-1].body += frame.value
        return found

    def seen(self) -> list[tuple[str, bytes]]:
        """Key and body of each copy."""
        return [(copy.key, copy.body) for copy in self.copies()]

    def routed(self) -> dict[bytes, list[str]]:
        """The queues of each publish, by body."""
        return {copy.body: copy.headers["routed_queues"] for copy in self.copies() if copy.key.startswith("publish")}


def declare(client: Client, queue: str, **options: Any) -> None:
    client.call(1, spec.Queue.Declare(queue=queue, **options), spec.Queue.DeclareOk)


def declare_exchange(client: Client, name: str, kind: str, **arguments: Any) -> None:
    method: Any = spec.Exchange.Declare(exchange=name, exchange_type=kind, arguments=arguments)
    client.call(1, method, spec.Exchange.DeclareOk)


def bind(client: Client, queue: str, exchange: str, key: str = "") -> None:
    client.call(1, spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key), spec.Queue.BindOk)


def set_tracing(world: World, tracing: bool, vhost: str = "/") -> None:
    carry_out(world.ref, DefineVhost(vhost, tracing=tracing), SECONDS)
    world.settle()


@pytest.fixture
def tracer(world: World) -> TracerActor:
    """The tracer of the default vhost, which has just begun."""
    set_tracing(world, True)
    return world.actor(TracerActor)


@pytest.fixture
def watcher(world: World, tracer: TracerActor) -> Watcher:
    return Watcher(world)


@pytest.fixture
def client(world: World, watcher: Watcher) -> Client:
    """An open connection with channel 1 and the queue q, in a vhost that is traced."""
    client = Client(world).open().open_channel()
    declare(client, "q")
    return client


# What is copied


def test_a_publish_and_its_delivery_are_copied(client: Client, watcher: Watcher) -> None:
    client.publish(1, b"1")
    client.get()
    publish, delivery = watcher.copies()
    name = "127.0.0.1:40000 -> 127.0.0.1:5672"
    of_both = {
        "exchange_name": "",
        "routing_keys": ["q"],
        "properties": {"delivery_mode": 1},
        "vhost": "/",
        "connection": name,
        "channel": 1,
        "user": "guest",
    }
    node = publish.headers.pop("node")
    assert node.startswith("dispatchd@")
    assert delivery.headers.pop("node") == node
    assert (publish.key, publish.body) == ("publish.", b"1")
    assert publish.headers == {**of_both, "routed_queues": ["q"]}
    assert (delivery.key, delivery.body) == ("deliver.q", b"1")
    assert delivery.headers == {**of_both, "redelivered": 0}


def test_consumers_and_redeliveries_are_copied(client: Client, watcher: Watcher) -> None:
    client.publish(1, b"1")
    client.publish(1, b"2")
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    client.call(1, spec.Basic.Consume(queue="q", consumer_tag="c"), spec.Basic.ConsumeOk)
    client.delivery()
    client.send(1, spec.Basic.Reject(delivery_tag=1, requeue=True))
    client.delivery()
    client.send(1, spec.Basic.Ack(delivery_tag=2))
    client.delivery()
    deliveries = [copy for copy in watcher.copies() if copy.key == "deliver.q"]
    assert [(copy.body, copy.headers["redelivered"]) for copy in deliveries] == [(b"1", 0), (b"1", 1), (b"2", 0)]


def test_queues_beyond_other_exchanges_are_named(client: Client, watcher: Watcher) -> None:
    declare(client, "r")
    declare_exchange(client, "ae", "fanout")
    declare_exchange(client, "x", "direct", **{"alternate-exchange": "ae"})
    declare_exchange(client, "y", "fanout")
    client.call(1, spec.Exchange.Bind(destination="y", source="x", routing_key="k"), spec.Exchange.BindOk)
    bind(client, "r", "x", "k")
    bind(client, "q", "y")
    bind(client, "r", "y")
    bind(client, "q", "ae")
    for body, key in ((b"both", "k"), (b"alternate", "none")):
        client.publish(1, body, key, "x")
    client.publish(1, b"nowhere", "none", "amq.direct")
    assert watcher.routed() == {b"both": ["q", "r"], b"alternate": ["q"], b"nowhere": []}


def test_a_batch_for_several_exchanges_is_copied_in_the_order_of_each(client: Client, watcher: Watcher) -> None:
    bind(client, "q", "amq.fanout")
    bodies = [b"%d" % number for number in range(120)]
    client.send(1, *(frame for body in bodies for frame in published(body, "q", ("", "amq.fanout")[int(body) % 2])))
    seen = watcher.seen()
    assert [body for key, body in seen if key == "publish."] == bodies[::2]
    assert [body for key, body in seen if key == "publish.amq.fanout"] == bodies[1::2]


def test_large_batches_are_copied_in_several_turns(client: Client, watcher: Watcher, tracer: TracerActor) -> None:
    tracer.actor_inbox.pause()
    bodies = [b"%d" % number for number in range(2 * tap.MESSAGES_IN_ONE_TURN + 1)]
    client.send(1, *(frame for body in bodies for frame in published(body)))
    watcher.client.world.settle()
    assert [len(message.messages) for message in tracer.actor_inbox.peek(9)] == [50, 50, 1]
    tracer.actor_inbox.resume()
    assert watcher.seen() == [("publish.", body) for body in bodies]


def test_copies_are_not_copied(client: Client, watcher: Watcher, tracer: TracerActor) -> None:
    declare(client, "copies")
    bind(client, "copies", TRACE, "#")
    client.publish(1, b"1")
    assert watcher.seen() == [("publish.", b"1")]
    assert client.get("copies")[0].exchange == TRACE
    assert watcher.seen() == []
    assert tracer.snapshot()["copied"] == 1


def test_dead_letters_are_no_publishes_and_their_deliveries_are_copied(client: Client, watcher: Watcher) -> None:
    dead_letters: Any = {"x-dead-letter-exchange": "amq.fanout", "x-message-ttl": 0}
    declare(client, "short", arguments=dead_letters)
    bind(client, "q", "amq.fanout")
    client.publish(1, b"1", "short")
    client.world.settle()
    client.get()
    copies = watcher.copies()
    assert [copy.key for copy in copies] == ["publish.", "deliver.q"]
    assert [copy.headers["exchange_name"] for copy in copies] == ["", "amq.fanout"]
    assert copies[1].headers["properties"]["headers"]["x-first-death-reason"] == "expired"


def test_what_is_delayed_is_a_publish_to_no_queue_and_none_when_it_is_due(client: Client, watcher: Watcher) -> None:
    declare_exchange(client, "later", "x-delayed-message", **{"x-delayed-type": "fanout"})
    bind(client, "q", "later")
    content = ContentHeader(0, 1, spec.Basic.Properties(headers={"x-delay": 1}))
    client.send(1, spec.Basic.Publish(exchange="later", routing_key="k"), content, ContentBody(b"1"))
    client.call(1, spec.Basic.Consume(queue="q", no_ack=True), spec.Basic.ConsumeOk)
    client.delivery()
    published, delivered = watcher.copies()
    assert (published.key, published.headers["routed_queues"]) == ("publish.later", [])
    assert (delivered.key, delivered.headers["exchange_name"]) == ("deliver.q", "later")


def test_direct_replies_are_publishes_to_no_queue(client: Client, watcher: Watcher) -> None:
    client.call(1, spec.Basic.Consume(queue="amq.rabbitmq.reply-to", no_ack=True), spec.Basic.ConsumeOk)
    client.publish(1, b"request", reply_to="amq.rabbitmq.reply-to")
    request, *others = watcher.copies()
    address = request.headers["properties"]["reply_to"]
    assert address.startswith("amq.rabbitmq.reply-to.")
    client.publish(1, b"reply", address)
    client.delivery()
    (reply,) = watcher.copies()
    assert (reply.key, reply.headers["routed_queues"], others) == ("publish.", [], [])


def test_transactions_are_copied_when_they_are_committed(client: Client, watcher: Watcher) -> None:
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.publish(1, b"rolled back")
    client.call(1, spec.Tx.Rollback(), spec.Tx.RollbackOk)
    client.publish(1, b"1")
    assert watcher.seen() == []
    client.call(1, spec.Tx.Commit(), spec.Tx.CommitOk)
    assert watcher.seen() == [("publish.", b"1")]


def test_what_a_channel_published_last_is_copied(client: Client, watcher: Watcher) -> None:
    client.publish(1, b"1")
    client.disconnect()
    assert watcher.seen() == [("publish.", b"1")]


def test_what_is_not_published_is_not_copied(client: Client, watcher: Watcher) -> None:
    client.publish(1, b"1", exchange="nowhere")
    assert client.expect(spec.Channel.Close, 1).reply_code == 404
    assert watcher.seen() == []


def test_returns_and_confirms_are_as_ever(client: Client, watcher: Watcher) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    client.publish(1, b"1", "nowhere", mandatory=True)
    assert client.returned()[1] == b"1"
    client.expect(spec.Basic.Ack, 1)
    client.publish(1, b"2", persistent=True)
    client.expect(spec.Basic.Ack, 1)
    assert watcher.routed() == {b"1": ["nowhere"], b"2": ["q"]}
    client.transport.assert_all_credit_is_back()


# When


def test_it_begins_and_ends_with_the_order(world: World, client: Client, watcher: Watcher) -> None:
    set_tracing(world, False)
    assert world.actors(TracerActor) == []
    client.publish(1, b"untraced")
    client.get()
    assert watcher.seen() == []
    set_tracing(world, True)
    assert world.actor(VhostActor).snapshot()["tracing"] is True
    client.publish(1, b"traced")
    assert watcher.seen() == [("publish.", b"traced")]


def test_what_was_published_before_the_end_is_copied(world: World, client: Client, watcher: Watcher) -> None:
    tracer = world.actor(TracerActor)
    tracer.actor_inbox.pause()
    client.publish(1, b"1")
    world.settle()
    set_tracing(world, False)
    tracer.actor_inbox.resume()
    assert watcher.seen() == [("publish.", b"1")]
    assert world.actors(TracerActor) == []


def test_an_order_that_says_nothing_of_it_changes_nothing(world: World, tracer: TracerActor) -> None:
    carry_out(world.ref, DefineVhost("/", "described"), SECONDS)
    set_tracing(world, True)
    assert world.actors(TracerActor) == [tracer]


def test_each_vhost_has_its_own(world: World, client: Client, watcher: Watcher) -> None:
    carry_out(world.ref, DefineVhost("v", tracing=True), SECONDS)
    other = Watcher(world, "v")
    stranger = Client(world).open(vhost="v").open_channel()
    client.publish(1, b"1")
    stranger.publish(1, b"2")
    assert (watcher.seen(), other.seen()) == ([("publish.", b"1")], [("publish.", b"2")])
    carry_out(world.ref, DeleteVhost("v"), SECONDS)
    world.settle()
    assert [tracer.name for tracer in world.actors(TracerActor)] == ["tracer of /"]


def test_it_goes_on_after_a_restart() -> None:
    store = MemoryStore()
    world = World(store)
    set_tracing(world, True)
    world.end()
    world = World(store)
    watcher = Watcher(world)
    client = Client(world).open().open_channel()
    client.publish(1, b"1")
    assert watcher.seen() == [("publish.", b"1")]
    world.end()


# Failure


@pytest.mark.parametrize("error", [ValueError, gevent.Timeout, gevent.GreenletExit])
@pytest.mark.parametrize("kind", [Published, Delivered])
def test_its_failure_loses_copies_and_nothing_else(
    client: Client, watcher: Watcher, tracer: TracerActor, kind: type, error: type[BaseException]
) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    with failing(tracer, kind, error):
        client.publish(1, b"1")
        client.expect(spec.Basic.Ack, 1)
        assert client.get(no_ack=True)[1] == b"1"
        client.world.settle()
    assert [key for key, _ in watcher.seen()] == ["deliver.q" if kind is Published else "publish."]
    client.publish(1, b"2")
    assert watcher.seen() == [("publish.", b"2")]
    client.transport.assert_all_credit_is_back()
    assert tracer.tap.waiting == 0


def test_in_quarantine_it_is_missed_by_nobody(client: Client, watcher: Watcher, tracer: TracerActor) -> None:
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    with failing(tracer, Published, ValueError, times=6):
        for number in range(1, 9):
            client.publish(1, b"%d" % number)
            assert client.expect(spec.Basic.Ack, 1).delivery_tag == number
    assert tracer.is_quarantined
    assert [client.get()[1] for _ in range(8)] == [b"%d" % number for number in range(1, 9)]
    assert watcher.seen() == []
    assert tracer.tap.waiting == 0
    tracer.ref.tell(Restart())
    client.publish(1, b"9")
    assert watcher.seen() == [("publish.", b"9")]
    client.transport.assert_all_credit_is_back()


def test_what_it_is_too_far_behind_to_take_is_left_out(
    client: Client, watcher: Watcher, tracer: TracerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "MOST_WAITING", 3)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    tracer.actor_inbox.pause()
    for number in range(1, 5):
        client.publish(1, b"%d" % number + bytes(1020))
        client.expect(spec.Basic.Ack, 1)
        assert client.get(no_ack=True)[1][:1] == b"%d" % number
    client.transport.assert_all_credit_is_back()
    assert (tracer.tap.waiting, len(tracer.actor_inbox)) == (3, 3)
    assert tracer.tap.left_out == 5
    tracer.actor_inbox.resume()
    assert [(key, body[:1]) for key, body in watcher.seen()] == [
        ("publish.", b"1"), ("deliver.q", b"1"), ("publish.", b"2"),
    ]  # fmt: skip
    client.publish(1, b"5")
    assert watcher.seen() == [("publish.", b"5")]
    assert tracer.snapshot() == {"name": "tracer of /", "vhost": "/", "copied": 4, "left_out": 5, "waiting": 0}


def test_what_waits_counts_by_its_size(client: Client, tracer: TracerActor) -> None:
    tracer.actor_inbox.pause()
    client.publish(1, bytes(10 * 1024))
    client.publish(1, b"")
    client.world.settle()
    assert tracer.tap.waiting == 12
    tracer.actor_inbox.resume()
    client.world.settle()
    assert tracer.tap.waiting == 0


def test_what_an_exchange_fails_on_is_copied_with_the_queues_that_have_it(client: Client, watcher: Watcher) -> None:
    declare_exchange(client, "x", "fanout")
    declare_exchange(client, "y", "fanout")
    client.call(1, spec.Exchange.Bind(destination="y", source="x"), spec.Exchange.BindOk)
    bind(client, "q", "x")
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    with failing(client.world.actor(ExchangeActor, "y"), Route, ValueError):
        client.publish(1, b"1", exchange="x")
        client.expect(spec.Basic.Nack, 1)
    assert watcher.routed() == {b"1": ["q"]}


def test_without_the_trace_exchange_it_does_nothing(world: World, client: Client, tracer: TracerActor) -> None:
    world.actor(VhostActor).catalogue.drop_exchange(TRACE)
    client.publish(1, b"1")
    world.settle()
    assert (tracer.failures.total, tracer.snapshot()["copied"]) == (0, 0)
