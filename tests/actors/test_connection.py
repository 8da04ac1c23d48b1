from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors.harness import (
    Client,
    FakeTransport,
    Listener,
    Reader,
    World,
    arrived,
    failing,
    published,
    sample_methods,
    settle,
    wait_until,
)
from pamqp import commands as spec

from dispatchd.actors import connection
from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.connection import (
    AUTHENTICATING,
    CLOSING,
    LEAVING,
    OPEN,
    OPENING,
    STARTING,
    TUNING,
    ConnectionActor,
    Services,
)
from dispatchd.actors.credentials import built_in_user
from dispatchd.actors.messages import (
    Arrived,
    Authenticate,
    Authenticated,
    Block,
    ChannelGone,
    CloseConnection,
    Connected,
    ConnectionGone,
    Disconnected,
    Drained,
    OwnerReleased,
    ReleaseOwner,
    Unblock,
)
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import System
from dispatchd.actors.session import Limits, Vhost
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import FrameError
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.users import Users


class Rig:
    """One connection whose neighbours only listen."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.broker, self.vhost, self.authenticator = Listener("broker"), Listener("vhost"), Listener("authenticator")
        self.transport = FakeTransport()
        self.reader = Reader(self.transport)
        vhost: Any = self.vhost
        broker: Any = self.broker
        authenticator: Any = self.authenticator
        persistence: Any = Listener("persistence")
        hosts = {"/": Vhost("/", vhost, Catalogue("/", lambda octets: b"x" * octets, lambda: 1), persistence)}
        services = Services(hosts, Users([built_in_user(["/"])]), authenticator, Limits(2047, 131072, 60))
        self.actor = ConnectionActor(system, self.transport, broker, services)
        self.ref = self.actor.begin()

    def tell(self, message: Any) -> None:
        self.ref.tell(message)
        settle(self.system)

    def method(self, method: m.Method) -> None:
        self.tell(arrived(method, 0))

    def read(self, channel: int, *frames: Any) -> None:
        self.tell(Arrived(self.reader.read(channel, *frames)))

    @property
    def state(self) -> str:
        return str(self.actor.snapshot()["state"])

    def frames(self) -> list[str]:
        return [frame.name for _, frame in self.transport.frames()]

    def closed_with(self) -> tuple[int, str]:
        """Code and text of the connection.close that is all that was sent."""
        ((_, close),) = self.transport.frames()
        assert close.name == "Connection.Close"
        return close.reply_code, close.reply_text

    def reach(self, state: str) -> Rig:
        """Go through the handshake, up to this state, and on to the end."""
        steps: dict[str, Callable[[], None]] = {
            STARTING: lambda: self.tell(Connected()),
            AUTHENTICATING: lambda: self.method(m.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest")),
            TUNING: lambda: self.tell(Authenticated("guest", accepted=True)),
            OPENING: lambda: self.method(m.ConnectionTuneOk(100, 8192, 10)),
            OPEN: lambda: self.method(m.ConnectionOpen("/")),
            CLOSING: lambda: self.tell(CloseConnection("enough")),
            LEAVING: lambda: self.method(m.ConnectionCloseOk()),
        }
        for reached, step in steps.items():
            step()
            assert self.state == reached
            if reached == state:
                break
        self.frames()
        return self


@pytest.fixture
def rig() -> Iterator[Rig]:
    system = System()
    yield Rig(system)
    for actor in list(system.actors.values()):
        actor.end()
    wait_until(lambda: not system.actors)


def test_the_handshake(rig: Rig) -> None:
    rig.reach(STARTING)
    rig.method(m.ConnectionStartOk({"product": "test"}, "PLAIN", b"\0guest\0secret"))
    authenticate = rig.authenticator.take(Authenticate)
    assert (authenticate.user, authenticate.password, authenticate.peer) == ("guest", b"secret", "127.0.0.1")
    rig.tell(Authenticated("guest", accepted=True))
    ((_, tune),) = rig.transport.frames()
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)
    rig.method(m.ConnectionTuneOk(100, 8192, 10))
    assert rig.transport.agreed == (8192, 10)
    assert not rig.transport.is_opened
    rig.method(m.ConnectionOpen("/"))
    assert rig.frames() == ["Connection.OpenOk"]
    assert rig.transport.is_opened


EXPECTED: dict[str, list[type[m.Method]]] = {
    STARTING: [m.ConnectionStartOk],
    AUTHENTICATING: [],
    TUNING: [m.ConnectionTuneOk],
    OPENING: [m.ConnectionOpen],
    OPEN: [m.ConnectionUpdateSecret],
}
METHODS = sample_methods()


@pytest.mark.parametrize("state", EXPECTED)
def test_methods_out_of_turn(state: str) -> None:
    for method in METHODS:
        if type(method) in [*EXPECTED[state], m.ConnectionClose]:
            continue
        rig = Rig(System()).reach(state)
        rig.method(method)
        ((_, close),) = rig.transport.frames()
        assert (close.reply_code, close.class_id, close.method_id) == (504, *m.method_ids(method)), method
        assert rig.state == CLOSING
        assert rig.actor.failures.total == 0
        rig.actor.end()


@pytest.mark.parametrize("state", [STARTING, AUTHENTICATING, TUNING, OPENING, OPEN])
def test_a_client_may_close_at_any_time(rig: Rig, state: str) -> None:
    rig.reach(state)
    rig.method(m.ConnectionClose(200))
    if state == OPEN:
        assert rig.vhost.take(ReleaseOwner).owner == rig.actor.number
        assert not rig.transport.is_closed
        rig.tell(OwnerReleased())
    assert rig.frames() == ["Connection.CloseOk"]
    assert rig.transport.is_closed
    assert rig.transport.closes_after_peer
    rig.broker.take(ConnectionGone)
    assert rig.system.actors == {}


@pytest.mark.parametrize("state", [STARTING, AUTHENTICATING, TUNING, OPENING])
def test_nothing_for_a_channel_before_open(rig: Rig, state: str) -> None:
    rig.reach(state).read(1, *published(b"early"))
    assert rig.closed_with()[0] in (503, 504)
    rig.transport.assert_all_credit_is_back()


@pytest.mark.parametrize("state", [CLOSING, LEAVING])
def test_at_the_end_nothing_means_anything(state: str) -> None:
    for method in METHODS:
        if isinstance(method, m.ConnectionClose | m.ConnectionCloseOk):
            continue
        rig = Rig(System()).reach(state)
        rig.method(method)
        rig.read(1, spec.Channel.Open(), *published(b"late"))
        assert (rig.state, rig.frames()) == (state, []), method
        rig.transport.assert_all_credit_is_back()
        rig.actor.end()


def test_both_sides_close_at_once(rig: Rig) -> None:
    rig.reach(CLOSING).method(m.ConnectionClose(200))
    assert (rig.state, rig.frames()) == (CLOSING, ["Connection.CloseOk"])
    rig.method(m.ConnectionCloseOk())
    assert rig.state == LEAVING


def test_what_an_authenticator_says_too_late(rig: Rig) -> None:
    rig.reach(CLOSING).tell(Authenticated("guest", accepted=True))
    assert (rig.state, rig.frames()) == (CLOSING, [])


def test_a_violation_comes_after_what_was_before_it(rig: Rig) -> None:
    rig.reach(OPEN)
    rig.tell(Arrived(rig.reader.read(1, spec.Channel.Open()), FrameError("bad")))
    assert sorted(rig.frames()) == ["Channel.OpenOk", "Connection.Close"]


def test_a_channel_is_opened_by_open_alone(rig: Rig) -> None:
    rig.reach(OPEN).read(3, spec.Basic.Qos())
    assert rig.closed_with() == (504, "CHANNEL_ERROR - expected 'channel.open'")
    assert list(rig.system.actors.values()) == [rig.actor]


def test_a_client_that_says_nothing_is_not_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LEAVE_SECONDS", 0.01)
    rig.reach(OPENING)
    rig.tell(CloseConnection("enough"))
    wait_until(lambda: rig.transport.is_closed)
    rig.broker.take(ConnectionGone)


def test_a_vhost_that_says_nothing_is_not_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LEAVE_SECONDS", 0.01)
    rig.reach(OPEN).tell(Disconnected("gone"))
    wait_until(lambda: rig.transport.is_closed)
    wait_until(lambda: not rig.system.actors)
    rig.broker.take(ConnectionGone)


def test_drained_goes_to_all_channels(world: World, client: Client) -> None:
    client.open_channel(2)
    client.call(2, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    client.call(2, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    client.transport.outlet.unsent = client.transport.outlet.limit
    client.publish(1, b"waits for room")
    client.expect_nothing(2)
    client.transport.outlet.unsent = 0
    client.connection.tell(Drained())
    assert client.delivery(2)[1] == b"waits for room"


def test_the_end_lets_go_of_everything(world: World, client: Client) -> None:
    other = Client(world).open().open_channel()
    for arguments in ({"queue": "mine", "exclusive": True}, {"queue": "q"}):
        client.call(1, spec.Queue.Declare(**arguments), spec.Queue.DeclareOk)
    client.publish(1, b"a")
    client.get()
    client.call(1, spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    client.disconnect()
    world.settle()
    assert client.transport.is_closed
    assert [queue.name for queue in world.actors(QueueActor)] == ["q"]
    answer, body = other.get()
    assert (body, answer.redelivered) == (b"a", True)
    assert len(world.actors(ConnectionActor)) == len(world.actors(ChannelActor)) == 1


def test_what_is_stashed_is_carried_out_although_the_client_has_gone(world: World, client: Client) -> None:
    other = Client(world).open().open_channel()
    queues = [spec.Queue.Declare(queue=f"q{number}", durable=True) for number in range(5)]
    client.send(1, *queues, *published(b"last", "q4"))
    client.disconnect()
    wait_until(lambda: client.transport.is_closed)
    assert other.get("q4")[1] == b"last"
    client.transport.assert_all_credit_is_back()


def test_a_connection_with_a_paused_channel_goes_without_it(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LEAVE_SECONDS", 0.01)
    client.call(1, spec.Queue.Declare(queue="mine", exclusive=True), spec.Queue.DeclareOk)
    channel = world.actor(ChannelActor)
    channel.actor_inbox.pause()
    client.disconnect()
    wait_until(lambda: client.transport.is_closed)
    world.settle()
    assert world.actors(QueueActor) == []
    channel.actor_inbox.resume()
    wait_until(lambda: not world.actors(ChannelActor))


# Failures


@pytest.mark.parametrize("message_type", [Arrived, Drained])
def test_a_failure_closes_this_connection_alone(world: World, client: Client, message_type: type) -> None:
    other = Client(world).open().open_channel()
    other.call(1, spec.Queue.Declare(queue="q"), spec.Queue.DeclareOk)
    actor = world.system.actors[client.connection.number]
    with failing(actor, message_type, lambda: ValueError("boom")) as failed:
        client.connection.tell(Drained())
        client.send(1, spec.Basic.Qos())
        close = client.expect(spec.Connection.Close)
    assert len(failed) == 1
    assert (close.reply_code, close.reply_text) == (541, "INTERNAL_ERROR - ValueError: boom")
    client.send(0, spec.Connection.CloseOk())
    world.settle()
    assert client.transport.is_closed
    other.publish(1, b"a")
    assert other.get()[1] == b"a"


def test_quarantine_ends_it_with_all_that_is_its_own(world: World, client: Client) -> None:
    client.call(1, spec.Queue.Declare(queue="mine", exclusive=True), spec.Queue.DeclareOk)
    actor = world.system.actors[client.connection.number]
    with failing(actor, Drained, ValueError, times=9):
        for _ in range(9):
            client.connection.tell(Drained())
        world.settle()
    assert client.transport.is_closed
    assert world.actors(ConnectionActor) == []
    assert world.actors(ChannelActor) == []
    assert world.actors(QueueActor) == []


@pytest.mark.parametrize("message_type", [ChannelGone, OwnerReleased])
def test_a_failure_while_it_leaves_does_not_keep_it(
    world: World, client: Client, monkeypatch: pytest.MonkeyPatch, message_type: type
) -> None:
    monkeypatch.setattr(connection, "LEAVE_SECONDS", 0.01)
    client.call(1, spec.Queue.Declare(queue="mine", exclusive=True), spec.Queue.DeclareOk)
    with failing(world.actor(ConnectionActor), message_type, ValueError):
        client.disconnect()
        wait_until(lambda: client.transport.is_closed)
    wait_until(lambda: not world.actors(ConnectionActor))
    world.settle()
    assert world.actors(ChannelActor) == []
    assert world.actors(QueueActor) == []


def blockable(rig: Rig, *, announced: bool = True) -> Rig:
    """An open connection with channel 1, whose client wants to know of alarms, or can't."""
    capabilities = {"capabilities": {"connection.blocked": announced}}
    rig.tell(Connected())
    rig.method(m.ConnectionStartOk(capabilities, "PLAIN", b"\0guest\0guest"))
    rig.tell(Authenticated("guest", accepted=True))
    rig.method(m.ConnectionTuneOk(100, 8192, 10))
    rig.method(m.ConnectionOpen("/"))
    rig.read(1, spec.Channel.Open())
    rig.frames()
    return rig


def test_an_alarm_does_not_concern_who_publishes_nothing(rig: Rig) -> None:
    blockable(rig).tell(Block("low on memory"))
    rig.read(1, spec.Basic.Qos())
    assert rig.frames() == ["Basic.QosOk"]
    assert not rig.transport.is_blocked
    assert rig.state == "blocking"
    rig.tell(Unblock())
    assert rig.frames() == []
    assert rig.state == OPEN


def test_the_first_publish_during_an_alarm_is_taken_and_the_last_until_its_end(rig: Rig) -> None:
    blockable(rig).tell(Block("low on memory"))
    rig.read(1, *published(b"x", "none", mandatory=True))
    blocked, *_ = [frame for number, frame in rig.transport.frames() if number == 0]
    assert (blocked.name, blocked.reason) == ("Connection.Blocked", "low on memory")
    assert rig.transport.is_blocked
    assert rig.state == "blocked"
    rig.read(1, *published(b"what had been read already"))
    rig.tell(Block("low on memory & disk"))
    assert "Connection.Blocked" not in rig.frames()
    rig.tell(Unblock())
    assert rig.frames() == ["Connection.Unblocked"]
    assert not rig.transport.is_blocked
    assert rig.state == OPEN
    rig.read(1, *published(b"x"))
    assert not rig.transport.is_blocked


def test_every_alarm_waits_for_a_publish_of_its_own(rig: Rig) -> None:
    blockable(rig).tell(Block("low on memory"))
    rig.read(1, *published(b"x"))
    rig.tell(Unblock())
    rig.tell(Block("low on memory"))
    assert not rig.transport.is_blocked
    rig.read(1, *published(b"x"))
    assert rig.transport.is_blocked


def test_an_alarm_blocks_in_the_middle_of_a_content(rig: Rig) -> None:
    blockable(rig)
    rig.transport.unfinished = 1
    rig.tell(Block("low on memory"))
    assert rig.frames() == ["Connection.Blocked"]
    assert rig.transport.is_blocked
    rig.tell(Unblock())
    assert rig.frames() == ["Connection.Unblocked"]


def test_the_first_part_of_a_content_during_an_alarm_is_the_last_until_its_end(rig: Rig) -> None:
    blockable(rig).tell(Block("low on memory"))
    rig.tell(Arrived([]))
    assert not rig.transport.is_blocked
    rig.transport.unfinished = 1
    rig.tell(Arrived([]))
    assert rig.frames() == ["Connection.Blocked"]
    assert rig.transport.is_blocked


def test_who_can_not_be_told_is_blocked_all_the_same(rig: Rig) -> None:
    blockable(rig, announced=False).tell(Block("low on memory"))
    rig.read(1, *published(b"x"))
    assert rig.transport.is_blocked
    rig.tell(Unblock())
    assert not rig.transport.is_blocked
    assert not [name for name in rig.frames() if name.startswith("Connection")]


def test_a_blocked_connection_that_is_closed_is_read_again(rig: Rig) -> None:
    blockable(rig).tell(Block("low on memory"))
    rig.read(1, *published(b"x"))
    rig.frames()
    rig.tell(CloseConnection("enough"))
    assert rig.frames() == ["Connection.Close"]
    assert not rig.transport.is_blocked
    rig.tell(Unblock())
    assert rig.frames() == []


@pytest.mark.parametrize("state", [STARTING, TUNING, CLOSING, LEAVING])
def test_alarms_in_other_states_are_nothing_to_speak_of(rig: Rig, state: str) -> None:
    rig.reach(state)
    rig.tell(Block("low on memory"))
    assert rig.state == state
    rig.tell(Unblock())
    assert rig.frames() == []


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"connection_name": "orders", "product": "x"}, "orders"),
        ({"connection_name": b"\xff"}, None),
        ({"connection_name": {"a": 1}}, None),
        ({}, None),
    ],
)
def test_the_name_that_a_client_gives_its_connection(rig: Rig, properties: dict[str, Any], name: str | None) -> None:
    rig.tell(Connected())
    rig.method(m.ConnectionStartOk(properties, "PLAIN", b"\0guest\0guest"))
    assert rig.actor.snapshot()["user_provided_name"] == name
