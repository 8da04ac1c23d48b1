"""Actors without sockets: transports that record what is sent, clients that speak in frames, references that listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import gevent
from gevent.event import Event
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from dispatchd.actors.broker import BrokerActor
from dispatchd.actors.credentials import BUILT_IN_HASH, Credentials
from dispatchd.actors.hashing import BCRYPT
from dispatchd.actors.messages import ActorMessage, Arrived, Connect, Disconnected, Flush
from dispatchd.actors.monitor import Watermarks
from dispatchd.actors.persistence import PersistenceActor
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import Actor, Ref, System
from dispatchd.actors.session import Limits
from dispatchd.actors.storage import RESIDENT
from dispatchd.amqp.frame_parser import ChannelInput, FrameParser
from dispatchd.amqp.message import Message
from dispatchd.amqp.methods import METHODS, Method
from dispatchd.model.flow import Outlet
from dispatchd.model.residency import Residency
from dispatchd.model.users import ADMINISTRATOR, User, Users
from dispatchd.store.interface import Store
from dispatchd.store.memory_store import MemoryStore

WAIT_SECONDS = 20
FRAME_MAX = 131072

Frame = TypeVar("Frame")
Kind = TypeVar("Kind", bound=ActorMessage)
SomeActor = TypeVar("SomeActor", bound=Actor)


class FakeTransport:
    """Keeps what is sent, and books the publish credit that reads took and channels gave back."""

    def __init__(self) -> None:
        self.outlet = Outlet()
        self.peer = ("127.0.0.1", 40000)
        self.local = ("127.0.0.1", 5672)
        self.received_bytes = 0
        self.reads = 0
        self.sent_bytes = 0
        self.writes = 0
        self.waits_for_credit = False
        self.is_blocked = False
        self.certified_name = ""
        self.facts: dict[str, Any] = {"ssl": False}
        self.taken = 0
        self.granted = 0
        self.was_overdrawn = False
        self.is_closed = False
        self.closes_after_peer = False
        self.is_opened = False
        self.skips_channels = False
        self.agreed: tuple[int, int] | None = None
        self.unfinished = 0
        self.connection: Ref | None = None
        self.sent = Event()
        self._data = b""

    def begin(self, connection: Ref) -> None:
        self.connection = connection

    def send(self, data: bytes) -> None:
        self._data += data
        self.sent.set()

    def send_all(self, pieces: list[bytes | memoryview]) -> None:
        self.send(b"".join(pieces))

    def grant(self, credit: int) -> None:
        self.granted += credit
        if credit < 0 or self.granted > self.taken:
            self.was_overdrawn = True

    def block(self) -> None:
        self.is_blocked = True

    def unblock(self) -> None:
        self.is_blocked = False

    def tuned(self, frame_max: int, heartbeat: int) -> None:
        self.agreed = (frame_max, heartbeat)

    def opened(self) -> None:
        self.is_opened = True

    def end_channels(self) -> None:
        self.skips_channels = True

    def close(self, *, after_peer: bool = False) -> None:
        self.is_closed = True
        self.closes_after_peer = after_peer
        self.sent.set()

    def frames(self) -> list[tuple[int, Any]]:
        """(channel, frame) of everything that was sent since the last call."""
        self.sent.clear()
        found = []
        while self._data:
            size, channel, frame = unmarshal(self._data)
            found.append((channel, frame))
            self._data = self._data[size:]
        return found

    def assert_all_credit_is_back(self) -> None:
        """Every unit that was taken was granted exactly once."""
        assert not self.was_overdrawn, f"{self.granted} granted, {self.taken} taken"
        assert self.granted == self.taken


class Reader:
    """Makes what a socket's reader would tell out of frames, and books the credit that it takes."""

    def __init__(self, transport: FakeTransport) -> None:
        self._transport = transport
        self._parser = FrameParser(FRAME_MAX)
        for number in range(1, 100):  # tests of a channel alone do not open it over the wire
            self._parser.open_channel(number)

    def read(self, channel: int, *frames: Any) -> list[ChannelInput]:
        return self.parse(b"".join(marshal(frame, channel) for frame in frames))

    def parse(self, data: bytes) -> list[ChannelInput]:
        inputs = self._parser.feed(data)
        assert self._parser.failure is None, self._parser.failure
        self._transport.taken += sum(arrived.cost for arrived in inputs)
        return inputs


def published(
    body: bytes,
    routing_key: str = "q",
    exchange: str = "",
    *,
    mandatory: bool = False,
    immediate: bool = False,
    persistent: bool = False,
    reply_to: str | None = None,
    headers: Any = None,
    priority: int | None = None,
    expiration: str | None = None,
) -> list[Any]:
    """The frames of one basic.publish."""
    properties = spec.Basic.Properties(
        delivery_mode=2 if persistent else 1,
        reply_to=reply_to,
        headers=headers,
        priority=priority,
        expiration=expiration,
    )
    frames: list[Any] = [
        spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate),
        ContentHeader(0, len(body), properties),
    ]
    return [*frames, ContentBody(body)] if body else frames


class Listener:
    """Stands in for the reference of an actor: keeps what it is told."""

    number = 0

    def __init__(self, name: str = "listener") -> None:
        self.name = name
        self.told: list[Any] = []
        self.has_stopped = False

    def tell(self, message: Any) -> None:
        self.told.append(message)

    def is_alive(self) -> bool:
        return not self.has_stopped

    def take(self, kind: type[Kind]) -> Kind:
        """The one message that there is, which has to be of this kind."""
        assert [type(message) for message in self.told] == [kind], self.told
        message = self.told.pop()
        assert isinstance(message, kind)
        return message

    def take_all(self) -> list[Any]:
        told, self.told = self.told, []
        return told


@dataclass(frozen=True, slots=True)
class Poison(ActorMessage):
    """Nobody understands it."""

    reaches_quarantined: ClassVar[bool] = True


def make_fail(actor: Actor) -> None:
    """Have the actor fail: in the middle of what it waits for, else before it handles the next message."""
    if actor.greenlet is None:
        actor.actor_inbox.add_first(Poison())
    else:
        gevent.kill(actor.greenlet)


def wait_until(condition: Callable[[], Any], describe: Callable[[], Any] = lambda: "") -> None:
    """Let the loop run until the condition holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain {describe()}"
        gevent.sleep(0.001)


def settle(system: System) -> None:
    """Let the actors run until no mailbox of those that aren't paused has anything in it."""
    quiet = 0
    deadline = time.monotonic() + WAIT_SECONDS
    while quiet < 3:
        gevent.sleep(0)
        busy = [actor for actor in system.actors.values() if _is_busy(actor)]
        quiet = 0 if busy else quiet + 1
        assert not busy or time.monotonic() < deadline, [(a.vitals(), a.handling, a.snapshot()) for a in busy]


def _is_busy(actor: Actor) -> bool:
    if isinstance(actor, PersistenceActor) and actor.reads:
        return True
    return actor.handling is not None or (len(actor.actor_inbox) > 0 and actor.actor_inbox.permits is None)


GUEST = User("guest", BUILT_IN_HASH, BCRYPT, [ADMINISTRATOR], is_of_file=True)
"""As a configuration file may name it: of what tests make guest may use all."""


class World:
    """A whole broker in memory, without ports."""

    def __init__(
        self,
        store: Store | None = None,
        coalesce_seconds: float = 0.01,
        resident: Residency = RESIDENT,
        watermarks: Watermarks | None = None,
    ) -> None:
        self.system = System()
        self.store = store or MemoryStore()
        self.scratch = MemoryStore()
        credentials = Credentials(Users([GUEST]), guest_from_anywhere=False)
        limits = Limits(2047, FRAME_MAX, 60)
        self.broker = BrokerActor(
            self.system, self.store, self.scratch, credentials, limits, coalesce_seconds, resident, watermarks
        )
        self.ref = self.broker.begin()

    def settle(self) -> None:
        settle(self.system)

    def flush(self) -> None:
        """Return when everything so far is in the stores."""
        self.settle()
        for actor in (self.broker.persistence, self.broker.scratch):
            flushed: Any = actor.ask(Flush(), timeout=WAIT_SECONDS)
            assert flushed.wait(WAIT_SECONDS)
        self.settle()

    def ready(self, name: str) -> list[tuple[int, Message]]:
        """Position and message of all that is ready in a queue, wherever it is, in the order of positions."""
        actor = self.actor(QueueActor, name)
        found = [(entry.position, entry.message) for entry in actor._queue.entries()]
        for line in actor._queue.lines:
            for store in (self.store, self.scratch):
                rows = store.read(actor._definition.queue_id, line.paged.head(len(line.paged)))
                found += [(position, message) for position, message, _ in rows]
        return sorted(found, key=lambda pair: pair[0])

    def actor(self, kind: type[SomeActor], name: str = "") -> SomeActor:
        """The one actor of this kind, with this name if there are several."""
        (found,) = [
            actor for actor in self.system.actors.values() if isinstance(actor, kind) and name in ("", actor.name)
        ]
        return found

    def actors(self, kind: type[SomeActor]) -> list[SomeActor]:
        return [actor for actor in self.system.actors.values() if isinstance(actor, kind)]

    @property
    def persistence(self) -> PersistenceActor:
        return self.actor(PersistenceActor, f"persistence ({self.store.kind})")

    def end(self) -> None:
        for actor in list(self.system.actors.values()):
            actor.end()
        wait_until(lambda: not self.system.actors)


class Client:
    """A connection of a world; what it sends is taken in at once, as one read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.transport = FakeTransport()
        self.reader = Reader(self.transport)
        self.received: list[tuple[int, Any]] = []
        world.ref.tell(Connect(self.transport))
        self.expect(spec.Connection.Start)

    @property
    def connection(self) -> Ref:
        assert self.transport.connection is not None
        return self.transport.connection

    def log_in(self, capabilities: dict[str, bool] | None = None) -> None:
        properties: Any = {"capabilities": capabilities or {"consumer_cancel_notify": True}}
        self.send(0, spec.Connection.StartOk(properties, "PLAIN", "\0guest\0guest"))
        self.expect(spec.Connection.Tune)
        self.send(0, spec.Connection.TuneOk(2047, FRAME_MAX, 0))

    def open(self, capabilities: dict[str, bool] | None = None, vhost: str = "/") -> Client:
        self.log_in(capabilities)
        self.send(0, spec.Connection.Open(vhost))
        self.expect(spec.Connection.OpenOk)
        return self

    def open_channel(self, number: int = 1) -> Client:
        self.call(number, spec.Channel.Open(), spec.Channel.OpenOk)
        return self

    def send(self, channel: int, *frames: Any) -> None:
        self.connection.tell(Arrived(self.reader.read(channel, *frames)))

    def send_bytes(self, data: bytes) -> None:
        self.connection.tell(Arrived(self.reader.parse(data)))

    def publish(self, channel: int, body: bytes, routing_key: str = "q", exchange: str = "", **options: Any) -> None:
        self.send(channel, *published(body, routing_key, exchange, **options))

    def call(self, channel: int, method: Any, answer: type[Frame]) -> Frame:
        self.send(channel, method)
        return self.expect(answer, channel)

    def expect(self, kind: type[Frame], channel: int = 0) -> Frame:
        """The next frame that comes on this channel, which has to be of this kind."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self.received += self.transport.frames()
            for index, (number, frame) in enumerate(self.received):
                if number == channel:
                    del self.received[index]
                    assert isinstance(frame, kind), f"expected {kind}, got {frame!r} {dict(frame)}"
                    return frame
            left = deadline - time.monotonic()
            assert left > 0, f"no {kind} came, but {self.received!r}"
            self.transport.sent.wait(left)

    def delivery(self, channel: int = 1) -> tuple[spec.Basic.Deliver, bytes]:
        return self.expect(spec.Basic.Deliver, channel), self._body(channel)

    def returned(self, channel: int = 1) -> tuple[spec.Basic.Return, bytes]:
        return self.expect(spec.Basic.Return, channel), self._body(channel)

    def get(self, queue: str = "q", channel: int = 1, *, no_ack: bool = False) -> tuple[spec.Basic.GetOk, bytes]:
        answer = self.call(channel, spec.Basic.Get(queue=queue, no_ack=no_ack), spec.Basic.GetOk)
        return answer, self._body(channel)

    def _body(self, channel: int) -> bytes:
        header = self.expect(ContentHeader, channel)
        body = b""
        while len(body) < header.body_size:
            body += self.expect(ContentBody, channel).value
        return body

    def rest(self, channel: int = 1) -> list[Any]:
        """Everything that has come on this channel once the actors are at rest."""
        self.world.settle()
        self.received += self.transport.frames()
        mine = [frame for number, frame in self.received if number == channel]
        self.received = [pair for pair in self.received if pair[0] != channel]
        return mine

    def expect_nothing(self, channel: int = 1) -> None:
        assert self.rest(channel) == []

    def disconnect(self) -> None:
        self.connection.tell(Disconnected("the client closed the socket"))


@contextmanager
def failing(
    actor: Actor, message_type: type, error: Callable[[], BaseException], times: int = 1
) -> Iterator[list[Any]]:
    """Let this one actor fail on the next `times` messages of a type; yields those that it failed on."""
    kind = type(actor)
    handler = kind._handlers[message_type]
    failed: list[Any] = []

    def handle(receiver: Any, message: Any) -> Any:
        if receiver is actor and len(failed) < times:
            failed.append(message)
            raise error()
        return handler(receiver, message)

    kind._handlers[message_type] = handle
    try:
        yield failed
    finally:
        kind._handlers[message_type] = handler


_SAMPLES: dict[str, Any] = {"bit": False, "shortstr": "x", "longstr": b"x", "table": {}}


def sample_methods() -> list[Method]:
    """One of every method that there is, with unremarkable arguments."""
    samples = []
    for _, _, method, types in METHODS:
        kinds = [kind for kind in types.split() if not kind.startswith("-")]
        names = [field.name for field in fields(method)]  # type: ignore[arg-type]  # all methods are dataclasses
        arguments = {name: _SAMPLES.get(kind, 1) for name, kind in zip(names, kinds, strict=True)}
        samples.append(method(**arguments))
    return samples


def arrived(method: Method | None, channel: int = 1) -> Arrived:
    """A read that brought one method."""
    one = ChannelInput(channel)
    one.method = method
    return Arrived([one])
