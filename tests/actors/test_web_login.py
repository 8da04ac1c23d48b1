import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from admin_fakes import FakeUser, serving

from dispatchd.actors.runtime import System
from dispatchd.web import sessions as sessions_module
from dispatchd.web.app import make_app
from dispatchd.web.events import Events
from dispatchd.web.gate import Gate
from dispatchd.web.meter import Meter
from dispatchd.web.server import AdminServer
from dispatchd.web.sessions import MOST_SESSIONS, Sessions

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
BASIC = {"Authorization": "Basic bWU6cGFzcw=="}
PAGE = {"X-Requested-With": "dispatchd"}


@pytest.fixture
def admin() -> Iterator[AdminServer]:
    with serving(System()) as server:
        yield server


def ask(
    server: AdminServer, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[int, http.client.HTTPMessage, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def login(server: AdminServer) -> dict[str, str]:
    """Log in as the page does; returns the header that proves it."""
    status, headers, _ = ask(server, "POST", "/api/login", {**JSON, **PAGE}, '{"username": "me", "password": "pass"}')
    assert status == 200
    return {"Cookie": headers["Set-Cookie"].partition(";")[0]}


def test_the_page_itself_needs_no_login(admin: AdminServer) -> None:
    for path in ("/", "/static/app.js", "/static/vendor/uPlot.iife.min.js"):
        assert ask(admin, "GET", path, {})[0] == 200


@pytest.mark.parametrize(
    ("headers", "body"), [(JSON, '{"username": "me", "password": "pass"}'), (FORM, "username=me&password=pass")]
)
def test_a_form_gives_a_cookie_that_scripts_cannot_read(admin: AdminServer, headers: Any, body: str) -> None:
    status, answered, content = ask(admin, "POST", "/api/login", headers, body)
    assert (status, json.loads(content)) == (200, {"name": "me", "tags": ["administrator"]})
    cookie = answered["Set-Cookie"]
    assert "; HttpOnly" in cookie
    assert "; SameSite=strict" in cookie
    assert "Path=/" in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    status, _, content = ask(admin, "GET", "/api/whoami", session)
    assert (status, json.loads(content)) == (200, {"name": "me", "tags": ["administrator"]})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"username": "me", "password": "no"}', 401),
        ('{"username": "", "password": "pass"}', 401),
        ('{"username": "me"}', 400),
        ('{"username": 1, "password": 2}', 400),
        ("[]", 400),
        ("{", 400),
        ("", 400),
    ],
)
def test_logins_that_are_none(admin: AdminServer, body: str, status: int) -> None:
    found, headers, _ = ask(admin, "POST", "/api/login", {**JSON, **PAGE}, body)
    assert found == status
    assert "Set-Cookie" not in headers
    assert "WWW-Authenticate" not in headers  # browsers would show a form of their own


def test_a_session_ends_with_its_logout(admin: AdminServer) -> None:
    session = login(admin)
    assert ask(admin, "POST", "/api/logout", {**session, **PAGE})[0] == 204
    assert ask(admin, "GET", "/api/whoami", session)[0] == 401


def test_with_a_session_changes_need_the_header(admin: AdminServer) -> None:
    session = login(admin)
    assert ask(admin, "PUT", "/api/nothing", session)[0] == 403
    assert ask(admin, "GET", "/api/whoami", session)[0] == 200
    assert ask(admin, "PUT", "/api/nothing", {**session, **PAGE})[0] == 404


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_pages_change_nothing(admin: AdminServer, site: str) -> None:
    for headers in (BASIC, {**login(admin), **PAGE}):
        assert ask(admin, "PUT", "/api/nothing", {**headers, "Sec-Fetch-Site": site})[0] == 403
        assert ask(admin, "PUT", "/api/nothing", {**headers, "Sec-Fetch-Site": "same-origin"})[0] == 404


@pytest.mark.parametrize("cookie", ["", "dispatchd-session=", "dispatchd-session=made-up", "dispatchd-session=\xff"])
def test_cookies_that_are_no_session(admin: AdminServer, cookie: str) -> None:
    assert ask(admin, "GET", "/api/whoami", {"Cookie": cookie})[0] == 401


def test_a_wrong_password_is_not_helped_by_a_session(admin: AdminServer) -> None:
    wrong = {"Authorization": "Basic bWU6bm8="}
    assert ask(admin, "GET", "/api/whoami", {**login(admin), **wrong})[0] == 401


def test_a_session_ends_with_the_password_and_with_the_user() -> None:
    me, users = FakeUser("me", ["administrator"], hash="first"), {}
    users["me"] = me
    meter = Meter(System())
    gate = Gate(lambda name, _password, _peer: users.get(name), users.get)
    app = make_app(System(), gate, lambda: True, dict, meter, Events(meter))
    server = AdminServer(app, "127.0.0.1", 0)
    server.start()
    try:
        session = login(server)
        assert ask(server, "GET", "/api/whoami", session)[0] == 200
        me.hash = "second"
        assert ask(server, "GET", "/api/whoami", session)[0] == 401
        session = login(server)
        users.clear()
        assert ask(server, "GET", "/api/whoami", session)[0] == 401
    finally:
        server.stop()


def test_who_has_no_tag_gets_no_session() -> None:
    with serving(System(), lambda *_: FakeUser("me", [])) as server:
        status, headers, content = ask(server, "POST", "/api/login", FORM, "username=me&password=pass")
        assert (status, json.loads(content)["error"]) == (401, "not_authorised")
        assert "Set-Cookie" not in headers


def test_sessions_end_when_they_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions()
    now = 1000.0

    class Clock:
        time = staticmethod(lambda: now)

    monkeypatch.setattr(sessions_module, "time", Clock)
    token = sessions.open("me", "seal")
    for _ in range(3):
        now += sessions_module.IDLE_SECONDS - 1
        assert sessions.find(token) == ("me", "seal")
    now += sessions_module.IDLE_SECONDS + 1
    assert sessions.find(token) == ("", "")


def test_the_most_idle_session_goes_first() -> None:
    sessions = Sessions()
    tokens = [sessions.open("me", "") for _ in range(MOST_SESSIONS)]
    assert sessions.find(tokens[0]) == ("me", "")
    sessions.open("you", "")
    assert sessions.find(tokens[0]) == ("me", "")
    assert sessions.find(tokens[1]) == ("", "")


def test_sessions_outlive_the_broker(tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    sessions = Sessions(path)
    token, other = sessions.open("me", "seal"), sessions.open("you", "seal")
    sessions.close(other)
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    again = Sessions(path)
    assert again.find(token) == ("me", "seal")
    assert again.find(other) == ("", "")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": ["me"]}', "\xff"])
def test_sessions_that_make_no_sense_are_lost(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "sessions.json"
    path.write_bytes(content.encode("latin-1"))
    assert Sessions(path).find("a") == ("", "")
    assert "are lost" in caplog.text


def test_sessions_that_can_not_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sessions = Sessions(tmp_path / "nowhere" / "sessions.json")
    assert sessions.find(sessions.open("me", "seal")) == ("me", "seal")
    assert "can't be kept" in caplog.text
