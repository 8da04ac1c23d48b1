"""Limits of vhosts, users and channels: at the limit, above it with the exact code, and after a release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pika
import pytest
from broker.admin import api
from broker.clients import channel_error
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingConnection
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError

INVALID = "Validation failed\n\n{}\n"
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.fixture
def broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    broker = start_broker("--consumer-max-per-channel", "2")
    assert api(broker, "PUT", "users/ann", {"password": "p", "tags": "management"})[0] == 201
    assert api(broker, "PUT", "permissions/%2F/ann", EVERYTHING)[0] == 201
    return broker


def connect(broker: BrokerProcess) -> BlockingConnection:
    credentials = pika.PlainCredentials("ann", "p")
    return BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, "/", credentials, heartbeat=0))


def set_limit(broker: BrokerProcess, path: str, value: Any) -> None:
    assert api(broker, "PUT", path, {"value": value}) == (204, None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "user-limits/ann/max-connections",
            "NOT_ALLOWED - connection refused for user 'ann': user connection limit (2) is reached",
        ),
        (
            "vhost-limits/%2F/max-connections",
            "NOT_ALLOWED - access to vhost '/' refused for user 'ann': connection limit (2) is reached",
        ),
    ],
)
def test_connections(broker: BrokerProcess, path: str, text: str) -> None:
    set_limit(broker, path, 2)
    connections = [connect(broker), connect(broker)]
    with pytest.raises(ProbableAccessDeniedError) as refused:
        connect(broker)
    assert text in str(refused.value)
    connections[0].close()
    connect(broker).close()
    connect(broker)
    assert api(broker, "DELETE", path) == (204, None)
    connect(broker)


def test_connections_of_the_broker(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--connection-max", "2")

    def open_one() -> BlockingConnection:
        return BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, heartbeat=0))

    connections = [open_one(), open_one()]
    for _ in range(2):
        with pytest.raises(ProbableAccessDeniedError) as refused:
            open_one()
        assert "NOT_ALLOWED - connection refused: node connection limit (2) is reached" in str(refused.value)
        connections.pop().close()
        connections.append(open_one())
    assert connections[0].is_open


def test_channels_of_a_user(broker: BrokerProcess) -> None:
    set_limit(broker, "user-limits/ann/max-channels", 3)
    first, second = connect(broker), connect(broker)
    first.channel()
    last = first.channel()
    second.channel()
    last.close()
    second.channel()
    with pytest.raises(ConnectionClosedByBroker) as refused:
        second.channel()
    assert (refused.value.reply_code, refused.value.reply_text) == (
        530,
        "NOT_ALLOWED - number of channels opened for user 'ann' has reached the maximum allowed user limit of (3)",
    )
    first.channel()
    first.channel()


def test_queues_and_bindings_of_a_vhost(broker: BrokerProcess) -> None:
    set_limit(broker, "vhost-limits/%2F/max-queues", "2")
    set_limit(broker, "vhost-limits/%2F/max-bindings", 1)
    connection = connect(broker)
    channel = connection.channel()
    channel.queue_declare("a")
    channel.queue_declare("b")
    with channel_error(406, "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in vhost '/' (2) is reached"):
        connection.channel().queue_declare("c")
    channel.queue_declare("a")
    channel.queue_bind("a", "amq.direct", "k")
    channel.queue_bind("a", "amq.direct", "k")
    refused = "PRECONDITION_FAILED - cannot bind to {}: binding limit in vhost '/' (1) is reached"
    with channel_error(406, refused.format("queue 'b'")):
        connection.channel().queue_bind("b", "amq.direct", "k")
    with channel_error(406, refused.format("exchange 'amq.fanout'")):
        connection.channel().exchange_bind("amq.fanout", "amq.direct", "k")
    channel.queue_delete("a")
    channel.queue_declare("c")
    channel.queue_bind("c", "amq.direct", "k")


def test_consumers_of_a_channel(broker: BrokerProcess) -> None:
    connection = connect(broker)
    channel = connection.channel()
    channel.queue_declare("q", exclusive=True)
    tags = [channel.basic_consume("q", print) for _ in range(2)]
    channel.basic_cancel(tags[0])
    channel.basic_consume("q", print)
    connection.channel().basic_consume("q", print)
    with pytest.raises(ConnectionClosedByBroker) as refused:
        channel.basic_consume("q", print)
    assert (refused.value.reply_code, refused.value.reply_text) == (
        530,
        "NOT_ALLOWED - reached maximum (2) of consumers per channel",
    )


def test_limits_are_shown_kept_and_cleared(broker: BrokerProcess) -> None:
    set_limit(broker, "vhost-limits/%2F/max-queues", 0)
    set_limit(broker, "user-limits/ann/max-channels", 7)
    for _ in range(2):
        of_vhost = [{"vhost": "/", "value": {"max-queues": 0}}]
        assert api(broker, "GET", "vhost-limits") == (200, of_vhost)
        assert api(broker, "GET", "vhost-limits/%2F", None, "ann", "p") == (200, of_vhost)
        assert api(broker, "GET", "user-limits/ann", None, "ann", "p") == (
            200,
            [{"user": "ann", "value": {"max-channels": 7}}],
        )
        assert api(broker, "GET", "users/ann")[1]["limits"] == {"max-channels": 7}
        broker.stop()
        broker.start()
    assert api(broker, "DELETE", "vhost-limits/%2F/max-queues") == (204, None)
    assert api(broker, "DELETE", "user-limits/ann/max-channels") == (204, None)
    assert api(broker, "GET", "vhost-limits") == api(broker, "GET", "user-limits") == (200, [])


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("vhost-limits/%2F/max-queues", {}, 400, "[{key_missing,value}]"),
        (
            "vhost-limits/%2F/max-queues",
            {"value": "x"},
            400,
            INVALID.format('max-queues should be a number, actually was <<"x">>'),
        ),
        (
            "vhost-limits/%2F/max-cats",
            {"value": 1},
            400,
            INVALID.format('Unrecognised terms [{<<"max-cats">>,1}] in limits'),
        ),
        ("vhost-limits/none/max-queues", {"value": 1}, 404, "no vhost 'none'"),
        ("user-limits/ann/max-queues", {"value": 1}, 400, 'Unrecognised terms [{<<"max-queues">>,1}] in user-limits'),
        ("user-limits/nobody/max-channels", {"value": 1}, 404, "no user 'nobody'"),
    ],
)
def test_bad_requests(broker: BrokerProcess, path: str, body: Any, status: int, reason: str) -> None:
    found, answer = api(broker, "PUT", path, body)
    assert (found, answer["reason"]) == (status, reason)
    assert api(broker, "PUT", path, body, "ann", "p")[0] == 401
