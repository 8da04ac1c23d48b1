from __future__ import annotations

from typing import Any

import pytest
from actors.harness import Client, World, failing, published, wait_until
from pamqp import commands as spec

from dispatchd.actors import held_credit, queue_contents
from dispatchd.actors import queue as queue_actor
from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.messages import (
    Accepted,
    Discard,
    Dispatch,
    Enqueue,
    Request,
    Requeue,
    Restart,
    ReviewCredit,
    Settle,
    Subscribe,
)
from dispatchd.actors.queue import QueueActor
from dispatchd.model.queue import DEAD_LETTER_LIMIT


@pytest.fixture
def queue(world: World, client: Client) -> QueueActor:
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    return world.actor(QueueActor)


def counts(queue: QueueActor) -> tuple[int, int, int]:
    """Ready, unacknowledged, consumers."""
    snapshot = queue.snapshot()
    return snapshot["messages_ready"], snapshot["messages_unacknowledged"], snapshot["consumers"]


def consume(client: Client, channel: int = 1, **options: Any) -> None:
    client.call(channel, spec.Basic.Consume(queue="q", **options), spec.Basic.ConsumeOk)


def test_deliveries_take_turns(client: Client, queue: QueueActor) -> None:
    client.open_channel(2)
    consume(client, 1)
    consume(client, 2)
    for number in range(4):
        client.publish(1, b"%d" % number)
    assert [client.delivery(channel)[1] for channel in (1, 1, 2, 2)] == [b"0", b"2", b"1", b"3"]


def test_of_several_queues_the_last_one_answers(world: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"} if name == "two" else {}
        client.call(1, spec.Queue.Declare(queue=name, arguments=arguments), spec.Queue.DeclareOk)
        client.call(1, spec.Queue.Bind(queue=name, exchange="amq.fanout"), spec.Queue.BindOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    channel = world.actor(ChannelActor)
    answers: list[Accepted] = []
    on_accepted = ChannelActor._handlers[Accepted]

    def note(actor: ChannelActor, message: Accepted) -> None:
        answers.append(message)
        on_accepted(actor, message)

    monkeypatch.setitem(ChannelActor._handlers, Accepted, note)
    client.publish(1, b"a", exchange="amq.fanout")
    client.expect(spec.Basic.Ack, 1)
    assert [len(one.refused) for one in answers] == [0]
    client.publish(1, b"b", exchange="amq.fanout")
    client.expect(spec.Basic.Nack, 1)
    assert sorted(len(one.refused) for one in answers) == [0, 1]
    assert channel._publisher.unaccepted == 0
    assert [counts(world.actor(QueueActor, name))[0] for name in ("one", "two", "three")] == [2, 1, 2]


def test_prefetch_holds_back_until_an_ack(client: Client, queue: QueueActor) -> None:
    client.call(1, spec.Basic.Qos(prefetch_count=2), spec.Basic.QosOk)
    consume(client)
    for number in range(3):
        client.publish(1, b"%d" % number)
    assert [client.delivery()[1] for _ in range(2)] == [b"0", b"1"]
    client.expect_nothing()
    client.send(1, spec.Basic.Ack(1))
    assert client.delivery()[1] == b"2"


def test_requeued_messages_go_back_to_their_place(client: Client, queue: QueueActor) -> None:
    for number in range(4):
        client.publish(1, b"%d" % number)
    for _ in range(3):
        client.get()
    client.send(1, spec.Basic.Nack(2, multiple=False, requeue=True), spec.Basic.Nack(1, requeue=True))
    assert [client.get()[1] for _ in range(3)] == [b"0", b"1", b"3"]


def test_an_acknowledged_message_is_gone(world: World, client: Client, queue: QueueActor) -> None:
    client.publish(1, b"a")
    client.get()
    assert counts(queue) == (0, 1, 0)
    client.send(1, spec.Basic.Ack(1))
    world.settle()
    assert counts(queue) == (0, 0, 0)


def test_who_is_rejected_dies_once(world: World, client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="dead"), spec.Queue.DeclareOk)
    arguments: Any = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.call(1, spec.Queue.Declare(queue="q", arguments=arguments), spec.Queue.DeclareOk)
    queue = world.actor(QueueActor, "q")
    client.publish(1, b"a")
    client.get()
    [entry] = world.actor(ChannelActor)._subscriber._ledger.unacked.values()
    client.send(1, spec.Basic.Reject(1, requeue=False))
    world.settle()
    queue.ref.tell(Discard([entry]))
    world.settle()
    assert counts(queue) == (0, 0, 0)
    assert counts(world.actor(QueueActor, "dead")) == (1, 0, 0)


def test_a_dead_letter_for_two_durable_queues_is_confirmed_by_one_commit(world: World, client: Client) -> None:
    for name in ("one", "two"):
        client.call(1, spec.Queue.Declare(queue=name, durable=True), spec.Queue.DeclareOk)
        client.call(1, spec.Queue.Bind(queue=name, exchange="amq.fanout"), spec.Queue.BindOk)
    arguments: Any = {"x-dead-letter-exchange": "amq.fanout"}
    client.call(1, spec.Queue.Declare(queue="q", durable=True, arguments=arguments), spec.Queue.DeclareOk)
    client.publish(1, b"a", persistent=True)
    client.get()
    client.send(1, spec.Basic.Reject(1, requeue=False))
    wait_until(lambda: (world.store.statistics()["entries"], world.store.statistics()["contents"]) == (2, 1))
    world.settle()
    assert world.actor(QueueActor, "q").failures.total == 0


def test_an_exclusive_consumer(client: Client, queue: QueueActor) -> None:
    consume(client, exclusive=True)
    client.open_channel(2)
    refused = client.call(2, spec.Basic.Consume(queue="q"), spec.Channel.Close)
    assert (refused.reply_code, refused.reply_text) == (
        403,
        "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
    )


def test_an_auto_delete_queue_goes_with_its_last_consumer(world: World, client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="q", auto_delete=True), spec.Queue.DeclareOk)
    consume(client, consumer_tag="a")
    consume(client, consumer_tag="b")
    client.call(1, spec.Basic.Cancel("a"), spec.Basic.CancelOk)
    assert len(world.actors(QueueActor)) == 1
    client.call(1, spec.Basic.Cancel("b"), spec.Basic.CancelOk)
    world.settle()
    assert world.actors(QueueActor) == []


def test_deletion_cancels_consumers(world: World, client: Client, queue: QueueActor) -> None:
    consume(client, consumer_tag="c")
    client.open_channel(2)
    client.publish(1, b"a")
    client.delivery()
    client.call(2, spec.Queue.Delete(queue="q"), spec.Queue.DeleteOk)
    assert client.expect(spec.Basic.Cancel, 1).consumer_tag == "c"
    client.send(1, spec.Basic.Ack(1))
    client.call(1, spec.Basic.Qos(), spec.Basic.QosOk)
    assert world.actors(QueueActor) == []


def test_a_get_waits_until_all_that_has_expired_is_gone(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0
    for module in (queue_actor, queue_contents):
        monkeypatch.setattr(module, "now_ms", lambda: clock)
    client.call(1, spec.Queue.Declare(queue="dead"), spec.Queue.DeclareOk)
    arguments: Any = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.call(1, spec.Queue.Declare(queue="q", arguments=arguments), spec.Queue.DeclareOk)
    for _ in range(2 * DEAD_LETTER_LIMIT + 1):
        client.publish(1, b"old", expiration="60000")
    client.publish(1, b"new")
    world.settle()
    clock = 60000
    assert client.get(no_ack=True)[1] == b"new"
    world.settle()
    assert counts(world.actor(QueueActor, "dead")) == (2 * DEAD_LETTER_LIMIT + 1, 0, 0)


# Credit


def test_a_backlog_holds_credit_until_consumers_have_caught_up(
    world: World, client: Client, queue: QueueActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_credit, "BACKLOG_THAT_HOLDS_CREDIT", 3)
    monkeypatch.setattr(held_credit, "REVIEW_SECONDS", 60)
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    consume(client)
    client.open_channel(2)
    for _ in range(8):
        client.publish(2, b"a")
    world.settle()
    assert client.transport.taken - client.transport.granted == 5
    for tag in range(1, 9):
        client.send(1, spec.Basic.Ack(tag))
        world.settle()
    client.transport.assert_all_credit_is_back()


def test_publishers_to_a_long_backlog_get_half_of_what_consumers_take(
    world: World, client: Client, queue: QueueActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_credit, "BACKLOG_THAT_HOLDS_CREDIT", 3)
    monkeypatch.setattr(held_credit, "REVIEW_SECONDS", 60)
    for _ in range(30):
        client.publish(1, b"old")
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    consume(client)
    client.open_channel(2)
    for _ in range(8):
        client.publish(2, b"new")
        world.settle()
    assert client.transport.taken - client.transport.granted == 8
    for tag in range(1, 9):
        client.send(1, spec.Basic.Ack(tag))
        world.settle()
        assert client.transport.taken - client.transport.granted == 8 - tag // 2


@pytest.mark.parametrize("fails", [False, True])
def test_slow_consumers_hold_nobody_back(
    world: World, client: Client, queue: QueueActor, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr(held_credit, "BACKLOG_THAT_HOLDS_CREDIT", 3)
    monkeypatch.setattr(held_credit, "REVIEW_SECONDS", 0.002)
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    consume(client)
    client.open_channel(2)
    with failing(queue, ReviewCredit, ValueError, times=int(fails)):
        for _ in range(8):
            client.publish(2, b"a")
        wait_until(lambda: client.transport.granted == client.transport.taken)
    client.transport.assert_all_credit_is_back()
    assert queue.failures.total == fails


def test_consumers_are_slow_by_what_they_take_beside_those_of_other_long_queues() -> None:
    crowd = held_credit.Crowd()
    crowd.enter(held_credit.FAST_CONSUMERS - 1)
    assert crowd.finds_slow(held_credit.FAST_CONSUMERS - 1)
    crowd.enter(1)
    assert not crowd.finds_slow(held_credit.FAST_CONSUMERS - 1)
    assert crowd.finds_slow(1)
    crowd.leave(held_credit.FAST_CONSUMERS - 1)
    for _ in range(99):
        crowd.enter(held_credit.FAST_CONSUMERS / 50)
    assert not crowd.finds_slow(held_credit.FAST_CONSUMERS / 50)
    assert crowd.finds_slow(1)


@pytest.mark.parametrize("end", ["cancel", "close", "delete", "quarantine"])
def test_credit_is_released_with_the_last_consumer(
    world: World, client: Client, queue: QueueActor, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(held_credit, "BACKLOG_THAT_HOLDS_CREDIT", 1)
    monkeypatch.setattr(held_credit, "REVIEW_SECONDS", 60)
    client.call(1, spec.Basic.Qos(prefetch_count=1), spec.Basic.QosOk)
    consume(client, consumer_tag="c")
    client.open_channel(2)
    for _ in range(4):
        client.publish(2, b"a")
    world.settle()
    assert client.transport.granted < client.transport.taken
    match end:
        case "cancel":
            client.send(1, spec.Basic.Cancel("c"))
        case "close":
            client.send(1, spec.Channel.Close(200, "", 0, 0))
        case "delete":
            client.send(2, spec.Queue.Delete(queue="q"))
        case _:
            quarantine(world, queue)
    world.settle()
    client.transport.assert_all_credit_is_back()


# Failures


@pytest.mark.parametrize("message_type", [Enqueue, Settle, Requeue, Dispatch, Request, Subscribe])
def test_a_failure_loses_nothing_that_the_queue_holds(
    world: World, client: Client, queue: QueueActor, message_type: type
) -> None:
    other = Client(world).open().open_channel()
    for number in range(5):
        client.publish(1, b"%d" % number)
    client.get()
    client.get()
    client.open_channel(2)
    with failing(queue, message_type, ValueError) as failed:
        queue.ref.tell(Dispatch())
        client.send(1, spec.Basic.Ack(1), spec.Basic.Nack(2, requeue=True))
        client.send(2, *published(b"5"), spec.Basic.Consume(queue="q", consumer_tag="c"))
        client.send(2, spec.Basic.Cancel("c"), spec.Basic.Get(queue="missing"))
        world.settle()
        if message_type is Request:
            client.open_channel(3)
            assert client.call(3, spec.Basic.Get(queue="q"), spec.Channel.Close).reply_code == 541
            world.settle()
    assert len(failed) == 1
    bodies = {other.get(no_ack=True)[1] for _ in range(counts(queue)[0])}
    assert bodies == {b"1", b"2", b"3", b"4", b"5"}
    assert counts(queue) == (0, 0, 0)
    client.transport.assert_all_credit_is_back()


def test_after_a_failure_consumers_go_on(world: World, client: Client, queue: QueueActor) -> None:
    client.call(1, spec.Basic.Qos(prefetch_count=2), spec.Basic.QosOk)
    consume(client)
    for number in range(5):
        client.publish(1, b"%d" % number)
    assert [client.delivery()[1] for _ in range(2)] == [b"0", b"1"]
    queue.ref.tell(Restart())
    world.settle()
    assert counts(queue) == (3, 2, 1)
    for tag, body in ((1, b"2"), (2, b"3"), (3, b"4")):
        client.send(1, spec.Basic.Ack(tag))
        delivered, got = client.delivery()
        assert (got, delivered.redelivered) == (body, False)


def test_a_dispatch_that_fails_half_way_delivers_the_rest_later(
    world: World, client: Client, queue: QueueActor
) -> None:
    for number in range(4):
        client.publish(1, b"%d" % number)
    world.settle()
    poison: Any = "no entry"
    queue._queue.line.ready.insert(2, poison)
    client.send(1, spec.Basic.Consume(queue="q"))
    client.expect(spec.Basic.ConsumeOk, 1)
    bodies = [client.delivery()[1] for _ in range(4)]
    assert bodies == [b"0", b"1", b"2", b"3"]
    world.settle()
    assert queue.failures.total == 1
    assert counts(queue) == (0, 4, 1)


def quarantine(world: World, queue: QueueActor) -> None:
    with failing(queue, Dispatch, lambda: ValueError("boom"), times=6):
        for _ in range(6):
            queue.ref.tell(Dispatch())
        world.settle()
    assert queue.is_quarantined


def test_quarantine(world: World, client: Client, queue: QueueActor) -> None:
    other = Client(world).open().open_channel()
    other.call(1, spec.Queue.Declare(queue="other"), spec.Queue.DeclareOk)
    for body in (b"ready", b"held"):
        client.publish(1, body)
    client.get()
    client.open_channel(2)
    consume(client, 2, consumer_tag="c")
    client.delivery(2)
    quarantine(world, queue)
    assert client.expect(spec.Basic.Cancel, 2).consumer_tag == "c"
    reason = "INTERNAL_ERROR - queue q is quarantined after repeated failures: ValueError: boom"
    for method in (
        spec.Basic.Get(queue="q"),
        spec.Basic.Consume(queue="q"),
        spec.Queue.Declare(queue="q"),
        spec.Queue.Declare(queue="q", passive=True),
        spec.Queue.Purge(queue="q"),
        spec.Queue.Delete(queue="q"),
    ):
        close = other.call(1, method, spec.Channel.Close)
        assert (close.reply_code, close.reply_text) == (541, reason)
        other.send(1, spec.Channel.CloseOk())
        other.open_channel(1)
    other.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    other.publish(1, b"refused", "q")
    assert other.expect(spec.Basic.Nack, 1).delivery_tag == 1
    other.publish(1, b"fine", "other")
    assert other.expect(spec.Basic.Ack, 1).delivery_tag == 2
    client.send(2, spec.Basic.Ack(1))
    client.send(1, spec.Basic.Nack(1, requeue=True))
    world.settle()
    queue.ref.tell(Restart())
    world.settle()
    assert counts(queue) == (1, 0, 0)
    assert other.get("q")[1] == b"ready"


def test_a_transaction_with_a_quarantined_queue_fails(world: World, client: Client, queue: QueueActor) -> None:
    quarantine(world, queue)
    client.call(1, spec.Tx.Select(), spec.Tx.SelectOk)
    client.send(1, *published(b"a"), spec.Tx.Commit())
    assert client.expect(spec.Channel.Close, 1).reply_code == 406


def test_a_quarantined_queue_goes_with_its_owner(world: World, client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="mine", exclusive=True), spec.Queue.DeclareOk)
    quarantine(world, world.actor(QueueActor))
    client.disconnect()
    wait_until(lambda: client.transport.is_closed)
    world.settle()
    assert world.actors(QueueActor) == []


def test_a_paused_queue_holds_only_what_concerns_it(world: World, client: Client, queue: QueueActor) -> None:
    other = Client(world).open().open_channel()
    other.call(1, spec.Queue.Declare(queue="other"), spec.Queue.DeclareOk)
    queue.actor_inbox.pause()
    client.publish(1, b"a")
    client.send(1, spec.Basic.Get(queue="q"))
    client.expect_nothing(1)
    other.publish(1, b"b", "other")
    assert other.get("other")[1] == b"b"
    client.open_channel(2)
    client.publish(2, b"c", "other")
    assert client.get("other", 2)[1] == b"c"
    queue.actor_inbox.resume()
    client.expect(spec.Basic.GetOk, 1)
    assert client._body(1) == b"a"


def test_deliveries_to_a_channel_that_is_gone_come_back(world: World, client: Client, queue: QueueActor) -> None:
    consume(client)
    channel = world.actor(ChannelActor)
    channel.end()
    other = Client(world).open().open_channel()
    other.publish(1, b"a")
    world.settle()
    assert counts(queue) == (1, 0, 0)
    assert other.get()[1] == b"a"
