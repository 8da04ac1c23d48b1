"""Virtual hosts through the API and the command line, with clients in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pika
import pytest
from broker.admin import api, dispatchd
from broker.process import BrokerProcess
from broker.traffic import until
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError


def connect(broker: BrokerProcess, vhost: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, vhost))


@pytest.fixture
def own_broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    return start_broker()


@pytest.mark.parametrize(
    ("name", "path"), [("v", "v"), ("a/b", "a%2Fb"), ("/", "%2F"), ("größe 1%", "gr%C3%B6%C3%9Fe%201%25")]
)
def test_the_api_makes_shows_and_deletes_them(own_broker: BrokerProcess, name: str, path: str) -> None:
    status, _ = api(own_broker, "PUT", f"vhosts/{path}", {"description": "mine", "tags": "a, b"})
    assert status == (204 if name == "/" else 201)
    assert api(own_broker, "PUT", f"vhosts/{path}")[0] == 204
    connection = connect(own_broker, name)
    channel = connection.channel()
    channel.queue_declare("q")
    channel.basic_publish("", "q", b"1")
    assert channel.queue_declare("q", passive=True).method.message_count == 1
    row = until(own_broker, f"vhosts/{path}", lambda row: row["messages"], 1)
    facts = ("name", "description", "tags", "tracing", "messages", "messages_ready", "queues")
    assert [row[fact] for fact in facts] == [name, "mine", ["a", "b"], False, 1, 1, 1]
    assert name in [row["name"] for row in api(own_broker, "GET", "vhosts")[1]]
    assert api(own_broker, "DELETE", f"vhosts/{path}") == (204, None)
    with pytest.raises(ConnectionClosedByBroker) as closed:
        channel.queue_declare("q", passive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (320, f"CONNECTION_FORCED - vhost '{name}' is deleted")
    with pytest.raises(ProbableAccessDeniedError, match=re.escape(f"(530) 'NOT_ALLOWED - vhost {name} not found'")):
        connect(own_broker, name)
    assert api(own_broker, "GET", f"vhosts/{path}")[0] == 404
    assert api(own_broker, "DELETE", f"vhosts/{path}")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("v", b"{", "The body is not JSON"),
        ("v", [], "The body is JSON, but no object"),
        ("v", {"description": 1}, "description is 1, expected a string"),
        ("v", {"tracing": "maybe"}, "tracing is 'maybe', expected true or false"),
        ("v", {"tags": [1]}, "tags is [1], expected a list of strings, or a string with commas"),
        ("v" * 256, {}, "a vhost's name has at most 255 octets, all of them printable"),
        ("a%0Ab", {}, "a vhost's name has at most 255 octets, all of them printable"),
    ],
)
def test_bad_requests_are_told_what_was_wrong(own_broker: BrokerProcess, path: str, body: Any, reason: str) -> None:
    assert api(own_broker, "PUT", f"vhosts/{path}", body) == (400, {"error": "bad_request", "reason": reason})


def test_only_users_may(own_broker: BrokerProcess) -> None:
    assert api(own_broker, "PUT", "vhosts/v", {}, user="nobody")[0] == 401
    assert api(own_broker, "GET", "vhosts/v")[0] == 404


def test_the_command_line_makes_lists_and_deletes_them(own_broker: BrokerProcess) -> None:
    assert dispatchd(own_broker, "vhost", "add", "v", "--description", "mine").returncode == 0
    connect(own_broker, "v").close()
    lines = dispatchd(own_broker, "vhost", "list").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "queues", "messages", "description"],
        ["/", "0", "0", "Default", "virtual", "host"],
        ["v", "0", "0", "mine"],
    ]
    rows = json.loads(dispatchd(own_broker, "vhost", "list", "--json").stdout)
    assert [row["name"] for row in rows] == ["/", "v"]
    assert dispatchd(own_broker, "vhost", "delete", "v").returncode == 0
    again = dispatchd(own_broker, "vhost", "delete", "v")
    assert (again.returncode, again.stderr) == (1, "dispatchd: no vhost 'v'\n")
    refused = dispatchd(own_broker, "vhost", "list", "--password", "wrong")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("dispatchd: Login")


def test_the_command_line_says_that_there_is_no_broker(own_broker: BrokerProcess) -> None:
    own_broker.stop()
    result = dispatchd(own_broker, "vhost", "list")
    assert result.returncode == 69
    assert "no broker's admin answers there" in result.stderr
