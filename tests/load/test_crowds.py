"""Many clients that want little, or nothing good: what each of them takes, and what others notice of them."""

from __future__ import annotations

import math
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import gevent
import psutil
import pytest
from actors.harness import wait_until
from broker.raw import HEADER, RawClient
from crash.durable_broker import DurableBroker
from fuzz.innocent import Innocent
from load.conftest import Start
from load.peer import Peer, percentile
from pamqp import commands as spec
from pamqp.frame import marshal
from soak import SOAK, cases

KIB = 1 << 10
HEARTBEAT = b"\x08\0\0\0\0\0\0\xce"
LOGIN = marshal(spec.Connection.StartOk({}, "PLAIN", "\0guest\0guest"), 0)


@pytest.fixture(autouse=True)
def many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))


def memory(broker: DurableBroker) -> int:
    return int(psutil.Process(broker.pid).memory_info().rss)


def a_round(broker: DurableBroker) -> float:
    """Seconds for a new client to connect, publish a message and get it."""
    began = time.monotonic()
    client = Peer(broker)
    client.send(spec.Queue.Declare(queue="round", auto_delete=True), 1)
    client.expect(spec.Queue.DeclareOk)
    client.publish(1, "round", b"x")
    client.call(spec.Basic.Get(queue="round", no_ack=True), spec.Basic.GetOk)
    client.content()
    took = time.monotonic() - began
    client.close()
    return took


# Who does nothing

IDLE = cases(100, 2_000)
IDLE_SECONDS = cases(1, 300)
BEAT_SECONDS = 10
EACH_IDLE = 60 * KIB


@pytest.mark.timeout(IDLE_SECONDS + 300)
def test_an_idle_crowd_costs_little(broker: DurableBroker) -> None:
    a_round(broker)
    before = memory(broker)
    crowd = []
    for _ in range(IDLE):
        client = RawClient(broker.host, broker.port, timeout=60)
        client.open(heartbeat=BEAT_SECONDS)
        for number in (1, 2):
            client.open_channel(number)
        crowd.append(client)
    each = (memory(broker) - before) / IDLE
    process = psutil.Process(broker.pid)
    cpu, began, rounds = sum(process.cpu_times()[:2]), time.monotonic(), []
    while time.monotonic() - began < IDLE_SECONDS:
        for client in crowd:
            client.send_bytes(HEARTBEAT)
        rounds.append(a_round(broker))
        gevent.sleep(min(BEAT_SECONDS / 2, IDLE_SECONDS))
    busy = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
    print(f"{each / KIB:.1f} KiB each, {busy:.1%} of a core, a new client's round within {max(rounds) * 1e3:.0f} ms")
    assert len(broker.api("connections")) == IDLE
    for client in crowd:
        assert set(struct.iter_unpack("8s", _unread(client.socket))) <= {(HEARTBEAT,)}
        client.close()
    wait_until(lambda: not broker.api("connections"))
    if SOAK:
        assert each <= EACH_IDLE
        assert busy <= 0.1
        assert percentile(rounds, 0.9) <= 0.05


def _unread(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    try:
        octets = sock.recv(65_536)
    except BlockingIOError:
        return b""
    assert octets, "the broker has closed it"
    return octets


# Who never logs in

SILENT = cases(120, 1_000)
HANDSHAKE_SECONDS = 10
EACH_BEFORE_LOGIN = 64 * KIB


def _floods(number: int) -> Iterator[bytes]:
    """What one of them sends, piece by piece."""
    protocol = marshal(spec.Channel.Open(), 1) + marshal(spec.Basic.Publish(routing_key="q"), 1)
    content = struct.pack(">BHIHHQH", 2, 1, 14, 60, 0, 1 << 23, 0) + b"\xce"
    body = struct.pack(">BHI", 3, 1, 4000) + b"x" * 4000 + b"\xce"
    kind = number % 6
    if kind == 0:
        return
    yield HEADER
    if kind == 1:
        yield b"\x01\0\0" + struct.pack(">I", 1 << 20) + b"\0\x0a\0\x0b"
        yield from [b"x" * 65_536] * 16
    elif kind == 2:
        yield from (LOGIN[at : at + 1] for at in range(len(LOGIN)))
    elif kind == 3:
        yield protocol + content
        yield from [body * 16] * 16
    elif kind == 4:
        for channel in range(1, 2_000):
            yield marshal(spec.Basic.Publish(routing_key="q" * 200), channel)
    else:
        yield LOGIN[:100]


@pytest.mark.timeout(300)
def test_who_never_logs_in_is_closed_and_takes_no_memory(broker: DurableBroker) -> None:
    a_round(broker)
    before, began = memory(broker), time.monotonic()
    sockets, connected = [], []
    for _ in range(SILENT):
        sockets.append(socket.create_connection((broker.host, broker.port), 30))
        connected.append(time.monotonic())
    ended: list[float] = []

    def send(number: int) -> None:
        slowly = number % 6 == 2
        with suppress(OSError):
            for piece in _floods(number):
                sockets[number].sendall(piece)
                gevent.sleep(1 if slowly else 0)

    def read(number: int) -> None:
        with suppress(OSError):
            while sockets[number].recv(65_536):
                pass
        ended.append(time.monotonic() - connected[number])

    greenlets = [gevent.spawn(act, number) for number in range(SILENT) for act in (send, read)]
    gevent.sleep(1)
    rounds, most = [], 0
    while time.monotonic() - began < (HANDSHAKE_SECONDS if SOAK else 1.5):
        rounds.append(a_round(broker))
        most = max(most, memory(broker) - before)
        gevent.sleep(0.2)
    print(f"{most / SILENT / KIB:.1f} KiB each, a legal round within {max(rounds):.2f} s")
    assert most / SILENT <= EACH_BEFORE_LOGIN
    if SOAK:
        gevent.joinall(greenlets, timeout=60)
        print(f"all closed within {max(ended):.2f} s of their connect")
        assert len(ended) == SILENT
        assert max(ended) <= HANDSHAKE_SECONDS + 0.5
        assert max(rounds) <= 2
    gevent.killall(greenlets)
    for sock in sockets:
        sock.close()
    wait_until(lambda: not broker.api("connections"))


# Who logs in with a wrong password


def same_chance(one: list[float], other: list[float]) -> float:
    """The p-value of the two-sample Kolmogorov-Smirnov test: how likely samples of one distribution differ so."""
    values = sorted([*one, *other])
    size = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    ones, others = sorted(one), sorted(other)
    apart = max(abs(_share(ones, value) - _share(others, value)) for value in values)
    step = (size + 0.12 + 0.11 / size) * apart
    return max(0.0, min(1.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * step * step) for k in range(1, 100))))


def _share(values: list[float], limit: float) -> float:
    return sum(value <= limit for value in values) / len(values)


def started(broker: DurableBroker) -> RawClient:
    """A client that has still to log in."""
    client = RawClient(broker.host, broker.port, timeout=60)
    client.start()
    return client


def refused(client: RawClient, user: str, password: str) -> float:
    """Seconds until a login is refused."""
    capabilities: Any = {"capabilities": {"authentication_failure_close": True}}
    began = time.monotonic()
    client.send(spec.Connection.StartOk(capabilities, "PLAIN", f"\0{user}\0{password}"))
    assert client.expect(spec.Connection.Close).reply_code == 403
    took = time.monotonic() - began
    client.close()
    return took


def test_the_test_of_distributions_tells_them_apart() -> None:
    even = [number / 200 for number in range(200)]
    assert same_chance(even, [value + 0.001 for value in even]) > 0.9
    assert same_chance(even, [value + 0.2 for value in even]) < 0.001


@pytest.mark.skipif(not SOAK, reason="400 passwords take a minute; that the same work is done: test_authenticator.py")
@pytest.mark.timeout(600)
def test_nobody_can_tell_a_wrong_password_from_an_unknown_user(broker: DurableBroker) -> None:
    took: dict[str, list[float]] = {"guest": [], "nobody": []}
    for number in range(200):
        for user, times in took.items():
            times.append(refused(started(broker), user, f"wrong {number}"))
    chance = same_chance(took["guest"], took["nobody"])
    middle = {user: sorted(times)[100] * 1e3 for user, times in took.items()}
    print(f"medians in ms: {middle}; p = {chance:.3f}")
    assert chance > 0.01


WRONG_AT_ONCE = cases(6, 200)


@pytest.mark.timeout(300)
def test_many_wrong_passwords_hold_nobody_up(start: Start) -> None:
    broker = start()
    a_round(broker)
    innocent = Innocent(broker.host, broker.port)
    innocent.expect_progress()
    clients = [started(broker) for _ in range(WRONG_AT_ONCE)]  # so that all of them begin at once, and quickly
    greenlets = [gevent.spawn(refused, client, "guest", f"wrong {n}") for n, client in enumerate(clients)]
    waits: list[float] = []
    rounds: list[float] = []
    while not all(greenlet.ready() for greenlet in greenlets):
        began = time.monotonic()
        innocent.expect_progress()
        waits.append((time.monotonic() - began) / 2)
        rounds.append(a_round(broker))
    gevent.joinall(greenlets, raise_error=True)
    innocent.stop()
    print(f"messages beside them within {percentile(waits, 0.99) * 1e3:.0f} ms (99 %),", end=" ")
    print(f"a known user's login and round within {max(rounds) * 1e3:.0f} ms")
    if SOAK:
        assert percentile(waits, 0.99) <= 0.02
        assert max(rounds) <= 0.1


# Who does not read

WAITING = cases(32, 1_024) << 20
PIECE = 100_000
OUTBOX = 1 << 20
GROWTH = 20 << 20


@pytest.mark.timeout(600 if SOAK else 60)
def test_a_consumer_that_does_not_read_takes_little(broker: DurableBroker) -> None:
    publisher = Peer(broker)
    arguments: Any = {"x-queue-mode": "lazy"}
    publisher.call(spec.Queue.Declare(queue="q", durable=True, arguments=arguments), spec.Queue.DeclareOk)
    publisher.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
    for _ in range(WAITING // PIECE):
        publisher.publish(1, "q", b"x" * PIECE, properties=spec.Basic.Properties(delivery_mode=2))
        publisher.expect(spec.Basic.Ack)
    innocent = Innocent(broker.host, broker.port)
    innocent.expect_progress()
    before = memory(broker)
    client = Peer(broker)
    client.call(spec.Basic.Consume(queue="q", no_ack=True, consumer_tag="dead"), spec.Basic.ConsumeOk)
    most, unsent = 0, 0
    for _ in range(cases(5, 100)):
        innocent.expect_progress()
        most = max(most, memory(broker) - before)
        unsent = max(unsent, *(row["unsent_bytes"] for row in _details(broker)))
        gevent.sleep(0.1)
    other = Peer(broker)
    other.call(spec.Basic.Get(queue="q", no_ack=True), spec.Basic.GetOk)
    other.content()
    innocent.stop()
    print(f"{WAITING >> 20} MiB wait; {unsent / KIB:.0f} KiB unsent, memory {most / KIB:.0f} KiB more")
    print(f"a message beside it took {innocent.longest_wait * 1e3:.0f} ms at most")
    assert unsent <= OUTBOX + PIECE + KIB
    assert most <= GROWTH


def _details(broker: DurableBroker) -> list[dict[str, int]]:
    return [broker.ask(f"connections/{quote(row['name'], safe='')}") for row in broker.api("connections")]
