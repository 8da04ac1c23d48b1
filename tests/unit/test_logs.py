from __future__ import annotations

import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from typing import TextIO

import gevent
import pytest

from dispatchd.logs import FLUSH_SECONDS, MOST_LINES, JsonFormatter, ThreadedHandler, text_formatter


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The end to read from, as a descriptor, and a stream to write to."""
    reader, writer = os.pipe()
    with open(writer, "w") as stream:  # noqa: PTH123 - a descriptor is no path
        yield reader, stream
    os.close(reader)


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("dispatchd.x", logging.INFO, __file__, 1, message, arguments, exc_info)


def read_until(reader: int, end: bytes) -> bytes:
    found = b""
    with gevent.Timeout(10):
        while end not in found:
            found += gevent.get_hub().threadpool.apply(os.read, (reader, 1 << 16))
    return found


@pytest.mark.parametrize("text", ["plain", "two\nlines", 'quo"tes', "ünï\x1b[2J", "\udcff"])
def test_each_line_of_json_is_one_object(text: str) -> None:
    line = JsonFormatter().format(record("found %s", text))
    assert line.isascii()
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["logger"], found["msg"]) == ("info", "dispatchd.x", f"found {text}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["ts"])


def test_a_traceback_is_in_the_same_object() -> None:
    try:
        raise ValueError("wrong")
    except ValueError as error:
        found = json.loads(JsonFormatter().format(record("failed", error=error)))
    assert found["err"].startswith("Traceback")
    assert found["err"].endswith("ValueError: wrong")


def test_lines_are_written_in_their_order() -> None:
    stream = io.TextIOWrapper(io.BytesIO())
    handler = ThreadedHandler(stream, logging.Formatter())
    for number in range(100):
        handler.emit(record("%d", number))
    handler.flush()
    assert stream.buffer.getvalue().split() == [b"%d" % number for number in range(100)]


def accounted_for(found: bytes) -> int:
    """Lines that are there, and those that are told to be missing: that may be told more than once."""
    return found.count(b"x\n") + sum(map(int, re.findall(rb"WARNING (\d+) lines are missing here: .*\n", found)))


def test_who_does_not_read_the_log_stops_nobody_and_is_told_what_is_missing(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    handler = ThreadedHandler(stream, logging.Formatter("%(levelname)s %(message)s"))
    with gevent.Timeout(10):
        for _ in range(3 * MOST_LINES):
            handler.emit(record("x" * 100))
    found = read_until(reader, b"nobody read the log in time")
    assert b"WARNING" in found
    with gevent.Timeout(10):
        while accounted_for(found) < 3 * MOST_LINES:
            found += read_until(reader, b"\n")
    assert accounted_for(found) == 3 * MOST_LINES


def test_a_stream_that_does_not_block_is_waited_for(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    handler = ThreadedHandler(stream, logging.Formatter())
    handler.emit(record("x" * 1_000_000))
    handler.emit(record("end"))
    assert len(read_until(reader, b"end\n")) == 1_000_005


def test_a_reader_that_went_away_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:  # noqa: PTH123 - a descriptor is no path
        handler = ThreadedHandler(stream, logging.Formatter())
        handler.emit(record("unheard"))
        before = time.monotonic()
        handler.flush()
        assert time.monotonic() - before < FLUSH_SECONDS  # the thread goes on


def test_the_journal_is_not_told_the_time(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    _, stream = pipe
    status = os.fstat(stream.fileno())
    assert re.match(r"\d{4}-", text_formatter(stream).format(record("hello")))
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    assert text_formatter(stream).format(record("hello")) == "INFO    dispatchd.x: hello"
