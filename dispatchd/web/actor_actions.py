"""What the API does to actors: each action is allowed by the guard, confirmed where it is grave, and written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import bottle
import gevent

from dispatchd.actors import controls
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.actors import failure_row, find, row_of
from dispatchd.web.answers import answer_json
from dispatchd.web.guard import Guard
from dispatchd.web.requests import body_object

PAUSE_SECONDS: Final = 60.0
MOST_PAUSE_SECONDS: Final = 86_400.0
MOST_STEPS: Final = 10_000
MOST_REASON: Final = 200

Body = dict[str, Any]
Act = Callable[[Actor, Body, str], str]
"""Does what the body of the request asks for, in the name of a user; returns what is said of it in the log."""


class ActorActions:
    """The handlers that act. They answer with the actor's row, as it is a moment later."""

    def __init__(self, system: System, guard: Guard) -> None:
        self._system = system
        self._guard = guard

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        for name in ACTIONS:
            app.put(f"/api/actors/<number:int>/{name}", callback=partial(self.act, name))
        app.delete("/api/actors/<number:int>/mailbox/0", callback=self.drop_head)
        app.post("/api/actors/failures/<failure:int>/replay", callback=self.replay)

    def act(self, name: str, number: int) -> str:
        """Carry out an action. Raises 400, 403, 404, and 409 if the actor is not such that this can be done."""
        actor, body = find(self._system, number), body_object()
        act, needs_confirmation = ACTIONS[name]
        user = self._guard.require(name, actor)
        if needs_confirmation or (name in ("pause", "step") and actor.kind in controls.ESSENTIAL):
            _require_confirmation(actor, body)
        with _conflicts():
            detail = act(actor, body, user)
        self._guard.done(user, name, actor, detail)
        gevent.sleep(0)
        return answer_json(json.dumps(row_of(actor)))

    def drop_head(self, number: int) -> str:
        """Take the oldest message out of a paused actor's mailbox; answers with the record of it."""
        actor, body = find(self._system, number), body_object()
        user = self._guard.require("drop the head of the mailbox of", actor)
        _require_confirmation(actor, body)
        with _conflicts():
            failure = controls.drop_head(actor, user)
        self._guard.done(user, "dropped the head of the mailbox of", actor, failure.shown)
        return answer_json(json.dumps(failure_row(failure)))

    def replay(self, failure: int) -> str:
        """Tell an actor once more what it failed at; answers with the record of the failure. Raises 404 and 409."""
        found = self._system.failures.find(failure)
        if found is None:
            raise bottle.HTTPError(404, f"Failure {failure} is not kept any more, or never was")
        actor = self._system.actors.get(found.actor_number)
        if actor is None:
            raise bottle.HTTPError(409, "the actor is gone")
        user = self._guard.require("replay a failure of", actor)
        with _conflicts():
            controls.replay(self._system, found)
        self._guard.done(user, "replayed a failure of", actor, found.shown)
        return answer_json(json.dumps(failure_row(found)))


def _pause(actor: Actor, body: Body, _user: str) -> str:
    seconds = body.get("for", PAUSE_SECONDS)
    if seconds is not None and not _is_number(seconds, 0.001, MOST_PAUSE_SECONDS):
        raise bottle.HTTPError(400, f"for is {seconds!r}, expected up to {MOST_PAUSE_SECONDS:g} seconds, or null")
    controls.pause(actor, seconds)
    return "until it is resumed" if seconds is None else f"for {seconds:g} s"


def _resume(actor: Actor, _body: Body, _user: str) -> str:
    controls.resume(actor)
    return ""


def _step(actor: Actor, body: Body, _user: str) -> str:
    steps = body.get("n", 1)
    if not _is_number(steps, 1, MOST_STEPS) or not isinstance(steps, int):
        raise bottle.HTTPError(400, f"n is {steps!r}, expected a whole number from 1 to {MOST_STEPS}")
    controls.step(actor, steps)
    return f"{steps}"


def _restart(actor: Actor, _body: Body, _user: str) -> str:
    controls.restart(actor)
    return ""


def _stop(actor: Actor, body: Body, user: str) -> str:
    reason = _reason(body, f"stopped by {user}")
    controls.stop(actor, reason)
    return reason


def _quarantine(actor: Actor, body: Body, user: str) -> str:
    reason = _reason(body, f"by {user}")
    controls.quarantine(actor, reason)
    return reason


def _release(actor: Actor, _body: Body, _user: str) -> str:
    controls.release(actor)
    return ""


# By name, with whether the actor's name has to be given to confirm it.
ACTIONS: Final[dict[str, tuple[Act, bool]]] = {
    "pause": (_pause, False),
    "resume": (_resume, False),
    "step": (_step, False),
    "restart": (_restart, True),
    "stop": (_stop, True),
    "quarantine": (_quarantine, True),
    "release": (_release, False),
}


def _is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _reason(body: Body, default: str) -> str:
    reason = body.get("reason", default)
    if not isinstance(reason, str) or not reason.isprintable() or len(reason.encode()) > MOST_REASON:
        raise bottle.HTTPError(400, f"reason is expected to be text of up to {MOST_REASON} octets, all printable")
    return reason or default


def _require_confirmation(actor: Actor, body: Body) -> None:
    given = body.get("confirm", bottle.request.query.getunicode("confirm"))
    if given != actor.name:
        others = ", and others can't go on without it" if actor.kind in controls.ESSENTIAL else ""
        raise bottle.HTTPError(400, f"this is confirmed by the actor's name in confirm{others}")


@contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except controls.NotPossible as error:
        raise bottle.HTTPError(409, str(error)) from None
