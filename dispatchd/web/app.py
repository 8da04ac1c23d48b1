"""The admin's addresses: one page, JSON under /api, checks for whoever supervises the process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import bottle

from dispatchd.actors.runtime import System
from dispatchd.web.answers import answer_json, answer_text
from dispatchd.web.auth import CHALLENGE, basic_credentials
from dispatchd.web.encoding import json_list, plain
from dispatchd.web.requests import name_filter
from dispatchd.web.roles import Forbidden, Who, admit, current, visible
from dispatchd.web.snapshots import Snapshots, actor_totals

STATIC_FOLDER = Path(__file__).parent / "static"
OPEN_PATHS = frozenset({"/livez", "/readyz"})

# Where a list is, and the kind of actor that its rows are asked of.
LISTS = {"connections": "connection", "channels": "channel", "exchanges": "exchange", "queues": "queue"}

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

Authenticate = Callable[[str, bytes, str], Who | None]
"""Name, password and the peer's address, to the user if that is who it is. It may block, its greenlet only."""


class Section(Protocol):
    """A part of the API with a module of its own."""

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses its handlers are."""


class Admin:
    """The handlers of the admin; `make_app` says at which addresses."""

    def __init__(
        self,
        system: System,
        authenticate: Authenticate,
        is_ready: Callable[[], bool],
        overview: Callable[[], dict[str, Any]],
    ) -> None:
        self._system = system
        self._authenticate = authenticate
        self._is_ready = is_ready
        self._overview = overview
        self._snapshots = Snapshots(system)

    def require_login(self) -> None:
        """Before each request: only the checks are open to everybody, the rest is as `roles` says. Raises 401."""
        if bottle.request.path in OPEN_PATHS:
            return
        credentials = basic_credentials(bottle.request.get_header("Authorization"))
        peer = bottle.request.environ.get("REMOTE_ADDR", "")
        who = self._authenticate(*credentials, peer) if credentials is not None else None
        if who is None:
            raise bottle.HTTPError(401, "Login failed" if credentials is not None else "Login with a name and password")
        admit(who)

    def live(self) -> str:
        """Answer as long as the process answers at all."""
        return answer_text("ok")

    def ready(self) -> str:
        """Answer 200 once clients can connect, else 503."""
        if self._is_ready():
            return answer_text("ok")
        bottle.response.status = 503
        return answer_text("not ready")

    def page(self) -> Any:
        """Send the page."""
        return self.static("index.html")

    def static(self, name: str) -> Any:
        """Send a file that the page needs."""
        return bottle.static_file(name, root=str(STATIC_FOLDER), headers={"Cache-Control": "no-cache"})

    def overview(self) -> str:
        """Facts about the broker, totals over its queues, its actors by state, and how its persistence does.

        What the broker says itself goes before what is added up here.
        """
        facts = self._overview()
        persistence = self._snapshots.of_kind("persistence")
        return answer_json(
            json.dumps(
                plain(
                    {
                        **facts,
                        "at": time.time(),
                        "totals": {**self._snapshots.totals(), **facts.get("totals", {})},
                        "actors": actor_totals(self._system),
                        "persistence": {**(persistence[0] if persistence else {}), **facts.get("persistence", {})},
                    }
                )
            )
        )

    def rows(self, kind: str) -> str:
        """What the actors of one kind tell of themselves."""
        return answer_json(json_list(visible(current(), self._snapshots.of_kind(kind))))


def answer_error(error: Any) -> str:
    """Say in JSON what was wrong: `error` is a name for programs, `reason` a sentence for people."""
    add_security_headers()
    if error.status_code == 401:
        bottle.response.set_header("WWW-Authenticate", CHALLENGE)
    name = (
        "not_authorised"
        if isinstance(error, Forbidden)
        else ERROR_NAMES.get(error.status_code, "internal_error" if error.status_code >= 500 else "bad_request")
    )
    return answer_json(json.dumps({"error": name, "reason": str(error.body)}))


def add_security_headers() -> None:
    """Tell the browser to trust nothing but this page's own files, and nobody to frame it."""
    for name, value in SECURITY_HEADERS.items():
        bottle.response.set_header(name, value)


def make_app(
    system: System,
    authenticate: Authenticate,
    is_ready: Callable[[], bool],
    overview: Callable[[], dict[str, Any]],
    sections: Iterable[Section] = (),
) -> bottle.Bottle:
    """Build the admin as a WSGI application.

    Args:
        system: the actors to show.
        authenticate: the user of this name, if the password is right and it may come from this peer's address; may
            block.
        is_ready: tells whether clients can connect.
        overview: facts about the broker: product, version, compiled, started_at, uptime_ms, python, listeners, and
            optionally `totals` and `persistence`, which go before what the admin finds out itself.
        sections: what else there is in the API.
    """
    admin = Admin(system, authenticate, is_ready, overview)
    app = bottle.Bottle()
    app.router.add_filter("name", name_filter)
    app.default_error_handler = answer_error
    app.add_hook("before_request", admin.require_login)
    app.add_hook("after_request", add_security_headers)
    app.get("/livez", callback=admin.live)
    app.get("/readyz", callback=admin.ready)
    app.get("/", callback=admin.page)
    app.get("/static/<name>", callback=admin.static)
    app.get("/api/overview", callback=admin.overview)
    for path, kind in LISTS.items():
        app.get(f"/api/{path}", callback=partial(admin.rows, kind))
    for section in sections:
        section.route(app)
    return app
