"""Random work on a whole broker while its actors fail and are paused: what must hold whatever happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from actors.harness import Client, World, make_fail, wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pamqp import commands as spec

from dispatchd.actors import pager, persistence
from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.messages import (
    Add,
    CommitDue,
    CommitEnded,
    DeletePlaces,
    Deliver,
    Done,
    Enqueue,
    Fetch,
    Fetched,
    Got,
    OnDisk,
    PlacesDeleted,
    Request,
    Requeue,
    Restart,
    Route,
    Settle,
)
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor
from dispatchd.actors.storage import RESIDENT
from dispatchd.model.residency import Residency

QUEUES = ("durable", "transient", "shared")
KEYS = (*QUEUES, "missing")
CHANNELS = (1, 2, 3)
DURABLE = ("durable", "shared")

FAILURES: list[tuple[type[Actor], type]] = [
    (QueueActor, Enqueue),
    (QueueActor, Settle),
    (QueueActor, Requeue),
    (QueueActor, Request),
    (ExchangeActor, Route),
    (ChannelActor, Deliver),
    (ChannelActor, Got),
    (ChannelActor, Done),
    (persistence.PersistenceActor, Add),
    (persistence.PersistenceActor, CommitDue),
    (persistence.PersistenceActor, CommitEnded),
    (QueueActor, OnDisk),
    (QueueActor, Fetched),
    (QueueActor, PlacesDeleted),
    (persistence.PersistenceActor, Fetch),
    (persistence.PersistenceActor, DeletePlaces),
    (persistence.PersistenceActor, persistence.ReadEnded),
]

STEPS = st.one_of(
    st.tuples(
        st.just("publish"), st.sampled_from(CHANNELS), st.sampled_from(["", "fan"]), st.sampled_from(KEYS),
        st.booleans(), st.booleans(), st.integers(1, 5),
    ),
    st.tuples(st.just("get"), st.sampled_from(CHANNELS), st.sampled_from(QUEUES), st.booleans()),
    st.tuples(st.just("consume"), st.sampled_from(CHANNELS), st.sampled_from(QUEUES), st.booleans()),
    st.tuples(st.just("cancel"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("settle"), st.sampled_from(CHANNELS), st.sampled_from(["ack", "multiple", "nack", "reject"])),
    st.tuples(st.just("purge"), st.sampled_from(CHANNELS), st.sampled_from(QUEUES)),
    st.tuples(st.just("close"), st.sampled_from(CHANNELS)),
    st.tuples(st.just("fail"), st.sampled_from(FAILURES), st.sampled_from([ValueError, gevent.GreenletExit])),
    st.tuples(st.just("pause"), st.sampled_from([QueueActor, ExchangeActor, ChannelActor])),
    st.tuples(st.just("kill"), st.sampled_from([QueueActor, ExchangeActor, persistence.PersistenceActor])),
    st.tuples(st.just("settle down")),
)  # fmt: skip


class Injector:
    """Makes the next message of a type fail, whichever actor of the kind gets it."""

    def __init__(self) -> None:
        self.planned: Counter[tuple[type[Actor], type]] = Counter()
        self.errors: dict[tuple[type[Actor], type], type[BaseException]] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        originals = {(kind, message): kind._handlers[message] for kind, message in FAILURES}
        for (kind, message), handler in originals.items():
            kind._handlers[message] = self._wrap(kind, message, handler)
        try:
            yield
        finally:
            for (kind, message), handler in originals.items():
                kind._handlers[message] = handler

    def _wrap(self, kind: type[Actor], message_type: type, handler: Any) -> Any:
        def handle(actor: Any, message: Any) -> Any:
            if self.planned[kind, message_type]:
                self.planned[kind, message_type] -= 1
                raise self.errors[kind, message_type]
            return handler(actor, message)

        return handle


class Channel:
    """What one channel of the client knows."""

    def __init__(self) -> None:
        self.is_closing = False
        self.published = 0
        self.unconfirmed: set[int] = set()
        self.settling: list[tuple[str, bytes]] = []  # sent, and perhaps not yet taken in
        self.last_body: dict[tuple[str, Channel, str], int] = {}
        self.unsettled: dict[int, tuple[str, bytes]] = {}
        self.consumers: dict[str, tuple[str, bool]] = {}
        self.gets: list[tuple[str, bool]] = []


class Run:
    """A client that does as it is told, and books what became of every message."""

    def __init__(self, resident: Residency) -> None:
        self.world = World(coalesce_seconds=0.002, resident=resident)
        self.client = Client(self.world).open()
        self.injector = Injector()
        self.channels = {number: self._open(number) for number in CHANNELS}
        for queue in QUEUES:
            declare = spec.Queue.Declare(queue=queue, durable=queue in DURABLE)
            self.client.call(1, declare, spec.Queue.DeclareOk)
        self.client.call(
            1, spec.Exchange.Declare(exchange="fan", exchange_type="fanout", durable=True), spec.Exchange.DeclareOk
        )
        for queue in DURABLE:
            self.client.call(1, spec.Queue.Bind(queue=queue, exchange="fan"), spec.Queue.BindOk)
        self.paused: list[Actor] = []
        self.bodies = 0
        self.tags = 0
        self.wanted: dict[tuple[str, bytes], int] = {}  # accepted for certain: must be somewhere
        self.possible: set[tuple[str, bytes]] = set()
        self.publishers: dict[bytes, tuple[Channel, str]] = {}
        self.destinations: dict[tuple[int, int], list[tuple[str, bytes]]] = {}
        self.gone: set[tuple[str, bytes]] = set()  # acknowledged, or delivered without
        self.uncertain: set[tuple[str, bytes]] = set()  # settled on a channel that failed, which may have been too late
        self.lossy: set[str] = set()  # queues that somebody took from without acknowledging

    def _open(self, number: int) -> Channel:
        self.client.call(number, spec.Channel.Open(), spec.Channel.OpenOk)
        self.client.call(number, spec.Confirm.Select(), spec.Confirm.SelectOk)
        return Channel()

    # Steps

    def step(self, name: str, *arguments: Any) -> None:
        getattr(self, "_" + name.replace(" ", "_"))(*arguments)

    def _publish(self, number: int, exchange: str, key: str, persistent: bool, mandatory: bool, count: int) -> None:
        channel = self.channels[number]
        for _ in range(count):
            self.bodies += 1
            channel.published += 1
            channel.unconfirmed.add(channel.published)
            body = b"%d" % self.bodies
            queues = DURABLE if exchange else [key] if key in QUEUES else []
            self.destinations[id(channel), channel.published] = [(queue, body) for queue in queues]
            self.publishers[body] = (channel, exchange)
            self.possible.update((queue, body) for queue in queues)
            self.client.publish(number, body, key, exchange, persistent=persistent, mandatory=mandatory)

    def _get(self, number: int, queue: str, no_ack: bool) -> None:
        self.channels[number].gets.append((queue, no_ack))
        if no_ack:
            self.lossy.add(queue)
        self.client.send(number, spec.Basic.Get(queue=queue, no_ack=no_ack))

    def _consume(self, number: int, queue: str, no_ack: bool) -> None:
        self.tags += 1
        tag = f"c{self.tags}"
        self.channels[number].consumers[tag] = (queue, no_ack)
        if no_ack:
            self.lossy.add(queue)
        self.client.send(
            number,
            spec.Basic.Qos(prefetch_count=3),
            spec.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack, nowait=True),
        )

    def _cancel(self, number: int) -> None:
        for tag in list(self.channels[number].consumers)[:1]:
            self.client.send(number, spec.Basic.Cancel(tag, nowait=True))

    def _settle(self, number: int, how: str) -> None:
        self._receive()
        unsettled = self.channels[number].unsettled
        if not unsettled:
            return
        tag = list(unsettled)[len(unsettled) // 2]
        tags = [known for known in unsettled if known <= tag] if how == "multiple" else [tag]
        method = {
            "ack": spec.Basic.Ack(tag),
            "multiple": spec.Basic.Ack(tag, multiple=True),
            "nack": spec.Basic.Nack(tag, requeue=True),
            "reject": spec.Basic.Reject(tag, requeue=False),
        }[how]
        for known in tags:
            where = unsettled.pop(known)
            if how != "nack":
                self.channels[number].settling.append(where)
        self.client.send(number, method)

    def _purge(self, number: int, queue: str) -> None:
        self._settle_down()
        before = self._bodies(queue)
        self.client.send(number, spec.Queue.Purge(queue=queue, nowait=True))
        self._settle_down()
        after = self._bodies(queue)
        self.gone.update((queue, body) for body in before - after)

    def _bodies(self, queue: str) -> set[bytes]:
        return {message.body for _, message in self.world.ready(queue)}

    def _queue(self, name: str) -> QueueActor:
        return self.world.actor(QueueActor, name)

    def _close(self, number: int) -> None:
        self.channels[number].is_closing = True
        self.client.send(number, spec.Channel.Close(200, "", 0, 0))
        self._settle_down()

    def _fail(self, what: tuple[type[Actor], type], error: type[BaseException]) -> None:
        self.injector.planned[what] = 1
        self.injector.errors[what] = error

    def _pause(self, kind: type[Actor]) -> None:
        for actor in self.world.actors(kind)[-1:]:
            actor.actor_inbox.pause()
            self.paused.append(actor)

    def _kill(self, kind: type[Actor]) -> None:
        for actor in self.world.actors(kind)[:1]:
            make_fail(actor)

    def _settle_down(self) -> None:
        for actor in self.paused:
            actor.actor_inbox.resume()
        self.paused.clear()
        self.world.settle()
        wait_until(self._nobody_waits_for_a_read)
        self.world.settle()
        self._receive()
        for channel in self.channels.values():
            self.gone.update(channel.settling)
            channel.settling.clear()

    def _nobody_waits_for_a_read(self) -> bool:
        """One that failed is tried again later; what came behind a basic.get on its channel waits until then."""
        return not any(queue._waiting_gets for queue in self.world.actors(QueueActor) if not queue.is_quarantined)

    # What comes

    def _receive(self) -> None:
        frames = iter(self.client.received + self.client.transport.frames())
        self.client.received = []
        for number, frame in frames:
            assert number in self.channels, f"{frame.name} {dict(frame)} came on channel {number}"
            channel = self.channels[number]
            match frame:
                case spec.Basic.Ack() | spec.Basic.Nack():
                    self._confirmed(channel, frame)
                case spec.Basic.Deliver():
                    queue, no_ack = channel.consumers[str(frame.consumer_tag)]
                    self._delivered(channel, frame, queue, no_ack, self._body(frames, number))
                case spec.Basic.GetOk():
                    queue, no_ack = channel.gets.pop(0)
                    self._delivered(channel, frame, queue, no_ack, self._body(frames, number))
                case spec.Basic.GetEmpty():
                    channel.gets.pop(0)
                case spec.Basic.Return():
                    self._body(frames, number)
                case spec.Channel.Close():
                    assert frame.reply_code == 541, dict(frame)
                    self.client.send(number, spec.Channel.CloseOk())
                    if not channel.is_closing:  # else the answer to our own close is still to come
                        self._reopen(number)
                case spec.Channel.CloseOk():
                    self._reopen(number)
                case spec.Basic.QosOk() | spec.Channel.OpenOk() | spec.Confirm.SelectOk() | spec.Basic.Cancel():
                    pass
                case _:
                    raise AssertionError(f"nobody expects {frame!r} {dict(frame)}")

    def _body(self, frames: Iterator[tuple[int, Any]], number: int) -> bytes:
        header_channel, _ = next(frames)
        body_channel, body = next(frames)
        assert header_channel == body_channel == number
        return bytes(body.value)

    def _reopen(self, number: int) -> None:
        self.uncertain.update(self.channels[number].settling)
        self.channels[number] = Channel()
        self.client.send(number, spec.Channel.Open(), spec.Confirm.Select())

    def _confirmed(self, channel: Channel, frame: Any) -> None:
        tag = frame.delivery_tag
        numbers = {known for known in channel.unconfirmed if known <= tag} if frame.multiple else {tag}
        assert numbers <= channel.unconfirmed, f"{numbers - channel.unconfirmed} were settled before"
        channel.unconfirmed -= numbers
        for number in numbers:
            if isinstance(frame, spec.Basic.Ack):
                for where in self.destinations[id(channel), number]:
                    self.wanted[where] = 1

    def _delivered(self, channel: Channel, frame: Any, queue: str, no_ack: bool, body: bytes) -> None:
        where = (queue, body)
        assert where in self.possible
        assert where not in self.gone, f"{where} came again after it was settled"
        if not frame.redelivered:
            way = (queue, *self.publishers[body])
            assert int(body) > channel.last_body.get(way, 0), f"{where} was overtaken"
            channel.last_body[way] = int(body)
        if no_ack:
            self.gone.add(where)
        else:
            channel.unsettled[frame.delivery_tag] = where

    # What must hold

    def check(self) -> None:
        self.injector.planned.clear()
        self._settle_down()
        for actor in self._actors():
            if actor.is_quarantined and not isinstance(actor, ChannelActor):
                actor.ref.tell(Restart())
        for _ in range(3):
            self._settle_down()
            self.world.flush()
        self._receive()
        self.world.settle()
        self.client.transport.assert_all_credit_is_back()
        for channel in self.channels.values():
            assert channel.unconfirmed == set(), "every number of an open channel is settled"
        assert all(not isinstance(actor, ConnectionActor) or not actor.failures.total for actor in self._actors())
        held: Counter[str] = Counter()
        ledgers = 0
        for channel_actor in self.world.actors(ChannelActor):
            for entry in channel_actor._subscriber._ledger.unacked.values():
                assert entry.is_out
                held[entry.queue.name] += 1
            ledgers += channel_actor.snapshot()["messages_unacknowledged"]
            window = channel_actor._subscriber._window
            assert window.reserved == 0
            unacked = channel_actor._subscriber._ledger.unacked.values()
            assert window.unacked == sum(entry.consumer is not None for entry in unacked)
        out = {where for channel in self.channels.values() for where in channel.unsettled.values()}
        assert len(out) == ledgers
        ready: set[tuple[str, bytes]] = set()
        for name in QUEUES:
            queue = self._queue(name)._queue
            assert queue.unacked == held[name], f"{name}: {queue.unacked} out, {held[name]} in ledgers"
            positions = [entry.position for entry in queue.entries()]
            assert positions == sorted(positions)
            messages = [message for _, message in self.world.ready(name)]
            assert (len(queue), queue.ready_bytes) == (len(messages), sum(message.size for message in messages))
            assert sum(consumer.unacked for consumer in queue.consumers) <= queue.unacked
            ready.update((name, message.body) for message in messages)
        lost = {
            where for where in set(self.wanted) - ready - out - self.gone - self.uncertain if where[0] not in self.lossy
        }
        assert not lost, f"confirmed and lost: {lost}"
        assert not ready & self.gone - self.uncertain
        self._check_store(ready | out)

    def _check_store(self, live: set[tuple[str, bytes]]) -> None:
        recovered = self.world.store.recover()
        names = {self._queue(name)._definition.queue_id: name for name in DURABLE}
        stored = {
            (names[queue], message.body)
            for queue, found in recovered.queues.items()
            for _, message, _ in self.world.store.read(queue, found.positions.head(len(found.positions)))
        }
        assert stored <= live, f"settled and still stored: {stored - live}"
        persistent: set[tuple[str, bytes]] = set()
        for name in DURABLE:
            persistent.update((name, message.body) for _, message in self.world.ready(name) if message.persistent)
        assert persistent <= stored, f"persistent and not stored: {persistent - stored}"
        assert self.world.store.statistics()["entries"] == len(stored)

    def _actors(self) -> list[Actor]:
        return list(self.world.system.actors.values())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "RETRY_SECONDS", 0.001)


@pytest.mark.parametrize("resident", [RESIDENT, Residency(4, 1 << 20)], ids=["in memory", "on disk"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=20, max_size=80))
def test_whatever_happens(resident: Residency, steps: list[tuple[Any, ...]]) -> None:
    run = Run(resident)
    try:
        with run.injector.installed():
            for name, *arguments in steps:
                run.step(name, *arguments)
            run.check()
    finally:
        run.world.end()
