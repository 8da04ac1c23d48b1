"""A Celery worker and its tasks. Celery puts `@` into names and trusts the broker to behave as RabbitMQ does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from broker.process import BrokerProcess, Oracle

FOLDER = Path(__file__).parent
SECONDS = 20


@pytest.fixture
def tasks(
    broker: BrokerProcess | Oracle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ModuleType]:
    """The module of the application, with a worker for its tasks."""
    monkeypatch.setenv("BROKER_URL", f"amqp://guest:guest@{broker.host}:{broker.port}//")
    monkeypatch.setenv("CELERY_QUEUE", f"celery-{os.getpid()}")
    monkeypatch.syspath_prepend(str(FOLDER))
    celery_app = import_module("celery_app")
    log = tmp_path / "worker.log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "celery_app",
                "worker",
                "-P",
                "solo",
                "-n",
                "tester@%h",
                "-l",
                "INFO",
            ],
            cwd=FOLDER,
            env=os.environ | {"PYTHONSAFEPATH": "", "PYTHONPATH": str(FOLDER)},
            stdout=output,
            stderr=output,
        )
        try:
            yield celery_app
        finally:
            worker.terminate()
            status = worker.wait(SECONDS)
            print(log.read_text())
    assert status == 0


def test_a_worker(tasks: ModuleType) -> None:
    assert tasks.add.delay(2, 3).get(timeout=SECONDS) == 5
    results = [tasks.add.delay(number, number) for number in range(50)]
    assert [result.get(timeout=SECONDS) for result in results] == [2 * number for number in range(50)]
    assert tasks.succeed_at_the_third_attempt.delay().get(timeout=SECONDS) == 2
    with pytest.raises(ValueError, match="wrong"):
        tasks.fail.delay("wrong").get(timeout=SECONDS)
    (pong,) = tasks.app.control.ping(timeout=SECONDS, limit=1)
    ((name, answer),) = pong.items()
    assert name.startswith("tester@")
    assert answer == {"ok": "pong"}
    assert tasks.add.apply_async((1, 1), countdown=0.3).get(timeout=SECONDS) == 2
