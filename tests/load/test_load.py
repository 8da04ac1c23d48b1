"""Loads that a broker has to bear: each message comes once and in its order, and others are not held up.

The short form is about that alone. How fast it has to be, and how small to stay, is asked of the long form only.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import psutil
import pytest
from crash.durable_broker import DurableBroker
from load.peer import Consumer, Peer, Publisher, percentile
from pamqp import commands as spec
from soak import SOAK, cases

SECONDS = cases(0, 60)
MIB = 1 << 20
BUSY_WAIT = 0.5
"""Seconds for a confirm, on a machine that others use, too: 0.1 is what a quiet one has to keep."""


def run(publisher: Publisher, consumers: list[Consumer], seconds: float) -> float:
    """Publish and consume at once for so long, or a few messages for 0; returns the messages a second of each queue."""
    began = time.monotonic()
    confirms: list[gevent.Greenlet[..., None]] = []

    def publish() -> None:
        if seconds:
            publisher.publish_for(seconds)
        else:
            publisher.publish_some(2_000)

    publishing = gevent.spawn(publish)

    def follow(take: Callable[[int], None]) -> None:
        """Ever a little further, until all is published and has come."""
        while not publishing.ready():
            take(publisher.sent)
            gevent.sleep(0)
        take(publisher.sent)

    if publisher.window:
        confirms.append(gevent.spawn(follow, publisher.take_confirms))
    taking = [gevent.spawn(follow, consumer.take) for consumer in consumers]
    greenlets: list[gevent.Greenlet[..., None]] = [publishing, *confirms, *taking]
    gevent.joinall(greenlets, timeout=seconds + 120, raise_error=True)
    assert all(greenlet.ready() for greenlet in greenlets)
    assert all(consumer.taken == publisher.sent for consumer in consumers)
    return publisher.sent / (max(consumer.last_at for consumer in consumers) - began)


@pytest.mark.timeout(SECONDS + 120)
def test_persistent_and_confirmed(broker: DurableBroker) -> None:
    Peer(broker).declare("q", durable=True)
    publisher = Publisher(broker, "", "q", 1024, persistent=True, window=500)
    rate = run(publisher, [Consumer(broker, "q", prefetch=500)], SECONDS)
    wait = percentile(publisher.waits, 0.99)
    print(f"{rate:,.0f} messages a second, {publisher.sent} in all; 99 % of confirms within {wait * 1e3:.1f} ms")
    if SOAK:
        assert rate >= 5_000
        assert wait <= BUSY_WAIT


@pytest.mark.timeout(SECONDS + 120)
def test_transient(broker: DurableBroker) -> None:
    Peer(broker).declare("q")
    publisher = Publisher(broker, "", "q", 1024)
    rate = run(publisher, [Consumer(broker, "q")], SECONDS)
    print(f"{rate:,.0f} messages a second, {publisher.sent} in all")
    if SOAK:
        assert rate >= 15_000


@pytest.mark.timeout(SECONDS + 120)
def test_fan_out(broker: DurableBroker) -> None:
    client = Peer(broker)
    queues = [f"q{number}" for number in range(10)]
    for queue in queues:
        client.declare(queue)
        client.call(spec.Queue.Bind(queue=queue, exchange="amq.fanout"), spec.Queue.BindOk)
    publisher = Publisher(broker, "amq.fanout", "", 100)
    rate = 10 * run(publisher, [Consumer(broker, queue) for queue in queues], SECONDS)
    print(f"{rate:,.0f} deliveries a second, {publisher.sent} messages in all")
    if SOAK:
        assert rate >= 20_000


@pytest.mark.timeout(SECONDS + 120)
def test_who_sends_little_does_not_wait_behind_a_flood(broker: DurableBroker) -> None:
    words = ["-x", "1", "-y", "1", "-u", "flood", "-q", "500", "-s", "100", "-z", f"{SECONDS or 1}"]
    login = f"amqp://guest:guest@{broker.host}:{broker.port}/%2F"
    flood = subprocess.Popen(
        [sys.executable, "-m", "dispatchd", "perf", "--uri", login, *words], stdout=subprocess.PIPE, text=True
    )
    client = Peer(broker)
    client.declare("rpc")
    client.call(spec.Basic.Consume(queue="rpc", no_ack=True), spec.Basic.ConsumeOk)
    waits = []
    while flood.poll() is None:
        began = time.monotonic()
        client.publish(1, "rpc", b"question")
        client.expect(spec.Basic.Deliver)
        client.content()
        waits.append(time.monotonic() - began)
        gevent.sleep(0.05)
    assert flood.stdout is not None
    wait = percentile(waits, 0.99)
    print(f"99 % of {len(waits)} within {wait * 1e3:.1f} ms, beside:", flood.stdout.read().splitlines()[-1:])
    assert flood.returncode == 0
    assert waits
    if SOAK:
        assert wait <= 0.05


BACKLOG = cases(5_000, 1_000_000)
MEMORY_WITH_BACKLOG = 300 * MIB
DISK_FOR_BACKLOG = 600 * MIB
READY_SECONDS = 30


@pytest.mark.timeout(900 if SOAK else 60)
def test_a_backlog_is_on_disk_and_there_after_a_restart(broker: DurableBroker) -> None:
    Peer(broker).declare("q", durable=True)
    publisher = Publisher(broker, "", "q", 200, persistent=True, window=2_000)
    confirms = gevent.spawn(publisher.take_confirms, BACKLOG)
    publisher.publish_some(BACKLOG)
    confirms.get(timeout=300)
    full = psutil.Process(broker.pid).memory_info().rss
    began = time.monotonic()
    broker.restart()
    ready = time.monotonic() - began
    after = psutil.Process(broker.pid).memory_info().rss
    size = sum(path.stat().st_blocks * 512 for path in Path(broker.persist_dir).glob("*") if path.is_file())
    consumer = Consumer(broker, "q", prefetch=1_000)
    consumer.take(BACKLOG)
    print(f"memory {full >> 20} MiB, after a restart {after >> 20} MiB, files {size >> 20} MiB, ready in {ready:.1f} s")
    if SOAK:
        assert max(full, after) <= MEMORY_WITH_BACKLOG
        assert size <= DISK_FOR_BACKLOG
        assert ready <= READY_SECONDS
