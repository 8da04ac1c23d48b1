"""The Celery application of these tests and of the workers that they start: its queues and routes, and tasks.

A worker finds the arguments of its application in the environment.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from kombu import Exchange, Queue
from kombu.common import Broadcast

HOLD_SECONDS = 60
TO_THE_DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


def application(url: str, queue: str, backend: str = "rpc://", *, delays_in_broker: bool = False) -> Celery:
    """The application whose tasks go to `queue` unless a route says otherwise.

    Celery has tasks wait for their time in the broker when one of its queues is a quorum queue, and here it can be told
    to use classic ones for that: the quorum queue is one that nobody declares.
    """
    app = Celery("compat", broker=url, backend=backend, set_as_current=False)
    app.conf.update(
        task_default_queue=queue,
        task_queues=[
            Queue(queue, Exchange(queue), queue),
            Queue("videos", Exchange("media", "topic"), "*.video.#"),
            Queue("sounds", Exchange("media", "topic"), "#.sound"),
            Queue("left", Exchange("turns", "direct"), "left"),
            Queue("right", Exchange("turns", "direct"), "right"),
            Queue("ranked", Exchange("ranked"), "ranked", max_priority=10),
            Queue("letters", Exchange("letters"), "letters", queue_arguments=TO_THE_DEAD),
            Broadcast("news"),
        ],
        task_routes={
            "film": {"exchange": "media", "exchange_type": "topic", "routing_key": "new.video.long"},
            "announce": {"queue": "news"},
        },
        worker_prefetch_multiplier=1,
        task_acks_late=True,
        task_send_sent_event=True,
        broker_connection_retry_on_startup=False,
        result_expires=60,
    )
    if delays_in_broker:
        app.conf.broker_native_delayed_delivery_queue_type = "classic"
        app.conf.task_queues.append(
            Queue("undeclared", Exchange("undeclared"), queue_arguments={"x-queue-type": "quorum"})
        )
    return app


if "CELERY_APPLICATION" in os.environ:
    app = application(**json.loads(os.environ["CELERY_APPLICATION"]))


@shared_task(name="add")
def add(a: int, b: int) -> int:
    return a + b


@shared_task(name="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(name="fail")
def fail(text: str) -> None:
    raise ValueError(text)


@shared_task(name="now")
def now() -> float:
    return time.time()


@shared_task(name="limited", rate_limit="4/s")
def limited() -> float:
    return time.time()


@shared_task(name="where", bind=True)
def where(self: Task) -> str:
    return str(self.request.hostname)


@shared_task(name="film", bind=True)
def film(self: Task) -> Any:
    return self.request.delivery_info["routing_key"]


@shared_task(name="announce", ignore_result=True)
def announce(text: str) -> str:
    return text


def _wait_for(gate: str) -> None:
    deadline = time.monotonic() + HOLD_SECONDS
    while not Path(gate).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@shared_task(name="hold", bind=True)
def hold(self: Task, gate: str) -> str:
    """Until there is a file `gate`; returns the worker's name."""
    _wait_for(gate)
    return str(self.request.hostname)


@shared_task(name="try_again", bind=True)
def try_again(self: Task, attempts: int, countdown: float = 0.1) -> int:
    """Succeeds at the attempt of that number, or fails at the third."""
    if self.request.retries + 1 < attempts:
        raise self.retry(countdown=countdown, max_retries=2)
    return int(self.request.retries)


@shared_task(name="back_off", bind=True, autoretry_for=(OSError,), retry_backoff=1, retry_jitter=False, max_retries=2)
def back_off(self: Task, attempts: int) -> int:
    """The same, with the waiting time doubled at each attempt, and with its own exception in the end."""
    if self.request.retries + 1 < attempts:
        raise OSError(f"attempt {self.request.retries + 1}")
    return int(self.request.retries)


def _is_redelivered(task: Task) -> bool:
    return bool(task.request.delivery_info["redelivered"])


@shared_task(name="hold_once", bind=True)
def hold_once(self: Task, gate: str) -> str:
    """Holds, but when it is delivered again it is done at once."""
    if not _is_redelivered(self):
        _wait_for(gate)
    return str(self.request.hostname)


@shared_task(name="die")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="die_once", bind=True, reject_on_worker_lost=True)
def die_once(self: Task) -> str:
    if not _is_redelivered(self):
        os.kill(os.getpid(), signal.SIGKILL)
    return "redelivered"


@shared_task(name="reject_once", bind=True)
def reject_once(self: Task) -> str:
    if not _is_redelivered(self):
        raise Reject("not now", requeue=True)
    return "redelivered"


@shared_task(name="reject")
def reject() -> None:
    raise Reject("never", requeue=False)


@shared_task(name="ignore")
def ignore() -> None:
    raise Ignore


@shared_task(name="hold_softly", soft_time_limit=1)
def hold_softly() -> str:
    try:
        time.sleep(HOLD_SECONDS)
    except SoftTimeLimitExceeded:
        return "in time"
    return "too late"
