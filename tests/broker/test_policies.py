"""Policies through the API and the command line, and what clients notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from broker.admin import api, dispatchd
from broker.conftest import Connect
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError, UnroutableError

BOTH = pytest.mark.parametrize("kind", ["policies", "operator-policies"])


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("operated"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def broker(operated: BrokerProcess) -> Iterator[BrokerProcess]:
    """A broker without policies; those of a test are taken away again."""
    yield operated
    for kind in ("policies", "operator-policies"):
        for row in api(operated, "GET", kind)[1]:
            api(operated, "DELETE", f"{kind}/{quote(row['vhost'], '')}/{quote(row['name'], '')}")
    api(operated, "DELETE", "vhosts/v")
    assert operated.trouble_since(0) == []


def put(broker: BrokerProcess, definition: Any, path: str = "policies/%2F/p", **more: Any) -> tuple[int, Any]:
    return api(broker, "PUT", path, {"pattern": "^q", "definition": definition, **more})


def fill(channel: BlockingChannel, *bodies: bytes) -> None:
    for body in bodies:
        channel.basic_publish("", "q", body)


def ready(channel: BlockingChannel) -> list[bytes]:
    """What is in q, without taking it out."""
    found = []
    while (got := channel.basic_get("q"))[0] is not None:
        found.append(got[2])
    channel.basic_nack(0, multiple=True)
    return found


def rows_of(broker: BrokerProcess, path: str) -> dict[str, Any]:
    return {
        row["name"]: (row.get("policy"), row.get("operator_policy"), row["effective_policy_definition"])
        for row in api(broker, "GET", path)[1]
    }


@BOTH
def test_the_api_sets_shows_and_clears_them(broker: BrokerProcess, kind: str) -> None:
    row = {
        "vhost": "/", "name": "p", "pattern": "^q", "apply-to": "all", "definition": {"max-length": 1}, "priority": 0,
    }  # fmt: skip
    assert put(broker, {"max-length": 1}, f"{kind}/%2F/p") == (201, None)
    assert api(broker, "GET", f"{kind}/%2F/p") == (200, row)
    assert api(broker, "GET", f"{kind}/%2F") == (200, [row])
    assert put(broker, {"expires": 5}, f"{kind}/%2F/p", priority=3, **{"apply-to": "queues"}) == (204, None)
    other = row | {"definition": {"expires": 5}, "priority": 3, "apply-to": "queues"}
    assert api(broker, "PUT", "vhosts/v")[0] == 201
    assert put(broker, {"max-length": 1}, f"{kind}/v/a%2Fb")[0] == 201
    assert api(broker, "GET", kind) == (200, [row | {"vhost": "v", "name": "a/b"}, other])
    assert api(broker, "DELETE", f"{kind}/%2F/p") == (204, None)
    missing = f"no {'operator policy' if kind == 'operator-policies' else 'policy'} 'p' in vhost '/'"
    for method in ("DELETE", "GET"):
        assert api(broker, method, f"{kind}/%2F/p") == (404, {"error": "not_found", "reason": missing})
    assert api(broker, "GET", f"{kind}/%2F") == (200, [])


@BOTH
def test_there_are_none_in_a_vhost_that_is_not_there(broker: BrokerProcess, kind: str) -> None:
    gone = (404, {"error": "not_found", "reason": "no vhost 'v'"})
    assert put(broker, {"max-length": 1}, f"{kind}/v/p") == gone
    for method, path in (("GET", f"{kind}/v"), ("GET", f"{kind}/v/p"), ("DELETE", f"{kind}/v/p")):
        assert api(broker, method, path) == gone


def test_what_rabbitmqadmin_sends_is_taken(broker: BrokerProcess) -> None:
    body = {"pattern": "^q", "definition": '{"max-length": 1}', "priority": "-2", "vhost": "/", "name": "p"}
    assert api(broker, "PUT", "policies/%2F/p", body)[0] == 201
    row = api(broker, "GET", "policies/%2F/p")[1]
    assert (row["definition"], row["priority"]) == ({"max-length": 1}, -2)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "The body is not JSON"),
        (b"[]", "The body is JSON, but no object"),
        ({}, "[{key_missing,pattern},{key_missing,definition}]"),
        ({"pattern": "a"}, "[{key_missing,definition}]"),
        ({"pattern": "a", "definition": "{"}, "The definition is not JSON"),
        (b'{"pattern": "\\ud800", "definition": {}}', "The body is not JSON"),
        (b'{"pattern": "a", "definition": {}, "priority": 1e400}', "The body is not JSON"),
        ({"pattern": "a", "definition": []}, "Validation failed\n\ndefinition must be a dictionary: []\n"),
        (
            {"pattern": "a", "definition": {"foo": "bar"}},
            'Validation failed\n\n[{<<"foo">>,<<"bar">>}] are not recognised policy settings\n',
        ),
        (
            {"pattern": "a", "definition": {"max-length": 1}, "priority": "high"},
            'Validation failed\n\npriority should be a number, actually was <<"high">>\n',
        ),
    ],
)
def test_bad_requests_are_told_what_was_wrong(broker: BrokerProcess, body: Any, reason: str) -> None:
    assert api(broker, "PUT", "policies/%2F/p", body) == (400, {"error": "bad_request", "reason": reason})
    assert api(broker, "GET", "policies") == (200, [])


def test_only_users_may(broker: BrokerProcess) -> None:
    assert api(broker, "PUT", "policies/%2F/p", {}, user="nobody")[0] == 401


def test_queues_and_exchanges_show_what_governs_them(broker: BrokerProcess, channel: BlockingChannel) -> None:
    put(broker, {"max-length": 3, "alternate-exchange": "a"})
    put(broker, {"max-length": 2}, "operator-policies/%2F/o", **{"apply-to": "queues"})
    channel.queue_declare("q", exclusive=True)
    channel.queue_declare("other", exclusive=True)
    channel.exchange_declare("q-exchange")
    asked = {"max-length": 3, "alternate-exchange": "a"}
    queues, exchanges = rows_of(broker, "queues"), rows_of(broker, "exchanges")
    assert queues == {"q": ("p", "o", asked | {"max-length": 2}), "other": (None, None, {})}
    assert exchanges["q-exchange"] == ("p", None, asked)
    assert exchanges["amq.topic"] == (None, None, {})


def test_clients_notice_at_once(broker: BrokerProcess, channel: BlockingChannel) -> None:
    channel.queue_declare("q", exclusive=True)
    channel.queue_declare("grave", exclusive=True)
    fill(channel, b"1", b"2", b"3")
    put(broker, {"max-length": 2, "dead-letter-exchange": "", "dead-letter-routing-key": "grave"})
    assert ready(channel) == [b"2", b"3"]
    _, properties, body = channel.basic_get("grave")
    assert body == b"1"
    assert properties.headers["x-first-death-reason"] == "maxlen"
    put(broker, {"max-length": 2, "overflow": "reject-publish"})
    channel.confirm_delivery()
    with pytest.raises(NackError):
        channel.basic_publish("", "q", b"4")
    api(broker, "DELETE", "policies/%2F/p")
    channel.basic_publish("", "q", b"5")
    assert ready(channel) == [b"2", b"3", b"5"]


def test_an_alternate_exchange_by_policy(broker: BrokerProcess, channel: BlockingChannel) -> None:
    channel.exchange_declare("x")
    channel.queue_declare("q", exclusive=True)
    channel.queue_bind("q", "amq.fanout")
    channel.confirm_delivery()
    with pytest.raises(UnroutableError):
        channel.basic_publish("x", "k", b"1", mandatory=True)
    assert put(broker, {"alternate-exchange": "amq.fanout"}, pattern="^x$")[0] == 201
    channel.basic_publish("x", "k", b"2", mandatory=True)
    assert ready(channel) == [b"2"]


def test_policies_survive_a_restart(own_broker: BrokerProcess, connect: Connect) -> None:
    connect(own_broker).channel().queue_declare("q", durable=True)
    put(own_broker, {"max-length": 2})
    put(own_broker, {"max-length": 1}, "operator-policies/%2F/o")
    before = api(own_broker, "GET", "policies")
    own_broker.kill()
    own_broker.start()
    assert api(own_broker, "GET", "policies") == before
    channel = connect(own_broker).channel()
    fill(channel, b"1", b"2")
    assert ready(channel) == [b"2"]


def test_the_command_line_sets_lists_and_clears_them(broker: BrokerProcess) -> None:
    options = ("--priority", "-1", "--apply-to", "queues")
    assert dispatchd(broker, "policy", "set", "p", "^q", '{"max-length": 5}', *options).returncode == 0
    lines = dispatchd(broker, "policy", "list").stdout.splitlines()
    assert [line.split(maxsplit=4) for line in lines] == [
        ["vhost", "name", "pattern", "apply-to", "definition         priority"],
        ["/", "p", "^q", "queues", '{"max-length": 5}  -1'],
    ]
    assert dispatchd(broker, "policy", "clear", "p").returncode == 0
    again = dispatchd(broker, "policy", "clear", "p")
    assert (again.returncode, again.stderr) == (1, "dispatchd: no policy 'p' in vhost '/'\n")


def test_the_command_line_does_so_with_those_of_operators(broker: BrokerProcess) -> None:
    bad = dispatchd(broker, "operator-policy", "set", "p", "^q", '{"overflow": "x"}')
    problem = '[{<<"overflow">>,<<"x">>}] are not recognised policy settings'
    assert (bad.returncode, bad.stderr) == (1, f"dispatchd: Validation failed {problem}\n")
    assert dispatchd(broker, "operator-policy", "set", "p", "^q", '{"expires": 5}').returncode == 0
    rows = json.loads(dispatchd(broker, "operator-policy", "list", "--vhost", "/", "--json").stdout)
    assert [row["definition"] for row in rows] == [{"expires": 5}]
