"""A disk, or a store, without room: publishers wait, what is there goes on being consumed, and that ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from actors.harness import wait_until
from crash.durable_broker import DurableBroker, read
from crash.load import Client
from crash.publisher import Drain, Publisher
from crash.small_disk import SmallDisk
from pamqp import commands as spec
from pamqp.base import Frame

DISK_BYTES = 40 << 20
OPTIONS = ("--coalesce-interval", "20ms", "--disk-free-limit", "1")


Start = Callable[..., DurableBroker]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk", DISK_BYTES)
    yield disk
    disk.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a broker, on a disk if one is given."""
    started: list[DurableBroker] = []

    def start(*options: str, disk: SmallDisk | None = None) -> DurableBroker:
        directory, within = (disk.path, disk.within) if disk else (tmp_path, ())
        broker = DurableBroker(directory / "data", *OPTIONS, *options, within=within)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        if broker.is_running:
            broker.kill()
        print("\n".join(["log of the broker:", *broker.log[-60:]]))


def drain_and_go_on(publisher: Publisher, broker: DurableBroker, taken: int) -> int:
    """First in the order that needs most room: one message of each page. Returns how many were taken so far."""
    on_disk = broker.stored()
    drain = Drain(broker)
    assert drain.found == [*range(taken + 1, taken + drain.count + 1)]
    drain.ack(range(1, drain.count + 1, 4))
    wait_until(lambda: broker.stored() != on_disk or not broker.is_alarmed)
    drain.ack(range(2, drain.count + 1, 2))
    drain.ack(range(3, drain.count + 1, 4))
    drain.close()
    publisher.go_on()
    return taken + drain.count


def test_a_store_at_its_limit_is_drained_and_takes_more(start: Start) -> None:
    broker = start("--store-size-limit", "4MiB")
    publisher = Publisher(broker)
    taken = 0
    for _ in range(2):
        publisher.fill()
        taken = drain_and_go_on(publisher, broker, taken)
    broker.restart()
    assert [number for number, _ in read(broker, "q")] == [*range(taken + 1, publisher.sent + 1)]


def test_a_full_disk_is_drained_and_takes_more(start: Start, disk: SmallDisk) -> None:
    """Others leave no room on it, and do not go."""
    broker = start(disk=disk)
    publisher = Publisher(broker)
    publisher.fill()
    disk.fill()
    taken = drain_and_go_on(publisher, broker, 0)
    publisher.fill()
    taken = drain_and_go_on(publisher, broker, taken)
    broker.restart()
    assert [number for number, _ in read(broker, "q")] == [*range(taken + 1, publisher.sent + 1)]


def test_what_only_has_to_leave_memory_goes_from_a_full_disk(start: Start, disk: SmallDisk) -> None:
    """What is not persistent gives its room back when it is consumed: what is persistent needs it then."""
    broker = start(disk=disk)
    publisher = Publisher(broker, delivery_mode=1, **{"x-queue-mode": "lazy"})
    free = disk.free
    publisher.fill()
    assert disk.free < free / 2
    drain = Drain(broker)
    assert drain.found == [*range(1, drain.count + 1)]
    drain.ack(range(1, drain.count + 1))
    publisher.go_on()
    client = Client(broker)
    client.call(spec.Queue.Purge(queue="q"), spec.Queue.PurgeOk)
    wait_until(lambda: disk.free == free)


@pytest.mark.parametrize("removal", [spec.Queue.Purge(queue="other"), spec.Queue.Delete(queue="other")])
def test_a_queue_that_goes_makes_room(start: Start, disk: SmallDisk, removal: Frame) -> None:
    broker = start(disk=disk)
    other = Publisher(broker, "other")
    for _ in range(50):
        other.publish_some()
    publisher = Publisher(broker)
    publisher.fill()
    disk.fill()
    Client(broker).call(removal, (spec.Queue.PurgeOk, spec.Queue.DeleteOk))
    publisher.go_on()
    broker.restart()
    assert [number for number, _ in read(broker, "q")] == [*range(1, publisher.sent + 1)]


def test_a_broker_starts_on_a_full_disk(start: Start, disk: SmallDisk) -> None:
    """All that was confirmed is there, and can be consumed."""
    broker = start(disk=disk)
    publisher = Publisher(broker)
    publisher.fill()
    disk.fill()
    broker.restart()
    confirmed = min(publisher.unconfirmed) - 1
    publisher = Publisher(broker)
    publisher.fill()
    drain = Drain(broker)
    assert drain.found[:confirmed] == [*range(1, confirmed + 1)]
    drain.ack(range(1, drain.count + 1))
    publisher.go_on()
