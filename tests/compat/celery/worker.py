"""A Celery worker as a process of its own, and the events by which a test knows what the workers do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import psutil
from celery import Celery
from celery.events.receiver import EventReceiver
from gevent.event import Event as Signal

TESTS = Path(__file__).parents[2]
SECONDS = 30
"""For what takes a second on a machine that does nothing else."""

Event = dict[str, Any]


class Bulletin:
    """Things that arrive one by one, and may be waited for."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._news = Signal()

    def add(self, item: Any) -> None:
        self._items.append(item)
        self._news.set()

    def wait(self, matches: Callable[[Any], bool], count: int = 1) -> list[Any]:
        """The first `count` that match, those included that are there already. Raises AssertionError after SECONDS."""
        deadline = time.monotonic() + SECONDS
        while True:
            self._news.clear()
            found = [item for item in self._items if matches(item)]
            if len(found) >= count:
                return found[:count]
            if not self._news.wait(max(deadline - time.monotonic(), 0)):
                raise AssertionError(f"{len(found)} of {count} in time, the last of all:\n{self.tail(30)}")

    def tail(self, count: int) -> str:
        """The last ones, each on its line."""
        return "\n".join(map(str, self._items[-count:]))


class Worker:
    """`name@tests`, with options of `celery worker`; it consumes from `queues`, by default the application's own."""

    def __init__(self, app: Celery, name: str, *options: str, queues: str = "") -> None:
        self.name = f"{name}@tests"
        self.log = Bulletin()
        conf = app.conf
        same = {
            "url": conf.broker_url,
            "queue": conf.task_default_queue,
            "backend": conf.result_backend,
            "delays_in_broker": conf.broker_native_delayed_delivery_queue_type == "classic",
        }
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "compat.celery.application"),
                *("worker", "-n", self.name, "-l", "INFO", "-E"),
                *("-Q", queues or conf.task_default_queue, *options),
            ],
            env=os.environ | {"PYTHONPATH": str(TESTS), "CELERY_APPLICATION": json.dumps(same)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = gevent.spawn(self._read_log)

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.add(line.rstrip())

    def wait_until_ready(self) -> Worker:
        self.log.wait(lambda line: line.endswith(f"{self.name} ready."))
        return self

    def terminate(self) -> None:
        """Have it end when it has finished what it began."""
        self._process.terminate()

    def wait_for_end(self) -> int:
        """Returns the exit status."""
        return self._process.wait(SECONDS)

    def kill(self) -> None:
        """End it with SIGKILL, and the processes of its pool with it."""
        if self._process.poll() is None:
            pool = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            self.wait_for_end()
            for process in pool:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


class Events:
    """What the workers of an application and its clients say that they do."""

    def __init__(self, app: Celery) -> None:
        self._all = Bulletin()
        self._receives = Signal()
        self._receiver = gevent.spawn(self._receive, app)
        assert self._receives.wait(SECONDS)

    def _receive(self, app: Celery) -> None:
        with app.connection() as connection:
            receiver = _Receiver(connection, app=app, handlers={"*": self._all.add})
            receiver.signal = self._receives
            receiver.capture(wakeup=False)

    def wait(self, kind: str, count: int = 1, **fields: Any) -> list[Event]:
        """The first `count` events of that kind with these fields."""
        expected = {"type": kind, **fields}
        return self._all.wait(lambda event: expected.items() <= event.items(), count)

    def stop(self) -> None:
        self._receiver.kill(timeout=SECONDS)


class _Receiver(EventReceiver):  # type: ignore[misc]
    signal: Signal

    def on_consume_ready(self, *_arguments: Any, **_options: Any) -> None:
        self.signal.set()
