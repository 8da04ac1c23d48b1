"""All that RabbitMQ passes, dispatchd passes: every suite on both, each in a place of its own, compared by test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from compat.conftest import SERVER
from compat.suites import place
from compat.suites.declarations import SUITES, Suite
from compat.suites.packages import Unavailable, provide
from compat.suites.results import Outcomes, passed, verdict

BROKER_SECONDS = 120
"""For a broker to start and to stop."""
FETCH_SECONDS = 900


class Run:
    """A suite that runs on one broker."""

    def __init__(self, suite: Suite, packages: Path, broker: str, folder: Path) -> None:
        self._suite = suite
        self._folder = folder
        folder.mkdir()
        inside = ("-m", "gevent.monkey", "--module", "compat.suites.inside", broker, str(folder), str(suite.seconds))
        paths = [str(Path(__file__).parents[2]), os.environ["PYTHONPATH"]]
        with (folder / "place.log").open("wb") as log:
            self._process = subprocess.Popen(
                place.command(sys.executable, *inside, *suite.filled_in(packages, folder)),
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def outcomes(self) -> Outcomes:
        """What came of each test, once all have ended."""
        status = self._process.wait(self._suite.seconds + BROKER_SECONDS)
        assert status == 0, self.end_of("place.log")
        return self._suite.read(self._folder / self._suite.results)

    def end_of(self, name: str) -> str:
        return "\n".join((self._folder / name).read_text(errors="replace").splitlines()[-40:])

    def failures_of_broker(self) -> list[str]:
        lines = (self._folder / "broker.log").read_text().splitlines()
        return [line for line in lines if " ERROR " in line or " CRITICAL " in line]

    def stop(self) -> None:
        """End all of it, if it has not ended."""
        self._process.kill()
        self._process.wait()


@contextmanager
def running(suite: Suite, packages: Path, broker: str, folder: Path) -> Iterator[Run]:
    started = Run(suite, packages, broker, folder)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def server() -> str:
    if SERVER not in os.environ:
        pytest.skip(f"no RabbitMQ to compare with: `make test-compat` runs this, or give its start script in {SERVER}")
    return os.environ[SERVER]


@pytest.mark.parametrize(
    "suite",
    [
        pytest.param(each, id=each.name, marks=pytest.mark.timeout(2 * (each.seconds + BROKER_SECONDS) + FETCH_SECONDS))
        for each in SUITES
    ],
)
def test_passes_what_rabbitmq_passes(suite: Suite, server: str, tmp_path: Path) -> None:
    try:
        place.command()
        packages = provide(suite.name, suite.packages)
    except Unavailable as reason:
        pytest.skip(str(reason))

    def play(name: str) -> tuple[Run, Run, Outcomes, Outcomes]:
        with (
            running(suite, packages, "dispatchd", tmp_path / f"{name}-ours") as on_ours,
            running(suite, packages, server, tmp_path / f"{name}-theirs") as on_theirs,
        ):
            return on_ours, on_theirs, on_ours.outcomes(), on_theirs.outcomes()

    on_ours, on_theirs, ours, theirs = play("first")
    assert len(passed(theirs)) >= suite.at_least, on_theirs.end_of("suite.log")
    assert not on_ours.failures_of_broker()
    if passed(theirs) - passed(ours) - suite.exceptions.keys():  # a test may fail now and then, with either broker
        on_ours, _, ours_again, theirs_again = play("again")
        ours |= dict.fromkeys(passed(ours_again), "passed")
        theirs |= {name: outcome for name, outcome in theirs_again.items() if outcome != "passed"}
    print(f"passed: {len(passed(ours))} here, {len(passed(theirs))} on RabbitMQ, of {len(theirs)}")
    if lines := verdict(ours, theirs, suite.exceptions):
        pytest.fail("\n".join([*lines, on_ours.end_of("suite.log")]), pytrace=False)
