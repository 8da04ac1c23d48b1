"""Measure what a broker of many things costs: connections, queues, bindings, and consumers of one queue.

    .venv/bin/python bench/scale.py
    .venv/bin/python bench/scale.py --most 1000 connections queues

Each size on a broker of its own: what it takes to make so many, what they have in memory, what a message costs that
goes through them, a few at a time and to ever others of them, and what a fixed load costs beside them; then what it
takes until all are gone. Meanwhile another client asks for something small each millisecond, as in expiry.py. The
clients are plain sockets in processes of their own. With the largest size the admin and the debug port are asked too.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import re
import resource
import selectors
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from brokers import DISPATCHD, broker
from expiry import CPUCLOCK_SCHED, Probe, Waits
from loads import build_load_generator

from dispatchd.amqp import methods as m
from dispatchd.amqp.constants import FRAME_BODY, FRAME_HEADER, PROTOCOL_HEADER
from dispatchd.amqp.method_codec import encode_method

SIZES = {
    "connections": (10, 100, 1_000, 10_000),
    "queues": (100, 1_000, 10_000, 100_000),
    "durable queues": (100, 1_000, 10_000),
    "exclusive queues": (100, 1_000, 10_000),
    "bindings": (100, 1_000, 10_000, 100_000),
    "consumers": (1, 10, 100, 1_000),
    "full consumers": (1, 10, 100, 1_000),
}
"""Exclusive queues have a connection each; full consumers hold what they may, but for one that acknowledges."""
LEAST_FOR_MEMORY = 1_000
MESSAGES = 20_000
AT_ONCE = 10
"""Messages that are on their way together: batches are as large as that, however many things there are."""
BESIDE = "-P 1 -C 1 -q 100 -r 20000 -t 2"
CPU_OF_A_MESSAGE = re.compile(r"us/msg ([\d.]+)")
BODY = b"x" * 100
CONNECTING = 100
PIPELINED = 100
BOUND_QUEUES = 100
CHANNELS = 100
WAIT_SECONDS = 120
SETTLE_SECONDS = 5.0
"""Until what was made is idle: then actors rest."""

_BASIC_ACK = struct.Struct(">BHIIQBB")
_FRAME = struct.Struct(">BHI")
_IDS = struct.Struct(">HH")
OPEN = (
    encode_method(0, m.ConnectionTuneOk(2047, 131072, 0))
    + encode_method(0, m.ConnectionOpen("/"))
    + encode_method(1, m.ChannelOpen())
)
LOGIN = encode_method(0, m.ConnectionStartOk({}, "PLAIN", b"\0guest\0guest", "en_US"))
CLOSE = encode_method(0, m.ConnectionClose(200, "", 0, 0))
START_IDS, TUNE_IDS, CLOSE_OK_IDS = (10, 10), (10, 30), (10, 51)
CHANNEL_OPEN_OK_IDS, DELIVER_IDS = (20, 11), (60, 60)


class Peer:
    """A connection's socket, and the frames that come on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def fileno(self) -> int:
        """Of the socket: selectors ask for it."""
        return self.socket.fileno()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def frames(self) -> list[tuple[int, int, bytes]]:
        """Wait for some; each is its type, its channel and its payload."""
        received = self.socket.recv(262_144)
        if not received:
            raise ConnectionError("the broker closed the connection")
        data, at, found = self._data + received, 0, []
        while at + 7 <= len(data):
            kind, channel, size = _FRAME.unpack_from(data, at)
            if at + size + 8 > len(data):
                break
            found.append((kind, channel, data[at + 7 : at + 7 + size]))
            at += size + 8
        self._data = data[at:]
        return found

    def answers(self, ids: tuple[int, int], count: int) -> list[bytes]:
        """Wait for so many methods; returns them. Raises ConnectionError when the broker closes something."""
        found: list[bytes] = []
        while len(found) < count:
            for kind, _, payload in self.frames():
                got = _IDS.unpack_from(payload) if kind not in (FRAME_HEADER, FRAME_BODY) else ids
                if got in ((10, 50), (20, 40)):
                    raise ConnectionError(f"the broker closes: {payload!r}")
                if kind not in (FRAME_HEADER, FRAME_BODY) and got == ids:
                    found.append(payload)
        return found

    def call(self, method: m.Method, ids: tuple[int, int], channel: int = 1) -> bytes:
        """Send a method and wait for its answer."""
        self.send(encode_method(channel, method))
        return self.answers(ids, 1)[0]

    def call_all(self, methods: Iterator[m.Method], ids: tuple[int, int], channels: int = 1) -> int:
        """The same for many, some of which are on their way together, over so many channels; returns their number."""
        count = 0
        while some := [method for _, method in zip(range(PIPELINED), methods, strict=False)]:
            self.send(b"".join(encode_method(1 + each % channels, method) for each, method in enumerate(some)))
            self.answers(ids, len(some))
            count += len(some)
        return count

    def open_channels(self, count: int) -> None:
        """Open channels 2 to `count`; the first is open already."""
        self.send(b"".join(encode_method(number, m.ChannelOpen()) for number in range(2, count + 1)))
        self.answers(CHANNEL_OPEN_OK_IDS, count - 1)


def connect(port: int, count: int) -> list[Peer]:
    """Open so many connections with a channel each, CONNECTING at a time."""
    peers: list[Peer] = []
    opened = 0
    with selectors.EpollSelector() as selector:
        while opened < count:
            while len(peers) < count and len(peers) - opened < CONNECTING:
                peer = Peer(port)
                peer.send(PROTOCOL_HEADER)
                selector.register(peer, selectors.EVENT_READ)
                peers.append(peer)
            ready = selector.select(WAIT_SECONDS)
            if not ready:
                raise TimeoutError(f"{opened} of {count} connections were opened")
            for key, _ in ready:
                peer = key.fileobj  # type: ignore[assignment]
                for _, _, payload in peer.frames():
                    match _IDS.unpack_from(payload):
                        case (10, 10):
                            peer.send(LOGIN)
                        case (10, 30):
                            peer.send(OPEN)
                        case (20, 11):
                            opened += 1
                            selector.unregister(peer)
    return peers


def publish(exchange: str, key: str) -> bytes:
    """The frames of a message."""
    header = struct.pack(">HHQHB", 60, 0, len(BODY), 0x1000, 1)
    return (
        encode_method(1, m.BasicPublish(exchange, key))
        + _FRAME.pack(FRAME_HEADER, 1, len(header))
        + header
        + b"\xce"
        + _FRAME.pack(FRAME_BODY, 1, len(BODY))
        + BODY
        + b"\xce"
    )


class Crowd:
    """Clients that make many things of one sort; each of its methods is carried out when the measuring process says."""

    def __init__(self, port: int, size: int) -> None:
        self._port = port
        self._size = size
        self._main = connect(port, 1)[0]
        self._sink = connect(port, 1)[0]

    def prepare(self) -> None:
        """What is not part of what is measured."""

    def make(self) -> None:
        """Make all of them."""
        raise NotImplementedError

    def use(self) -> None:
        """MESSAGES go through them, AT_ONCE at a time."""
        raise NotImplementedError

    def end(self) -> None:
        """Take all of them away."""
        raise NotImplementedError

    def _consume(self, queue: str) -> None:
        """Have the sink consume from a queue without acknowledgements."""
        self._sink.call(m.QueueDeclare(queue), (50, 11))
        self._sink.call(m.BasicConsume(queue, no_ack=True), (60, 21))

    def _send_in_turn(self, send: Callable[[int], None]) -> None:
        """Have messages sent by, or to, each of them, and wait for them at the sink."""
        for first in range(0, MESSAGES, AT_ONCE):
            for number in range(first, first + AT_ONCE):
                send(number % self._size)
            self._sink.answers(DELIVER_IDS, AT_ONCE)


class Connections(Crowd):
    """Each with a channel; each publishes."""

    def prepare(self) -> None:
        """There is one consumer."""
        self._consume("sink")
        self._message = publish("", "sink")

    def make(self) -> None:
        """Open all."""
        self._peers = connect(self._port, self._size)

    def use(self) -> None:
        """Each publishes a message in turn."""
        self._send_in_turn(lambda number: self._peers[number].send(self._message))

    def end(self) -> None:
        """Close all in an orderly way."""
        for first in range(0, self._size, CONNECTING):
            some = self._peers[first : first + CONNECTING]
            for peer in some:
                peer.send(CLOSE)
            for peer in some:
                peer.answers(CLOSE_OK_IDS, 1)
                peer.socket.close()


class Queues(Crowd):
    """Each gets messages by the default exchange, and is asked for them."""

    durable = False

    def prepare(self) -> None:
        """Durable ones are declared on many channels: each waits for the disk."""
        if self.durable:
            self._main.open_channels(CHANNELS)

    def make(self) -> None:
        """Declare all."""
        methods = (m.QueueDeclare(f"q{number}", durable=self.durable) for number in range(self._size))
        self._main.call_all(methods, (50, 11), CHANNELS if self.durable else 1)

    def use(self) -> None:
        """Each takes a message, and is asked for it."""
        for first in range(0, MESSAGES, AT_ONCE):
            names = [f"q{number % self._size}" for number in range(first, first + AT_ONCE)]
            self._main.send(b"".join(publish("", name) for name in names))
            gets = [encode_method(1, m.BasicGet(name, no_ack=True)) for name in names]
            self._main.send(b"".join(gets))
            self._main.answers((60, 71), AT_ONCE)

    def end(self) -> None:
        """Delete all."""
        methods = (m.QueueDelete(f"q{number}") for number in range(self._size))
        self._main.call_all(methods, (50, 41), CHANNELS if self.durable else 1)


class DurableQueues(Queues):
    """The same, on disk."""

    durable = True


class ExclusiveQueues(Crowd):
    """One for each of many connections; they go when these are cut off."""

    def prepare(self) -> None:
        """The connections, and a topic exchange to which all are bound."""
        self._peers = connect(self._port, self._size)

    def make(self) -> None:
        """Declare and bind all."""
        for first in range(0, self._size, CONNECTING):
            some = self._peers[first : first + CONNECTING]
            for number, peer in enumerate(some, start=first):
                peer.send(
                    encode_method(1, m.QueueDeclare(f"q{number}", exclusive=True, auto_delete=True))
                    + encode_method(1, m.QueueBind(f"q{number}", "amq.topic", f"to.{number}.*"))
                    + encode_method(1, m.BasicConsume(f"q{number}", no_ack=True))
                )
            for peer in some:
                peer.answers((60, 21), 1)

    def use(self) -> None:
        """Each gets a message in turn."""
        for first in range(0, MESSAGES, AT_ONCE):
            numbers = [number % self._size for number in range(first, first + AT_ONCE)]
            self._main.send(b"".join(publish("amq.topic", f"to.{number}.x") for number in numbers))
            for number in numbers:
                self._peers[number].answers(DELIVER_IDS, 1)

    def end(self) -> None:
        """Cut all off; all is gone when their names are free."""
        for peer in self._peers:
            peer.socket.close()
        deadline = time.monotonic() + WAIT_SECONDS
        for number in range(self._size):
            while not self._is_free(f"q{number}"):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"q{number} is still there")
                time.sleep(0.01)

    def _is_free(self, name: str) -> bool:
        """Whether there is no such queue: then a passive declare closes the channel."""
        self._main.send(encode_method(1, m.QueueDeclare(name, passive=True)))
        while True:
            for _, _, payload in self._main.frames():
                if _IDS.unpack_from(payload) == (20, 40):
                    code = struct.unpack_from(">H", payload, 4)[0]
                    self._main.send(encode_method(1, m.ChannelCloseOk()))
                    self._main.call(m.ChannelOpen(), CHANNEL_OPEN_OK_IDS)
                    return bool(code == 404)


class Bindings(Crowd):
    """Of BOUND_QUEUES queues to one topic exchange, each with a pattern of its own."""

    def prepare(self) -> None:
        """The queues, with a consumer."""
        self._main.call(m.ExchangeDeclare("topics", "topic"), (40, 11))
        for number in range(BOUND_QUEUES):
            self._consume(f"b{number}")

    def make(self) -> None:
        """Bind all."""
        methods = (m.QueueBind(f"b{n % BOUND_QUEUES}", "topics", f"to.{n}.*") for n in range(self._size))
        self._main.call_all(methods, (50, 21))

    def use(self) -> None:
        """Each lets a message through."""
        self._send_in_turn(lambda number: self._main.send(publish("topics", f"to.{number}.x")))

    def end(self) -> None:
        """Remove all."""
        methods = (m.QueueUnbind(f"b{n % BOUND_QUEUES}", "topics", f"to.{n}.*") for n in range(self._size))
        self._main.call_all(methods, (50, 51))


class Consumers(Crowd):
    """Of one queue, on CHANNELS channels of as many connections as that takes; each acknowledges what it gets."""

    prefetch = 0

    def prepare(self) -> None:
        """The queue, and the channels."""
        self._main.call(m.QueueDeclare("q"), (50, 11))
        self._peers = connect(self._port, -(-self._size // CHANNELS))
        for peer in self._peers:
            peer.open_channels(CHANNELS)
            if self.prefetch:
                qos = (m.BasicQos(0, self.prefetch) for _ in range(CHANNELS))
                peer.call_all(qos, (60, 11), CHANNELS)
        self._message = publish("", "q")

    def make(self) -> None:
        """Consume."""
        for first in range(0, self._size, CHANNELS):
            methods = (m.BasicConsume("q") for _ in range(min(CHANNELS, self._size - first)))
            self._peers[first // CHANNELS].call_all(methods, (60, 21), CHANNELS)

    def use(self) -> None:
        """Each gets a message in turn."""
        self._serve(self._peers)

    def _serve(self, peers: list[Peer]) -> None:
        with selectors.EpollSelector() as selector:
            for peer in peers:
                selector.register(peer, selectors.EVENT_READ)
            for _ in range(0, MESSAGES, AT_ONCE):
                self._main.send(self._message * AT_ONCE)
                left = AT_ONCE
                while left:
                    for key, _ in selector.select(WAIT_SECONDS):
                        left -= self._acknowledge(key.fileobj)  # type: ignore[arg-type]

    @staticmethod
    def _acknowledge(peer: Peer) -> int:
        acks = []
        for kind, channel, payload in peer.frames():
            if kind not in (FRAME_HEADER, FRAME_BODY) and _IDS.unpack_from(payload) == DELIVER_IDS:
                tag = struct.unpack_from(">Q", payload, 5 + payload[4])[0]
                acks.append(_BASIC_ACK.pack(1, channel, 13, 60 << 16 | 80, tag, 0, 0xCE))
        peer.send(b"".join(acks))
        return len(acks)

    def end(self) -> None:
        """Close their channels."""
        for peer in self._peers:
            peer.call_all((m.ChannelClose(200, "", 0, 0) for _ in range(CHANNELS)), (20, 41), CHANNELS)


class FullConsumers(Consumers):
    """All hold the one message that they may, but for one consumer, who has to be found."""

    prefetch = 1

    def make(self) -> None:
        """Consume, and keep a message each."""
        super().make()
        self._main.send(self._message * self._size)
        for first in range(0, self._size, CHANNELS):
            self._peers[first // CHANNELS].answers(DELIVER_IDS, min(CHANNELS, self._size - first))
        self._sink.call(m.BasicConsume("q"), (60, 21))

    def use(self) -> None:
        """The one that is free gets all."""
        self._serve([self._sink])


CROWDS: dict[str, type[Crowd]] = {
    "connections": Connections,
    "queues": Queues,
    "durable queues": DurableQueues,
    "exclusive queues": ExclusiveQueues,
    "bindings": Bindings,
    "consumers": Consumers,
    "full consumers": FullConsumers,
}


def work(pipe: Connection, name: str, port: int, size: int) -> None:
    """A process of clients: does what it is told to, and answers how many seconds that took."""
    raise_file_limit()
    crowd = CROWDS[name](port, size)
    pipe.send(0.0)
    while True:
        asked = pipe.recv()
        if not asked:
            return
        began = time.perf_counter()
        getattr(crowd, asked)()
        pipe.send(time.perf_counter() - began)


def raise_file_limit() -> None:
    """Have as many sockets as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass
class Step:
    """What something took: seconds, and of the broker seconds of CPU and KiB."""

    seconds: float
    cpu: float
    memory: float
    waits: Waits


class Scene:
    """A broker and its crowd."""

    def __init__(self, pipe: Connection, port: int, pid: int) -> None:
        self._pipe = pipe
        self._port = port
        self._pid = pid
        self._cpu_clock = (~pid << 3) | CPUCLOCK_SCHED

    def do(self, what: str, settle: float = 1.0) -> Step:
        """Have the crowd do something, and see what it takes; memory is looked at so many seconds later."""
        return self.watch(lambda: self._ask(what), settle)

    def watch(self, act: Callable[[], float], settle: float = 0.0) -> Step:
        """See what something takes, with a probe beside it; `act` returns the seconds."""
        probe = Probe(self._port, self._pid)
        memory, cpu = self._memory(), time.clock_gettime(self._cpu_clock)
        probe.start()
        seconds = act()
        cpu = time.clock_gettime(self._cpu_clock) - cpu
        waits = probe.end()
        time.sleep(settle)
        return Step(seconds, cpu, self._memory() - memory, waits)

    def cpu_of(self, what: str) -> float:
        """Have the crowd do something without a probe; returns the CPU seconds of the broker."""
        cpu = time.clock_gettime(self._cpu_clock)
        self._ask(what)
        return time.clock_gettime(self._cpu_clock) - cpu

    def _ask(self, what: str) -> float:
        self._pipe.send(what)
        if not self._pipe.poll(10 * WAIT_SECONDS):
            raise TimeoutError(what)
        taken: float = self._pipe.recv()
        return taken

    def _memory(self) -> float:
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1024


@contextmanager
def crowd(name: str, port: int, pid: int, size: int) -> Iterator[Scene]:
    """Run the clients' process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, name, port, size), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield Scene(ours, port, pid)
        ours.send("")
        process.join(WAIT_SECONDS)
    finally:
        process.kill()


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


ADMIN = ("/api/overview", "/api/queues", "/api/exchanges", "/api/connections", "/api/actors")


def ask(url: str) -> float:
    """Get a page; returns the seconds."""
    request = urllib.request.Request(url)
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
        answer.read()
    return time.perf_counter() - began


def show_admin(scene: Scene, name: str, size: int, admin_port: int, debug_port: int) -> None:
    """Print a line for each page."""
    pages = [*(f"http://127.0.0.1:{admin_port}{path}" for path in ADMIN), f"http://127.0.0.1:{debug_port}/greenlets"]
    for url in pages:
        step = scene.watch(lambda url=url: ask(url))  # type: ignore[misc]
        path = url.partition("127.0.0.1:")[2].partition("/")[2]
        print(
            f"| {size:,} {name} | /{path} | {step.seconds:.2f} | {step.cpu:.2f} | {step.waits.longest():.1f} "
            f"| {max(step.waits.used):.1f} |",
            flush=True,
        )


def play(name: str, size: int, load: Path, with_admin: bool) -> None:
    """Print the line, or the lines, of one size."""
    admin_port, debug_port = free_port(), free_port()
    ports = f"--admin-port {admin_port} --debug-port {debug_port}"
    command = DISPATCHD.replace("--admin-port 0 --debug-port 0", ports)
    with (
        tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory,
        broker(command, Path(directory)) as (port, pid),
        crowd(name, port, pid, size) as scene,
    ):
        scene.do("prepare")
        made = scene.do("make", SETTLE_SECONDS)
        if with_admin:
            show_admin(scene, name, size, admin_port, debug_port)
            return
        scene.cpu_of("use")
        through = scene.cpu_of("use")
        words = [str(load), "-p", str(port), "-x", str(pid), *BESIDE.split()]
        printed = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
        beside = CPU_OF_A_MESSAGE.search(printed)
        assert beside is not None, printed
        ended = scene.do("end")
    memory = f"{made.memory / size:.1f}" if size >= LEAST_FOR_MEMORY else ""
    print(
        f"| {size:,} {name} | {size / made.seconds:,.0f} | {made.cpu / size * 1e6:.0f} | {memory} "
        f"| {through / MESSAGES * 1e6:.1f} | {beside[1]} | {size / ended.seconds:,.0f} | {ended.cpu / size * 1e6:.0f} "
        f"| {made.waits.longest():.1f}, {ended.waits.longest():.1f} "
        f"| {max(made.waits.used):.1f}, {max(ended.waits.used):.1f} |",
        flush=True,
    )


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SIZES, []], metavar="WHAT", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--most", type=int, default=100_000, help="leave out what is larger (default: %(default)s)")
    parser.add_argument("--least", type=int, default=0, help="leave out what is smaller (default: %(default)s)")
    parser.add_argument("--no-admin", action="store_true", help="leave the admin out")
    given = parser.parse_args()
    raise_file_limit()
    names = given.names or list(SIZES)
    sizes = {name: [size for size in SIZES[name] if given.least <= size <= given.most] for name in names}
    with tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory:
        load = build_load_generator(Path(directory))
        print("| | made/s | CPU µs | KiB each | CPU µs a message through | beside | gone/s | CPU µs ", end="")
        print("| longest wait ms: make, end | CPU ms in one wait |")
        print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
        for name in names:
            for size in sizes[name]:
                play(name, size, load, with_admin=False)
        if given.no_admin:
            return
        print("\n| | page | s | CPU s | longest wait ms | CPU ms in one wait |\n|---|---|---|---|---|---|", flush=True)
        for name in names:
            for size in sizes[name][-1:]:
                play(name, size, load, with_admin=True)


if __name__ == "__main__":
    main()
