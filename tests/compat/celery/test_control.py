"""Events, and the remote control of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from compat.celery.conftest import StartWorker
from compat.celery.worker import SECONDS, Events, Worker


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker: StartWorker, events: Events, app: Celery) -> Worker:
    return start_worker("control", "-c", "1", "--prefetch-multiplier", "2").wait_until_ready()


@pytest.fixture
def inspect(app: Celery, worker: Worker) -> Any:
    return app.control.inspect(destination=[worker.name], timeout=SECONDS, limit=1)


def answered_by(worker: Worker) -> dict[str, Any]:
    """The arguments that send a command to one worker and wait for its answer."""
    return {"destination": [worker.name], "reply": True, "limit": 1, "timeout": SECONDS}


def ready_and_consumers(app: Celery, queue: str) -> tuple[int, int]:
    with app.connection() as connection:
        declared = connection.default_channel.queue_declare(queue, passive=True)
    return declared.message_count, declared.consumer_count


def test_events_of_tasks(app: Celery, events: Events, worker: Worker) -> None:
    queue = app.conf.task_default_queue
    good, bad = app.tasks["add"].delay(1, 2), app.tasks["fail"].delay("wrong")
    (sent,) = events.wait("task-sent", uuid=good.id)
    assert (sent["name"], sent["args"], sent["queue"]) == ("add", "(1, 2)", queue)
    for kind in ("task-received", "task-started"):
        events.wait(kind, uuid=good.id, hostname=worker.name)
        events.wait(kind, uuid=bad.id, hostname=worker.name)
    (succeeded,) = events.wait("task-succeeded", uuid=good.id)
    assert succeeded["result"] == "3"
    (failed,) = events.wait("task-failed", uuid=bad.id)
    assert failed["exception"] == "ValueError('wrong')"


def test_events_of_workers(events: Events, worker: Worker) -> None:
    events.wait("worker-online", hostname=worker.name)
    first, second = events.wait("worker-heartbeat", 2, hostname=worker.name)
    assert second["timestamp"] > first["timestamp"]


def test_ping(app: Celery, worker: Worker, inspect: Any) -> None:
    assert inspect.ping() == {worker.name: {"ok": "pong"}}
    assert app.control.ping(timeout=SECONDS, limit=1) == [{worker.name: {"ok": "pong"}}]


def test_tasks_by_state(app: Celery, events: Events, worker: Worker, inspect: Any, gate: Path) -> None:
    scheduled = app.tasks["add"].apply_async((1, 1), countdown=3600)
    active = app.tasks["hold"].delay(str(gate))
    reserved = app.tasks["add"].delay(1, 1)
    events.wait("task-received", uuid=scheduled.id)
    events.wait("task-started", uuid=active.id)
    events.wait("task-received", uuid=reserved.id)
    assert [task["request"]["id"] for task in inspect.scheduled()[worker.name]] == [scheduled.id]
    assert [task["id"] for task in inspect.active()[worker.name]] == [active.id]
    assert [task["id"] for task in inspect.reserved()[worker.name]] == [reserved.id]
    assert inspect.query_task(active.id)[worker.name][active.id][0] == "active"
    app.control.revoke(scheduled.id)
    gate.touch()
    assert active.get(timeout=SECONDS) == worker.name
    assert reserved.get(timeout=SECONDS) == 2


def test_what_workers_are(app: Celery, worker: Worker, inspect: Any) -> None:
    assert {"add", "fail", "hold"} <= set(inspect.registered()[worker.name])
    (queue,) = inspect.active_queues()[worker.name]
    assert (queue["name"], queue["exchange"]["type"]) == (app.conf.task_default_queue, "direct")
    stats = inspect.stats()[worker.name]
    assert stats["pool"]["max-concurrency"] == 1
    assert stats["broker"]["transport"] == "amqp"
    assert stats["total"]["add"] >= 1


def test_consumers_come_and_go(app: Celery, worker: Worker, inspect: Any) -> None:
    """The worker answers before it does so, and does it before it looks at another message."""

    def queues() -> set[str]:
        assert app.tasks["add"].delay(1, 1).get(timeout=SECONDS) == 2
        return {queue["name"] for queue in inspect.active_queues()[worker.name]}

    added = app.control.add_consumer("left", **answered_by(worker))
    assert added == [{worker.name: {"ok": "add consumer left"}}]
    assert queues() == {app.conf.task_default_queue, "left"}
    result = app.tasks["where"].apply_async(exchange="turns", routing_key="left")
    assert result.get(timeout=SECONDS) == worker.name
    cancelled = app.control.cancel_consumer("left", **answered_by(worker))
    assert cancelled == [{worker.name: {"ok": "no longer consuming from left"}}]
    assert queues() == {app.conf.task_default_queue}
    assert ready_and_consumers(app, "left") == (0, 0)


def test_a_pool_that_grows_gets_more(app: Celery, events: Events, start_worker: StartWorker, gate: Path) -> None:
    """Its consumers go on: it is the limit of their channel that changes."""
    worker = start_worker("growing", "-c", "1", queues="right").wait_until_ready()
    results = [app.tasks["hold"].apply_async((str(gate),), exchange="turns", routing_key="right") for _ in range(4)]
    events.wait("task-started", hostname=worker.name)
    assert ready_and_consumers(app, "right") == (3, 1)
    assert app.control.pool_grow(2, **answered_by(worker)) == [{worker.name: {"ok": "pool will grow"}}]
    events.wait("task-started", 3, hostname=worker.name)
    assert ready_and_consumers(app, "right") == (1, 1)
    gate.touch()
    assert [result.get(timeout=SECONDS) for result in results] == [worker.name] * 4


def test_shutdown(app: Celery, events: Events, start_worker: StartWorker) -> None:
    worker = start_worker("other", "-P", "solo", queues="right").wait_until_ready()
    app.control.shutdown(destination=[worker.name])
    assert worker.wait_for_end() == 0
    events.wait("worker-offline", hostname=worker.name)
