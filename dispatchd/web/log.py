"""The last lines of the log, for who can't see where it goes."""

from __future__ import annotations

import json
import logging
from collections import deque
from itertools import count
from typing import Any, Final

import bottle

from dispatchd.web.answers import answer_json
from dispatchd.web.encoding import TEXT_CHARACTERS
from dispatchd.web.events import Events
from dispatchd.web.requests import number_of_query
from dispatchd.web.roles import MONITORING

KEPT_LINES: Final = 1000


class LogRing(logging.Handler):
    """Keeps what is logged, by any thread: all that it does at a time is to append."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count(1)
        self.last = 0
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT_LINES)

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None: a thread that logs must not wait for the loop."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        try:
            message = record.getMessage()
            if record.exc_info:
                message += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception:  # noqa: BLE001 - what logging does with lines that can't be made
            self.handleError(record)
            return
        number = next(self._numbers)
        self.lines.append(
            {
                "number": number,
                "at": record.created,
                "level": record.levelname,
                "logger": record.name,
                "message": message[:TEXT_CHARACTERS],
            }
        )
        self.last = number


class Log:
    """The handlers. The topic `log` says only how far the lines go: who listens gets those that are new to him."""

    def __init__(self, ring: LogRing, events: Events) -> None:
        self._ring = ring
        events.offer("log", lambda: {"last": ring.last}, role=MONITORING)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is."""
        app.get("/api/log", callback=self.show)

    def show(self) -> str:
        """The last `limit` lines of at least `level` whose number is above `after`, the oldest first. Raises 400."""
        after = number_of_query("after", 0)
        limit = number_of_query("limit", KEPT_LINES, KEPT_LINES)
        name = bottle.request.query.getunicode("level", "DEBUG").upper()
        levels = logging.getLevelNamesMapping()
        if name not in levels:
            raise bottle.HTTPError(400, f"level is {name!r}, expected one of {', '.join(levels)}")
        lines = [
            line
            for line in list(self._ring.lines)
            if line["number"] > after and levels.get(line["level"], 0) >= levels[name]
        ]
        return answer_json(json.dumps(lines[-limit:] if limit else []))
