"""What health checks and start scripts ask of RabbitMQ's tools."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

import pytest
from broker.conftest import Connect
from broker.process import BrokerProcess
from pika import PlainCredentials

from dispatchd import rabbitmqctl


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("rabbitmqctl"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def broker(started: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> BrokerProcess:
    """One for all these tests, which the environment names."""
    monkeypatch.setenv("DISPATCHD_URL", f"http://{started.host}:{started.admin_port}")
    return started


def run(*words: str) -> tuple[int, str, str]:
    """Returns status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = rabbitmqctl.run(words)
    return status, out.getvalue(), err.getvalue()


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("command", ["ping", "check_running", "await_startup"])
def test_a_running_broker_is_found(command: str) -> None:
    assert run("-q", command) == (0, "", "")
    assert run(command)[0] == 0


@pytest.mark.parametrize("words", [("ping",), ("check_running",), ("await_startup", "--timeout", "0"), ("status",)])
def test_without_a_broker_the_status_is_69(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("DISPATCHD_URL", "http://127.0.0.1:1")
    status, out, err = run("-q", *words)
    assert (status, out) == (69, "")
    assert "127.0.0.1:1" in err


def test_the_status_tells_the_version_and_the_ports(broker: BrokerProcess) -> None:
    status, out, _ = run("status")
    assert status == 0
    assert "dispatchd version: " in out
    assert f"Interface: 127.0.0.1, port: {broker.port}, protocol: amqp\n" in out


def test_a_start_script_makes_a_user_and_a_vhost(
    broker: BrokerProcess, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("add_vhost", "shop")[:2] == (0, 'Adding vhost "shop" ...\n')
    assert run("-q", "add_user", "alice", "s3cret") == (0, "", "")
    assert run("set_user_tags", "alice", "monitoring", "policymaker")[0] == 0
    assert run("set_permissions", "-p", "shop", "alice", ".*", "", ".*")[0] == 0
    assert run("-q", "list_permissions", "--vhost=shop")[1].splitlines() == [
        "user\tconfigure\twrite\tread",
        "alice\t.*\t\t.*",
        "guest\t.*\t.*\t.*",
    ]
    channel = connect(broker, credentials=PlainCredentials("alice", "s3cret"), virtual_host="shop").channel()
    channel.queue_declare("q")
    assert run("-q", "list_queues", "-p", "shop", "name", "messages", "durable")[1].splitlines() == [
        "name\tmessages\tdurable",
        "q\t0\tfalse",
    ]
    assert run("-s", "list_queues", "-p", "shop")[1] == "q\t0\n"
    assert "alice\t[monitoring, policymaker]" in run("list_users")[1].splitlines()
    monkeypatch.setattr(sys, "stdin", io.StringIO("other\n"))
    assert run("change_password", "alice")[0] == 0
    connect(broker, credentials=PlainCredentials("alice", "other"), virtual_host="shop").close()
    assert run("add_user", "alice", "x")[0] == 70
    assert run("-q", "delete_queue", "-p", "shop", "q") == (0, "", "")
    assert run("-q", "clear_permissions", "-p", "shop", "alice") == (0, "", "")
    assert run("-q", "delete_user", "alice") == (0, "", "")
    assert run("-q", "delete_vhost", "shop") == (0, "", "")
    status, _, err = run("delete_user", "alice")
    assert status == 70
    assert "no user 'alice'" in err


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("kind", ["vhosts", "exchanges", "connections", "channels"])
def test_all_kinds_are_listed(kind: str) -> None:
    status, out, err = run("-q", f"list_{kind}")
    assert (status, err) == (0, "")
    assert "\t" in out or out.startswith("name\n/\n")


@pytest.mark.parametrize(
    "words", [(), ("reset",), ("add_user",), ("ping", "x"), ("ping", "--frob"), ("await_startup", "-t", "soon")]
)
def test_what_is_not_known_says_what_is(words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (64, "")
    assert "expected one of add_user, add_vhost, await_startup, " in err


@pytest.mark.usefixtures("broker")
def test_vhosts_have_the_columns_that_are_asked_for() -> None:
    assert run("-q", "list_vhosts", "name", "tracing") == (0, "name\ttracing\n/\tfalse\n", "")
    status, out, err = run("list_vhosts", "name", "frob")
    assert (status, out) == (64, "")
    assert "Info key(s) frob are not supported, but " in err
