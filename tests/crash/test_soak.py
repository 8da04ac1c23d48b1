"""A broker that has been busy for long is as it was before: nothing has grown, and nothing is left behind."""

from __future__ import annotations

import logging
import os
import random
import re
import statistics
from dataclasses import asdict, dataclass, replace
from time import monotonic
from urllib.request import urlopen

import gevent
import lmdb
import psutil
import pytest
from actors.harness import wait_until
from crash.durable_broker import DurableBroker
from crash.load import Client
from crash.sessions import Session
from pamqp import commands as spec
from soak import SOAK, seeded

MINUTES = float(os.environ.get("DISPATCHD_SOAK_MINUTES", "30" if SOAK else "0.08"))
CLIENTS = 4
WARM_UP_SESSIONS = 40
LOOKS = 600
BEGIN_SECONDS = 300
"""Before memory counts."""
STRETCHES = 20
"""The rest is divided into so many. In each the least memory counts: garbage comes and goes."""
MOST_GROWTH = 0.01
"""Of memory in ten minutes."""
LEAST_MINUTES = 25
"""In less nothing can be said of that."""


@dataclass(frozen=True)
class Count:
    """What must not become more."""

    actors: int
    greenlets: int
    descriptors: int
    threads: int
    readers: int

    def exceeds(self, other: Count) -> list[str]:
        """What is more than in the other one."""
        mine, others = asdict(self), asdict(other)
        return [f"{name}: {mine[name]} after {others[name]}" for name in mine if mine[name] > others[name]]


def count(broker: DurableBroker) -> Count:
    process = psutil.Process(broker.pid)
    descriptors, threads = process.num_fds(), process.num_threads()
    with urlopen(f"http://{broker.host}:{broker.debug_port}/greenlets", timeout=10) as answer:
        greenlets = answer.read().decode().partition("=== native threads")[0]
    with lmdb.open(str(broker.persist_dir), readonly=True, max_dbs=5) as environment:
        readers = environment.readers()
    return Count(
        broker.ask("overview")["actors"]["total"],
        sum(int(number) for number in re.findall(r"^(\d+): ", greenlets, re.MULTILINE)),
        descriptors,
        threads,
        len(re.findall(rf"^ *{broker.pid} +\w+ +\d+$", readers, re.MULTILINE)),
    )


def begin_log(broker: DurableBroker) -> None:
    """Wait for something durable: then the broker has its redo log open."""
    client = Client(broker)
    client.call(spec.Exchange.Declare(exchange="first", durable=True), spec.Exchange.DeclareOk)
    client.call(spec.Exchange.Delete(exchange="first"), spec.Exchange.DeleteOk)
    client.close()
    wait_until(lambda: not broker.api("connections"))


def memory(broker: DurableBroker) -> int:
    """Octets that the process has to itself."""
    found = psutil.Process(broker.pid).memory_info()
    return int(found.rss - found.shared)


def growth(looks: list[tuple[float, int]]) -> float:
    """By which share of itself memory has grown in ten minutes, by `looks`: seconds, octets."""
    size = len(looks) // STRETCHES
    stretches = [looks[number * size : (number + 1) * size] for number in range(STRETCHES)]
    middles = [statistics.mean(seconds for seconds, _ in stretch) for stretch in stretches]
    least = [min(octets for _, octets in stretch) for stretch in stretches]
    print("least memory of each stretch, in KiB:", *(octets >> 10 for octets in least))
    return statistics.linear_regression(middles, least).slope * 600 / statistics.mean(least)


class Clients:
    """Have one session after the other, until they are told to end."""

    def __init__(self, broker: DurableBroker, chance: random.Random) -> None:
        self._broker = broker
        self._chance = chance
        self._end = False
        self.sessions = 0
        self._greenlets = [gevent.spawn(self._run) for _ in range(CLIENTS)]

    def _run(self) -> None:
        while not self._end:
            Session(self._broker, self._chance).run()
            self.sessions += 1

    @property
    def are_busy(self) -> bool:
        """Whether none of them has failed."""
        return not any(greenlet.dead for greenlet in self._greenlets)

    def end(self) -> None:
        self._end = True
        gevent.joinall(self._greenlets, timeout=60, raise_error=True)
        assert all(greenlet.dead for greenlet in self._greenlets)


@pytest.mark.timeout(180 + 90 * MINUTES)
def test_nothing_grows_and_nothing_is_left_behind(broker: DurableBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pika")  # which warns of all that a session does on purpose
    chance = seeded(20240617)
    begin_log(broker)
    idle = count(broker)
    clients = Clients(broker, chance)
    while clients.are_busy and clients.sessions < WARM_UP_SESSIONS:
        gevent.sleep(0.01)
    clients.end()
    Session(broker, chance).leave_memory()
    wait_until(lambda: count(broker).actors == idle.actors)
    warm = count(broker)
    # Some greenlets and threads are made when they are needed first; our own sockets may be among the descriptors.
    before = replace(warm, descriptors=min(idle.descriptors, warm.descriptors))
    clients = Clients(broker, chance)
    began, looks = monotonic(), []
    while clients.are_busy and (now := monotonic() - began) < MINUTES * 60:
        looks.append((now, memory(broker)))
        gevent.sleep(MINUTES * 60 / LOOKS)
    clients.end()
    wait_until(lambda: count(broker).exceeds(before) == [], lambda: count(broker).exceeds(before))
    first, last = looks[0][1] >> 10, looks[-1][1] >> 10
    print(f"{clients.sessions} sessions; {before}; memory {first} KiB, then {last} KiB")
    if MINUTES >= LEAST_MINUTES:
        share = growth([look for look in looks if look[0] >= BEGIN_SECONDS])
        print(f"{share:.2%} more in ten minutes")
        assert share < MOST_GROWTH
    assert not broker.trouble_since(0)
