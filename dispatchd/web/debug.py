"""What a broker does inside, over HTTP on loopback: stacks, a profile, memory, the loop, the log level."""

from __future__ import annotations

import logging
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import bottle
import gevent
from gevent import monkey

from dispatchd.actors.runtime import System
from dispatchd.web.flame import flame_graph
from dispatchd.web.heap import allocated_lines, by_type, garbage
from dispatchd.web.profile import sample
from dispatchd.web.server import LIFT_DEADLINE, AdminServer
from dispatchd.web.stacks import stacks

logger = logging.getLogger(__name__)

LOOPBACK: Final = "127.0.0.1"
LOCAL_NAMES: Final = ("localhost", LOOPBACK, "[::1]")
LOOK_SECONDS: Final = 5
MOST_SECONDS: Final = 60
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

INDEX: Final = """dispatchd

/greenlets             the stacks of all greenlets, by their actors' names, and of all native threads
/profile?seconds=5     where CPU time goes: a flame graph (SVG), by actors; &format=folded for other tools
/heap                  objects in memory, by type
/heap/lines?seconds=5  what is allocated meanwhile and still held, by line; everything is slower while that runs
/garbage               Python's collector of cyclic garbage
/hub                   gevent's loop and the actors on it
/log-level             how much is logged: PUT debug, info, warning or error; ?logger=dispatchd.store for a part of it
"""

Made = TypeVar("Made")

_get_ident: Final = monkey.get_original("threading", "get_ident")


class Debug:
    """The pages. Those that take their time are made one at a time, on a native thread: the loop goes on meanwhile."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._thread_of_loop = _get_ident()
        self._is_taken = False

    def application(self) -> bottle.Bottle:
        """Say at which addresses the handlers are."""
        app = bottle.Bottle()
        app.default_error_handler = lambda error: _text(f"{error.body}\n")
        app.add_hook("before_request", _require_local_name)
        app.get("/", callback=lambda: _text(INDEX))
        app.get("/greenlets", callback=lambda: _text(stacks()))
        app.get("/profile", callback=self.profile)
        app.get("/heap", callback=lambda: _text(_on_a_thread(by_type)))
        app.get("/heap/lines", callback=self.heap_lines)
        app.get("/garbage", callback=lambda: _text(garbage()))
        app.get("/hub", callback=self.hub)
        app.get("/log-level", callback=lambda: _text(_levels()))
        app.put("/log-level", callback=self.set_log_level)
        return app

    def profile(self) -> str:
        """Where CPU time goes, as a flame graph, or as lines that other tools read. Raises 409 while another runs."""
        seconds = _seconds()
        with self._one_at_a_time():
            found = _on_a_thread(sample, self._thread_of_loop, seconds)
        if bottle.request.query.get("format") == "folded":
            return _text(found.folded())
        bottle.response.content_type = "image/svg+xml; charset=utf-8"
        bottle.response.set_header("Content-Security-Policy", "default-src 'none'")
        idle = 100 * found.idle / max(1, found.samples)
        title = f"dispatchd, {found.seconds:.1f} s: {found.samples} looks, the loop had nothing to do in {idle:.0f} %"
        return flame_graph(found.stacks, title)

    def heap_lines(self) -> str:
        """What is allocated in some seconds and still held at their end. Raises 409 while another runs."""
        seconds = _seconds()
        with self._one_at_a_time():
            tracemalloc.start()
            try:
                before = _on_a_thread(tracemalloc.take_snapshot)
                gevent.sleep(seconds)
                after = _on_a_thread(tracemalloc.take_snapshot)
            finally:
                tracemalloc.stop()
            return _text(_on_a_thread(allocated_lines, before, after))

    def hub(self) -> str:
        """Figures of gevent's loop, and of the actors on it."""
        hub, system = gevent.get_hub(), self._system
        began = time.perf_counter()
        gevent.sleep(0)
        one_turn, loop = time.perf_counter() - began, hub.loop
        facts = {
            "gevent": gevent.__version__,
            "backend": loop.backend,
            "watchers and threads that the loop waits for": loop.activecnt,
            "pending events": loop.pendingcnt,
            "one turn of the loop, ms": f"{one_turn * 1000:.3f}",
            "threads of the hub's pool": hub.threadpool.size,
            "native threads": len(sys._current_frames()),
            "actors": len(system.actors),
            "of them did something in the last minute": len(system.measured),
            "are in line for a turn": len(system.turns),
            "greenlets that nobody needs now": len(system.turns.idle),
            "times that the loop was blocked": system.blocks.total,
            "the longest, ms": f"{system.blocks.longest * 1000:.0f}",
            "slow handlers": system.slow.total,
            "the slowest, ms": f"{system.slow.longest * 1000:.0f}",
            "Python lets other threads run after, ms": sys.getswitchinterval() * 1000,
        }
        return _text("".join(f"{name}: {value}\n" for name, value in facts.items()))

    def set_log_level(self) -> str:
        """Set the level in the body, of all that is logged or of the logger in the query. Raises 400."""
        level = bottle.request.body.read(100).decode(errors="replace").strip().upper()
        if level not in LOG_LEVELS:
            raise bottle.HTTPError(400, f"the body is expected to be one of {', '.join(LOG_LEVELS).lower()}")
        name = bottle.request.query.getunicode("logger", "")
        logging.getLogger(name or None).setLevel(level)
        logger.warning("the log level of %r is %s from now on", name or "everything", level.lower())
        return _text(_levels())

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if self._is_taken:
            raise bottle.HTTPError(409, "somebody else looks already: wait for the end of that")
        bottle.request.environ.get(LIFT_DEADLINE, lambda: None)()
        self._is_taken = True
        try:
            yield
        finally:
            self._is_taken = False


def _require_local_name() -> None:
    """A page of another site may have a name that leads here: it must not be served."""
    host = str(bottle.request.get_header("Host", "localhost")).rpartition("]")
    name = host[0] + host[1] or host[2].partition(":")[0]
    if name not in LOCAL_NAMES:
        raise bottle.HTTPError(403, f"this is for {', '.join(LOCAL_NAMES)} only")


def _seconds() -> float:
    text = bottle.request.query.get("seconds", str(LOOK_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= MOST_SECONDS:
        raise bottle.HTTPError(400, f"seconds is {text!r}, expected a number up to {MOST_SECONDS}")
    return seconds


def _on_a_thread(make: Callable[..., Made], *arguments: Any) -> Made:
    made: Made = gevent.get_hub().threadpool.apply(make, arguments)
    return made


def _levels() -> str:
    """The level of everything, and of loggers that have another."""
    known = [logging.getLogger(name) for name in sorted(logging.root.manager.loggerDict)]
    special = [f"{each.name}: {logging.getLevelName(each.level).lower()}\n" for each in known if each.level]
    return f"{logging.getLevelName(logging.root.level).lower()}\n{''.join(special)}"


def _text(body: str) -> str:
    bottle.response.content_type = "text/plain; charset=utf-8"
    bottle.response.set_header("X-Content-Type-Options", "nosniff")
    return body


class DebugServer(AdminServer):
    """Serves the pages on a port of this machine alone, without a login; port 0 takes a free one."""

    def __init__(self, port: int, system: System) -> None:
        super().__init__(Debug(system).application(), LOOPBACK, port)
