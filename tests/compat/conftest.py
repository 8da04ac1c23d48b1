from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker.process import BrokerProcess
from compat.player import NEVER, play
from compat.rabbitmq import RabbitMQ
from compat.script import Step
from compat.transcript import differences

SERVER = "RABBITMQ_SERVER"
"""The variable that has the path of RabbitMQ's start script; `make test-compat` sets it."""

AS_RABBITMQ = ("--max-message-size", "128MiB")
"""What RabbitMQ 3.10 has as its default, and clients' tests make use of."""

Compare = Callable[..., str]


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    if SERVER not in os.environ:
        pytest.skip(f"no RabbitMQ to compare with: `make test-compat` runs this, or give its start script in {SERVER}")
    process = RabbitMQ(Path(os.environ[SERVER]), tmp_path_factory.mktemp("rabbitmq"))
    process.start()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def dispatchd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("dispatchd"), *AS_RABBITMQ)
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def compare(rabbitmq: RabbitMQ, dispatchd: BrokerProcess) -> Compare:
    """Play steps on both; the first difference as a text, "" if there is none."""

    def compare(*steps: Step) -> str:
        ours, theirs = play(dispatchd, steps), play(rabbitmq, steps)
        assert NEVER not in str(theirs), "RabbitMQ waited in vain too: the script is wrong"
        return differences(steps, ours, theirs)

    return compare
