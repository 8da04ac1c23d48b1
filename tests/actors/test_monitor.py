from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from actors.harness import Listener, make_fail, wait_until

from dispatchd.actors import monitor
from dispatchd.actors.messages import AlarmEnded, AlarmRaised
from dispatchd.actors.monitor import Measured, MonitorActor, Watermarks
from dispatchd.actors.resources import Usage, keep_memory_together, measure, memory_limit
from dispatchd.actors.runtime import System
from dispatchd.actors.storage import Storage
from dispatchd.model.alarms import DISK, MEMORY
from dispatchd.model.residency import Residency

MIB = 1 << 20
MARKS = Watermarks(memory=100 * MIB, disk_free=50 * MIB, directory=Path("/data"))


class Rig:
    """A monitor that is told what to measure."""

    def __init__(self) -> None:
        self.system = System()
        self.broker = Listener("broker")
        nobody: Any = Listener()
        self.resident = Residency(3200, 32 * MIB)
        self.usage: Usage | Exception = Usage(10 * MIB, 1000 * MIB)
        self.looked_at: list[Path | None] = []
        storage = Storage(nobody, nobody, resident=self.resident)
        broker: Any = self.broker
        self.monitor = MonitorActor(self.system, broker, MARKS, storage, self.measure)
        self.monitor.begin()

    def measure(self, directory: Path | None) -> Usage:
        self.looked_at.append(directory)
        if isinstance(self.usage, Exception):
            raise self.usage
        return self.usage

    def set(self, memory: int, disk_free: int | None = 1000) -> list[Any]:
        """So many MiB are used and free: what the broker is told when the monitor has looked twice."""
        self.usage = Usage(memory * MIB, None if disk_free is None else disk_free * MIB)
        self.look_twice()
        return self.broker.take_all()

    def look_twice(self) -> None:
        count = len(self.looked_at)
        wait_until(lambda: len(self.looked_at) >= count + 3)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(monitor, "CHECK_SECONDS", 0.001)
    rig = Rig()
    yield rig
    rig.monitor.end()
    wait_until(lambda: not rig.system.actors)


def test_with_enough_of_everything_there_is_no_alarm(rig: Rig) -> None:
    assert rig.set(99, 51) == []
    assert rig.looked_at[0] == Path("/data")


def test_an_alarm_ends_a_little_below_where_it_began(rig: Rig) -> None:
    detail = "101.0 MiB used, more than the watermark of 100.0 MiB"
    assert set(rig.set(101)) == {AlarmRaised(MEMORY, detail)}
    assert {type(message) for message in rig.set(96)} == {AlarmRaised}
    assert AlarmEnded(MEMORY) in rig.set(94)
    assert rig.set(99) == []


def test_disk(rig: Rig) -> None:
    detail = "49.0 MiB free, less than the limit of 50.0 MiB"
    assert set(rig.set(10, 49)) == {AlarmRaised(DISK, detail)}
    assert {type(message) for message in rig.set(10, 51)} == {AlarmRaised}
    assert AlarmEnded(DISK) in rig.set(10, 60)
    assert rig.set(10, None) == []


def test_what_cannot_be_measured_is_no_alarm_and_looked_at_again(rig: Rig) -> None:
    rig.usage = OSError("no such file")
    rig.look_twice()
    assert {type(message) for message in rig.set(101)} == {AlarmRaised}


def test_a_failure_does_not_end_the_watch(rig: Rig) -> None:
    for _ in range(3):
        rig.look_twice()
        make_fail(rig.monitor)
    rig.look_twice()
    assert rig.monitor.restarts == 3
    rig.monitor.ref.tell(Measured(None))  # type: ignore[arg-type]  # whatever fails
    assert {type(message) for message in rig.set(101)} == {AlarmRaised}


def test_queues_have_less_in_memory_as_it_gets_short(rig: Rig) -> None:
    for memory, most, most_bytes in [(49, 3200, 32 * MIB), (50, 800, 8 * MIB), (80, 100, MIB), (10, 3200, 32 * MIB)]:
        rig.set(memory)
        assert (rig.resident.most, rig.resident.most_bytes) == (most, most_bytes)


def test_a_fraction_is_of_what_the_process_can_have() -> None:
    assert Watermarks.of(0.5, 1, None).memory == int(memory_limit() * 0.5)
    assert Watermarks.of(300 * MIB, 1, None).memory == 300 * MIB
    assert MIB < memory_limit() < 1 << 50


def test_this_process_uses_memory_and_its_folder_has_room(tmp_path: Path) -> None:
    usage = measure(tmp_path)
    assert 5 * MIB < usage.memory < memory_limit()
    assert usage.disk_free is not None
    assert usage.disk_free > 0
    assert measure(tmp_path / "missing").disk_free is None
    before = measure(None).memory
    held = b"x" * (50 * MIB)
    assert measure(None).memory > before + 40 * MIB
    del held


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_c_library_takes_what_keeps_memory_together() -> None:
    assert keep_memory_together()
