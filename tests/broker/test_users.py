"""Users and permissions through the API and the command line, and what clients notice of them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import bcrypt
import pika
import pytest
from broker.admin import api, dispatchd
from broker.clients import channel_error
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from dispatchd.cli import main

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
REFUSED = "ACCESS_REFUSED - access to {} in vhost '/' refused for user 'ann'"


@pytest.fixture(scope="module")
def broker_of_users(tmp_path_factory: pytest.TempPathFactory) -> Any:
    process = BrokerProcess(tmp_path_factory.mktemp("users"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def broker(broker_of_users: BrokerProcess) -> Any:
    """One broker for all of these tests; each of them begins without users but guest."""
    for user in api(broker_of_users, "GET", "users")[1]:
        if user["name"] != "guest":
            assert api(broker_of_users, "DELETE", f"users/{user['name']}")[0] == 204
    return broker_of_users


def add(broker: BrokerProcess, name: str, tags: str = "", rights: dict[str, str] | None = None, **user: str) -> None:
    assert api(broker, "PUT", f"users/{name}", {"tags": tags, **(user or {"password": "p"})})[0] == 201
    if rights is not None:
        assert api(broker, "PUT", f"permissions/%2F/{name}", rights)[0] == 201


def connect(broker: BrokerProcess, user: str, password: str = "p", vhost: str = "/") -> BlockingChannel:
    credentials = pika.PlainCredentials(user, password)
    parameters = pika.ConnectionParameters(broker.host, broker.port, vhost, credentials, heartbeat=0)
    return pika.BlockingConnection(parameters).channel()


def test_a_user_comes_in_where_it_has_permissions(broker: BrokerProcess) -> None:
    add(broker, "ann")
    with pytest.raises(ProbableAccessDeniedError, match="NOT_ALLOWED - access to vhost '/' refused for user 'ann'"):
        connect(broker, "ann")
    assert api(broker, "PUT", "permissions/%2F/ann", EVERYTHING) == (201, None)
    assert api(broker, "PUT", "permissions/%2F/ann", EVERYTHING) == (204, None)
    connect(broker, "ann").queue_declare("", exclusive=True)
    with pytest.raises(ProbableAuthenticationError):
        connect(broker, "ann", "wrong")


def test_permissions_hold_from_the_next_method_on(broker: BrokerProcess) -> None:
    add(broker, "ann", rights=EVERYTHING)
    channel = connect(broker, "ann")
    channel.confirm_delivery()
    channel.queue_declare("q", exclusive=True)
    channel.basic_publish("", "q", b"1")
    api(broker, "PUT", "permissions/%2F/ann", {"configure": "", "write": "", "read": "^q"})
    connection = channel.connection
    with channel_error(403, REFUSED.format("exchange 'amq.default'")):
        channel.basic_publish("", "q", b"2")
    with channel_error(403, REFUSED.format("queue 'other'")):
        connection.channel().queue_declare("other")
    assert connection.channel().basic_get("q")[2] == b"1"
    api(broker, "DELETE", "permissions/%2F/ann")
    with channel_error(403, REFUSED.format("queue 'q'")):
        connection.channel().basic_get("q")


OWN = "^own"
FORBIDDEN: list[tuple[str, str, Callable[[BlockingChannel], Any]]] = [
    ("configure", "queue 'other'", lambda channel: channel.queue_declare("other")),
    ("configure", "queue 'other'", lambda channel: channel.queue_delete("other")),
    ("configure", "exchange 'other'", lambda channel: channel.exchange_declare("other")),
    ("configure", "exchange 'other'", lambda channel: channel.exchange_delete("other")),
    ("write", "queue 'other'", lambda channel: channel.queue_bind("other", "own", "k")),
    ("read", "exchange 'other'", lambda channel: channel.queue_bind("own", "other", "k")),
    ("write", "queue 'other'", lambda channel: channel.queue_unbind("other", "own", "k")),
    ("read", "exchange 'other'", lambda channel: channel.queue_unbind("own", "other", "k")),
    ("write", "exchange 'other'", lambda channel: channel.exchange_bind("other", "own", "k")),
    ("read", "exchange 'other'", lambda channel: channel.exchange_bind("own", "other", "k")),
    ("write", "exchange 'other'", lambda channel: channel.exchange_unbind("other", "own", "k")),
    ("read", "exchange 'other'", lambda channel: channel.exchange_unbind("own", "other", "k")),
    ("read", "queue 'other'", lambda channel: channel.queue_purge("other")),
    ("read", "queue 'other'", lambda channel: channel.basic_get("other")),
    ("read", "queue 'other'", lambda channel: channel.basic_consume("other", print)),
    ("write", "exchange 'other'", lambda channel: channel.basic_publish("other", "k", b"")),
]


def test_every_method_without_its_permission(broker: BrokerProcess) -> None:
    """All else is permitted, so it is that permission that is missing; with it the method gets further."""
    guest = connect(broker, "guest", "guest")
    for name in ("own", "other"):
        guest.queue_declare(name)
        guest.exchange_declare(name)
    add(broker, "ann")
    assert api(broker, "PUT", "permissions/%2F/ann", EVERYTHING)[0] == 201
    connection = connect(broker, "ann").connection
    for operation, what, act in FORBIDDEN:
        api(broker, "PUT", "permissions/%2F/ann", {**EVERYTHING, operation: OWN})
        channel = connection.channel()
        channel.confirm_delivery()
        with channel_error(403, REFUSED.format(what)):
            act(channel)
    for name in ("own", "other"):
        guest.queue_delete(name)
        guest.exchange_delete(name)


def test_a_deleted_user_has_to_leave(broker: BrokerProcess) -> None:
    add(broker, "ann", rights=EVERYTHING)
    channel, guest = connect(broker, "ann"), connect(broker, "guest", "guest")
    assert api(broker, "DELETE", "users/ann") == (204, None)
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.queue_declare("", exclusive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (320, "CONNECTION_FORCED - user 'ann' is deleted")
    guest.queue_declare("", exclusive=True)
    add(broker, "ann")
    assert api(broker, "GET", "users/ann/permissions") == (200, [])


def test_another_password_is_the_only_one(broker: BrokerProcess) -> None:
    add(broker, "ann", rights=EVERYTHING)
    connect(broker, "ann")
    assert api(broker, "PUT", "users/ann", {"password": "new", "tags": ""})[0] == 204
    connect(broker, "ann", "new")
    with pytest.raises(ProbableAuthenticationError):
        connect(broker, "ann")
    assert api(broker, "PUT", "users/ann", {"tags": "management"})[0] == 204  # without one, the password stays
    connect(broker, "ann", "new")
    assert api(broker, "PUT", "users/ann", {"password_hash": "", "tags": ""})[0] == 204
    for password in ("", "new"):
        with pytest.raises(ProbableAuthenticationError):
            connect(broker, "ann", password)


@pytest.mark.parametrize("digest", ["sha256", "sha512", "md5"])
def test_hashes_of_rabbitmq_are_taken(broker: BrokerProcess, digest: str) -> None:
    value = b"salt" + hashlib.new(digest, b"salt" + "größe".encode()).digest()
    hashed = {
        "password_hash": base64.b64encode(value).decode(),
        "hashing_algorithm": f"rabbit_password_hashing_{digest}",
    }
    add(broker, "ann", rights=EVERYTHING, **hashed)
    connect(broker, "ann", "größe")
    with pytest.raises(ProbableAuthenticationError):
        connect(broker, "ann", "grösse")
    row = api(broker, "GET", "users/ann")[1]
    assert {key: row[key] for key in hashed} == hashed


def test_topic_permissions(broker: BrokerProcess) -> None:
    add(broker, "ann", rights=EVERYTHING)
    rights = {"exchange": "amq.topic", "write": r"^{username}\.", "read": "^r"}
    assert api(broker, "PUT", "topic-permissions/%2F/ann", rights) == (201, None)
    assert api(broker, "GET", "topic-permissions/%2F/ann") == (200, [{"user": "ann", "vhost": "/", **rights}])
    channel = connect(broker, "ann")
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "ann.1", b"")
    connection = channel.connection
    text = "ACCESS_REFUSED - access to topic 'bob.1' in exchange 'amq.topic' in vhost '/' refused for user 'ann'"
    with channel_error(403, text):
        channel.basic_publish("amq.topic", "bob.1", b"")
    with channel_error(403, text):
        other = connection.channel()
        queue = other.queue_declare("", exclusive=True).method.queue
        other.queue_bind(queue, "amq.topic", "bob.1")
    assert api(broker, "DELETE", "topic-permissions/%2F/ann/amq.topic") == (204, None)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "bob.1", b"")
    assert api(broker, "DELETE", "topic-permissions/%2F/ann")[0] == 404


def test_who_may_claim_to_be_another(broker: BrokerProcess) -> None:
    add(broker, "ann", "impersonator", EVERYTHING)
    channel = connect(broker, "ann")
    channel.confirm_delivery()
    channel.basic_publish("", "q", b"", pika.BasicProperties(user_id="bob"))


def test_the_rows_are_rabbitmqs(broker: BrokerProcess) -> None:
    add(broker, "ann", "b, a,b", {"configure": "^c", "write": "^w", "read": "^r"})
    row = api(broker, "GET", "users/ann")[1]
    assert row["tags"] == ["b", "a"]
    assert set(row) >= {"name", "password_hash", "hashing_algorithm", "tags", "limits"}
    permission = {"user": "ann", "vhost": "/", "configure": "^c", "write": "^w", "read": "^r"}
    assert api(broker, "GET", "permissions/%2F/ann") == (200, permission)
    assert permission in api(broker, "GET", "permissions")[1]
    assert api(broker, "GET", "users/ann/permissions") == (200, [permission])
    assert permission in api(broker, "GET", "vhosts/%2F/permissions")[1]
    assert {"user": "guest", "vhost": "/", **EVERYTHING} in api(broker, "GET", "permissions")[1]
    assert api(broker, "GET", "whoami") == (200, {"name": "guest", "tags": ["administrator"]})
    add(broker, "bob")
    assert [row["name"] for row in api(broker, "GET", "users/without-permissions")[1]] == ["bob"]
    assert api(broker, "POST", "users/bulk-delete", {"users": ["ann", "nobody"]})[0] == 400
    assert api(broker, "POST", "users/bulk-delete", {"users": ["ann", "bob"]}) == (204, None)
    assert [row["name"] for row in api(broker, "GET", "users")[1]] == ["guest"]


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("users/x", {}, "tags_not_present"),
        ("users/x", {"tags": 5}, "tags is 5, expected a list of strings, or a string with commas"),
        ("users/x", {"tags": "", "password": 5}, "password is not a string"),
        ("users/x", {"tags": "", "password": "p" * 73}, "the password has 73 bytes; bcrypt reads no more than 72"),
        (
            "users/x",
            {"tags": "", "password": "p", "password_hash": "h"},
            "both_password_and_password_hash_are_provided",
        ),
        ("users/x", {"tags": "", "password_hash": "!"}, "password_hash is not base64"),
        (
            "users/x",
            {"tags": "", "password_hash": "aaaa"},
            "password_hash is the base64 of 3 bytes, which is not what rabbit_password_hashing_sha256 makes",
        ),
        (
            "users/x",
            {"tags": "", "password_hash": "aaaa", "hashing_algorithm": "bcrypt"},
            "password_hash is the base64 of 3 bytes that are no bcrypt hash",
        ),
        ("users/a%0Ab", {"tags": ""}, "a user's name has 1 to 255 octets, all of them printable"),
        (f"users/{'x' * 256}", {"tags": ""}, "a user's name has 1 to 255 octets, all of them printable"),
        ("permissions/%2F/guest", {"read": ""}, "[{key_missing,configure},{key_missing,write}]"),
        (
            "permissions/%2F/guest",
            {"configure": "(", "write": "", "read": ""},
            "a permission is no regular expression that can be used: missing ): (",
        ),
        ("permissions/%2F/nobody", EVERYTHING, "vhost_or_user_not_found"),
        ("permissions/nowhere/guest", EVERYTHING, "no vhost 'nowhere'"),
        ("topic-permissions/%2F/guest", {"write": "", "read": ""}, "[{key_missing,exchange}]"),
    ],
)
def test_bad_requests_are_told_what_was_wrong(broker: BrokerProcess, path: str, body: Any, reason: str) -> None:
    assert api(broker, "PUT", path, body) == (400, {"error": "bad_request", "reason": reason})


@pytest.mark.parametrize(
    "path",
    ["users/x", "users/x/permissions", "permissions/%2F/x", "permissions/x/guest", "topic-permissions/%2F/guest"],
)
def test_what_is_not_there(broker: BrokerProcess, path: str) -> None:
    assert api(broker, "GET", path)[0] == 404


def test_who_makes_a_vhost_may_use_it_and_nobody_when_it_is_gone(broker: BrokerProcess) -> None:
    add(broker, "ann", "administrator")
    assert api(broker, "PUT", "vhosts/v", {}, "ann", "p") == (201, None)
    assert api(broker, "GET", "permissions/v/ann") == (200, {"user": "ann", "vhost": "v", **EVERYTHING})
    channel = connect(broker, "ann", vhost="v")
    with pytest.raises(ProbableAccessDeniedError, match="access to vhost 'v' refused for user 'guest'"):
        connect(broker, "guest", "guest", "v")
    assert api(broker, "DELETE", "vhosts/v") == (204, None)
    assert api(broker, "GET", "users/ann/permissions") == (200, [])
    with pytest.raises(ConnectionClosedByBroker):
        channel.queue_declare("")


def roles(broker: BrokerProcess, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """What the API answers to users with one tag each, and no rights in the vhost `away`."""
    found = {}
    for tag in ("none", "management", "policymaker", "monitoring", "administrator"):
        status, answer = api(broker, method, path, body, tag, "p")
        found[tag] = answer["reason"] if status == 401 else status
    return found


def test_what_each_tag_may(broker: BrokerProcess) -> None:
    for tag in ("none", "management", "policymaker", "monitoring", "administrator"):
        add(broker, tag, tag, EVERYTHING)
    assert api(broker, "PUT", "vhosts/away", {})[0] in (201, 204)
    not_management, not_monitor = "Not management user", "Not monitor user"
    not_administrator, not_object = "Not administrator user", "User not authorised to access object"
    outside = "User not authorised to access virtual host"
    policy = {"pattern": "^none$", "definition": {"max-length": 1}}
    expected: list[tuple[str, str, Any, tuple[Any, Any, Any, Any]]] = [
        ("GET", "whoami", None, (200, 200, 200, 200)),
        ("GET", "overview", None, (200, 200, 200, 200)),
        ("GET", "queues", None, (200, 200, 200, 200)),
        ("GET", "vhosts", None, (200, 200, 200, 200)),
        ("GET", "vhosts/%2F", None, (not_administrator, not_administrator, not_administrator, 200)),
        ("GET", "users", None, (not_administrator, not_administrator, not_administrator, 200)),
        ("GET", "permissions/%2F/none", None, (not_administrator, not_administrator, not_administrator, 200)),
        ("PUT", "vhosts/%2F", {}, (not_administrator, not_administrator, not_administrator, 204)),
        ("GET", "actors", None, (not_monitor, not_monitor, 200, 200)),
        ("GET", "policies/%2F", None, (200, 200, 200, 200)),
        ("GET", "policies/away", None, (outside, outside, 200, 200)),
        ("PUT", "policies/%2F/p", policy, (not_object, 201, not_object, 204)),
        ("DELETE", "policies/%2F/p", None, (not_object, 204, not_object, 404)),
        ("PUT", "policies/away/p", policy, (not_object, outside, not_object, 201)),
        ("PUT", "operator-policies/%2F/p", policy, (not_administrator, not_administrator, not_administrator, 201)),
        ("DELETE", "operator-policies/%2F/p", None, (not_administrator, not_administrator, not_administrator, 204)),
        ("GET", "nobody-thought-of-it", None, (not_administrator, not_administrator, not_administrator, 404)),
    ]
    for method, path, body, answers in expected:
        tags = ("management", "policymaker", "monitoring", "administrator")
        assert roles(broker, method, path, body) == {"none": not_management, **dict(zip(tags, answers, strict=True))}, (
            method,
            path,
        )
    assert api(broker, "GET", "whoami", None, "none", "p")[1]["error"] == "not_authorised"
    wrong = api(broker, "GET", "whoami", None, "none", "wrong")[1]
    assert wrong == {"error": "not_authorized", "reason": "Login failed"}


def test_one_is_shown_ones_own(broker: BrokerProcess) -> None:
    add(broker, "ann", "management", EVERYTHING)
    add(broker, "bob", "management")
    add(broker, "eve", "monitoring")
    channel = connect(broker, "ann")
    channel.queue_declare("of ann", exclusive=True)
    connect(broker, "guest", "guest")
    for path, key in (("connections", "user"), ("channels", "user"), ("queues", "vhost"), ("vhosts", "name")):
        shown = {user: {row[key] for row in api(broker, "GET", path, None, user, "p")[1]} for user in ("ann", "bob")}
        assert shown == {"ann": {"ann"} if key == "user" else {"/"}, "bob": set()}, path
        assert {row[key] for row in api(broker, "GET", path, None, "eve", "p")[1]} > shown["ann"] or key != "user"


def test_users_outlive_the_broker_and_guest_may_go(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker()
    add(broker, "ann", "administrator", {"configure": "^a", "write": "", "read": ""})
    assert api(broker, "DELETE", "users/guest", user="ann", password="p")[0] == 204
    assert broker.stop() == 0
    broker.start()
    assert [row["name"] for row in api(broker, "GET", "users", None, "ann", "p")[1]] == ["ann"]
    connect(broker, "ann").queue_declare("a")
    with channel_error(403, REFUSED.format("queue 'b'")):
        connect(broker, "ann").queue_declare("b")


def test_users_of_the_file_may_everything_and_stay(start_broker: Callable[..., BrokerProcess], tmp_path: Any) -> None:
    hashed = base64.b64encode(bcrypt.hashpw(b"p", bcrypt.gensalt(4))).decode()
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"users": {"ann": {"password_bcrypt_base64": hashed}}}))
    broker = start_broker("--config-file", str(file))
    connect(broker, "ann").queue_declare("", exclusive=True)
    with pytest.raises(ProbableAuthenticationError):
        connect(broker, "guest", "guest")
    status, answer = api(broker, "DELETE", "users/ann", user="ann", password="p")
    assert (status, answer["reason"]) == (
        400,
        "user 'ann' is of the configuration file: that is where to change it",
    )
    assert api(broker, "PUT", "users/bob", {"password": "p", "tags": "management"}, "ann", "p")[0] == 201
    assert api(broker, "GET", "whoami", None, "bob", "p") == (200, {"name": "bob", "tags": ["management"]})


COMMANDS: list[tuple[tuple[str, ...], str]] = [
    (("user", "add", "ann", "--tags", "management"), ""),
    (("user", "add", "ann"), "there is a user 'ann' already"),
    (("user", "set-password", "nobody"), "no user 'nobody'"),
    (("permission", "set", "ann", "^c", "^w", "^r"), ""),
    (("user", "limit", "ann", "max-channels", "7"), ""),
    (
        ("vhost", "limit", "/", "max-cats", "1"),
        'Validation failed Unrecognised terms [{<<"max-cats">>,<<"1">>}] in limits',
    ),
    (("user", "tags", "ann", "monitoring, policymaker"), ""),
    (("permission", "set", "ann", "", "", "", "--vhost", "v"), "no vhost 'v'"),
    (("permission", "set", "ann", "(", "", ""), "a permission is no regular expression that can be used: missing ): ("),
    (("topic-permission", "set", "ann", "amq.topic", "^k", "^k"), ""),
    (("topic-permission", "clear", "ann", "--exchange", "x"), "user 'ann' has no such topic permissions in vhost '/'"),
]


@pytest.mark.parametrize("offline", [False, True])
def test_the_command_line(
    start_broker: Callable[..., BrokerProcess],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    offline: bool,
) -> None:
    broker = start_broker()
    if offline:
        refused = dispatchd(broker, "user", "list", "--offline")
        assert refused.returncode == 1
        assert "in use" in refused.stderr
        broker.stop()

    def command(*words: str) -> tuple[int, str, str]:
        where = ["--offline", "--persist-dir", str(broker.persist_dir)]
        if not offline:
            where = ["--url", f"http://{broker.host}:{broker.admin_port}"]
        monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
        status = main([*words, *where])
        return status, *capsys.readouterr()

    for words, error in COMMANDS:
        if not offline or not error or words[0] == "permission":  # offline each takes a whole look at the store
            assert command(*words) == ((1, "", f"dispatchd: {error}\n") if error else (0, "", ""))
    assert command("permission", "list")[1].splitlines()[1].split() == ["ann", "/", "^c", "^w", "^r"]
    if offline:
        broker.start()
    assert api(broker, "GET", "whoami", None, "ann", "secret")[0] == 200
    assert api(broker, "GET", "users/ann")[1]["limits"] == {"max-channels": 7}
    channel = connect(broker, "ann", "secret")
    with channel_error(403, REFUSED.format("queue 'q'")):
        channel.queue_declare("q")
    channel.connection.close()
    if offline:
        broker.stop()
    for words in (("topic-permission", "clear", "ann"), ("permission", "clear", "ann"), ("user", "delete", "ann")):
        assert command(*words) == (0, "", "")
    assert "ann" not in command("user", "list")[1]
