"""A client that goes on whatever closes on it, and books what became of every message that it published."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gevent
from actors.harness import FRAME_MAX, WAIT_SECONDS, FakeTransport, Reader, World, published
from pamqp import commands as spec

from dispatchd.actors.messages import Arrived, Connect, Disconnected

INTERNAL_ERROR = 541
PRECONDITION_FAILED = 406
"""A transaction of which a part was refused."""

Place = tuple[str, bytes]
"""A queue, and the body of a message, of which there is no other."""
Frame = TypeVar("Frame")


@dataclass(slots=True)
class Sent:
    """A message. `fate` is what its publisher knows: sent, taken, refused (nack), or unknown (its channel failed)."""

    queues: tuple[str, ...]
    persistent: bool
    fate: str = "sent"


@dataclass(slots=True)
class Channel:
    """What the client knows of one of its channels. `mode` is plain, confirm or tx."""

    mode: str = "plain"
    published: int = 0
    unconfirmed: dict[int, bytes] = field(default_factory=dict)
    unacked: dict[int, Place] = field(default_factory=dict)
    consumers: dict[str, tuple[str, bool]] = field(default_factory=dict)
    gets: deque[tuple[str, bool]] = field(default_factory=deque)
    settling: list[Place] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    in_transaction: list[bytes] = field(default_factory=list)
    is_closing: bool = False


class Bookkeeper:
    """`closings` counts what the broker closed on it: channels, or the connection; with 541, unless it was `provoked`.

    `chains`: where else than in its queue a message may be, because it is dead-lettered. `lossy`: queues of which
    somebody took without acknowledging, so that a channel that fails may lose what it was to send.
    """

    def __init__(self, world: World, vhost: str = "/") -> None:
        self.world = world
        self.vhost = vhost
        self.channels: dict[int, Channel] = {}
        self.sent: dict[bytes, Sent] = {}
        self.fresh: Counter[Place] = Counter()
        self.settled: set[Place] = set()
        self.uncertain: set[Place] = set()
        self.chains: dict[str, tuple[str, ...]] = {}
        self.lossy: set[str] = set()
        self.returned: list[bytes] = []
        self.provoked: list[int] = []
        self.closings = 0
        self._bodies = 0
        self._tags = 0
        self.connect()

    # The connection

    def connect(self) -> None:
        """Connect; the broker may fail once on that."""
        for _ in range(2):
            self.transport = FakeTransport()
            self.transport.peer = ("127.0.0.1", 50000)
            self.reader = Reader(self.transport)
            self._control: list[Any] = []
            self._is_connected = False
            self.world.ref.tell(Connect(self.transport))
            self._is_connected = self._shake_hands()
            if self._is_connected:
                return
        raise AssertionError("there is no connecting")

    def _shake_hands(self) -> bool:
        properties: Any = {"capabilities": {"consumer_cancel_notify": True, "connection.blocked": True}}
        login = spec.Connection.StartOk(properties, "PLAIN", "\0guest\0guest")
        for frames, answer in (
            ([], spec.Connection.Start),
            ([login], spec.Connection.Tune),
            ([spec.Connection.TuneOk(2047, FRAME_MAX, 0), spec.Connection.Open(self.vhost)], spec.Connection.OpenOk),
        ):
            self.send(0, *frames)
            self.wait(lambda: self._control or self.transport.is_closed, "a handshake")
            if not (self._control and isinstance(self._control.pop(0), answer)):
                self._leave()
                return False
        return True

    def _leave(self) -> None:
        if self.transport.connection is not None:
            self.transport.connection.tell(Disconnected("the client closed the socket"))

    def disconnect(self) -> None:
        """Close the socket, and come again."""
        self._leave()
        self._all_closed()
        self.connect()
        self._reopen_all()

    def _all_closed(self) -> None:
        for number in list(self.channels):
            self._forget(number)

    def _reopen_all(self) -> None:
        for number, channel in list(self.channels.items()):
            self.open(number, channel.mode)

    def send(self, channel: int, *frames: Any) -> None:
        """Send frames as one read."""
        connection = self.transport.connection
        if frames and connection is not None:
            connection.tell(Arrived(self.reader.read(channel, *frames)))

    # Channels

    def open(self, number: int = 1, mode: str = "confirm") -> None:
        """Open a channel."""
        self.channels[number] = Channel(mode)
        selects: dict[str, list[Any]] = {"plain": [], "confirm": [spec.Confirm.Select()], "tx": [spec.Tx.Select()]}
        self.send(number, spec.Channel.Open(), *selects[mode])

    def close(self, number: int = 1) -> None:
        """Close a channel, and open it again."""
        channel = self.channels[number]
        channel.is_closing = True
        self.send(number, spec.Channel.Close(200, "", 0, 0))
        self.wait(lambda: channel.answers or self.channels[number] is not channel, "channel.close-ok")
        if self.channels[number] is channel:
            self._forget(number)
            self.open(number, channel.mode)

    def _forget(self, number: int) -> None:
        """What is on its way on a channel that ends: nobody will hear of it."""
        channel = self.channels[number]
        for body in (*channel.unconfirmed.values(), *channel.in_transaction):
            self.sent[body].fate = "unknown"
        self.uncertain.update(channel.settling)
        self.channels[number] = Channel(channel.mode)

    def ask(self, method: Any, answer: type[Frame], number: int = 1) -> Frame | None:
        """Send a method; returns the answer, or None if the broker closed the channel or connection instead."""
        closings = self.closings
        self.send(number, method)

        def found() -> Frame | None:
            return next((each for each in self.channels[number].answers if isinstance(each, answer)), None)

        self.wait(lambda: self.closings > closings or found() is not None, method)
        frame = found()
        if frame is not None:
            self.channels[number].answers.remove(frame)
        return frame

    def insist(self, method: Any, answer: type[Frame], number: int = 1) -> Frame:
        """Ask, and once more if that failed: only one thing fails in a test."""
        frame = self.ask(method, answer, number)
        if frame is None:
            frame = self.ask(method, answer, number)
        assert frame is not None, f"the second {method.name} failed too"
        return frame

    # Definitions

    def queue(self, name: str, number: int = 1, *, durable: bool = True, dies_into: str = "", **arguments: Any) -> None:
        """Declare a queue, whose dead go to another one."""
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        if dies_into:
            given |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dies_into}
            self.chains[name] = (dies_into,)
        self.insist(spec.Queue.Declare(queue=name, durable=durable, arguments=given), spec.Queue.DeclareOk, number)

    def bind(self, queue: str, exchange: str, key: str = "") -> None:
        """Bind a queue."""
        self.insist(spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=key), spec.Queue.BindOk)

    def exchange(self, name: str, kind: str = "fanout", *, durable: bool = True, **arguments: Any) -> None:
        """Declare an exchange."""
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        method = spec.Exchange.Declare(exchange=name, exchange_type=kind, durable=durable, arguments=given)
        self.insist(method, spec.Exchange.DeclareOk)

    # Publishing

    def publish(self, *queues: str, number: int = 1, count: int = 1, exchange: str = "", **how: Any) -> list[bytes]:
        """Publish messages that are to be in these queues, if to the default exchange with the first as the key."""
        channel = self.channels[number]
        key = how.pop("key", queues[0] if queues else "")
        bodies: list[bytes] = []
        frames: list[Any] = []
        for _ in range(count):
            self._bodies += 1
            body = b"%d" % self._bodies + bytes(how.get("size", 0))
            self.sent[body] = Sent(queues, how.get("persistent", False))
            frames += published(body, key, exchange, **{name: value for name, value in how.items() if name != "size"})
            bodies.append(body)
            if channel.mode == "tx":
                channel.in_transaction.append(body)
            elif channel.mode == "confirm":
                channel.published += 1
                channel.unconfirmed[channel.published] = body
        self.send(number, *frames)
        return bodies

    def confirmed(self, number: int = 1) -> None:
        """Wait until everything on this channel is confirmed, or the channel is closed."""
        self.wait(lambda: not self.channels[number].unconfirmed, "confirms")

    def commit(self, number: int = 1) -> bool:
        """Commit a transaction; False if that closed the channel."""
        channel = self.channels[number]
        bodies = channel.in_transaction
        if self.ask(spec.Tx.Commit(), spec.Tx.CommitOk, number) is None:
            return False
        for body in bodies:
            self.sent[body].fate = "taken"
        self.settled.update(channel.settling)
        channel.in_transaction, channel.settling = [], []
        return True

    # Consuming

    def get(self, queue: str, number: int = 1, *, no_ack: bool = False, count: int = 1) -> None:
        """Get messages, if there are so many."""
        for _ in range(count):
            if no_ack:
                self.lossy.add(queue)
            self.channels[number].gets.append((queue, no_ack))
            self.send(number, spec.Basic.Get(queue=queue, no_ack=no_ack))
        self.settle()

    def consume(self, queue: str, number: int = 1, **how: Any) -> str:
        """Consume; returns the tag."""
        tag = self.try_to_consume(queue, number, **how) or self.try_to_consume(queue, number, **how)
        assert tag, "the second basic.consume failed too"
        return tag

    def try_to_consume(
        self, queue: str, number: int = 1, *, prefetch: int = 0, no_ack: bool = False, **how: Any
    ) -> str:
        """Consume; returns the tag, none if the channel is closed instead."""
        if no_ack:
            self.lossy.add(queue)
        self._tags += 1
        tag = f"c{self._tags}"
        self.channels[number].consumers[tag] = (queue, no_ack)
        self.send(number, spec.Basic.Qos(prefetch_count=prefetch))
        method = spec.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack, **how)
        return "" if self.ask(method, spec.Basic.ConsumeOk, number) is None else tag

    def cancel(self, tag: str, number: int = 1) -> None:
        """Consume no more."""
        self.ask(spec.Basic.Cancel(tag), spec.Basic.CancelOk, number)

    def ack(self, number: int = 1, count: int = 1000, how: str = "ack") -> None:
        """Settle what is out, oldest first: ack, multiple, requeue, or reject."""
        channel = self.channels[number]
        tags = list(channel.unacked)[:count]
        if not tags:
            return
        methods: dict[str, list[Any]] = {
            "ack": [spec.Basic.Ack(tag) for tag in tags],
            "multiple": [spec.Basic.Ack(tags[-1], multiple=True)],
            "requeue": [spec.Basic.Nack(tag, requeue=True) for tag in tags],
            "reject": [spec.Basic.Reject(tag, requeue=False) for tag in tags],
        }
        for tag in tags:
            place = channel.unacked.pop(tag)
            if how in ("ack", "multiple") or (how == "reject" and place[0] not in self.chains):
                channel.settling.append(place)
        self.send(number, *methods[how])

    # What comes

    def settle(self) -> None:
        """Let everything come to rest that does not wait for the disk or for time."""
        self.world.settle()
        self.receive()
        self.world.settle()
        self.receive()
        for channel in self.channels.values():
            if channel.mode != "tx":
                self.settled.update(channel.settling)
                channel.settling.clear()

    def wait(self, condition: Callable[[], Any], what: Any) -> None:
        """Take in what comes until the condition holds."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self.world.settle()
            self.receive()
            if condition():
                return
            assert time.monotonic() < deadline, f"waited in vain for {what!r}"
            gevent.sleep(0.0005)

    def receive(self) -> None:
        """Book what has come."""
        transport = self.transport
        frames = iter(transport.frames())
        for number, frame in frames:
            if number == 0:
                self._take_control(frame)
            else:
                self._take(number, self.channels[number], frame, frames)
            if transport is not self.transport:
                return

    def _take_control(self, frame: Any) -> None:
        if isinstance(frame, spec.Connection.Close):
            assert frame.reply_code == INTERNAL_ERROR, dict(frame)
            self.closings += 1
            self.send(0, spec.Connection.CloseOk())
            if self._is_connected:
                self._all_closed()
                self.connect()
                self._reopen_all()
        elif not isinstance(frame, spec.Connection.Blocked | spec.Connection.Unblocked):
            self._control.append(frame)

    def _take(self, number: int, channel: Channel, frame: Any, frames: Iterator[tuple[int, Any]]) -> None:
        match frame:
            case spec.Basic.Ack() | spec.Basic.Nack():
                self._take_confirm(channel, frame)
            case spec.Basic.Deliver():
                queue, no_ack = channel.consumers[str(frame.consumer_tag)]
                self._take_delivery(channel, frame, queue, no_ack, _body(frames))
            case spec.Basic.GetOk():
                queue, no_ack = channel.gets.popleft()
                self._take_delivery(channel, frame, queue, no_ack, _body(frames))
            case spec.Basic.GetEmpty():
                channel.gets.popleft()
            case spec.Basic.Return():
                self.returned.append(_body(frames))
            case spec.Channel.Close():
                if frame.reply_code in self.provoked:
                    self.provoked.remove(frame.reply_code)
                else:
                    partial = channel.mode == "tx" and frame.reply_code == PRECONDITION_FAILED
                    assert partial or frame.reply_code == INTERNAL_ERROR, dict(frame)
                self.closings += 1
                self.send(number, spec.Channel.CloseOk())
                if not channel.is_closing:  # else the answer to our own close is still to come
                    self._forget(number)
                    self.open(number, channel.mode)
            case spec.Basic.Cancel():
                channel.consumers.pop(str(frame.consumer_tag), None)
            case _:
                channel.answers.append(frame)

    def _take_confirm(self, channel: Channel, frame: Any) -> None:
        numbers = {known for known in channel.unconfirmed if known <= frame.delivery_tag} if frame.multiple else set()
        for number in numbers or {frame.delivery_tag}:
            assert number in channel.unconfirmed, f"{number} was confirmed before"
            body = channel.unconfirmed.pop(number)
            self.sent[body].fate = "taken" if isinstance(frame, spec.Basic.Ack) else "refused"

    def _take_delivery(self, channel: Channel, frame: Any, queue: str, no_ack: bool, body: bytes) -> None:
        place = (queue, body)
        assert place not in self.settled - self.uncertain, f"{place} came again after it was settled"
        if not frame.redelivered:
            self.fresh[place] += 1
            assert self.fresh[place] == 1, f"{place} came twice, and not as redelivered"
        if no_ack:
            self.settled.add(place)
        else:
            channel.unacked[frame.delivery_tag] = place


def _body(frames: Iterator[tuple[int, Any]]) -> bytes:
    _, header = next(frames)
    body = b""
    while len(body) < header.body_size:
        body += next(frames)[1].value
    return body
