"""A disk that fails to write or to sync: what is not on it is not confirmed, and when it works again, all goes on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from actors.harness import wait_until
from crash.durable_broker import DurableBroker, read
from crash.facts import Check, Facts
from crash.load import TOPOLOGY, Load, all_that_is_there, declare
from crash.publisher import Drain, Publisher
from crash.shim import LAST_WRITES, LOG_WRITES, SYNCS, WRITES, Shim
from soak import cases, seeded

FAULTS = cases(2, 30)
MOST_FAILURES = 3
"""One after the other: the pauses between them double, and clients wait for 10 seconds."""


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path, tmp_path / "data")


@pytest.fixture
def broker(tmp_path: Path, shim: Shim) -> Iterator[DurableBroker]:
    broker = DurableBroker(tmp_path / "data", "--coalesce-interval", "20ms", within=shim.within)
    broker.start()
    yield broker
    shim.heal()
    if broker.is_running:
        broker.kill()


def readiness(broker: DurableBroker) -> int:
    try:
        with urlopen(f"http://{broker.host}:{broker.admin_port}/readyz", timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code


@pytest.mark.parametrize("what", [WRITES, SYNCS, LAST_WRITES], ids=["writes", "syncs", "last writes"])
def test_publishers_wait_until_the_disk_works_again(broker: DurableBroker, shim: Shim, what: int) -> None:
    publisher = Publisher(broker)
    publisher.publish_some()
    wait_until(lambda: not publisher.unconfirmed)
    shim.fail(what | LOG_WRITES)
    publisher.publish_some()
    publisher.wait_blocked("the disk is failing")
    assert readiness(broker) == 503
    drain = Drain(broker)
    assert drain.found == [*range(1, drain.count + 1)]
    acked = range(1, drain.count + 1, 2)
    drain.ack(acked)
    drain.close()
    assert publisher.unconfirmed == {*range(101, publisher.sent + 1)}
    shim.heal()
    publisher.go_on()
    assert readiness(broker) == 200
    broker.restart()
    assert [number for number, _ in read(broker, "q")] == [n for n in range(1, publisher.sent + 1) if n not in acked]


def log_nothing(publisher: Publisher, shim: Shim) -> None:
    """The redo log is not tried again for a while when it can't be written; what it does not take goes to LMDB."""
    shim.fail(LOG_WRITES, count=1)
    publisher.publish_some()
    wait_until(lambda: not publisher.unconfirmed)


@pytest.mark.parametrize("is_logged", [True, False], ids=["redo log", "LMDB"])
def test_a_commit_that_failed_and_is_on_disk_all_the_same_leaves_nothing(
    broker: DurableBroker, shim: Shim, is_logged: bool
) -> None:
    """The last write of a commit is on the disk, but fails, and so does the one that is to take it back.

    What is acknowledged before the commit is tried again would come back after the next start.
    """
    publisher = Publisher(broker)
    if is_logged:
        publisher.publish_some()
        wait_until(lambda: not publisher.unconfirmed)
    else:
        log_nothing(publisher, shim)
    shim.fail(LAST_WRITES | LOG_WRITES, applied=True)
    publisher.publish_some()
    publisher.wait_blocked("the disk is failing")
    drain = Drain(broker)
    acked = drain.count // 2 + 1
    drain.ack(range(1, acked + 1))
    shim.heal()
    publisher.go_on()
    broker.restart()
    assert [number for number, _ in read(broker, "q")] == [*range(acked + 1, publisher.sent + 1)]


@pytest.mark.parametrize("count", [1, 2], ids=["taken back", "not taken back"])
def test_a_broker_that_ends_while_the_disk_fails_starts_again(broker: DurableBroker, shim: Shim, count: int) -> None:
    """Whether the last write of a commit that failed is there or not."""
    publisher = Publisher(broker)
    log_nothing(publisher, shim)
    shim.fail(LAST_WRITES, applied=True, count=count)
    publisher.publish_some()
    publisher.wait_blocked("the disk is failing")
    broker.kill()
    shim.heal()
    broker.start()
    found = [number for number, _ in read(broker, "q")]
    assert found == [*range(1, len(found) + 1)]
    assert 100 <= len(found) <= publisher.sent


@pytest.mark.parametrize("what", [WRITES, LAST_WRITES], ids=["writes", "last writes"])
def test_what_left_memory_comes_back_from_a_disk_that_failed(tmp_path: Path, what: int) -> None:
    """It is not persistent, but nothing is lost while the broker lives."""
    shim = Shim(tmp_path, tmp_path / "data" / "scratch")
    broker = DurableBroker(tmp_path / "data", "--coalesce-interval", "20ms", within=shim.within)
    broker.start()
    publisher = Publisher(broker, delivery_mode=1, **{"x-queue-mode": "lazy"})
    for number in range(30):
        if number == 15:
            shim.fail(what, count=1)
        publisher.publish_some()
    wait_until(lambda: not broker.is_alarmed and not publisher.unconfirmed)
    assert any("alarm (scratch)" in line for line in broker.log)
    assert Drain(broker).found == [*range(1, publisher.sent + 1)]
    broker.kill()


@pytest.mark.timeout(60 + 20 * FAULTS)
def test_nothing_is_lost_when_it_fails_now_and_then(broker: DurableBroker, shim: Shim) -> None:
    chance = seeded(20240616)
    declare(broker)
    facts = Facts(TOPOLOGY)
    load = Load(broker, chance, facts, confirms=500 * FAULTS)
    for confirmed in range(0, 500 * FAULTS, 500):
        wait_until(partial(lambda count: len(facts.confirmed) > count, confirmed))
        what = chance.choice([WRITES, SYNCS, LAST_WRITES])
        shim.fail(what | LOG_WRITES, count=chance.randint(2, MOST_FAILURES), applied=chance.random() < 0.5)
        wait_until(lambda: broker.is_alarmed)
        wait_until(lambda: not broker.is_alarmed)
    load.join()
    broker.wait()
    broker.start()
    Check(facts, all_that_is_there(broker, facts))
