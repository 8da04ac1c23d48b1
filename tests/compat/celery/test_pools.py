"""What every kind of pool does: results, failures, retries, countdowns, rejects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.exceptions import MaxRetriesExceededError
from compat.celery.conftest import starting_workers
from compat.celery.worker import SECONDS, Events, Worker

POOLS = {"prefork": "2", "gevent": "10", "threads": "4", "solo": "1"}
"""With the number of tasks that run at a time."""

OPTIONS = ("--prefetch-multiplier", "4", "--without-mingle")

EARLY = 0.1
"""By how many seconds a pool's timer may be off."""


@pytest.fixture(scope="module", params=POOLS, autouse=True)
def worker(app: Celery, events: Events, request: pytest.FixtureRequest) -> Iterator[Worker]:
    with starting_workers(app) as start:
        yield start(request.param, "-P", request.param, "-c", POOLS[request.param], *OPTIONS).wait_until_ready()
    with app.connection() as connection:
        connection.default_channel.queue_purge(app.conf.task_default_queue)  # of what waits for its time


def test_results(app: Celery) -> None:
    results = [app.tasks["add"].delay(number, b=number) for number in range(20)]
    assert [result.get(timeout=SECONDS) for result in results] == [2 * number for number in range(20)]


def test_failures(app: Celery) -> None:
    with pytest.raises(ValueError, match="wrong"):
        app.tasks["fail"].delay("wrong").get(timeout=SECONDS)


def test_retries(app: Celery) -> None:
    third, fourth = app.tasks["try_again"].delay(3), app.tasks["try_again"].delay(4)
    assert third.get(timeout=SECONDS) == 2
    with pytest.raises(MaxRetriesExceededError):
        fourth.get(timeout=SECONDS)


def test_rejects_and_ignores(app: Celery, events: Events) -> None:
    assert app.tasks["reject_once"].delay().get(timeout=SECONDS) == "redelivered"
    ignored = app.tasks["ignore"].delay()
    events.wait("task-started", uuid=ignored.id)
    assert app.tasks["add"].delay(1, 1).get(timeout=SECONDS) == 2
    assert ignored.state == "PENDING"


def test_countdowns_and_times(app: Celery) -> None:
    """Tasks that wait for their time widen the worker's prefetch, or those behind them would wait too."""
    for _ in range(12):
        app.tasks["now"].apply_async(countdown=3600)
    begin = time.time()
    at_a_time = app.tasks["now"].apply_async(eta=datetime.now(UTC) + timedelta(seconds=0.5))
    in_a_second = app.tasks["now"].apply_async(countdown=1)
    assert app.tasks["add"].delay(1, 1).get(timeout=SECONDS) == 2
    assert at_a_time.get(timeout=SECONDS) - begin >= 0.5 - EARLY
    assert in_a_second.get(timeout=SECONDS) - begin >= 1 - EARLY
