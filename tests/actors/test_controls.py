"""What an operator does to actors, and that it does nothing to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gevent
import pytest
from actors.harness import Client, World, failing, settle, wait_until
from gevent.event import Event
from pamqp import commands as spec

from dispatchd.actors import controls
from dispatchd.actors.authenticator import AuthenticatorActor
from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.controls import NotPossible
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.failures import DROPPED, KEPT_MESSAGES, LOGGED_FAILURES, Failure, FailureLog
from dispatchd.actors.messages import ActorMessage, Deliver, Enqueue, Request, Route
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import PAUSED, QUARANTINED, RUNNING, Actor, System, receives
from dispatchd.actors.vhost import VhostActor


@dataclass(frozen=True, slots=True)
class Do(ActorMessage):
    action: Callable[[], Any] = int


@dataclass(frozen=True, slots=True)
class Wait(Do):
    """Somebody waits for an answer."""

    refused: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> None:
        self.refused.append(reason)


class Worker(Actor):
    kind = "worker"

    def __init__(self, system: System) -> None:
        super().__init__(system, "ann", None)
        self.restarted_times = 0

    @receives(Do)
    @receives(Wait)
    def on_do(self, message: Do) -> Any:
        return message.action()

    def restarted(self) -> None:
        self.restarted_times += 1


@pytest.fixture
def worker(system: System) -> Worker:
    worker = Worker(system)
    worker.begin()
    return worker


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    controls.resume_all(world.system)
    world.end()


def fail() -> None:
    raise ValueError("boom")


# Pause


def test_a_pause_ends_by_itself(system: System, worker: Worker) -> None:
    done: list[int] = []
    controls.pause(worker, 0.05)
    worker.ref.tell(Do(lambda: done.append(1)))
    settle(system)
    assert (done, worker.state) == ([], PAUSED)
    assert 0 < worker.vitals()["resumes_in_ms"] <= 50
    wait_until(lambda: done)
    assert (worker.state, system.pauses, worker.vitals()["resumes_in_ms"]) == (RUNNING, {}, None)


def test_a_pause_without_an_end_waits_to_be_told(system: System, worker: Worker) -> None:
    controls.pause(worker, 0.01)
    controls.pause(worker, None)  # the first one's timer means nothing any more
    gevent.sleep(0.03)
    assert (worker.state, worker.vitals()["resumes_in_ms"]) == (PAUSED, None)
    controls.resume(worker)
    assert (worker.state, system.pauses) == (RUNNING, {})


def test_resuming_early_ends_the_timer_too(worker: Worker) -> None:
    controls.pause(worker, 0.01)
    controls.resume(worker)
    controls.pause(worker, None)
    gevent.sleep(0.03)
    assert worker.state == PAUSED


def test_one_that_ends_while_paused_leaves_nothing(system: System, worker: Worker) -> None:
    controls.pause(worker, 60)
    worker.end()
    wait_until(lambda: not system.actors)
    assert system.pauses == {}


def test_steps(system: System, worker: Worker) -> None:
    done: list[int] = []
    with pytest.raises(NotPossible, match="not paused"):
        controls.step(worker, 1)
    controls.pause(worker, None)
    for number in range(5):
        worker.ref.tell(Do(partial(done.append, number)))
    controls.step(worker, 2)
    wait_until(lambda: len(done) == 2)
    settle(system)
    assert (done, worker.state) == ([0, 1], PAUSED)


def test_all_are_resumed(system: System, worker: Worker) -> None:
    other = Worker(system)
    other.begin()
    controls.pause(worker, None)
    other.actor_inbox.pause()
    controls.resume_all(system)
    assert (worker.state, other.state, system.pauses) == (RUNNING, RUNNING, {})


def test_nobody_can_lock_himself_out(world: World) -> None:
    authenticator = world.actor(AuthenticatorActor, "authenticator")
    for act in (
        lambda: controls.pause(authenticator, None),
        lambda: controls.pause(authenticator, 3600),
        lambda: controls.quarantine(authenticator, "so"),
    ):
        with pytest.raises(NotPossible, match="nobody could log in"):
            act()
    controls.pause(authenticator, 1)


# Restart, quarantine, stop


def test_a_restart_goes_before_what_waits_and_passes_the_gate(system: System, worker: Worker) -> None:
    seen: list[int] = []
    controls.pause(worker, None)
    worker.ref.tell(Do(lambda: seen.append(worker.restarted_times)))
    controls.restart(worker)
    wait_until(lambda: worker.restarted_times == 1)
    assert (seen, worker.state, worker.failures.total) == ([], PAUSED, 0)
    controls.resume(worker)
    settle(system)
    assert seen == [1]


def test_a_restart_frees_one_that_is_stuck(system: System, worker: Worker) -> None:
    message, behind = Wait(Event().wait), list[int]()
    worker.ref.tell(message)
    worker.ref.tell(Do(lambda: behind.append(1)))
    wait_until(lambda: worker.handling is not None)
    controls.restart(worker)
    settle(system)
    assert (behind, worker.restarted_times, len(message.refused)) == ([1], 1, 1)


def test_quarantine_and_release(system: System, worker: Worker) -> None:
    with pytest.raises(NotPossible, match="not in quarantine"):
        controls.release(worker)
    controls.quarantine(worker, "by ann: it floods")
    message = Wait()
    worker.ref.tell(message)
    settle(system)
    assert worker.state == QUARANTINED
    assert message.refused == ["worker ann is quarantined by ann: it floods"]
    with pytest.raises(NotPossible, match="already"):
        controls.quarantine(worker, "again")
    controls.release(worker)
    settle(system)
    assert (worker.state, worker.restarted_times) == (RUNNING, 1)
    assert worker.ref.ask(Do(lambda: "well"), timeout=5) == "well"


def test_what_stands_for_something_does_not_stop(world: World) -> None:
    client = Client(world).open().open_channel()
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    with pytest.raises(NotPossible, match="a queue does not stop"):
        controls.stop(world.actor(QueueActor, "q"), "so")


def test_a_channel_that_is_stopped_closes_for_its_client(world: World) -> None:
    client = Client(world).open().open_channel().open_channel(2)
    channel = next(each for each in world.actors(ChannelActor) if each.name.endswith("(1)"))
    with pytest.raises(NotPossible, match="stop it"):
        controls.quarantine(channel, "so")
    controls.stop(channel, "by ann")
    closed = client.expect(spec.Channel.Close, 1)
    assert (closed.reply_code, "by ann" in closed.reply_text) == (541, True)
    client.send(1, spec.Channel.CloseOk())
    client.call(2, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)


def test_a_paused_connection_with_a_paused_channel_can_be_stopped(world: World) -> None:
    client, other = (Client(world).open().open_channel() for _ in range(2))
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    other.publish(1, b"x")
    client.get()
    connection = next(each for each in world.actors(ConnectionActor) if each.ref is client.connection)
    channel = next(each for each in world.actors(ChannelActor) if each.parent is client.connection)
    for actor in (connection, channel):
        controls.pause(actor, None)
    controls.stop(connection, "by ann")
    client.expect(spec.Connection.Close)
    client.send(0, spec.Connection.CloseOk())
    wait_until(lambda: connection.number not in world.system.actors)
    assert other.get()[1] == b"x"  # what it had has come back


def test_a_connection_that_is_stopped_closes_for_its_client(world: World) -> None:
    client, other = Client(world).open(), Client(world).open().open_channel()
    connection = next(each for each in world.actors(ConnectionActor) if each.ref is client.connection)
    controls.stop(connection, "by ann")
    assert client.expect(spec.Connection.Close).reply_text == "CONNECTION_FORCED - by ann"
    client.send(0, spec.Connection.CloseOk())
    wait_until(lambda: connection.number not in world.system.actors)
    other.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)


# The head of the mailbox


def test_the_head_is_dropped_refused_and_recorded(system: System, worker: Worker) -> None:
    done: list[int] = []
    poison = Wait(fail)
    with pytest.raises(NotPossible, match="not paused"):
        controls.drop_head(worker, "guest")
    controls.pause(worker, None)
    with pytest.raises(NotPossible, match="nothing waits"):
        controls.drop_head(worker, "guest")
    worker.ref.tell(poison)
    worker.ref.tell(Do(lambda: done.append(1)))
    failure = controls.drop_head(worker, "guest")
    assert (failure.fate, failure.error, failure.actor_number) == (DROPPED, "dropped by guest", worker.number)
    assert poison.refused == ["worker ann: dropped by guest"]
    assert list(system.failures) == [failure]
    assert worker.failures.total == 0
    controls.resume(worker)
    settle(system)
    assert done == [1]


def test_an_ask_that_is_dropped_is_answered(worker: Worker) -> None:
    controls.pause(worker, None)
    future = worker.ref.ask(Do(), block=False)
    controls.drop_head(worker, "guest")
    assert future.get(timeout=5) is None


# Failures and replays


def test_a_failure_is_replayed(system: System, worker: Worker) -> None:
    results: list[int] = []

    def fail_first() -> None:
        results.append(len(results))
        if len(results) == 1:
            raise ValueError

    worker.ref.tell(Do(fail_first))
    settle(system)
    [failure] = system.failures
    controls.replay(system, failure)
    settle(system)
    assert (results, failure.replays, len(system.failures)) == ([0, 1], 1, 1)


def test_what_was_refused_to_somebody_is_not_replayed(system: System, worker: Worker) -> None:
    worker.ref.tell(Wait(fail))
    settle(system)
    [failure] = system.failures
    with pytest.raises(NotPossible, match="was told that it was refused"):
        controls.replay(system, failure)


def test_what_was_carried_out_in_part_or_repeated_is_not_replayed(system: System, worker: Worker) -> None:
    def answered_and_failed() -> None:
        worker.answered()
        fail()

    @dataclass(frozen=True, slots=True)
    class Again(Do):
        is_repeatable = True

    Worker._handlers[Again] = Worker.on_do
    worker.ref.tell(Do(answered_and_failed))
    worker.ref.tell(Again(fail))
    settle(system)
    last, first_try, answered = system.failures
    assert [each.fate for each in (answered, first_try, last)] == ["answered", "repeated", "refused"]
    for failure in (answered, first_try):
        with pytest.raises(NotPossible, match="gone on with it by itself"):
            controls.replay(system, failure)
    controls.replayable(last)


def test_one_that_is_gone_gets_no_replay(system: System, worker: Worker) -> None:
    worker.ref.tell(Do(fail))
    settle(system)
    worker.end()
    wait_until(lambda: not system.actors)
    [failure] = system.failures  # it outlives the actor
    with pytest.raises(NotPossible, match="gone"):
        controls.replay(system, failure)


def test_only_the_newest_failures_keep_their_messages() -> None:
    log = FailureLog()
    for number in range(LOGGED_FAILURES + 20):
        log.add(Failure("ann", Do(), f"{number}", ""))
    failures = list(log)
    assert len(log) == len(failures) == LOGGED_FAILURES
    assert [each.error for each in failures[:2]] == [f"{LOGGED_FAILURES + 19}", f"{LOGGED_FAILURES + 18}"]
    assert sum(each.message is not None for each in failures) == KEPT_MESSAGES
    assert all(each.shown.startswith("Do(") for each in failures)
    found = log.find(failures[3].number)
    assert found is failures[3]
    assert log.find(1) is None
    with pytest.raises(NotPossible, match="not kept"):
        controls.replayable(failures[-1])


@pytest.mark.parametrize(("receiver", "message_type", "times"), [(ExchangeActor, Route, 1), (QueueActor, Enqueue, 2)])
def test_a_publish_that_was_refused_arrives_by_a_replay(
    world: World, receiver: type[Actor], message_type: type, times: int
) -> None:
    client = Client(world).open().open_channel()
    client.call(1, spec.Queue.Declare(queue="q", durable=True), spec.Queue.DeclareOk)
    client.call(1, spec.Exchange.Declare(exchange="x", exchange_type="fanout"), spec.Exchange.DeclareOk)
    client.call(1, spec.Queue.Bind(queue="q", exchange="x"), spec.Queue.BindOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    actor = world.actor(receiver, "x" if receiver is ExchangeActor else "q")
    with failing(actor, message_type, ValueError, times):
        client.publish(1, b"poison", "key", "x", persistent=True)
        client.expect(spec.Basic.Nack, 1)
    failure = next(iter(world.system.failures))
    assert "'x', 'key', 6 B" in failure.shown
    assert "poison" not in failure.shown
    controls.replay(world.system, failure)
    world.flush()
    assert client.get()[1] == b"poison"
    client.publish(1, b"next", "key", "x", persistent=True)
    client.expect(spec.Basic.Ack, 1)  # the channel has noticed nothing: numbers and credit go on
    client.transport.assert_all_credit_is_back()


def test_a_declaration_that_was_refused_is_carried_out_by_a_replay(world: World) -> None:
    client = Client(world).open().open_channel()
    with failing(world.actor(VhostActor, "/"), Request, ValueError):
        client.send(1, spec.Queue.Declare(queue="q"))
        client.expect(spec.Channel.Close, 1)
    controls.replay(world.system, next(iter(world.system.failures)))
    client.send(1, spec.Channel.CloseOk())
    client.open_channel()
    client.call(1, spec.Queue.Declare(queue="q", passive=True), spec.Queue.DeclareOk)


def test_a_delivery_that_was_refused_is_not_replayed(world: World) -> None:
    client = Client(world).open().open_channel()
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    with failing(world.actor(ChannelActor), Deliver, ValueError):
        client.publish(1, b"x")
        client.expect(spec.Channel.Close, 1)
    [failure] = world.system.failures
    with pytest.raises(NotPossible, match="was told that it was refused"):
        controls.replay(world.system, failure)


# Nobody else notices


def test_a_paused_queue_takes_credit_of_its_own_publishers_only(world: World) -> None:
    flooding, other = (Client(world).open().open_channel() for _ in range(2))
    for name in ("paused", "other"):
        other.call(1, spec.Queue.Declare(queue=name), spec.Queue.DeclareOk)
    controls.pause(world.actor(QueueActor, "paused"), None)
    for _ in range(5):
        flooding.publish(1, b"x", "paused")
        other.publish(1, b"x", "other")
    world.settle()
    assert (flooding.transport.granted, flooding.transport.taken) == (0, 5)
    other.transport.assert_all_credit_is_back()
    assert other.get("other")[1] == b"x"
    controls.resume(world.actor(QueueActor, "paused"))
    world.settle()
    flooding.transport.assert_all_credit_is_back()


def test_with_persistence_paused_nothing_is_confirmed_and_all_else_goes_on(world: World) -> None:
    client = Client(world).open().open_channel()
    client.call(1, spec.Queue.Declare(queue="q", durable=True), spec.Queue.DeclareOk)
    client.call(1, spec.Confirm.Select(), spec.Confirm.SelectOk)
    controls.pause(world.persistence, None)
    client.publish(1, b"kept", persistent=True)
    assert client.rest() == []
    client.publish(1, b"light")
    client.expect(spec.Basic.Ack, 1)
    assert client.get()[1] == b"kept"
    controls.resume(world.persistence)
    client.expect(spec.Basic.Ack, 1)


def test_what_a_paused_queue_was_told_is_not_lost_when_it_is_stepped_and_restarted(world: World) -> None:
    client = Client(world).open().open_channel()
    client.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    queue = world.actor(QueueActor, "q")
    controls.pause(queue, None)
    for number in range(6):
        client.publish(1, b"%d" % number)
    world.settle()
    controls.step(queue, 2)
    controls.restart(queue)
    wait_until(lambda: queue.restarts == 1)
    controls.resume(queue)
    assert [client.get()[1] for _ in range(6)] == [b"%d" % number for number in range(6)]
