"""What an actor does, message by message, as server-sent events: for a while, and no faster than somebody can look."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import bottle
import gevent

from dispatchd.actors.runtime import Actor, System
from dispatchd.web.actors import find
from dispatchd.web.guard import Guard
from dispatchd.web.requests import number_of_query
from dispatchd.web.server import LIFT_DEADLINE

TRACE_SECONDS: Final = 10
MOST_SECONDS: Final = 60
EVENTS_PER_SECOND: Final = 500
SENT_EVERY_SECONDS: Final = 0.1


class Trace:
    """Gathers what an actor handled; beyond so many events a second they are counted only."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._second = 0
        self._in_second = 0
        self.left_out = 0

    def note(self, message_type: type, waited: int, took: int, outcome: str) -> None:
        """The actor has handled a message; called by it, so it must be quick. Times in nanoseconds."""
        now = time.time()
        if int(now) != self._second:
            self._second, self._in_second = int(now), 0
        self._in_second += 1
        if self._in_second > EVENTS_PER_SECOND:
            self.left_out += 1
            return
        self._events.append(
            {
                "at": now,
                "type": message_type.__name__,
                "waited_ms": waited / 1e6,
                "took_ms": took / 1e6,
                "outcome": outcome,
            }
        )

    def take(self) -> list[dict[str, Any]]:
        """What was gathered since the last call."""
        events, self._events = self._events, []
        return events


class ActorTrace:
    """The handler."""

    def __init__(self, system: System, guard: Guard) -> None:
        self._system = system
        self._guard = guard

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is."""
        app.get("/api/actors/<number:int>/trace", callback=self.trace)

    def trace(self, number: int) -> Iterator[str]:
        """A stream of `handled` events, then one `end`. Raises 403, 404, and 409 while somebody else traces it."""
        actor = find(self._system, number)
        seconds = number_of_query("seconds", TRACE_SECONDS, MOST_SECONDS)
        user = self._guard.require("trace", actor, changes=False)
        if actor.traced_by is not None:
            raise bottle.HTTPError(409, "somebody traces it already")
        self._guard.done(user, "trace", actor, f"for {seconds} s")
        bottle.response.content_type = "text/event-stream; charset=UTF-8"
        bottle.response.set_header("Cache-Control", "no-store")
        bottle.response.set_header("X-Accel-Buffering", "no")
        bottle.request.environ.get(LIFT_DEADLINE, lambda: None)()
        return _events(actor, seconds)


def _events(actor: Actor, seconds: int) -> Iterator[str]:
    trace, until = Trace(), time.monotonic() + seconds
    reason = "time is up"
    if actor.traced_by is None:
        actor.traced_by = trace.note
        try:
            yield ": listening\n\n"
            while time.monotonic() < until:
                gevent.sleep(SENT_EVERY_SECONDS)
                # A comment where nothing happened: only what is sent shows that nobody listens any more.
                yield "".join(_event("handled", each) for each in trace.take()) or ": nothing\n\n"
                if actor.actor_stopped.is_set():
                    reason = "the actor has stopped"
                    break
        finally:
            actor.traced_by = None
    else:
        reason = "somebody traces it already"
    yield _event("end", {"reason": reason, "left_out": trace.left_out})


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
