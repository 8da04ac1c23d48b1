"""`dispatchd actors` on the command line, against a running broker."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout

import pytest
from broker.admin import api
from broker.conftest import Connect
from broker.process import BrokerProcess

from dispatchd import actor_views
from dispatchd.actor_commands import with_verb
from dispatchd.cli import main

EVIL = "evil\x1b[2J name"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("actor-commands"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def broker(started: BrokerProcess, connect: Connect) -> BrokerProcess:
    """One for all these tests, with two queues."""
    channel = connect(started).channel()
    for name in ("orders", EVIL):
        channel.queue_declare(name)
    return started


def command(broker: BrokerProcess, *words: str) -> tuple[int, str, str]:
    """Run a command in this process: one of its own takes half a second to start. Returns status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["actors", *words, "--url", f"http://{broker.host}:{broker.admin_port}"])
    return status, out.getvalue(), err.getvalue()


def run(broker: BrokerProcess, *words: str) -> str:
    status, out, err = command(broker, *words)
    assert (status, err) == (0, "")
    return out


def refused(broker: BrokerProcess, *words: str) -> str:
    status, out, err = command(broker, *words)
    assert (status, out) == (1, "")
    [line] = err.splitlines()
    return line


def test_the_table(broker: BrokerProcess) -> None:
    lines = run(broker, "--sort", "mailbox", "--kind", "queue").splitlines()
    assert lines[0].split() == [word for column in actor_views.COLUMNS for word in column.split()]
    assert len(lines) == 3
    assert all(line.startswith("idle ") for line in lines[1:])
    assert r"evil\x1b[2J name" in "".join(lines)
    assert run(broker, "list", "--kind", "queue", "--sort", "mailbox").splitlines()[0] == lines[0]


def test_json(broker: BrokerProcess) -> None:
    [row] = json.loads(run(broker, "--json", "--name", "ORDERS"))
    assert (row["kind"], row["name"], row["state"]) == ("queue", "orders", "idle")
    assert json.loads(run(broker, "show", "orders", "--json"))["snapshot"]["vhost"] == "/"


def test_pause_step_look_and_resume(broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(broker).channel()
    run(broker, "pause", "orders", "--seconds", "ever")
    for number in range(3):
        channel.basic_publish("", "orders", b"%d" % number)
        channel.connection.process_data_events(0.05)
    assert run(broker, "--state", "paused").splitlines()[1].split()[1] == "queue"
    lines = run(broker, "mailbox", "orders").splitlines()
    assert lines[1].split()[1] == "Enqueue"
    run(broker, "step", "orders")
    dropped = run(broker, "drop", "orders").splitlines()
    assert "Enqueue" in dropped[1]
    [failure] = json.loads(run(broker, "failures", "--actor", "orders", "--json"))
    assert "dropped by guest" in run(broker, "failure", str(failure["id"]))
    run(broker, "replay", str(failure["id"]))
    run(broker, "resume", "orders")
    assert json.loads(run(broker, "show", "orders", "--json"))["snapshot"]["messages_ready"] == 3
    assert "dropped" in run(broker, "failures")


def test_restart_quarantine_and_release(broker: BrokerProcess) -> None:
    [row] = json.loads(run(broker, "--json", "--name", "orders"))
    number = str(row["id"])
    assert "confirmed by the actor's name" in refused(broker, "restart", number)
    run(broker, "restart", number, "--confirm", "orders")
    run(broker, "quarantine", EVIL, "--reason", "it is odd")
    assert run(broker, "--state", "quarantined").count("queue") == 1
    run(broker, "release", EVIL)
    assert run(broker, "--state", "quarantined").count("queue") == 0
    assert "does not stop" in refused(broker, "stop", "orders")


def test_other_views(broker: BrokerProcess) -> None:
    assert "no greenlet" in run(broker, "stack", "orders")
    assert run(broker, "slow").split()[:4] == ["at", "took", "actor", "message"]
    assert run(broker, "blocks").split()[:4] == ["at", "took", "actor", "message"]
    assert "messages_ready" in run(broker, "show", "orders")


def test_a_trace(broker: BrokerProcess) -> None:
    lines = run(broker, "trace", "monitor", "--seconds", "2").splitlines()
    assert any("Look  handled  waited " in line for line in lines)
    assert lines[-1] == "time is up; 0 left out"


def test_watching_until_it_is_enough(broker: BrokerProcess) -> None:
    command = [sys.executable, "-m", "dispatchd", "actors", "--watch", "0.2", "--sort", "busy", "--kind", "queue",
               "--url", f"http://{broker.host}:{broker.admin_port}"]  # fmt: skip
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # jobs that a shell has put into the background ignore it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    headings = 0
    while headings < 3:
        headings += " actors: " in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 0


MISTAKES = [
    (("show", "nobody"), "there is no actor 'nobody'"),
    (("show", "999999"), "There is no actor 999999"),
    (("--sort", "nothing"), "sort is one of"),
    (("--watch", "often"), "--watch is often"),
    (("pause", "orders", "--seconds", "long"), "--seconds is long"),
    (("pause", "orders", "--seconds", "-1"), "expected up to"),
    (("step", "orders"), "not paused"),
    (("failure", "999999"), "not kept"),
    (("replay", "999999"), "not kept"),
    (("pause", "authenticator", "--seconds", "ever"), "nobody could log in"),
]


@pytest.mark.parametrize(("words", "reason"), MISTAKES, ids=str)
def test_mistakes_are_one_line(broker: BrokerProcess, words: tuple[str, ...], reason: str) -> None:
    assert reason in refused(broker, *words)


def test_a_name_that_several_have(broker: BrokerProcess, connect: Connect) -> None:
    api(broker, "PUT", "vhosts/other")
    connect(broker, virtual_host="other").channel().queue_declare("orders")
    line = refused(broker, "pause", "orders")
    assert "2 actors have the name 'orders': queue " in line
    api(broker, "DELETE", "vhosts/other")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["actors"], ["actors", "list"]),
        (["actors", "--watch"], ["actors", "list", "--watch"]),
        (["actors", "pause", "1"], ["actors", "pause", "1"]),
        (["actors", "--help"], ["actors", "--help"]),
        (["vhost", "list"], ["vhost", "list"]),
        ([], []),
    ],
)
def test_without_a_verb_it_is_a_list(given: list[str], read: list[str]) -> None:
    assert with_verb(given) == read


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(None, "-"), (0, "0"), (0.012, "12us"), (1.234, "1.23ms"), (1500, "1.5s"), (90_000, "1.5min"), (7.2e6, "2h")],
)
def test_durations(milliseconds: float | None, shown: str) -> None:
    assert actor_views._duration(milliseconds) == shown
