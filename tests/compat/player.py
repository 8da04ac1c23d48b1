"""Plays a script on a broker, and notes all that the broker says.

Most of what a step brings comes without being asked for: deliveries, returns, confirms. So after each step the player
asks every queue and every channel something that changes nothing, until that brings no more; what it asks and hears by
that is not noted. Whatever has come by then belongs to the step.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol

from broker.raw import HEADER, RawClient
from compat import script
from compat.operator import Operator
from compat.script import Step
from compat.transcript import Transcript, describe, number_generated_names, plain
from pamqp import commands as spec
from pamqp.frame import marshal

PATIENCE_SECONDS = 10
LEAST_ROUNDS = 2
"""Of asking after a step: what a queue does to another one in the first is seen in the second."""

NEVER = "never came to"
"""So begins the line of an `Until` that waited in vain."""

PROBE_QUEUE = "compat-probe"
PROBE_CHANNEL = 2000
HOME = 0
"""The number of the player's own connection, which no script uses."""

CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "publisher_confirms": True,
}
CONTENT_METHODS = (spec.Basic.Deliver, spec.Basic.GetOk, spec.Basic.Return)


class Broker(Protocol):
    """What scripts are played on. Guest may do everything there, also by the HTTP API on `admin_port`."""

    host: str
    port: int
    admin_port: int


@dataclass
class Channel:
    """What the player has to know of an open channel; `unconfirmed` are the publishes that wait for a confirm."""

    confirms: bool = False
    published: int = 0
    unconfirmed: set[int] = field(default_factory=set)


class Link:
    """A connection. Since they were cleared, `heard` has channel number and line of what came, `confirmed` the channel
    number of each publish that was settled, how, and its tag."""

    def __init__(self, broker: Broker) -> None:
        self.client = RawClient(broker.host, broker.port, PATIENCE_SECONDS)
        self.channels: dict[int, Channel] = {}
        self.heard: list[tuple[int, str]] = []
        self.confirmed: list[tuple[int, str, int]] = []
        self.is_open = True
        self.reply_to = ""

    def receive(self) -> tuple[int, Any]:
        """The next method or end, noted unless it is an answer; a close of a channel or the connection is answered."""
        try:
            number, frame = self.client.receive()
            content = self._content() if isinstance(frame, CONTENT_METHODS) else None
        except (EOFError, TimeoutError) as error:
            self.drop()
            self._note(0, "the connection is gone" if isinstance(error, EOFError) else "nothing comes any more")
            return 0, None
        if isinstance(frame, spec.Connection.Close):
            self._note(0, describe(frame))
            self._hang_up(marshal(spec.Connection.CloseOk(), 0))
        elif isinstance(frame, spec.Channel.Close):
            self._note(number, describe(frame))
            self.channels.pop(number, None)
            self.client.send(spec.Channel.CloseOk(), number)
        elif isinstance(frame, spec.Basic.Ack | spec.Basic.Nack):
            self._take_confirm(number, frame)
        elif content is not None:
            self._note(number, describe(frame, content))
        elif isinstance(frame, spec.Basic.Cancel | spec.Connection.Blocked | spec.Connection.Unblocked):
            self._note(number, describe(frame))
        return number, frame

    def _content(self) -> tuple[dict[str, Any], bytes]:
        header, parts = self.client.content()
        given: dict[str, Any] = {name: value for name, value in header.properties if value not in (None, "")}
        self.reply_to = given.get("reply_to", self.reply_to)
        return given, b"".join(parts)

    def _note(self, number: int, line: str) -> None:
        if number != PROBE_CHANNEL:
            self.heard.append((number, line))

    def _take_confirm(self, number: int, frame: spec.Basic.Ack | spec.Basic.Nack) -> None:
        last = frame.delivery_tag
        unconfirmed = self.channels[number].unconfirmed
        tags = {tag for tag in unconfirmed if tag <= last} if frame.multiple else {last}
        unconfirmed -= tags
        outcome = "confirmed" if isinstance(frame, spec.Basic.Ack) else "refused"
        self.confirmed += [(number, outcome, tag) for tag in tags]

    def _hang_up(self, last_words: bytes) -> None:
        with suppress(OSError):
            self.client.send_bytes(last_words)
        with suppress(OSError):
            self.client.socket.shutdown(socket.SHUT_WR)
            self.client.read_to_end()
        self.drop()

    def wait(self, number: int, answers: Iterable[str]) -> Any:
        """Read up to an answer on this channel; None when the channel or the connection closed instead."""
        while self.is_open and (number in self.channels or not number):
            at, frame = self.receive()
            if at == number and frame is not None and frame.name in answers:
                return frame
        return None

    def ask(self, number: int, frame: Any, answers: Iterable[str] = ()) -> Any:
        """Send a method that is answered, and wait for that. None as in `wait`."""
        with suppress(OSError):  # the broker has closed the connection; why is still to be read
            self.client.send(frame, number)
        return self.wait(number, answers or frame.valid_responses)

    def open(self) -> None:
        self.client.open(capabilities=CAPABILITIES)

    def open_channel(self, number: int) -> None:
        if number not in self.channels and self.is_open:
            self.channels[number] = Channel()
            self.ask(number, spec.Channel.Open())

    def close(self) -> None:
        """Close the connection properly, if it is still open."""
        if self.is_open:
            self.ask(0, spec.Connection.Close(200, "", 0, 0))
            self.drop()

    def drop(self) -> None:
        """End the socket without a word."""
        self.client.close()
        self.channels.clear()
        self.is_open = False


def play(broker: Broker, steps: Sequence[Step]) -> Transcript:
    """What a broker said to each step. Queues, exchanges and policies of the script are deleted afterwards."""
    player = Player(broker)
    try:
        return number_generated_names([player.take(step) for step in steps])
    finally:
        player.clean_up()


class Player:
    """`_links` are connections by number; `_queues` are all names that may exist, and the connections that may ask."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._operator = Operator(broker.host, broker.admin_port)
        self._links: dict[int, Link] = {}
        self._queues: dict[str, int] = {}
        self._exchanges: set[str] = set()
        home = self._link(HOME)
        home.open_channel(PROBE_CHANNEL)
        home.ask(PROBE_CHANNEL, spec.Queue.Declare(queue=PROBE_QUEUE))

    def _link(self, number: int) -> Link:
        link = self._links.get(number)
        if link is None or not link.is_open:
            link = self._links[number] = Link(self._broker)
            link.open()
        return link

    def take(self, step: Step) -> list[str]:
        """Do a step; the lines of what came, channel by channel."""
        lines: list[str] = []
        match step:
            case script.Connect():
                lines = self._connect(step)
            case script.Disconnect():
                self._disconnect(step)
            case script.Until():
                lines = self._until(step)
            case script.OperatorStep():
                lines = self._operator.take(step)
            case script.Wait():
                time.sleep(step.seconds)
            case script.Send():
                self._link(step.connection).client.send_bytes(step.octets)
                self._sync(self._link(step.connection), step.channel)
            case script.Reply():
                reply_to = self._link(step.connection).reply_to
                self._do(script.Publish("", reply_to, step.body, mandatory=step.mandatory, on=step.on), lines)
            case script.Method():
                self._do(step, lines)
        self._settle()
        for number, link in sorted(self._links.items()):
            lines += notes(link, number)
        return lines

    def _do(self, step: script.Method, lines: list[str]) -> None:
        link = self._link(step.connection)
        if isinstance(step, script.Open) and step.channel not in link.channels:
            link.channels[step.channel] = Channel()
        else:
            link.open_channel(step.channel)
        channel = link.channels.get(step.channel, Channel())
        self._remember(step)
        if isinstance(step, script.Publish) and channel.confirms:
            channel.published += 1
            channel.unconfirmed.add(channel.published)
        number = 0 if step.METHOD.name.startswith("Connection.") else step.channel
        with suppress(OSError):  # closed by the broker; why is read below
            link.client.send_bytes(step.frames())
        answers = step.answers()
        if not answers:
            self._sync(link, step.channel)
        elif (answer := link.wait(number, answers)) is not None:
            if not isinstance(answer, CONTENT_METHODS):
                lines.append(place(step.connection, number, describe(answer)))
            if isinstance(answer, spec.Queue.DeclareOk):
                self._queues.setdefault(str(answer.queue), step.connection)
        channel.confirms |= isinstance(step, script.Confirm)
        if isinstance(step, script.Close):
            link.channels.pop(step.channel, None)

    def _remember(self, step: script.Method) -> None:
        if isinstance(step, script.Queue) and step.queue and not step.passive:
            if step.exclusive:
                self._queues[step.queue] = step.connection
            self._queues.setdefault(step.queue, HOME)
        if isinstance(step, script.Exchange):
            self._exchanges.add(step.exchange)

    def _sync(self, link: Link, number: int) -> None:
        """Hear all that the broker has to say on this channel by now.

        A purge is answered after everything that was published before is in its queues, and leaves alone which queue
        the channel has declared last.
        """
        if number in link.channels:
            link.ask(number, spec.Queue.Purge(queue=PROBE_QUEUE))
        elif link.is_open:
            link.open_channel(PROBE_CHANNEL)
            link.ask(PROBE_CHANNEL, spec.Queue.Purge(queue=PROBE_QUEUE))

    def _settle(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        rounds = 0
        while time.monotonic() < deadline:
            before = self._amount()
            for queue in list(self._queues):
                self._count(queue)
            for link in self._links.values():
                for number in list(link.channels):
                    self._sync(link, number)
            rounds += 1
            waiting = any(channel.unconfirmed for link in self._links.values() for channel in link.channels.values())
            if rounds >= LEAST_ROUNDS and not waiting and self._amount() == before:
                return

    def _amount(self) -> int:
        return sum(len(link.heard) + len(link.confirmed) for link in self._links.values())

    def _count(self, queue: str) -> int | None:
        """How many messages are ready in a queue; None if it is not there, or exclusive to somebody else."""
        link = self._links.get(self._queues.get(queue, HOME))
        if link is None or not link.is_open:
            link = self._links[HOME]
        link.open_channel(PROBE_CHANNEL)
        answer = link.ask(PROBE_CHANNEL, script.unchecked(spec.Queue.Declare)(queue=queue, passive=True))
        return None if answer is None else int(answer.message_count)

    def _until(self, step: script.Until) -> list[str]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (count := self._count(step.queue)) != step.messages:
            if time.monotonic() > deadline:
                return [f"{NEVER} {step.messages} messages in {step.queue!r}, but {count}"]
            time.sleep(0.01)
        return []

    def _disconnect(self, step: script.Disconnect) -> None:
        link = self._link(step.connection)
        if step.abruptly:
            link.drop()
        else:
            link.close()

    def _connect(self, step: script.Connect) -> list[str]:
        link = self._links[step.connection] = Link(self._broker)
        link.client.send_bytes(step.header)
        if step.header != HEADER:
            return [place(step.connection, 0, repr(link.client.socket.recv(8)))]
        start = link.wait(0, ["Connection.Start"])
        lines: list[str] = []
        if step.shows_server:
            lines = [f"{start.mechanisms!r}, {start.locales!r}, {plain(start.server_properties)!r}"]
        if step.early:
            link.client.send_bytes(step.early)
            link.wait(0, ())
            return lines
        capabilities: dict[str, Any] = {"capabilities": step.capabilities}
        start_ok = spec.Connection.StartOk(capabilities, step.mechanism, step.response)
        if (tune := link.ask(0, start_ok, ["Connection.Tune"])) is not None:
            lines.append(describe(tune))
            link.client.send(spec.Connection.TuneOk(step.channel_max, step.frame_max, step.heartbeat))
            if (opened := link.ask(0, spec.Connection.Open(step.virtual_host))) is not None:
                lines.append(describe(opened))
        return [place(step.connection, 0, line) for line in lines]

    def clean_up(self) -> None:
        self._operator.clean_up()
        for number, link in self._links.items():
            if number != HOME:
                link.close()
        home = self._links[HOME]
        for queue in self._queues:
            self._retry(home, spec.Queue.Delete, queue=queue)
        for exchange in self._exchanges:
            if exchange and not exchange.startswith("amq."):
                self._retry(home, spec.Exchange.Delete, exchange=exchange)
        home.close()

    def _retry(self, home: Link, delete: Any, **name: str) -> None:
        """Delete; again if it is still exclusive to a connection that is just ending."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            home.open_channel(PROBE_CHANNEL)
            if home.ask(PROBE_CHANNEL, script.unchecked(delete)(**name)) is not None:
                return


def place(connection: int, channel: int, line: str) -> str:
    return f"{connection}/{channel} {line}"


def notes(link: Link, connection: int) -> list[str]:
    """What came on a connection, channel by channel; it is forgotten there. How confirms were grouped is left out."""
    lines = [place(connection, number, line) for number, line in sorted(link.heard, key=itemgetter(0))]
    for number, outcome in sorted({(number, outcome) for number, outcome, _ in link.confirmed}):
        tags = sorted(tag for at, what, tag in link.confirmed if (at, what) == (number, outcome))
        lines.append(place(connection, number, f"{outcome} {tags}"))
    link.heard.clear()
    link.confirmed.clear()
    return lines
