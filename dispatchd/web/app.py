"""The admin's addresses: one page, JSON under /api, checks for whoever supervises the process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import bottle

from dispatchd.actors.runtime import System
from dispatchd.web.absent import Absent
from dispatchd.web.answers import answer_json, answer_text
from dispatchd.web.bindings import Bindings
from dispatchd.web.events import Events
from dispatchd.web.files import Files
from dispatchd.web.gate import Gate, challenge
from dispatchd.web.lists import Lists
from dispatchd.web.management import Management
from dispatchd.web.members import Members
from dispatchd.web.meter import Meter
from dispatchd.web.overview import Overview
from dispatchd.web.requests import name_filter
from dispatchd.web.roles import Forbidden

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
METHODS = ("HEAD", "GET", "PUT", "POST", "DELETE", "OPTIONS")
"""In the order in which RabbitMQ's `Allow` has them."""
ERROR_NAMES = {
    401: "not_authorized", 403: "access_refused", 404: "not_found", 405: "method_not_allowed", 409: "conflict",
    503: "unavailable",
}  # fmt: skip


class Section(Protocol):
    """A part of the API with a module of its own."""

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses its handlers are."""


class Probes:
    """The handlers for whoever supervises the process."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/livez", callback=self.live)
        app.get("/readyz", callback=self.ready)

    def live(self) -> str:
        """Answer as long as the process answers at all."""
        return answer_text("ok")

    def ready(self) -> str:
        """Answer 200 once clients can connect, else 503."""
        if self._is_ready():
            return answer_text("ok")
        bottle.response.status = 503
        return answer_text("not ready")


@contextmanager
def all_at_once(router: Any) -> Iterator[None]:
    """Have Bottle make the expressions that find an address when all are known.

    It makes those of one method anew with each address: of 140 that took a tenth of the broker's start.
    """
    router._compile = lambda _method: None
    yield
    del router._compile
    for method in router.dyna_routes:
        router._compile(method)


def answer_error(error: Any) -> str:
    """Say in JSON what was wrong: `error` is a name for programs, `reason` a sentence for people."""
    add_security_headers()
    if error.status_code == 405:
        found = {*error.headers["Allow"].split(","), "OPTIONS"}
        allowed = [each for each in METHODS if each in found or (each == "HEAD" and "GET" in found)]
        bottle.response.headers["Allow"] = ", ".join(allowed)
        if bottle.request.method == "OPTIONS":  # which no address has a handler for
            bottle.response.status = 200
            return ""
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
    app = bottle.Bottle()
    app.router.add_filter("name", name_filter)
    app.default_error_handler = answer_error
    app.add_hook("before_request", forget_last_slash)
    gate.route(app)
    app.add_hook("after_request", add_security_headers)
    files = Files()
    app.get("/", callback=partial(files.send, "index.html"))
    app.get("/static/<name:path>", callback=files.send)
    lists = Lists(system, meter)
    all_sections: list[Section] = [
        Probes(is_ready), events, Overview(system, overview, meter, events), lists, Members(system, lists),
        Bindings(system), Management(system, overview), Absent(system), *sections,
    ]  # fmt: skip
    with all_at_once(app.router):
        for section in all_sections:
            section.route(app)
    return app
