"""The broker is killed and comes again while a worker is connected, and runs a task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker.process import BrokerProcess
from celery import Celery
from compat.celery.conftest import Broker, StartWorker, client_of, url_of
from compat.celery.worker import SECONDS, Events
from compat.conftest import SERVER
from compat.rabbitmq import RabbitMQ, free_port

CONNECTED = "Connected to amqp:"


@pytest.fixture(scope="module", params=["dispatchd", "rabbitmq"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One that a test may kill and start again on the same port."""
    folder = tmp_path_factory.mktemp("restarted")
    if request.param == "rabbitmq" and SERVER not in os.environ:
        pytest.skip("no RabbitMQ to compare with")
    if request.param == "dispatchd":
        process: Broker = BrokerProcess(folder, "--amqp-port", str(free_port()))
    else:
        process = RabbitMQ(Path(os.environ[SERVER]), folder)
    process.start()
    yield process
    process.kill()


@pytest.mark.timeout(120)
def test_workers_connect_again(app: Celery, broker: Broker, start_worker: StartWorker, gate: Path) -> None:
    app.conf.broker_transport_options = {"confirm_publish": True}
    worker = start_worker("lasting", "-c", "1").wait_until_ready()
    before = Events(app)
    held = app.tasks["hold_once"].delay(str(gate))
    queued = [app.tasks["add"].apply_async((number, number), queue="left") for number in range(20)]
    before.wait("task-started", uuid=held.id)
    before.stop()

    broker.kill()
    broker.start()
    worker.log.wait(lambda line: CONNECTED in line, 2)

    with client_of(url_of(broker), app.conf.task_default_queue) as later:
        after = Events(later)
        gate.touch()
        after.wait("task-succeeded", uuid=held.id, result=repr(worker.name))
        assert later.tasks["add"].delay(2, 3).get(timeout=SECONDS) == 5
        later.control.add_consumer("left", destination=[worker.name])
        for result in queued:
            after.wait("task-succeeded", uuid=result.id)
        after.stop()
