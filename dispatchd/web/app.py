"""The admin's addresses: one page, JSON under /api, checks for whoever supervises the process."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import bottle

from dispatchd.actors.runtime import System
from dispatchd.web.answers import answer_json, answer_text
from dispatchd.web.bindings import Bindings
from dispatchd.web.encoding import plain
from dispatchd.web.events import Events
from dispatchd.web.files import Files
from dispatchd.web.gate import Gate, challenge
from dispatchd.web.lists import Lists
from dispatchd.web.management import Management, overview_row
from dispatchd.web.members import Members
from dispatchd.web.meter import Meter
from dispatchd.web.requests import name_filter
from dispatchd.web.roles import Forbidden
from dispatchd.web.snapshots import Snapshots, actor_totals

TOTALS_SECONDS = 0.3

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
ERROR_NAMES = {
    401: "not_authorized", 403: "access_refused", 404: "not_found", 405: "method_not_allowed", 409: "conflict",
    503: "unavailable",
}  # fmt: skip


class Section(Protocol):
    """A part of the API with a module of its own."""

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses its handlers are."""


class Admin:
    """The handlers of the admin; `make_app` says at which addresses."""

    def __init__(
        self,
        system: System,
        is_ready: Callable[[], bool],
        overview: Callable[[], dict[str, Any]],
        meter: Meter,
        events: Events,
    ) -> None:
        self._system = system
        self._is_ready = is_ready
        self._overview = overview
        self._meter = meter
        self._events = events
        self._snapshots = Snapshots(system)
        self._totals: dict[str, Any] = {}
        self._totals_at = -math.inf

    def live(self) -> str:
        """Answer as long as the process answers at all."""
        return answer_text("ok")

    def ready(self) -> str:
        """Answer 200 once clients can connect, else 503."""
        if self._is_ready():
            return answer_text("ok")
        bottle.response.status = 503
        return answer_text("not ready")

    def overview(self) -> str:
        """See `overview_facts`."""
        facts = self.overview_facts()
        return answer_json(json.dumps(plain({**facts, **overview_row(facts, self._meter)})))

    def overview_facts(self) -> dict[str, Any]:
        """Facts about the broker, totals and rates over all actors, these by state, and how persistence does.

        What the broker says itself goes before what is added up here. `history` is as `History.to_row` has it.
        """
        self._meter.look()
        facts = self._overview()
        own = {kind: self._snapshots.of_kind(kind) for kind in ("persistence", "monitor")}
        return {
            **facts,
            "at": time.time(),
            "totals": {**self._meter.totals(), **facts.get("totals", {})},
            "rates": self._meter.rates(),
            "history": self._meter.history(),
            "lag_ms": round(self._events.lag_ms, 2),
            "actors": self._actor_totals(),
            "resources": own["monitor"][0] if own["monitor"] else {},
            "persistence": {**(own["persistence"] or [{}])[0], **facts.get("persistence", {})},
        }

    def status_facts(self) -> dict[str, Any]:
        """What every page says: the alarms that are on, the actors by state, how late the loop is."""
        return {
            "alarms": self._overview().get("alarms", []),
            "actors": self._actor_totals(),
            "lag_ms": round(self._events.lag_ms, 2),
        }

    def _actor_totals(self) -> dict[str, Any]:
        """Of all actors, for all who ask at about the same time: with 100,000 it takes a tenth of a second."""
        if time.monotonic() - self._totals_at > TOTALS_SECONDS:
            self._totals = actor_totals(self._system)
            self._totals_at = time.monotonic()
        return self._totals


def answer_error(error: Any) -> str:
    """Say in JSON what was wrong: `error` is a name for programs, `reason` a sentence for people."""
    add_security_headers()
    asks_for = challenge() if error.status_code == 401 else None
    if asks_for is not None:
        bottle.response.set_header("WWW-Authenticate", asks_for)
    name = (
        "not_authorised"
        if isinstance(error, Forbidden)
        else ERROR_NAMES.get(error.status_code, "internal_error" if error.status_code >= 500 else "bad_request")
    )
    return answer_json(json.dumps({"error": name, "reason": str(error.body)}))


def forget_last_slash() -> None:
    """`/api/queues/` is the list too: some tools ask for it like that."""
    path = bottle.request.environ["PATH_INFO"]
    if path.startswith("/api/"):
        bottle.request.environ["PATH_INFO"] = path.rstrip("/")


def add_security_headers() -> None:
    """Tell the browser to trust nothing but this page's own files, and nobody to frame it."""
    for name, value in SECURITY_HEADERS.items():
        bottle.response.set_header(name, value)


def make_metrics_app(metrics: Section) -> bottle.Bottle:
    """Build a WSGI application of the metrics alone, for a port of their own: nobody has to log in there."""
    app = bottle.Bottle()
    app.default_error_handler = answer_error
    app.add_hook("after_request", add_security_headers)
    metrics.route(app)
    return app


def make_app(
    system: System,
    gate: Gate,
    is_ready: Callable[[], bool],
    overview: Callable[[], dict[str, Any]],
    meter: Meter,
    events: Events,
    sections: Iterable[Section] = (),
) -> bottle.Bottle:
    """Build the admin as a WSGI application.

    Args:
        system: the actors to show.
        gate: who decides who may come in.
        is_ready: tells whether clients can connect.
        overview: facts about the broker: product, version, compiled, started_at, uptime_ms, python, listeners, and
            optionally `totals` and `persistence`, which go before what the admin finds out itself.
        meter: what looks at the actors' figures.
        events: what tells live figures; whoever starts and stops the server starts and stops it too.
        sections: what else there is in the API.
    """
    admin = Admin(system, is_ready, overview, meter, events)
    app = bottle.Bottle()
    app.router.add_filter("name", name_filter)
    app.default_error_handler = answer_error
    app.add_hook("before_request", forget_last_slash)
    gate.route(app)
    app.add_hook("after_request", add_security_headers)
    app.get("/livez", callback=admin.live)
    app.get("/readyz", callback=admin.ready)
    files = Files()
    app.get("/", callback=partial(files.send, "index.html"))
    app.get("/static/<name:path>", callback=files.send)
    app.get("/api/overview", callback=admin.overview)
    events.offer("overview", admin.overview_facts)
    events.offer("status", admin.status_facts)
    lists = Lists(system, meter)
    all_sections: list[Section] = [
        events, lists, Members(system, lists), Bindings(system), Management(system, overview), *sections
    ]  # fmt: skip
    for section in all_sections:
        section.route(app)
    return app
