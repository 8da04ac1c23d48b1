"""Where log lines go: formatted as text or JSON, and written by a native thread.

Who reads the log may be slow: a pipe that nobody empties would stop the loop, and every client with it. So a line is
only put into a queue, and a thread of the system writes. Where even that queue is full, lines are left out and counted.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TextIO

import gevent
from gevent.monkey import get_original

MOST_LINES: Final = 10_000
FLUSH_SECONDS: Final = 2.0

_start_new_thread = get_original("_thread", "start_new_thread")
_allocate_lock = get_original("_thread", "allocate_lock")
_select = get_original("select", "select")
_SimpleQueue = get_original("queue", "SimpleQueue")

logger = logging.getLogger(__name__)


def log_to(stream: TextIO, level: str, format: str) -> ThreadedHandler:
    """Send all that is logged to a stream from now on, as "text" or "json"; returns the handler that does it."""
    # What no line shows is not found out for each of them, which takes a third of what they cost.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    formatter = JsonFormatter() if format == "json" else text_formatter(stream)
    handler = ThreadedHandler(stream, formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return handler


def log_failures_of_greenlets() -> None:
    """Have gevent log what ends a greenlet, rather than print it between the lines of the log."""
    hub: Any = gevent.get_hub()
    hub.print_exception = _log_exception


def _log_exception(
    context: object, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
) -> None:
    if error is not None and kind is not None:
        logger.error("%r failed", context, exc_info=(kind, error, at))


def text_formatter(stream: TextIO) -> logging.Formatter:
    """For people. The journal of systemd notes the time itself."""
    stamp = "" if _is_journal(stream) else "%(asctime)s.%(msecs)03d "
    return logging.Formatter(f"{stamp}%(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")


def _is_journal(stream: TextIO) -> bool:
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JsonFormatter(logging.Formatter):
    """For programs: each line is an object with `ts` (UTC), `level`, `logger`, `msg`, and `err`, a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, in ASCII."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "ts": f"{seconds}.{int(record.created % 1 * 1000):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            line["err"] = self.formatException(record.exc_info)
        return json.dumps(line)


class ThreadedHandler(logging.Handler):
    """Puts formatted lines into a queue of at most MOST_LINES, which a native thread writes to the stream."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        buffer: Any = stream.buffer
        # Without a buffer there is no lock of it, at which others who write to the stream would wait for a full pipe.
        self._write: Callable[[bytes], int | None] = getattr(buffer, "raw", buffer).write
        self._stream = stream
        self._lines: Any = _SimpleQueue()
        self._lost = 0
        _start_new_thread(self._run, ())

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None: a thread that logs must not wait for the loop."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written, when the ones before are."""
        if self._lines.qsize() >= MOST_LINES:
            self._lost += 1
            return
        try:
            self._lines.put(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - what logging does with lines that can't be made
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, but no longer than 2 seconds: at the end of the process only."""
        written = _allocate_lock()
        written.acquire()
        self._lines.put(written)
        written.acquire(True, FLUSH_SECONDS)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, str):
                self._put_out(line)
            else:
                line.release()
            if self._lost:
                lost, self._lost = self._lost, 0
                text = "%d lines are missing here: nobody read the log in time"
                missing = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lost,), None)
                self._put_out(self.format(missing) + "\n")

    def _put_out(self, line: str) -> None:
        octets = line.encode(errors="backslashreplace")
        try:
            while octets:
                written = self._write(octets)
                if written is None:  # somebody made it non-blocking
                    _select([], [self._stream.fileno()], [], 1.0)
                octets = octets[written or 0 :]
        except (OSError, ValueError):
            pass  # nobody will ever read it
