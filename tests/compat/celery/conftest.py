from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from broker.process import BrokerProcess
from celery import Celery
from compat.celery.application import application
from compat.celery.worker import Events, Worker
from compat.rabbitmq import RabbitMQ

Broker = BrokerProcess | RabbitMQ
StartWorker = Callable[..., Worker]


@pytest.fixture(scope="session", params=["dispatchd", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Every test is for dispatchd, and on RabbitMQ shows that it is right."""
    process: Broker = request.getfixturevalue(request.param)
    return process


def url_of(broker: Broker) -> str:
    return f"amqp://guest:guest@{broker.host}:{broker.port}//"


@contextmanager
def client_of(*arguments: Any, **options: Any) -> Iterator[Celery]:
    """An application as in `application`, that consumes no results any more when the context ends."""
    app = application(*arguments, **options)
    try:
        yield app
    finally:
        consumer = getattr(app.backend, "result_consumer", None)
        if consumer is not None and consumer._consumer is not None:
            consumer.drainer.stop()
            consumer.stop()
        app.close()


@pytest.fixture(scope="module")
def app(broker: Broker, request: pytest.FixtureRequest) -> Iterator[Celery]:
    """The application of a module's tests, with a queue of its own."""
    begin = 0 if isinstance(broker, RabbitMQ) else len(broker.log)
    with client_of(url_of(broker), request.module.__name__.rpartition(".")[2]) as app:
        yield app
    assert isinstance(broker, RabbitMQ) or not broker.trouble_since(begin)


@pytest.fixture(scope="module")
def events(app: Celery) -> Iterator[Events]:
    events = Events(app)
    yield events
    events.stop()


@pytest.fixture(scope="module")
def start_worker(app: Celery) -> Iterator[StartWorker]:
    """Start a worker with a name and options, for the module's application or the one that is given with `of`."""
    with starting_workers(app) as start:
        yield start


@contextmanager
def starting_workers(app: Celery) -> Iterator[StartWorker]:
    begin = len(_workers)

    def start(name: str, *options: str, of: Celery = app, queues: str = "") -> Worker:
        _workers.append(Worker(of, name, *options, queues=queues))
        return _workers[-1]

    try:
        yield start
    finally:
        started = _workers[begin:]
        del _workers[begin:]
        for worker in started:
            worker.terminate()
        try:
            assert {worker.wait_for_end() for worker in started} <= {0, -SIGKILL}
        finally:
            for worker in started:
                worker.kill()


_workers: list[Worker] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    report = yield
    if report.failed:
        report.sections += [(f"log of {worker.name}", worker.log.tail(60)) for worker in _workers]
    return report


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that isn't there, and is when the test has ended: for tasks that hold until then."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()
