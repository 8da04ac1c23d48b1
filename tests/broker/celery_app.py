"""A Celery application, for the worker that `test_celery` starts and for the test itself. `BROKER_URL` says where."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, Task

app = Celery("celery_app", broker=os.environ["BROKER_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["CELERY_QUEUE"],
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    broker_connection_retry_on_startup=False,
    result_expires=60,
)


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task(bind=True, max_retries=3)
def succeed_at_the_third_attempt(self: Task) -> int:
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task
def fail(text: str) -> Any:
    raise ValueError(text)
