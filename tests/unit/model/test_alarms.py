from __future__ import annotations

import pytest

from dispatchd.model.alarms import DISK, FAILING, MEMORY, STORE, Alarms, tightened


@pytest.mark.parametrize(
    ("causes", "reason"),
    [
        ([], ""),
        ([MEMORY], "low on memory"),
        ([DISK], "low on disk"),
        ([STORE], "low on disk"),
        ([DISK, STORE, MEMORY], "low on memory & disk"),
        ([FAILING], "the disk is failing"),
        ([FAILING, MEMORY], "low on memory; the disk is failing"),
    ],
)
def test_clients_are_told_what_runs_short(causes: list[str], reason: str) -> None:
    alarms = Alarms()
    for cause in causes:
        assert alarms.raise_(cause, f"detail of {cause}")
        assert not alarms.raise_(cause, "again")
    assert alarms.reason() == reason
    assert bool(alarms) == bool(causes)
    assert [row["cause"] for row in alarms.rows()] == causes
    for cause in causes:
        assert alarms.end(cause)
        assert not alarms.end(cause)
    assert alarms.reason() == ""


def test_queues_have_less_in_memory_the_more_of_it_is_used() -> None:
    assert [tightened(3200, used) for used in (0.0, 0.49, 0.5, 0.74, 0.75, 2.0)] == [3200, 3200, 800, 800, 100, 100]
    assert tightened(1, 1.0) == 1
