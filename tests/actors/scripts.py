"""What clients and operators do, in short scripts that make every handler of every actor run.

A script is a generator: it prepares, yields once, and from there on something may fail. It asks for nothing that a
broker in which one thing fails could not do, if need be at the second try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gevent
from actors.bookkeeper import Bookkeeper
from actors.harness import GUEST, WAIT_SECONDS, Client, World, make_fail, wait_until
from pamqp import commands as spec

from dispatchd.actors import pressure
from dispatchd.actors.authenticator import CheckPassword
from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.credentials import BUILT_IN_HASH
from dispatchd.actors.delayed_exchange import DelayedExchangeActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.hashing import BCRYPT
from dispatchd.actors.inspection import Inspectable
from dispatchd.actors.messages import (
    Accepted,
    ActorMessage,
    AlarmEnded,
    AlarmRaised,
    CloseChannel,
    Committed,
    CommitTransaction,
    Drained,
    Flush,
    Inspect,
    LookForOverdue,
    Mark,
    Quarantine,
    Released,
    Restart,
    ReviewCredit,
    Routed,
    Shutdown,
    Snapshot,
    Stage,
)
from dispatchd.actors.monitor import Look, MonitorActor, Nudge, Watermarks
from dispatchd.actors.orders import (
    AddDefinitions,
    ClearPolicy,
    DefineVhost,
    DeleteVhost,
    LimitVhost,
    Order,
    Peek,
    SetPolicy,
    ShowPolicies,
    ShowVhost,
    carry_out,
)
from dispatchd.actors.persistence import ScratchActor
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.resources import Usage
from dispatchd.actors.runtime import QUARANTINED, Actor, Ref
from dispatchd.actors.storage import RESIDENT
from dispatchd.actors.tracer import TracerActor
from dispatchd.actors.user_orders import (
    ClearPermission,
    ClearTopicPermission,
    DeleteUser,
    LimitUser,
    PutUser,
    ReplaceUsersOfFile,
    SetPermission,
    SetTopicPermission,
    UserOrder,
)
from dispatchd.actors.vhost import VhostActor
from dispatchd.amqp.errors import NotFound, Unavailable
from dispatchd.model.access import Rights, TopicRights
from dispatchd.model.alarms import MEMORY
from dispatchd.model.residency import Residency
from dispatchd.model.router import Publishing

SMALL = Residency(4, 1 << 20)
PLENTY = Watermarks(1 << 40, 0, None)


class Bench:
    """A broker, the client whose messages are counted, and one beside it that is not to notice anything."""

    def __init__(self, script: Script) -> None:
        self.world = World(coalesce_seconds=0.002, resident=script.resident, watermarks=script.watermarks)
        self.books = Bookkeeper(self.world)
        self.books.open()
        self.bystander = Client(self.world).open().open_channel()
        self.bystander.call(1, spec.Queue.Declare(queue="bystander", durable=True), spec.Queue.DeclareOk)
        self.bystander.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
        self.vhosts: set[str] = {"/"}

    def order(self, order: Order, actor: Ref | None = None) -> Any:
        """Have an order carried out, at the second try if need be."""
        try:
            return carry_out(actor or self.world.ref, order, WAIT_SECONDS)
        except Unavailable:
            again = replace(order, outcome=type(order.outcome)())
            return carry_out(actor or self.world.ref, again, WAIT_SECONDS)

    @property
    def vhost(self) -> Ref:
        return self.world.actor(VhostActor, "/").ref

    def tell(self, kind: type[Actor], *messages: ActorMessage, name: str = "") -> None:
        for message in messages:
            self.world.actor(kind, name).ref.tell(message)
        self.books.settle()

    def come_to_rest(self) -> None:
        """Let everything end that is under way, and operators restart what was quarantined."""
        for _ in range(3):
            self.books.settle()
            for actor in list(self.world.system.actors.values()):
                if actor.state == QUARANTINED and not isinstance(actor, ChannelActor | ConnectionActor):
                    actor.ref.tell(Restart())
            self.books.settle()
            self.world.flush()
        self.books.settle()

    def check_bystander(self) -> None:
        """It works as before, and was told nothing that it did not ask for."""
        self.bystander.expect_nothing(0)
        self.bystander.expect_nothing(1)
        self.bystander.publish(1, b"1", "bystander", persistent=True)
        self.bystander.expect(spec.Basic.Ack, 1)
        answer, body = self.bystander.get("bystander")
        assert (body, answer.redelivered) == (b"1", False)
        self.bystander.send(1, spec.Basic.Ack(answer.delivery_tag or 0))
        self.world.flush()


@dataclass(frozen=True, eq=False, slots=True)
class Script:
    """`ends` says that it ends the broker: nothing is to be checked then but that it does."""

    play: Callable[[Bench], Iterator[None]]
    resident: Residency = RESIDENT
    watermarks: Watermarks | None = None
    ends: bool = False

    def __str__(self) -> str:
        return self.play.__name__


SCRIPTS: list[Script] = []


def script(**options: Any) -> Callable[[Callable[[Bench], Iterator[None]]], None]:
    """Mark a script."""

    def mark(play: Callable[[Bench], Iterator[None]]) -> None:
        SCRIPTS.append(Script(play, **options))

    return mark


# Messages


@script()
def publish_and_get(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.queue("transient", durable=False)
    books.open(2, "plain")
    yield
    books.publish("q", count=2, persistent=True)
    books.publish("q", count=2)
    books.publish("transient", count=2, number=2)
    books.publish(key="nowhere", mandatory=True)
    books.confirmed()
    books.get("q", count=3)
    books.get("q", no_ack=True)
    books.get("q")
    books.get("transient", number=2)
    books.ack(number=2)
    books.ack(how="multiple")


@script()
def consume(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.open(2)
    books.publish("q", count=3, persistent=True)
    yield
    first = books.consume("q", prefetch=2)
    books.consume("q", number=2, prefetch=1)
    books.publish("q", count=6, persistent=True)
    books.publish("q", count=2)
    for how in ("ack", "requeue", "multiple", "requeue", "ack"):
        books.settle()
        books.ack(how=how)
        books.ack(number=2, how=how)
    books.cancel(first)
    books.settle()
    books.ack()
    books.close(2)


@script()
def consume_without_acks(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.publish("q", count=3, persistent=True)
    yield
    tag = books.consume("q", no_ack=True)
    books.publish("q", count=3, persistent=True)
    books.publish("q", count=3)
    books.confirmed()
    books.cancel(tag)
    books.publish("q", persistent=True)


@script()
def consume_by_turns(bench: Bench) -> Iterator[None]:
    """Consumers with priorities, an exclusive one, a single active one, and queues with priorities."""
    books = bench.books
    books.queue("q", x_max_priority=3)
    books.queue("single", x_single_active_consumer=True)
    books.open(2)
    yield
    books.publish("q", count=3, priority=1)
    books.publish("q", count=3, priority=2, persistent=True)
    books.consume("q", prefetch=1, arguments={"x-priority": 2})
    books.consume("q", number=2, prefetch=1)
    books.publish("q", count=2, priority=3)
    for _ in range(4):
        books.settle()
        books.ack(how="requeue", count=1)
        books.ack(number=2)
    books.consume("single", exclusive=False, prefetch=1)
    books.publish("single", count=2, persistent=True)
    books.settle()
    books.close(1)
    books.consume("single", exclusive=False)
    books.settle()
    books.ack()


@script()
def consume_alone(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.open(2)
    yield
    books.consume("q", exclusive=True)
    books.publish("q", count=2)
    books.settle()
    books.send(1, spec.Basic.Recover(requeue=True))
    books.settle()
    books.close(1)
    books.consume("q", number=2, exclusive=True)
    books.settle()
    books.ack(number=2)


@script()
def global_prefetch(bench: Bench) -> Iterator[None]:
    books = bench.books
    for queue in ("a", "b"):
        books.queue(queue, durable=False)
        books.publish(queue, count=3)
    yield
    books.ask(spec.Basic.Qos(prefetch_count=2, global_=True), spec.Basic.QosOk)
    books.consume("a")
    books.consume("b")
    for _ in range(4):
        books.settle()
        books.ack(count=1)
    assert books.transport.connection is not None
    books.transport.connection.tell(Drained())


@script()
def hold_credit_back(bench: Bench) -> Iterator[None]:
    """Of publishers, and of a queue that publishes its dead letters."""
    books = bench.books
    books.queue("q", durable=False)
    books.queue("dying", durable=False, dies_into="q", x_message_ttl=0)
    books.open(2)
    books.consume("q", number=2, prefetch=1)
    yield
    books.publish("q", count=8)
    books.publish("dying", count=2)
    books.settle()
    bench.tell(QueueActor, ReviewCredit(), name="q")
    for _ in range(20):
        books.settle()
        books.ack(number=2)
    books.wait(lambda: not bench.world.actor(QueueActor, "q")._held_credit, "credit")


@script()
def wait_for_the_disk(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.queue("dying", dies_into="q")
    yield
    pressure_of(bench).is_high = True
    books.publish("q", count=4, persistent=True)
    books.publish("dying", count=2, persistent=True, expiration="1")
    books.confirmed()


def pressure_of(bench: Bench) -> pressure.Pressure:
    return bench.world.persistence.pressure


# What dies


@script()
def reject(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("grave")
    books.queue("q", dies_into="grave")
    books.queue("gone")
    books.queue("void", x_dead_letter_exchange="amq.direct")
    books.queue("doubled", x_dead_letter_exchange="amq.fanout")
    for queue in ("heaven", "hell"):
        books.queue(queue)
        books.bind(queue, "amq.fanout")
    books.chains["doubled"] = ("heaven",)
    for queue in ("q", "gone", "void"):
        books.publish(queue, count=3, persistent=True)
        books.publish(queue)
    books.confirmed()
    yield
    books.get("q", count=3)
    books.ack(count=2, how="reject")
    for queue in ("gone", "void"):
        books.get(queue, count=2)
        books.ack(how="reject")
    books.publish("doubled", persistent=True)
    books.get("doubled")
    books.ack(how="reject")
    books.settle()
    books.insist(spec.Queue.Purge(queue="hell"), spec.Queue.PurgeOk)
    books.get("grave", count=2)
    books.ack()


@script()
def expire(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("grave")
    books.queue("q", dies_into="grave", x_message_ttl=30)
    yield
    books.publish("q", count=2, persistent=True)
    books.publish("q", count=2, expiration="2")
    books.publish("q", persistent=True, expiration="0")
    books.get("q")
    books.wait(lambda: not bench.world.ready("q"), "all to expire")


@script()
def expire_before_a_consumer(bench: Bench) -> Iterator[None]:
    """More than go in one turn: a get, and a consumer, wait until all of them are gone."""
    books = bench.books
    books.queue("grave")
    books.queue("q", dies_into="grave")
    queue = bench.world.actor(QueueActor, "q")
    books.publish("q", count=4, expiration="10", persistent=True)
    books.settle()
    queue.actor_inbox.pause()
    yield
    books.channels[1].gets.append(("q", False))
    books.send(1, spec.Basic.Get(queue="q"))
    books.settle()
    gevent.sleep(0.012)  # the timer's message is behind the get
    queue.actor_inbox.resume()
    books.publish("q", persistent=True)
    books.settle()
    books.ack()
    books.consume("q")
    books.publish("q", count=2, expiration="0")


@script()
def limit(bench: Bench) -> Iterator[None]:
    """What is too much is dropped, or refused."""
    books = bench.books
    books.queue("grave")
    books.queue("short", dies_into="grave", x_max_length=2)
    books.queue("closed", dies_into="grave", x_max_length=2, x_overflow="reject-publish-dlx")
    books.queue("full", x_max_length=1, x_overflow="reject-publish")
    yield
    books.publish("short", count=4, persistent=True)
    books.publish("short", count=2)
    books.publish("full", count=2, persistent=True)
    books.consume("full", prefetch=1)
    books.publish("full", count=3)
    books.publish("closed", count=4)
    books.settle()
    books.ack(how="requeue")


@script()
def deliver_not_too_often(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("grave")
    books.queue("q", dies_into="grave", x_delivery_limit=1, x_max_length=3)
    books.publish("q", count=3, persistent=True)
    yield
    books.consume("q", prefetch=2)
    for _ in range(3):
        books.settle()
        books.ack(how="requeue")


@script()
def purge_and_delete(bench: Bench) -> Iterator[None]:
    books = bench.books
    for queue in ("q", "gone"):
        books.queue(queue)
        books.publish(queue, count=4, persistent=True)
        books.publish(queue, count=3)
    books.confirmed()
    books.get("q")
    books.open(2)
    books.consume("gone", number=2, prefetch=1)
    books.settle()
    yield
    _purge(bench, "q")
    books.publish("q", persistent=True)
    books.ack()
    books.insist(spec.Queue.Delete(queue="gone"), spec.Queue.DeleteOk)
    _is_gone(bench, "gone")
    books.ack(number=2)


@script()
def leave_queues_that_go_with_their_users(bench: Bench) -> Iterator[None]:
    books = bench.books
    yield
    tag = ""
    while not tag:  # if that fails, the queue may have gone with its consumer
        books.insist(spec.Queue.Declare(queue="auto", auto_delete=True, durable=True), spec.Queue.DeclareOk)
        tag = books.try_to_consume("auto")
    books.publish("auto", count=2, persistent=True)
    books.settle()
    _is_gone(bench, "auto")
    books.cancel(tag)
    arguments: Any = {"x-expires": 5}
    books.insist(spec.Queue.Declare(queue="unused", durable=True, arguments=arguments), spec.Queue.DeclareOk)
    books.insist(spec.Queue.Declare(queue="mine", exclusive=True), spec.Queue.DeclareOk)
    names = {actor.name for actor in bench.world.actors(QueueActor)}
    books.disconnect()
    books.wait(lambda: not names & {"auto", "unused", "mine"} & _queues(bench), "an unused queue to go")


def _queues(bench: Bench) -> set[str]:
    return {actor.name for actor in bench.world.actors(QueueActor)}


def _is_gone(bench: Bench, queue: str) -> None:
    """What is in a queue goes on purpose."""
    for body, sent in bench.books.sent.items():
        if queue in sent.queues:
            sent.queues = tuple(name for name in sent.queues if name != queue)
            bench.books.settled.add((queue, body))


def _purge(bench: Bench, queue: str) -> None:
    for _ in range(2):
        bench.books.settle()
        ready = {message.body for _, message in bench.world.ready(queue)}
        if bench.books.ask(spec.Queue.Purge(queue=queue), spec.Queue.PurgeOk) is not None:
            bench.books.settled.update((queue, body) for body in ready)
            return
        bench.books.uncertain.update((queue, body) for body in ready)
    raise AssertionError("the second queue.purge failed too")


# On disk


@script(resident=SMALL)
def page(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.queue("transient", durable=False)
    books.open(2)
    yield
    for queue in ("q", "transient"):
        books.publish(queue, count=12, persistent=True)
        books.publish(queue, count=6)
    books.confirmed()
    bench.world.flush()
    books.consume("q", prefetch=2)
    for _ in range(8):
        books.settle()
        books.ack()
    books.consume("transient", number=2, prefetch=3)
    for _ in range(3):
        books.settle()
        books.ack(number=2, how="requeue", count=1)
        books.ack(number=2)


@script(resident=SMALL)
def get_what_is_on_disk(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q", x_max_length=12)
    books.chains["q"] = ()
    for _ in range(4):
        books.publish("q", count=3, persistent=True)
    books.confirmed()
    bench.world.flush()
    yield
    books.get("q", count=8)
    books.wait(lambda: not books.channels[1].gets, "gets")
    books.ack(count=3)
    books.ack(how="requeue")


@script(resident=SMALL)
def purge_what_is_on_disk(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.exchange("x")
    for queue in ("q", "r"):
        books.queue(queue)
        books.bind(queue, "x")
    books.publish("q", "r", count=12, persistent=True, exchange="x")
    books.publish("q", "r", count=6, exchange="x")
    books.confirmed()
    bench.world.flush()
    yield
    _purge(bench, "q")
    books.publish("q", count=8)
    _is_gone(bench, "r")
    books.insist(spec.Queue.Delete(queue="r"), spec.Queue.DeleteOk)


# Transactions


@script()
def commit(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("grave")
    books.queue("q", dies_into="grave", x_delivery_limit=1)
    books.queue("r", dies_into="grave", x_max_length=3)
    books.publish("q", count=6, persistent=True)
    books.confirmed()
    books.open(2, "tx")
    books.get("q", number=2, count=5)
    yield
    books.publish("r", number=2, count=2, persistent=True)
    books.publish("q", number=2)
    books.ack(number=2, count=2)
    books.ack(number=2, count=1, how="reject")
    books.ack(number=2, count=1, how="requeue")
    books.commit(2)
    books.publish("r", number=2, count=3, persistent=True)
    books.get("q", number=2, count=1)
    books.ack(number=2, how="requeue")
    books.ask(spec.Tx.Rollback(), spec.Tx.RollbackOk, 2)
    books.settle()
    _rolled_back(bench, 2)
    books.commit(2)


def _rolled_back(bench: Bench, number: int) -> None:
    channel = bench.books.channels[number]
    for body in channel.in_transaction:
        bench.books.sent[body].fate = "refused"
    channel.in_transaction = []


# Exchanges


@script()
def route(bench: Bench) -> Iterator[None]:
    books = bench.books
    for exchange, kind in (("alternate", "fanout"), ("topic", "topic"), ("fan", "fanout")):
        how: Any = {"alternate_exchange": "alternate"} if exchange == "topic" else {}
        books.exchange(exchange, kind, **how)
    for queue in ("a", "b", "c"):
        books.queue(queue)
    yield
    books.bind("a", "topic", "k.#")
    books.insist(spec.Exchange.Bind(destination="fan", source="topic", routing_key="k.*"), spec.Exchange.BindOk)
    books.bind("b", "fan")
    books.bind("c", "alternate")
    books.publish("a", "b", count=2, exchange="topic", key="k.1", persistent=True)
    books.publish("c", exchange="topic", key="x", mandatory=True)
    books.publish("c", "b", exchange="", key="c", headers={"CC": ["b"]}, persistent=True)
    books.confirmed()
    unbind = spec.Exchange.Unbind(destination="fan", source="topic", routing_key="k.*")
    books.insist(unbind, spec.Exchange.UnbindOk)
    books.insist(spec.Queue.Unbind(queue="c", exchange="alternate", routing_key=""), spec.Queue.UnbindOk)
    books.insist(spec.Exchange.Declare(exchange="fan", passive=True), spec.Exchange.DeclareOk)
    books.insist(spec.Queue.Declare(queue="a", passive=True), spec.Queue.DeclareOk)
    books.provoked = [404]
    books.ask(spec.Queue.Declare(queue="missing", passive=True), spec.Queue.DeclareOk)
    books.insist(spec.Exchange.Delete(exchange="fan"), spec.Exchange.DeleteOk)
    books.publish("a", exchange="topic", key="k.2", persistent=True)
    books.publish(exchange="topic", key="x", mandatory=True)
    books.confirmed()
    books.insist(spec.Queue.Delete(queue="b"), spec.Queue.DeleteOk)
    _is_gone(bench, "b")


@script()
def tell_history(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.exchange("h", "x-recent-history")
    books.exchange("far")
    for queue in ("q", "r"):
        books.queue(queue)
    books.bind("q", "h")
    yield
    books.publish("q", exchange="h", key="", persistent=True)
    bench.books.confirmed()
    for exchange in [actor for actor in bench.world.actors(ExchangeActor) if actor.name == "h"]:
        publishing = Publishing(exchange.ref, [], 0, False)
        for answer in (Accepted(publishing), Released(publishing), Routed(publishing)):
            exchange.ref.tell(answer)
    bind = spec.Exchange.Bind(destination="far", source="h", routing_key="")
    books.insist(bind, spec.Exchange.BindOk)


@script()
def drop_duplicates(bench: Bench) -> Iterator[None]:
    books = bench.books
    on: Any = {"x_message_deduplication": True}
    books.exchange("x", **on)
    books.exchange("d", "x-delayed-message", x_delayed_type="fanout", **on)
    books.queue("q", x_max_length=1, x_overflow="reject-publish")
    books.queue("r", **on)
    books.bind("q", "x")
    books.bind("q", "d")
    yield
    for number, exchange in enumerate(("x", "x", "d", "d")):
        headers = {"x-deduplication-header": f"{number}"}
        books.publish("q", exchange=exchange, key="", headers=headers, persistent=True)
        books.confirmed()
    headers = {"x-deduplication-header": "r"}
    books.publish("r", headers=headers, persistent=True)
    books.confirmed()
    (first,) = [body for body, sent in books.sent.items() if "r" in sent.queues]
    books.publish("r", headers=headers, persistent=True)
    books.confirmed()
    last = list(books.sent)[-1]
    if books.sent[first].fate == "taken":
        del books.sent[last]


@script()
def delay(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.exchange("d", "x-delayed-message", x_delayed_type="fanout")
    books.open(2, "tx")
    yield
    books.bind("q", "d")
    for milliseconds in (5, 1, 0):
        how: Any = {"headers": {"x-delay": milliseconds}, "exchange": "d", "key": ""}
        books.publish("q", persistent=True, **how)
        books.publish("q", **how)
    books.confirmed()
    books.publish("q", persistent=True, number=2, exchange="d", key="", headers={"x-delay": 3})
    books.commit(2)
    exchange = bench.world.actor(DelayedExchangeActor)
    books.wait(lambda: not len(exchange._delays) and not exchange._republisher.on_their_way, "all that is delayed")
    published = Publishing(exchange.ref, [], 0, confirm=False)
    bench.tell(DelayedExchangeActor, Routed(published), Released(published))
    books.publish("q", exchange="d", key="", headers={"x-delay": 3_600_000}, persistent=True)
    books.confirmed()
    books.exchange("gone", "x-delayed-message", x_delayed_type="fanout")
    books.publish(exchange="gone", key="", headers={"x-delay": 3_600_000}, persistent=True)
    books.confirmed()
    unbind = spec.Queue.Unbind(queue="q", exchange="d", routing_key="")
    books.insist(unbind, spec.Queue.UnbindOk)
    books.insist(spec.Exchange.Delete(exchange="gone"), spec.Exchange.DeleteOk)


@script()
def ask_for_answers(bench: Bench) -> Iterator[None]:
    """Direct reply-to."""
    books = bench.books
    books.queue("requests")
    books.open(2, "plain")
    books.open(3)
    yield
    for _ in range(2):
        books.channels[2].consumers["r"] = ("replies", True)
        consume = spec.Basic.Consume(queue="amq.rabbitmq.reply-to", consumer_tag="r", no_ack=True)
        if books.ask(consume, spec.Basic.ConsumeOk, 2) is not None:
            break
    books.publish("requests", number=2, reply_to="amq.rabbitmq.reply-to")
    books.settle()
    addresses = [channel._requester.address for channel in bench.world.actors(ChannelActor)]
    for address in filter(None, addresses):
        books.publish(key=address, number=3)
    books.confirmed(3)
    books.settle()
    books.ask(spec.Basic.Cancel("r"), spec.Basic.CancelOk, 2)


# Operators


@script()
def set_policies(bench: Bench) -> Iterator[None]:
    books = bench.books
    for queue in ("grave", "q", "r"):
        books.queue(queue)
    books.exchange("x")
    books.exchange("d", "x-delayed-message", x_delayed_type="fanout")
    books.publish("q", count=9, persistent=True)
    books.confirmed()
    yield
    books.chains["q"] = ("grave",)
    definition: Any = {"max-length": 2, "dead-letter-exchange": "", "dead-letter-routing-key": "grave"}
    bench.order(SetPolicy("p", False, "^q$", definition), bench.vhost)
    bench.order(SetPolicy("x", False, ".*", {"alternate-exchange": "amq.fanout"}, apply_to="exchanges"), bench.vhost)
    bench.order(SetPolicy("o", True, "^r$", {"max-length": 5}), bench.vhost)
    assert [row["name"] for row in bench.order(ShowPolicies(False), bench.vhost)] == ["p", "x"]
    books.publish("q", persistent=True)
    books.settle()
    _clear(bench, ClearPolicy("x", False))
    _clear(bench, ClearPolicy("p", False))


def _clear(bench: Bench, order: ClearPolicy) -> None:
    """The first try may have cleared it."""
    try:
        bench.order(order, bench.vhost)
    except NotFound:
        assert bench.books.world.actor(VhostActor).failures.total


@script()
def add_definitions(bench: Bench) -> Iterator[None]:
    """As a file of definitions has them."""
    books = bench.books
    books.queue("q")
    yield
    exchange = {
        "name": "x",
        "type": "fanout",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }
    queues: list[dict[str, Any]] = [
        {"name": name, "durable": True, "auto_delete": False, "arguments": {}} for name in ("q", "r")
    ]
    binding = {"source": "x", "kind": "queue", "destination": "r", "routing_key": "", "arguments": {}}
    bench.order(AddDefinitions("exchanges", [exchange]), bench.vhost)
    bench.order(AddDefinitions("queues", queues), bench.vhost)
    bench.order(AddDefinitions("bindings", [binding]), bench.vhost)
    assert bench.order(ShowVhost(), bench.vhost)["name"] == "/"
    books.publish("q", persistent=True)
    books.confirmed()


@script()
def manage_users(bench: Bench) -> Iterator[None]:
    """Users and permissions, in force while a client is there."""
    yield
    authenticator = bench.world.broker.authenticator
    bench.order(DefineVhost("u"))
    bench.order(PutUser("ann", BUILT_IN_HASH, BCRYPT, ["management"]), authenticator)
    bench.order(SetPermission("ann", "/", Rights(".*", "", "")), authenticator)
    bench.order(SetPermission("ann", "u", Rights(".*", "", "")), authenticator)
    bench.order(LimitUser("ann", "max-channels", 7), authenticator)
    bench.order(LimitVhost("max-queues", 70), bench.vhost)
    bench.order(SetTopicPermission("ann", "/", "amq.topic", TopicRights("a", "b")), authenticator)
    _perhaps_done(bench, ClearTopicPermission("ann", "/", None))
    _perhaps_done(bench, ClearPermission("ann", "/"))
    bench.order(DeleteVhost("u"))
    _perhaps_done(bench, DeleteUser("ann"))
    bench.order(ReplaceUsersOfFile([GUEST]), authenticator)
    bench.books.settle()


def _perhaps_done(bench: Bench, order: UserOrder) -> None:
    """The first try may have done it."""
    with suppress(NotFound):
        bench.order(order, bench.world.broker.authenticator)


@script(watermarks=PLENTY)
def watch(bench: Bench) -> Iterator[None]:
    """Alarms, less memory, and logins."""
    books = bench.books
    books.queue("q")
    monitor = bench.world.actor(MonitorActor)
    yield
    monitor._usage = Usage(0, None)
    bench.tell(MonitorActor, Look(), Nudge([bench.world.actor(QueueActor, "q").ref]))
    bench.world.ref.tell(AlarmRaised(MEMORY, "the test says so"))
    books.publish("q", persistent=True)
    books.settle()
    bench.world.ref.tell(AlarmEnded(MEMORY))
    books.settle()
    assert not any(connection._is_blocked for connection in bench.world.actors(ConnectionActor))
    question = CheckPassword("nobody", b"wrong", "127.0.0.1")
    bench.world.broker.authenticator.tell(question)
    assert question.accepted.get(timeout=WAIT_SECONDS) is False
    books.disconnect()
    books.publish("q", persistent=True)
    books.confirmed()
    wait_until(lambda: monitor._usage.memory)  # a native thread measures it


@script()
def trace(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.queue("copies", durable=False)
    books.bind("copies", "amq.rabbitmq.trace", "#")
    yield
    bench.order(DefineVhost("/", tracing=True))
    books.publish("q", persistent=True)
    books.confirmed()
    books.get("q")
    books.ack()
    books.settle()
    tracer = bench.world.actor(TracerActor)
    publishing = Publishing(tracer.ref, [], 0, confirm=False)
    bench.tell(TracerActor, Routed(publishing), Released(publishing), Committed([publishing]))
    bench.order(DefineVhost("/", tracing=False))
    books.insist(spec.Queue.Delete(queue="copies"), spec.Queue.DeleteOk)


@script()
def come_and_go(bench: Bench) -> Iterator[None]:
    """Virtual hosts, with clients in them."""
    yield
    bench.order(DefineVhost("v", "for v", ["a"]))
    bench.order(DefineVhost("v", "for v, really"))
    guest = Bookkeeper(bench.world, "v")
    guest.open()
    guest.queue("q")
    guest.exchange("x")
    guest.bind("q", "x")
    guest.publish("q", count=2, exchange="x", key="", persistent=True)
    guest.confirmed()
    deletion = DeleteVhost("v")
    bench.world.ref.tell(deletion)
    bench.world.ref.tell(DefineVhost("v"))
    try:
        deletion.outcome.get(timeout=WAIT_SECONDS)
    except Unavailable:
        bench.order(DeleteVhost("v"))
    bench.books.settle()
    bench.order(DefineVhost("v"))
    assert {vhost.name for vhost in bench.world.actors(VhostActor)} == {"/", "v"}


@script()
def close_and_come_again(bench: Bench) -> Iterator[None]:
    books = bench.books
    books.queue("q")
    books.publish("q", count=3, persistent=True)
    books.consume("q", prefetch=2)
    books.settle()
    yield
    books.close(1)
    books.consume("q", prefetch=2)
    books.settle()
    books.disconnect()
    books.settle()
    for channel in bench.world.actors(ChannelActor):
        if channel.parent is books.transport.connection:
            channel.ref.tell(LookForOverdue())
    books.settle()
    strangers = [Client(bench.world).open().open_channel() for _ in range(4)] if not _has_failed(bench) else []
    for stranger, bad in zip(strangers, (spec.Channel.Open(), spec.Basic.Ack(99), spec.Basic.Publish()), strict=False):
        stranger.send(1, bad)
    for channel in bench.world.actors(ChannelActor):
        if strangers and channel.parent is strangers[-1].connection:
            channel.ref.tell(CloseChannel("an operator closes it"))
    books.settle()
    for stranger in strangers:
        stranger.disconnect()
    books.wait(lambda: len(bench.world.actors(ConnectionActor)) == 2, "strangers to go")


def _has_failed(bench: Bench) -> bool:
    return any(actor.failures.total for actor in bench.world.system.actors.values())


# Each kind by itself


@script(watermarks=PLENTY)
def attend(bench: Bench) -> Iterator[None]:
    """Operators look at actors, and restart and kill them."""
    books = bench.books
    books.queue("grave")
    books.queue("q", dies_into="grave", x_delivery_limit=3)
    books.exchange("d", "x-delayed-message", x_delayed_type="fanout")
    books.publish("q", count=4, persistent=True)
    books.publish("q", count=4)
    books.publish("q", exchange="d", key="", headers={"x-delay": 3_600_000}, persistent=True)
    books.consume("q", prefetch=2)
    bench.order(DefineVhost("/", tracing=True))
    books.confirmed()
    yield
    for what in ("look", "kill", "restart", "quarantine"):
        for actor in _one_of_each_kind(bench):
            if what == "look":
                actor.ref.ask(Snapshot(), timeout=WAIT_SECONDS)
                if isinstance(actor, Inspectable):
                    actor.ref.ask(Inspect(), timeout=WAIT_SECONDS)
                if isinstance(actor, QueueActor):
                    bench.order(Peek(2), actor.ref)
            elif what == "kill":
                make_fail(actor)
            elif what == "quarantine" and not isinstance(actor, ChannelActor | ConnectionActor):
                actor.ref.tell(Quarantine("by an operator"))
            elif what == "restart":
                actor.ref.tell(Restart())
            books.settle()
            _revive(bench)
    bench.order(DefineVhost("/", tracing=False))
    for store in (bench.world.broker.persistence, bench.world.broker.scratch):
        store.ask(Flush(), timeout=WAIT_SECONDS)


def _one_of_each_kind(bench: Bench) -> list[Actor]:
    """Not those of the bystander."""
    actors = [
        actor
        for actor in bench.world.system.actors.values()
        if not any(actor.name.startswith(name) for name in (bench.bystander.connection.name, "bystander"))
    ]
    return list({type(actor): actor for actor in reversed(actors)}.values())


def _revive(bench: Bench) -> None:
    for actor in list(bench.world.system.actors.values()):
        if actor.state == QUARANTINED and not isinstance(actor, ChannelActor | ConnectionActor):
            actor.ref.tell(Restart())
    bench.books.settle()


@script(ends=True)
def shut_down(bench: Bench) -> Iterator[None]:
    yield
    gone: Any = bench.world.ref.ask(Shutdown(), timeout=WAIT_SECONDS)
    gone = gone or bench.world.ref.ask(Shutdown(), timeout=WAIT_SECONDS)
    assert gone.wait(WAIT_SECONDS)


NEVER_TOLD = {
    (ScratchActor, message): "no part of a transaction is for the scratch store"
    for message in (Stage, CommitTransaction, Mark)
} | {(kind, Quarantine): "operators stop it instead" for kind in (ConnectionActor, ChannelActor)}
