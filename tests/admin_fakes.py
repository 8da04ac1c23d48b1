"""A broker that is only a façade: actors that tell what real ones would, for tests of the admin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import gevent
from gevent.event import Event

from dispatchd.actors.messages import ActorMessage
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.web.actor_actions import ActorActions
from dispatchd.web.actor_trace import ActorTrace
from dispatchd.web.actors import Actors
from dispatchd.web.app import Section, make_app
from dispatchd.web.events import Events
from dispatchd.web.gate import Authenticate, Gate
from dispatchd.web.guard import Guard
from dispatchd.web.meter import Meter
from dispatchd.web.server import AdminServer

EVIL = "<img src=x onerror=\"document.title='owned'\"></td><script>document.title='owned'</script>"


@dataclass(frozen=True, slots=True)
class Explode(ActorMessage):
    """Makes a fake fail."""

    text: str = "boom"


@dataclass(frozen=True, slots=True)
class Hang(ActorMessage):
    """Keeps a fake busy until the event is set."""

    event: Event


class Fake(Actor):
    """Tells `told`, whatever that is at the moment; raises it if it is an exception."""

    def __init__(self, system: System, name: str, parent: Ref | None = None, told: Any = None) -> None:
        super().__init__(system, name, parent)
        self.told = told if told is not None else {}

    def snapshot(self) -> dict[str, Any]:
        if isinstance(self.told, Exception):
            raise self.told
        return {"name": self.name, **self.told}

    def details(self) -> dict[str, Any]:
        return {}

    @receives(Hang)
    def on_hang(self, message: Hang) -> None:
        message.event.wait(10)

    @receives(Explode)
    def on_explode(self, message: Explode) -> None:
        raise ValueError(message.text)


class FakeBroker(Fake):
    kind: ClassVar[str] = "broker"


class FakeConnection(Fake):
    kind: ClassVar[str] = "connection"


class FakeChannel(Fake):
    kind: ClassVar[str] = "channel"


class FakeExchange(Fake):
    kind: ClassVar[str] = "exchange"


@dataclass
class FakeUser:
    """Who has logged in."""

    name: str
    tags: list[str]
    vhosts: list[str] = field(default_factory=list)
    hash: str = ""

    def rights_in(self, vhost: str) -> Any:
        return "all" if vhost in self.vhosts else None


ME = FakeUser("me", ["administrator"])


class FakeQueue(Fake):
    kind: ClassVar[str] = "queue"


class FakePersistence(Fake):
    kind: ClassVar[str] = "persistence"


def queue_facts(ready: int = 0, unacknowledged: int = 0, **others: Any) -> dict[str, Any]:
    """What a queue tells."""
    return {
        "vhost": "/", "durable": True, "auto_delete": False, "exclusive": False, "arguments": {}, "state": "running",
        "messages": ready + unacknowledged, "messages_ready": ready, "messages_unacknowledged": unacknowledged,
        "message_bytes_ready": ready * 1000, "consumers": 0, "consumer_details": [], "published": ready, "delivered": 0,
        "redelivered": 0, "acknowledged": 0, "holds_credit": False, **others,
    }  # fmt: skip


def connection_facts(**others: Any) -> dict[str, Any]:
    """What a connection tells, with a table of every kind of value that clients send."""
    properties = {
        "product": "pika", "version": "1.3", "icon": b"\xff\x00", "price": Decimal("1.50"), "nan": float("nan"),
        "born": datetime(2020, 1, 2, tzinfo=UTC), "capabilities": {"basic.nack": True}, b"key": [1, None],
    }  # fmt: skip
    return {
        "peer_host": "127.0.0.1", "peer_port": 40000, "host": "127.0.0.1", "port": 5672, "user": "guest", "vhost": "/",
        "state": "running", "protocol": "AMQP 0-9-1", "client_properties": properties, "channels": 1,
        "channel_max": 2047, "frame_max": 131072, "timeout": 60, "connected_at": 1_700_000_000_000, "recv_oct": 4096,
        "send_oct": 8192, "blocked_by_credit": False, "user_provided_name": "orders", **others,
    }  # fmt: skip


def channel_facts(**others: Any) -> dict[str, Any]:
    """What a channel tells."""
    return {
        "number": 1, "connection": "127.0.0.1:40000 -> 127.0.0.1:5672", "vhost": "/", "user": "guest",
        "state": "running", "prefetch_count": 100, "global_prefetch_count": 0, "confirm": True, "transactional": False,
        "messages_unacknowledged": 3, "messages_unconfirmed": 1, "consumer_count": 1, "published": 5, "delivered": 4,
        "acknowledged": 1, "waiting_for": None, **others,
    }  # fmt: skip


def exchange_facts(**others: Any) -> dict[str, Any]:
    """What an exchange tells."""
    binding = {"destination": "orders", "destination_type": "queue", "routing_key": "new.*", "arguments": {}}
    return {
        "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "internal": False, "arguments": {},
        "bindings": [binding], "binding_count": 1, "published_in": 10, "published_out": 20, **others,
    }  # fmt: skip


def overview_facts() -> dict[str, Any]:
    """What the broker says of itself."""
    return {
        "product": "dispatchd", "version": "0.1.0", "compiled": False, "started_at": 1_700_000_000_000,
        "uptime_ms": 3_723_000, "python": "3.11.7",
        "listeners": [{"protocol": "amqp", "host": "127.0.0.1", "port": 5672}],
    }  # fmt: skip


def begin(actor: Fake) -> Fake:
    """Start a fake and return it."""
    actor.begin()
    return actor


@contextmanager
def stuck(*actors: Fake) -> Iterator[None]:
    """Have these handle something all the while, so that they don't answer."""
    event = Event()
    for actor in actors:
        actor.ref.tell(Hang(event))
    while any(actor.handling is None for actor in actors):
        gevent.sleep(0.001)
    yield
    event.set()
    while any(actor.handling is not None for actor in actors):
        gevent.sleep(0.001)


@contextmanager
def serving(
    system: System,
    authenticate: Authenticate = lambda user, password, _peer: ME if (user, password) == ("me", b"pass") else None,
    is_ready: Callable[[], bool] = lambda: True,
    overview: Callable[[], dict[str, Any]] = overview_facts,
    *,
    users: Iterable[FakeUser] = (ME,),
    are_actions_on: bool = True,
    sections: Iterable[Section] = (),
    meter: Meter | None = None,
    events: Events | None = None,
) -> Iterator[AdminServer]:
    """Serve the admin of a system on a free port, and end the server and the actors afterwards."""
    guard = Guard(are_actions_on=are_actions_on)
    own: list[Section] = [Actors(system, guard), ActorActions(system, guard), ActorTrace(system, guard)]
    meter = meter or Meter(system)
    events = events or Events(meter)
    gate = Gate(authenticate, {user.name: user for user in users}.get)
    app = make_app(system, gate, is_ready, overview, meter, events, [*own, *sections])
    server = AdminServer(app, "127.0.0.1", 0)
    server.start()
    events.start()
    try:
        yield server
    finally:
        events.stop()
        server.stop()
        actors = list(system.actors.values())
        for actor in actors:
            actor.end()
        with gevent.Timeout(5):
            while system.actors:
                gevent.sleep(0.001)
