"""The power is cut at any point of what a broker writes: the store opens, and what has to be there is, and no more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns

import pytest
from crash.disk import Cut, Disk, read_recording
from crash.durable_broker import DurableBroker
from crash.facts import Check, Facts, Found
from crash.load import TOPOLOGY, Load, all_that_is_there, declare
from crash.shim import Shim
from soak import cases, seeded

from dispatchd.model.store_index import QueueIndex
from dispatchd.model.stored_definitions import StoredVhost, read_rows
from dispatchd.store.interface import Recovered
from dispatchd.store.lmdb_store import LmdbStore

CUTS = cases(40, 400)
CONFIRMS = cases(2000, 10_000)
"""One write to the redo log is for many of them: it takes a lot for so many moments."""
STORE = Path("new/data")
BEGIN = 60
"""So many operations make the store, in which a cut is most likely to do harm."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "disk"
    root.mkdir()
    return root


@pytest.fixture
def shim(tmp_path: Path, root: Path) -> Shim:
    return Shim(tmp_path, root)


@pytest.fixture
def broker(root: Path, shim: Shim) -> Iterator[DurableBroker]:
    """Its folder is a new one in a new one."""
    broker = DurableBroker(root / STORE, "--coalesce-interval", "20ms", within=shim.within)
    broker.start()
    yield broker
    if broker.is_running:
        broker.kill()


def stored_in(directory: Path) -> tuple[Recovered, Found]:
    """What a broker would make of it; `Found` has the queues that are there."""
    store = LmdbStore(directory)
    recovered = store.recover()
    found: Found = {}
    for record in read_rows(recovered.definitions).get("/", StoredVhost()).queues:
        queue_id = record["queue_id"]
        positions = recovered.queues.get(queue_id, QueueIndex()).positions
        delivered = recovered.marks.get(queue_id, 0)
        found[record["name"]] = [
            (int(message.body.rstrip(b".")), position <= delivered)
            for position, message, _ in store.read(queue_id, positions.head(len(positions)))
        ]
    store.close()
    return recovered, found


class PowerCuts:
    """The disk of a broker, whose power is cut again and again. From the moment `declared` on the topology is there."""

    def __init__(self, chance: random.Random, root: Path, targets: Path, declared: int) -> None:
        self._chance = chance
        self._disk = Disk(root)
        self._targets = targets
        self._declared = declared
        self._definitions: dict[bytes, bytes] = {}
        self._recorded = 0

    def play(self, recording: Path, facts: Facts, count: int, since: int = 0) -> tuple[Path, int]:
        """Cut it at so many moments of a run, none of them before `since`, and check what is there.

        Returns the store that the last cut left, and its moment.
        """
        operations = list(read_recording(recording))[self._recorded :]
        self._recorded += len(operations)
        moments = [number for number, operation in enumerate(operations) if operation.at > since]
        cuts = {*self._chance.sample(moments, count - count // 4), *self._chance.sample(moments[:BEGIN], count // 4)}
        for number, operation in enumerate(operations):
            if number in cuts:
                target = self._targets / f"{operation.at}"
                self._disk.save(target, operation, Cut(self._chance))
                self._check(target / STORE, facts, operation.at)
            self._disk.apply(operation)
        return self._targets / f"{operations[max(cuts)].at}" / STORE, operations[max(cuts)].at

    def _check(self, store: Path, facts: Facts, moment: int) -> None:
        recovered, found = stored_in(store)
        if moment > self._declared:
            self._definitions = self._definitions or recovered.definitions
            assert recovered.definitions == self._definitions
            assert sorted(found) == TOPOLOGY.queues
        Check(facts, {queue: found.get(queue, []) for queue in TOPOLOGY.queues}, moment, served=False)


@pytest.mark.timeout(60 + CUTS)
def test_what_is_confirmed_survives_a_power_cut(broker: DurableBroker, shim: Shim, root: Path, tmp_path: Path) -> None:
    chance = seeded(20240615)
    facts = Facts(TOPOLOGY)
    declare(broker)
    cuts = PowerCuts(chance, root, tmp_path, monotonic_ns())
    Load(broker, chance, facts, confirms=CONFIRMS).join()
    broker.wait()
    cuts.play(shim.recording, facts, CUTS // 2)
    broker.start()
    facts = facts.next_run(all_that_is_there(broker, facts))
    Load(broker, chance, facts, confirms=CONFIRMS).join()
    broker.wait()
    left, moment = cuts.play(shim.recording, facts, CUTS // 2, since=min(facts.confirmed.values()))
    last = facts.last_number
    after = DurableBroker(left)
    after.start()
    found = all_that_is_there(after, facts)
    after.kill()
    Check(facts, {queue: [each for each in there if each[0] <= last] for queue, there in found.items()}, moment)
