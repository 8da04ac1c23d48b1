"""Where tasks go: exchanges and their types, broadcast, priorities."""

from __future__ import annotations

import pytest
from celery import Celery
from compat.celery.conftest import StartWorker
from compat.celery.worker import SECONDS, Events, Worker


@pytest.fixture(scope="module", autouse=True)
def workers(start_worker: StartWorker, events: Events) -> list[Worker]:
    """Two, each with a queue of both exchanges; the news are for both."""
    one = start_worker("one", "-P", "solo", queues="videos,left,news")
    two = start_worker("two", "-P", "solo", queues="sounds,right,news")
    return [one.wait_until_ready(), two.wait_until_ready()]


@pytest.mark.parametrize(
    ("exchange", "routing_key", "number"),
    [
        ("media", "old.video", 0),
        ("media", "old.sound", 1),
        ("turns", "left", 0),
        ("turns", "right", 1),
    ],
)
def test_exchanges(app: Celery, workers: list[Worker], exchange: str, routing_key: str, number: int) -> None:
    result = app.tasks["where"].apply_async(exchange=exchange, routing_key=routing_key)
    assert result.get(timeout=SECONDS) == workers[number].name


def test_queues_by_name(app: Celery, workers: list[Worker]) -> None:
    assert app.tasks["where"].apply_async(queue="right").get(timeout=SECONDS) == workers[1].name


def test_routes(app: Celery) -> None:
    assert app.tasks["film"].delay().get(timeout=SECONDS) == "new.video.long"


def test_a_topic_of_two_queues(app: Celery, events: Events, workers: list[Worker]) -> None:
    result = app.tasks["add"].apply_async((1, 1), exchange="media", routing_key="a.video.with.sound")
    done = events.wait("task-succeeded", 2, uuid=result.id)
    assert {event["hostname"] for event in done} == {worker.name for worker in workers}


def test_broadcast(app: Celery, events: Events, workers: list[Worker]) -> None:
    result = app.tasks["announce"].delay("rain")
    done = events.wait("task-succeeded", 2, uuid=result.id)
    assert {event["hostname"] for event in done} == {worker.name for worker in workers}


def test_priorities(app: Celery, workers: list[Worker]) -> None:
    """The worker takes one at a time, so the next is the highest of all that are there."""
    priorities = [1, 9, None, 5, 9, 0, 3]
    results = [(app.tasks["now"].apply_async(queue="ranked", priority=each), each) for each in priorities]
    app.control.add_consumer("ranked", destination=[workers[0].name])
    times = [(result.get(timeout=SECONDS), each) for result, each in results]
    assert [each for _, each in sorted(times)] == [9, 9, 5, 3, 1, None, 0]


def next_dead(app: Celery) -> tuple[str, str]:
    """The id of the next dead task, and what it died of."""
    with app.connection() as connection, connection.SimpleQueue("dead") as dead:
        message = dead.get(timeout=SECONDS)
        message.ack()
    return message.headers["id"], message.headers["x-death"][0]["reason"]


def test_expired_and_rejected_tasks_are_dead_letters(app: Celery, workers: list[Worker]) -> None:
    with app.connection() as connection:
        connection.default_channel.queue_declare("dead", durable=True, auto_delete=False)
    expired = app.tasks["add"].apply_async((1, 1), queue="letters", expires=0.1)
    assert next_dead(app) == (expired.id, "expired")
    app.control.add_consumer("letters", destination=[workers[0].name])
    rejected = app.tasks["reject"].apply_async(queue="letters")
    assert next_dead(app) == (rejected.id, "rejected")
