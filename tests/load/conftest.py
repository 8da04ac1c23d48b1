from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crash.durable_broker import DurableBroker

Start = Callable[..., DurableBroker]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a broker with further options; whatever it warns of fails the test."""
    started: list[DurableBroker] = []

    def start(*options: str) -> DurableBroker:
        broker = DurableBroker(tmp_path / "data", *options)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        if broker.is_running:
            broker.kill()
        assert not broker.trouble_since(0)


@pytest.fixture
def broker(start: Start) -> DurableBroker:
    return start()
