from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    broker = getattr(item, "funcargs", {}).get("broker")
    if report.failed and broker is not None:
        report.sections.append(("log of the broker", "\n".join(broker.log[-60:])))
    return report
