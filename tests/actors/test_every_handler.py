"""Every kind of actor fails at every message type that it handles, at every line that calls something.

Whatever it was: the broker goes on, no message is lost or comes twice, and nobody beside it notices.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from actors.faults import Fault, Recorder, Step, kinds
from actors.invariants import check_all
from actors.scripts import NEVER_TOLD, SCRIPTS, Bench, Script
from soak import SOAK

from dispatchd.actors import committer, connection, held_credit, monitor, pager, purger, queue_contents


@pytest.fixture(autouse=True)
def small_and_soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What takes many messages in life takes few here, and what is tried again later is tried soon."""
    monkeypatch.setattr(held_credit, "BACKLOG_THAT_HOLDS_CREDIT", 3)
    monkeypatch.setattr(held_credit, "REVIEW_SECONDS", 0.002)
    monkeypatch.setattr(purger, "ENTRIES_IN_ONE_TURN", 2)
    monkeypatch.setattr(queue_contents, "HEADS_IN_ONE_TURN", 2)
    monkeypatch.setattr(pager, "RETRY_SECONDS", 0.002)
    monkeypatch.setattr(pager, "DELETED_IN_ONE_GO", 3)
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.002)
    monkeypatch.setattr(connection, "LEAVE_SECONDS", 0.05)
    monkeypatch.setattr(monitor, "CHECK_SECONDS", 0.005)
    logger = logging.getLogger("dispatchd")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what fails is logged, with a traceback
    yield
    logger.setLevel(level)


def run(script: Script, fault: Recorder | Fault) -> None:
    """Play a script with a recorder or a fault, and check what must hold at its end."""
    bench = Bench(script)
    with ExitStack() as stack:
        stack.callback(bench.world.end)
        play = script.play(bench)
        next(play)
        bench.books.settle()
        with fault.installed():
            for _ in play:
                raise AssertionError("a script yields once")
            if not script.ends:
                bench.come_to_rest()
        if script.ends:
            return
        bench.come_to_rest()
        check_all(bench.world, bench.books, fault.failed)
        bench.check_bystander()


@cache
def recorded() -> dict[Script, Recorder]:
    """The steps of each script."""
    recorders = {}
    for script in SCRIPTS:
        recorders[script] = Recorder()
        run(script, recorders[script])
    return recorders


def test_every_handler_is_in_a_script() -> None:
    handled = set().union(*(recorder.handled for recorder in recorded().values()))
    missing = {(kind, message) for kind in kinds() for message in kind._handlers} - handled - NEVER_TOLD.keys()
    assert not missing, sorted(f"{kind.__name__} {message.__name__}" for kind, message in missing)


@cache
def chosen() -> dict[Script, list[Step]]:
    """Where to fail in each script: everywhere for a soak, else once at each line, and in each handler."""
    steps: dict[Script, list[Step]] = {script: [] for script in SCRIPTS}
    seen = set[object]()
    for script, recorder in sorted(recorded().items(), key=lambda pair: len(pair[1].steps)):
        for step in recorder.steps:
            facts = {(step.file, step.line), (step.kind, step.message)}
            if SOAK or not facts <= seen:
                seen |= facts
                steps[script].append(step)
    return steps


@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_whatever_fails(script: Script) -> None:
    for step in chosen()[script]:
        fault = Fault(step)
        try:
            run(script, fault)
        except BaseException as error:
            error.add_note(f"when this failed: {step}")
            raise
