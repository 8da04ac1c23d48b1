"""A broker as a process of its own, the way that its users run it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import gevent
from gevent.event import Event

READY = re.compile(r"is ready: AMQP on port (\d+), admin on (\d+), debug on (\d+)")
TROUBLE = re.compile(r" (WARNING|ERROR|CRITICAL) |^Traceback")
START_SECONDS = 40


class BrokerProcess:
    """Ports are free ones, known when `start` returns; `log` has every line that the process wrote.

    `within` is a command that runs the one behind it.
    """

    host = "127.0.0.1"

    def __init__(self, persist_dir: Path, *options: str, within: Sequence[str] = ()) -> None:
        self.persist_dir = persist_dir
        self.log: list[str] = []
        self.port = 0
        self.admin_port = 0
        self.debug_port = 0
        self._options = options
        self._within = within
        self._ready = Event()
        self._process: subprocess.Popen[str] | None = None
        self._log_reader: gevent.Greenlet[..., None] | None = None

    def start(self) -> None:
        """Start it, or start it again on what it stored; returns when it says that it is ready."""
        self._ready.clear()
        self._process = subprocess.Popen(
            [
                *(*self._within, sys.executable, "-m", "dispatchd", "--bind", self.host),
                *("--amqp-port", "0", "--admin-port", "0", "--debug-port", "0"),
                *("--persist-dir", str(self.persist_dir), *self._options),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._log_reader = gevent.spawn(self._read_log, self._process)
        if not self._ready.wait(START_SECONDS) or not self.port:
            self.kill()
            raise AssertionError("the broker did not get ready:\n" + "\n".join(self.log))

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line.rstrip())
            if found := READY.search(line):
                self.port, self.admin_port, self.debug_port = map(int, found.groups())
                self._ready.set()
        self._ready.set()

    def kill(self) -> None:
        """End it with SIGKILL: nothing is flushed."""
        self._end(kill=True)

    def stop(self) -> int:
        """End it with SIGTERM; returns the exit status."""
        return self._end(kill=False)

    def _end(self, *, kill: bool) -> int:
        process = self._process
        assert process is not None
        if kill:
            process.kill()
        else:
            process.terminate()
        status = process.wait(15)
        if self._log_reader is not None:
            self._log_reader.join(5)
        self.port = 0
        return status

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def trouble_since(self, line: int) -> list[str]:
        """What it logged from line number `line` on that nobody should see in a good test."""
        return [text for text in self.log[line:] if TROUBLE.search(text)]


class Oracle:
    """A RabbitMQ that somebody started, to run the same tests against: what they expect is what it does."""

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.port = port
        self.log: list[str] = []

    def trouble_since(self, _line: int) -> list[str]:
        """It logs elsewhere."""
        return []
