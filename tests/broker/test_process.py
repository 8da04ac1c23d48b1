"""The broker as whoever supervises processes sees it: started, asked how it does, reloaded, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import gevent
import pytest
from broker.conftest import Connect
from broker.process import BrokerProcess
from pika import PlainCredentials
from pika.exceptions import ConnectionClosedByBroker, ProbableAuthenticationError

from dispatchd.actors.hashing import hash_password
from dispatchd.cli import main

SECONDS = 20


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager, which brokers that are started here know of."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def healthcheck(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dispatchd", "healthcheck", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, **(environment or {})},
    )


def test_the_service_manager_is_told_of_start_reload_and_stop(tmp_path: Path, manager: socket.socket) -> None:
    broker = BrokerProcess(tmp_path / "data")
    broker.start()
    try:
        assert manager.recv(100) == b"READY=1"
        os.kill(broker.pid, signal.SIGHUP)
        state, _, clock = manager.recv(100).partition(b"\nMONOTONIC_USEC=")
        assert state == b"RELOADING=1"
        assert clock.isdigit()
        assert manager.recv(100) == b"READY=1"
    finally:
        assert broker.stop() == 0
    assert manager.recv(100) == b"STOPPING=1"
    assert any(line.endswith(" Server startup complete") for line in broker.log)


def test_who_asks_twice_to_stop_waits_no_more(tmp_path: Path, connect: Connect) -> None:
    broker = BrokerProcess(tmp_path)
    broker.start()
    connect(broker)  # which does not read, so that the broker waits for the answer to its close
    os.kill(broker.pid, signal.SIGTERM)
    with gevent.Timeout(SECONDS):
        while not any(line.endswith(" stopping") for line in broker.log):
            gevent.sleep(0.01)
    assert broker.stop() == 128 + signal.SIGTERM


def test_a_broker_that_is_ready_is_healthy_and_one_that_has_stopped_is_not(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    broker.start()
    url = f"http://{broker.host}:{broker.admin_port}"
    try:
        for words in (["--url", url], [f"--url={url}", "--ready"], ["--live", "--url", url]):
            found = healthcheck(*words)
            assert (found.returncode, found.stdout, found.stderr) == (0, "ok\n", "")
        assert healthcheck(environment={"DISPATCHD_ADMIN_PORT": str(broker.admin_port)}).returncode == 0
        assert healthcheck(environment={"DISPATCHD_URL": url}).returncode == 0
        assert healthcheck("--url", f"http://{broker.host}:{broker.port}").returncode == 1  # speaks AMQP
    finally:
        broker.stop()
    found = healthcheck("--url", url)
    assert (found.returncode, found.stdout) == (1, "")
    assert url in found.stderr


@pytest.mark.parametrize("words", [["--frob"], ["--url"], ["--url="], ["now"]])
def test_a_health_check_that_is_not_understood_says_how_it_is_used(words: list[str]) -> None:
    found = healthcheck(*words)
    assert found.returncode == 64
    assert "usage: dispatchd healthcheck" in found.stderr


@pytest.mark.parametrize("url", ["127.0.0.1", "http://127.0.0.1", "ftp://127.0.0.1:1", "http://:1", "http://a:b"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    found = healthcheck("--url", url)
    assert found.returncode == 1
    assert url in found.stderr
    assert "expected a URL with a port" in found.stderr


def test_a_health_check_imports_nothing_of_the_broker() -> None:
    """Neither gevent nor LMDB, whose import takes ten times as long as the check may."""
    code = "import sys; from dispatchd.__main__ import main; main(); print(*sys.modules, file=sys.stderr)"
    found = subprocess.run(
        [sys.executable, "-c", code, "healthcheck", "-h"], check=True, capture_output=True, text=True, timeout=SECONDS
    )
    loaded = set(found.stderr.split())
    assert {each for each in loaded if each.startswith("dispatchd")} == {
        "dispatchd",
        "dispatchd.__main__",
        "dispatchd.healthcheck",
    }
    assert not loaded & {"gevent", "lmdb", "bottle", "pykka", "argparse", "json", "http.client", "ssl"}


def test_the_log_may_be_json_and_has_no_bodies_and_no_passwords(tmp_path: Path, connect: Connect) -> None:
    broker = BrokerProcess(tmp_path, "--log-format", "json", "--log-level", "debug")
    broker.start()
    try:
        channel = connect(broker).channel()
        channel.confirm_delivery()
        channel.queue_declare("q", durable=True)
        channel.basic_publish("", "q", b"the-secret-body")
        assert channel.basic_get("q")[2] == b"the-secret-body"
        with pytest.raises(ProbableAuthenticationError):
            connect(broker, credentials=PlainCredentials("guest", "the-secret-password"))
        channel.connection.close()
    finally:
        broker.stop()
    lines = [json.loads(line) for line in broker.log]
    assert "Server startup complete" in [line["msg"] for line in lines]
    assert any("a login of user 'guest' from 127.0.0.1 was refused" in line["msg"] for line in lines)
    assert "the-secret" not in "\n".join(broker.log)


def test_rabbitmqs_variables_say_whom_and_what_a_new_broker_has(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("RABBITMQ_DEFAULT_USER", "alice")
    monkeypatch.setenv("RABBITMQ_DEFAULT_PASS_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("RABBITMQ_DEFAULT_VHOST", "shop")
    broker = BrokerProcess(tmp_path / "data")
    for _ in range(2):
        broker.start()
        connection = connect(broker, credentials=PlainCredentials("alice", "s3cret"), virtual_host="shop")
        connection.channel().queue_declare("q", durable=True)
        connection.close()
        with pytest.raises(ProbableAuthenticationError):
            connect(broker, virtual_host="shop")
        assert (
            main(["list", "queues", "--password", "s3cret", "--url", f"http://{broker.host}:{broker.admin_port}"]) == 0
        )
        assert broker.stop() == 0
        (tmp_path / "secret").write_text("other")  # which changes nothing where there are users


def test_on_sighup_the_log_level_changes_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "dispatchd.toml"
    file.write_text("")
    broker = BrokerProcess(tmp_path / "data", "--config-file", str(file))
    broker.start()

    def reload(text: str, expected: str) -> None:
        file.write_text(text)
        os.kill(broker.pid, signal.SIGHUP)
        with gevent.Timeout(SECONDS):
            while not any(expected in line for line in broker.log):
                gevent.sleep(0.01)

    def level() -> bytes:
        with urlopen(f"http://127.0.0.1:{broker.debug_port}/log-level", timeout=SECONDS) as answer:
            return bytes(answer.read()).partition(b"\n")[0]

    try:
        reload('log-level = "loud"', "the one before stays: " + str(file) + ': key "log-level": found "loud"')
        assert level() == b"info"
        reload('log-level = "warning"\ntls-port = 1', "a change of tls-port needs a restart")
        assert level() == b"warning"
    finally:
        broker.stop()


def test_on_sighup_the_users_of_the_file_are_others(tmp_path: Path, connect: Connect) -> None:
    file = tmp_path / "dispatchd.json"
    hashes = {password: b64encode(hash_password(password.encode(), 4)).decode() for password in ("one", "two")}

    def write(**passwords: str) -> None:
        users = {name: {"password_bcrypt_base64": hashes[password]} for name, password in passwords.items()}
        file.write_text(json.dumps({"users": users}))

    def reload(expected: str) -> None:
        begin = len(broker.log)
        os.kill(broker.pid, signal.SIGHUP)
        with gevent.Timeout(SECONDS):
            while not any(expected in line for line in broker.log[begin:]):
                gevent.sleep(0.01)

    def may(name: str, password: str) -> bool:
        try:
            connect(broker, credentials=PlainCredentials(name, password)).close()
        except ProbableAuthenticationError:
            return False
        return True

    write(ann="one", bob="one")
    broker = BrokerProcess(tmp_path / "data", "--config-file", str(file))
    broker.start()
    try:
        anns, bobs = (connect(broker, credentials=PlainCredentials(name, "one")) for name in ("ann", "bob"))
        assert [may("guest", "guest"), may("eve", "two")] == [False, False]
        write(ann="two", eve="two")
        reload("the configuration was read again")
        allowed = [may(*each) for each in (("ann", "one"), ("ann", "two"), ("eve", "two"), ("bob", "one"))]
        assert allowed == [False, True, True, False]
        with pytest.raises(ConnectionClosedByBroker, match="user 'bob' is deleted"):
            bobs.process_data_events(5)
        anns.process_data_events(0)  # another password does not end what was begun with the one before
        assert anns.is_open
        file.write_text('{"users": {"ann": {"password_bcrypt_base64": "no hash"}}}')
        reload("the one before stays")
        assert [may("ann", "two"), may("eve", "two")] == [True, True]
        write()
        reload("no users any more: 'ann', 'eve'")
        assert [may("ann", "two"), may("guest", "guest")] == [False, True]
    finally:
        broker.stop()
    [told] = broker.trouble_since(0)
    assert 'key "users.ann.password_bcrypt_base64"' in told
