"""Our rabbitmqadmin does and says what RabbitMQ's does, where that can be run; scripts need no more."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from broker.admin import api
from broker.certificates import Authority
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingConnection

from dispatchd import rabbitmqadmin

THEIRS = shutil.which("rabbitmqadmin")
Run = Callable[..., tuple[int, str]]
"""Takes words; returns the status and what is on the standard output."""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("rabbitmqadmin"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def managed(started: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> BrokerProcess:
    """One for all these tests, which the environment names."""
    monkeypatch.setenv("DISPATCHD_URL", f"http://{started.host}:{started.admin_port}")
    return started


def run(*words: str) -> tuple[int, str, str]:
    """Returns status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = rabbitmqadmin.run(words)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def theirs(managed: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> Run:
    """RabbitMQ's own, a script of one file, in this process, which is quicker."""
    if THEIRS is None:
        pytest.skip("no rabbitmqadmin of RabbitMQ's: Debian's rabbitmq-server has it")

    code = compile(Path(THEIRS).read_text(), THEIRS, "exec")

    def call(*words: str) -> tuple[int, str]:
        argv = [THEIRS, "--host", managed.host, "--port", str(managed.admin_port), *words]
        with monkeypatch.context() as patch, redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()):
            patch.setattr(sys, "argv", argv)
            before = signal.getsignal(signal.SIGPIPE)
            try:
                exec(code, {"__name__": "__main__"})
            except SystemExit as end:
                return int(end.code or 0), out.getvalue()
            finally:
                signal.signal(signal.SIGPIPE, before)  # it has a lost connection end the process
        return 0, out.getvalue()

    return call


CHANGES = """
declare queue name=q arguments={"x-max-length":5}
declare queue name=brief durable=false auto_delete=true queue_type=classic
declare exchange name=x type=topic
declare exchange name=y type=fanout internal=true durable=false
declare binding source=x destination=q routing_key=a.* arguments={"n":1}
declare binding source=x destination=y destination_type=exchange
declare policy name=p pattern=^q definition={"max-length":9} priority=3 apply-to=queues
declare operator_policy name=o pattern=.* definition={"message-ttl":90000}
publish exchange=x routing_key=none payload=hello
publish exchange=x routing_key=a.b payload=hello properties={"delivery_mode":2,"headers":{"a":1}}
publish routing_key=q payload=aGVsbG8= payload_encoding=base64
get queue=q ackmode=ack_requeue_false encoding=base64
purge queue name=q
get queue=q
declare queue name=q durable=false
declare queue
declare queue name=q frob=1
declare nothing name=q
delete queue name=brief
delete binding source=x destination=y destination_type=exchange
delete binding source=x destination=y destination_type=exchange
delete exchange name=y
delete policy name=none
delete operator_policy name=o
publish exchange=none routing_key=a payload=hello
get queue=none
close connection name=none
close channel name=none
frob
""".strip().splitlines()


def test_the_same_words_do_the_same(managed: BrokerProcess, theirs: Run) -> None:
    """In one vhost by theirs, in another one by ours."""
    for vhost in ("theirs", "ours"):
        assert api(managed, "PUT", f"vhosts/{vhost}", {})[0] == 201
    for line in CHANGES:
        words = line.split(" ")
        assert run("-V", "ours", *words)[:2] == theirs("-V", "theirs", *words), line
    assert api(managed, "GET", "definitions/ours")[1] == api(managed, "GET", "definitions/theirs")[1]


LOOKS = """
list queues
list queues vhost name durable arguments message_stats.publish_details.rate
list queues name messages -f long
list queues name messages -f tsv
list queues name messages -f tsv -q
list queues name messages -f kvp
list queues -f bash
list queues vhost -f bash
list queues name messages -S name -R
list queues name durable -f raw_json
list queues name durable -f pretty_json
list exchanges -V /
list exchanges -V none
list bindings
list bindings -d 2 -f tsv
list consumers
list consumers -d 2
list consumers -f kvp
list users
list users name tags
list permissions
list vhosts name messages
list vhosts -f tsv
list policies
list operator_policies
list vhost_limits
list parameters
list nodes name type
list connections
list channels
show overview
show overview object_totals.queues listeners
list frobs
get queue=looked
get queue=looked -d 3 -f kvp
get queue=looked count=3 -f tsv
get queue=looked -f long
""".strip().splitlines()


def test_the_same_is_shown(managed: BrokerProcess, theirs: Run, connect: Callable[..., BlockingConnection]) -> None:
    channel = connect(managed).channel()
    channel.queue_declare("looked", durable=True, arguments={"x-max-length": 5})
    channel.basic_consume(channel.queue_declare("consumed").method.queue, lambda *_: None, consumer_tag="ct")
    for words in (
        ["publish", "routing_key=looked", "payload=one", 'properties={"type":"t","headers":{"a":1}}'],
        ["publish", "routing_key=looked", "payload=two"],
        ["declare", "policy", "name=seen", "pattern=^looked", 'definition={"max-length":4}'],
        ["declare", "vhost_limit", "vhost=/", "name=max-queues", "value=100"],
        ["declare", "user", "name=watcher", "password=secret", "tags=monitoring,management"],
        ["declare", "permission", "vhost=/", "user=watcher", "configure=", "write=", "read=.*"],
        ["get", "queue=looked", "count=2"],
    ):
        assert run(*words)[0] == 0
    for line in LOOKS:
        words = line.split(" ")
        ours, original = run(*words)[:2], theirs(*words)
        if "raw_json" in words:
            assert json.loads(ours[1]) == json.loads(original[1])
        else:
            assert ours == original, line


@pytest.mark.parametrize("kind", ["queues", "exchanges", "connections", "channels", "consumers", "nodes", "vhosts"])
def test_theirs_shows_lists_at_each_depth(
    managed: BrokerProcess, theirs: Run, connect: Callable[..., BlockingConnection], kind: str
) -> None:
    channel = connect(managed).channel()
    channel.basic_consume(channel.queue_declare("deep", exclusive=True).method.queue, lambda *_: None)
    for depth in "123":
        for form in ("table", "tsv", "kvp"):
            status, out = theirs("-d", depth, "-f", form, "list", kind)
            assert (status, out.count("\n") > 0, "No items" in out) == (0, True, False)


def test_payloads_and_definitions_go_through_files(
    managed: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("declare", "queue", "name=filed")[:2] == (0, "queue declared\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x00\xff")))
    assert run("publish", "routing_key=filed") == (0, "Message published\n", "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"aGk=")))
    assert run("-q", "publish", "routing_key=filed", "payload_encoding=base64") == (0, "", "")
    payload, definitions = tmp_path / "payload", tmp_path / "definitions.json"
    take = ["get", "queue=filed", "ackmode=ack_requeue_false", f"payload_file={payload}"]
    for expected in (b"\x00\xff", b"hi"):
        status, out, _ = run(*take)
        assert (status, "payload_encoding" in out, payload.read_bytes()) == (0, False, expected)
    assert run(*take)[:2] == (0, "No items\n")
    assert run(*take, "count=2")[0] == 1
    assert run("export", str(definitions))[0] == 0
    assert run("delete", "queue", "name=filed")[0] == 0
    assert run("import", str(definitions))[0] == 0
    assert api(managed, "GET", "queues/%2F/filed")[0] == 200
    status, _, err = run("import", str(tmp_path / "none"))
    assert (status, "none: can't be read" in err) == (1, True)


def test_a_user_and_a_place_are_chosen_by_options(managed: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPATCHD_URL")
    place = ["-H", managed.host, "-P", str(managed.admin_port)]
    assert run(*place, "list", "vhosts", "name", "-f", "tsv", "-q")[1].splitlines()[0] == "/"
    assert run("-U", f"http://{managed.host}:{managed.admin_port}/", "list", "vhosts")[0] == 0
    for name, tags in (("chosen", "management"), ("without", "")):
        assert run(*place, "declare", "user", f"name={name}", "password=s3cret", f"tags={tags}")[0] == 0
    assert run(*place, "-u", "chosen", "-p", "s3cret", "list", "queues")[:2] == (0, "No items\n")
    for user in (["-u", "chosen", "-p", "other"], ["-u", "without", "-p", "s3cret"]):
        status, out, err = run(*place, *user, "list", "queues")
        assert (status, out, err[:4]) == (1, "", "*** ")
    assert "no broker's admin answers there" in run("-P", "1", "list", "queues")[2]


def test_tls_is_checked_unless_told_not_to(
    start_broker: Callable[..., BrokerProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # which the tool sets; afterwards it is the old one again
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "/CN=localhost")
    options = ["--tls-cert", str(certificate), "--tls-key", str(key), "--tls-port", "0", "--admin-tls-port", "0"]
    broker = start_broker(*options)
    [port] = (row["port"] for row in api(broker, "GET", "overview")[1]["listeners"] if row["protocol"] == "https")
    place = ["-s", "-H", "127.0.0.1", "-P", str(port), "list", "vhosts"]
    assert run(*place)[0] == 1
    assert run("-k", *place)[0] == 0
    assert run("--ssl-ca-cert-file", str(authority.certificate), *place)[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Action  not understood, expected list, show, declare"),
        (["list"], "expected connections, channels"),
        (["declare", "parameter", "name=x"], "expected exchange, queue, binding"),
        (["declare", "queue", "name"], "not in the name=value format"),
        (["declare", "queue", "name=q", "arguments={"], "arguments is '{', expected JSON"),
        (["declare", "user", "name=u", "tags="], "password or password_hash is required"),
        (["export"], "Exactly one argument"),
        (["-U", "frob", "list", "queues"], "the base URI is frob, expected one such as"),
    ],
)
def test_what_is_not_understood_says_what_would_be(words: list[str], told: str) -> None:
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert told in err


def test_an_unknown_option_or_format_has_the_status_2() -> None:
    for words in (["--frob", "list", "queues"], ["-f", "frob", "list", "queues"]):
        with pytest.raises(SystemExit, match="2"), redirect_stderr(io.StringIO()):
            rabbitmqadmin.run(words)


def test_help_names_all_commands() -> None:
    status, out, _ = run("help")
    assert status == 0
    for verb in rabbitmqadmin.COMMANDS:
        assert f"\n  {verb} " in out
