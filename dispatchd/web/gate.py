"""Who may come in: by HTTP Basic on each request, or by a form once; and nobody by way of another site's page."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs

import bottle

from dispatchd.web.answers import answer_json, created
from dispatchd.web.auth import CHALLENGE, basic_credentials
from dispatchd.web.requests import body_object
from dispatchd.web.roles import MANAGEMENT, REFUSALS, Forbidden, Who, admit, current, has_role
from dispatchd.web.sessions import COOKIE, IDLE_SECONDS, Sessions

Authenticate = Callable[[str, bytes, str], Who | None]
"""Name, password and the peer's address, to the user if that is who it is. It may block, its greenlet only."""
Find = Callable[[str], Who | None]
"""The user of a name, if there still is one."""

OPEN_PATHS: Final = frozenset({"/", "/livez", "/readyz", "/api/login", "/api/logout"})
OPEN_FOLDER: Final = "/static/"
CSRF_HEADER: Final = "X-Requested-With"
"""Other sites' pages can't send it: browsers would ask us before, and we never allow that."""
HARMLESS: Final = frozenset({"GET", "HEAD"})
FROM_HERE: Final = frozenset({"same-origin", "none"})


class Gate:
    """Looks at each request before it is served. The page itself is open: it holds nothing, and has the form."""

    def __init__(self, authenticate: Authenticate, find: Find, sessions: Sessions | None = None) -> None:
        self._authenticate = authenticate
        self._find = find
        self._sessions = sessions or Sessions()

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.add_hook("before_request", self.require_login)
        app.post("/api/login", callback=self.login)
        app.post("/api/logout", callback=self.logout)
        app.get("/api/whoami", callback=self.who_am_i)

    def require_login(self) -> None:
        """Before each request: who may come in may do what `roles` says, and everybody may ask for an address' methods.

        Raises 401, and 403 for what another site's page makes a browser send.
        """
        request = bottle.request
        if request.method == "OPTIONS":
            return
        is_harmless = request.method in HARMLESS
        if not is_harmless and request.get_header("Sec-Fetch-Site", "none") not in FROM_HERE:
            raise bottle.HTTPError(403, "this came from another site's page")
        if request.path in OPEN_PATHS or request.path.startswith(OPEN_FOLDER):
            return
        header = request.get_header("Authorization")
        if header is not None:
            who = self._by_password(basic_credentials(header))
        else:
            who = self._by_session(request.get_cookie(COOKIE))
            if not is_harmless and not request.get_header(CSRF_HEADER):
                raise bottle.HTTPError(403, f"with a session, what changes something needs the header {CSRF_HEADER}")
        admit(who)

    def _by_password(self, credentials: tuple[str, bytes] | None) -> Who:
        peer = bottle.request.environ.get("REMOTE_ADDR", "")
        who = self._authenticate(*credentials, peer) if credentials is not None else None
        if who is None:
            raise bottle.HTTPError(401, "Login failed")
        return who

    def _by_session(self, token: str | None) -> Who:
        name, seal = self._sessions.find(token)
        who = self._find(name) if name else None
        if who is None or _seal(who) != seal:  # he is gone, or has another password
            raise bottle.HTTPError(401, "Login with a name and password")
        return who

    def login(self) -> str:
        """Begin a session for the `username` and `password` in the body, a form's or JSON. Raises 400 and 401."""
        body = _form() if _is_form() else body_object()
        user, password = body.get("username"), body.get("password")
        if not isinstance(user, str) or not isinstance(password, str):
            raise bottle.HTTPError(400, "username and password are needed, as strings")
        who = self._by_password((user, password.encode(errors="surrogatepass")))
        if not has_role(who, MANAGEMENT):
            raise Forbidden(401, REFUSALS[MANAGEMENT])
        secure = bottle.request.urlparts.scheme == "https"
        bottle.response.set_cookie(
            COOKIE,
            self._sessions.open(who.name, _seal(who)),
            max_age=int(IDLE_SECONDS),
            path="/",
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return answer_json(json.dumps({"name": who.name, "tags": who.tags}))

    def logout(self) -> str:
        """End the session that the request belongs to."""
        self._sessions.close(bottle.request.get_cookie(COOKIE))
        bottle.response.delete_cookie(COOKIE, path="/")
        return created(is_new=False)

    def who_am_i(self) -> str:
        """Whoever asks."""
        who = current()
        return answer_json(json.dumps({"name": who.name, "tags": who.tags}))


def _seal(who: Who) -> str:
    """What ends the sessions of a user when it changes."""
    return sha256(f"{who.name}\0{who.hash}".encode()).hexdigest()


def challenge() -> str | None:
    """What a 401 tells browsers to ask for; nothing to the page, which has a form for that."""
    return None if bottle.request.get_header(CSRF_HEADER) else CHALLENGE


def _is_form() -> bool:
    return str(bottle.request.get_header("Content-Type", "")).startswith("application/x-www-form-urlencoded")


def _form() -> dict[str, Any]:
    try:
        return {name: values[0] for name, values in parse_qs(bottle.request.body.read().decode()).items()}
    except UnicodeDecodeError:
        raise bottle.HTTPError(400, "The form is not UTF-8") from None
