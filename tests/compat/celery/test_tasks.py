"""Tasks that fail, hang, die, are revoked, or come by the thousand, in a worker of two processes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError
from celery.utils import uuid
from compat.celery.conftest import StartWorker, client_of
from compat.celery.worker import SECONDS, Events, Worker


@pytest.fixture(scope="module", autouse=True)
def worker(start_worker: StartWorker, events: Events) -> Worker:
    return start_worker("tasks", "-c", "2", "--prefetch-multiplier", "16").wait_until_ready()


def test_retries_wait_longer_each_time(app: Celery, events: Events) -> None:
    begin = time.monotonic()
    third, fourth = app.tasks["back_off"].delay(3), app.tasks["back_off"].delay(4)
    assert third.get(timeout=SECONDS) == 2
    assert time.monotonic() - begin >= 2.9  # 1 s and 2 s
    with pytest.raises(OSError, match="attempt 3"):
        fourth.get(timeout=SECONDS)
    assert len(events.wait("task-retried", 2, uuid=fourth.id)) == 2


def test_the_task_of_a_killed_worker_runs_elsewhere(
    app: Celery, events: Events, worker: Worker, start_worker: StartWorker, gate: Path
) -> None:
    victim = start_worker("victim", "-c", "1", queues="left").wait_until_ready()
    result = app.tasks["hold_once"].apply_async((str(gate),), exchange="turns", routing_key="left")
    events.wait("task-started", uuid=result.id, hostname=victim.name)
    victim.kill()
    app.control.add_consumer("left", destination=[worker.name])
    assert result.get(timeout=SECONDS) == worker.name


def test_the_task_of_a_killed_process_runs_again(app: Celery, events: Events) -> None:
    result = app.tasks["die_once"].delay()
    assert result.get(timeout=SECONDS) == "redelivered"
    events.wait("task-started", 2, uuid=result.id)
    with pytest.raises(WorkerLostError):
        app.tasks["die"].delay().get(timeout=SECONDS)


def test_what_is_revoked_does_not_start(app: Celery, events: Events, worker: Worker) -> None:
    task_id = uuid()
    app.control.revoke(task_id, destination=[worker.name], reply=True, limit=1, timeout=SECONDS)
    result = app.tasks["add"].apply_async((1, 1), task_id=task_id)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=SECONDS)
    (revoked,) = events.wait("task-revoked", uuid=task_id)
    assert (revoked["expired"], revoked["terminated"]) == (False, False)


def test_what_is_revoked_is_terminated(app: Celery, events: Events, gate: Path) -> None:
    result = app.tasks["hold"].delay(str(gate))
    events.wait("task-started", uuid=result.id)
    result.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=SECONDS)
    (revoked,) = events.wait("task-revoked", uuid=result.id)
    assert revoked["terminated"]


def test_expired_tasks_do_not_start(app: Celery, events: Events) -> None:
    """The worker looks at its own clock too: what it has got by then need not have expired in the queue."""
    result = app.tasks["add"].apply_async((1, 1), countdown=0.5, expires=0.2)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=SECONDS)
    (revoked,) = events.wait("task-revoked", uuid=result.id)
    assert revoked["expired"]


def test_time_limits(app: Celery, gate: Path) -> None:
    hard = app.tasks["hold"].apply_async((str(gate),), time_limit=1)
    soft = app.tasks["hold_softly"].delay()
    assert soft.get(timeout=SECONDS) == "in time"
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=SECONDS)


def test_rate_limits(app: Celery, worker: Worker) -> None:
    def four() -> list[float]:
        results = [app.tasks["limited"].delay() for _ in range(4)]
        return [result.get(timeout=SECONDS) for result in results]

    assert len(set(four())) == 4
    answers = app.control.rate_limit("limited", "8/s", destination=[worker.name], reply=True, limit=1, timeout=SECONDS)
    assert answers == [{worker.name: {"ok": "new rate limit set successfully"}}]
    assert len(set(four())) == 4


def test_chains_and_groups(app: Celery) -> None:
    add = app.tasks["add"]
    assert chain(add.s(1, 2), add.s(3), add.s(4))().get(timeout=SECONDS) == 10
    result = group(add.s(number, 1) for number in range(20))()
    assert result.get(timeout=SECONDS) == list(range(1, 21))
    then = add.s(10)
    linked = then.freeze()
    assert add.apply_async((1, 1), link=then).get(timeout=SECONDS) == 2
    assert linked.get(timeout=SECONDS) == 12


def test_chords_need_another_result_backend(app: Celery) -> None:
    header = group(app.tasks["add"].s(number, 1) for number in range(3))
    with pytest.raises(NotImplementedError, match="does not support chords"):
        chord(header)(app.tasks["total"].s())
    with pytest.raises(NotImplementedError, match="does not support chords"):
        chain(header, app.tasks["total"].s())()


def test_chords(app: Celery, start_worker: StartWorker, tmp_path: Path) -> None:
    """With the results in files, a task that is retried until all of the header is there starts the rest."""
    with client_of(app.conf.broker_url, "chords", f"file://{tmp_path}") as in_files:
        start_worker("chords", "-P", "threads", "-c", "2", of=in_files)
        add, total = in_files.tasks["add"], in_files.tasks["total"]
        header = [add.s(number, 1) for number in range(10)]
        assert chord(header)(total.s()).get(timeout=SECONDS) == 55
        assert chain(group(header), total.s())().get(timeout=SECONDS) == 55


@pytest.mark.timeout(120)
def test_a_burst(app: Celery) -> None:
    add = app.tasks["add"]
    results = [add.delay(number, number) for number in range(2000)]
    assert [result.get(timeout=60) for result in results] == [2 * number for number in range(2000)]
