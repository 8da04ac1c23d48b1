"""The firehose (RabbitMQ's tracer), as clients and operators have it."""

from __future__ import annotations

import platform
from typing import Any

import pika
import pytest
from broker.admin import api, dispatchd
from broker.clients import Inbox, get_all, publish
from broker.process import BrokerProcess
from broker.test_vhosts import connect
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

TRACE = "amq.rabbitmq.trace"
BURST = 5000


def tracing(broker: BrokerProcess, vhost: str = "%2F") -> Any:
    return api(broker, "GET", f"vhosts/{vhost}")[1]["tracing"]


def watch(connection: BlockingConnection, key: str = "#") -> Inbox:
    """A consumer of all copies with such a key."""
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, TRACE, key)
    return Inbox(channel, queue, auto_ack=True)


@pytest.fixture
def channel(own_broker: BrokerProcess) -> BlockingChannel:
    """Of a broker that traces."""
    assert api(own_broker, "PUT", "vhosts/%2F", {"tracing": True})[0] == 204
    channel = connect(own_broker, "/").channel()
    channel.queue_declare("q")
    return channel


@pytest.fixture
def watcher(own_broker: BrokerProcess, channel: BlockingChannel) -> Inbox:
    return watch(connect(own_broker, "/"))


def test_copies_say_who_did_what(channel: BlockingChannel, watcher: Inbox) -> None:
    properties = pika.BasicProperties(
        content_type="text/plain", headers={"n": 2**40, "CC": ["r"]}, timestamp=1_700_000_000, user_id="guest"
    )
    channel.basic_publish("", "q", b"1", properties)
    channel.basic_get("q", auto_ack=True)
    published, delivered = watcher.wait(2)
    socket = channel.connection._impl._transport._sock  # where pika keeps it
    name = " -> ".join("{}:{}".format(*address) for address in (socket.getsockname(), socket.getpeername()))
    of_both = {
        "exchange_name": "",
        "routing_keys": ["q", "r"],
        "properties": {
            "user_id": "guest",
            "timestamp": 1_700_000_000,
            "headers": {"n": 2**40, "CC": ["r"]},
            "content_type": "text/plain",
        },
        "node": "dispatchd@" + platform.node().split(".")[0],
        "vhost": "/",
        "connection": name,
        "channel": channel.channel_number,
        "user": "guest",
    }
    assert [(copy.exchange, copy.routing_key, copy.body) for copy in (published, delivered)] == [
        (TRACE, "publish.", b"1"),
        (TRACE, "deliver.q", b"1"),
    ]
    assert published.properties == pika.BasicProperties(headers={**of_both, "routed_queues": ["q", "r"]})
    assert delivered.properties == pika.BasicProperties(headers={**of_both, "redelivered": 0})


def test_keys_choose_what_is_seen(own_broker: BrokerProcess, channel: BlockingChannel) -> None:
    channel.exchange_declare("orders.new", "fanout")
    channel.queue_bind("q", "orders.new")
    others = connect(own_broker, "/")
    orders, deliveries = watch(others, "publish.orders.#"), watch(others, "deliver.q")
    channel.basic_publish("orders.new", "", b"1")
    publish(channel, "q", b"2")
    assert get_all(channel, "q") == [b"1", b"2"]
    deliveries.wait(2)
    assert orders.all() == [b"1"]
    assert deliveries.all() == [b"1", b"2"]


def test_nothing_of_a_burst_is_missing(channel: BlockingChannel, watcher: Inbox) -> None:
    bodies = [b"%d" % number for number in range(BURST)]
    inbox = Inbox(channel, "q", auto_ack=True)
    publish(channel, "q", *bodies)
    assert [delivery.body for delivery in inbox.wait(BURST)] == bodies
    copies = watcher.wait(2 * BURST)
    for key in ("publish.", "deliver.q"):
        assert [copy.body for copy in copies if copy.routing_key == key] == bodies


def test_clients_can_not_publish_copies_of_their_own(own_broker: BrokerProcess, channel: BlockingChannel) -> None:
    channel.basic_publish(TRACE, "publish.forged", b"1")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="cannot publish to internal exchange"):
        channel.queue_declare("q", passive=True)


def test_the_command_line_switches_it(own_broker: BrokerProcess) -> None:
    connection = connect(own_broker, "/")
    channel, watcher = connection.channel(), watch(connection)
    channel.queue_declare("q")
    for action, expected in (("on", [b"on"]), ("on", [b"on"] * 2), ("off", [b"on"] * 2), ("off", [b"on"] * 2)):
        result = dispatchd(own_broker, "trace", action)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        assert tracing(own_broker) is (action == "on")
        publish(channel, "q", action.encode())
        watcher.wait(len(expected))
        assert watcher.all() == expected


def test_the_command_line_names_the_vhost(own_broker: BrokerProcess) -> None:
    api(own_broker, "PUT", "vhosts/v", {})
    assert dispatchd(own_broker, "trace", "on", "--vhost", "v").returncode == 0
    assert (tracing(own_broker), tracing(own_broker, "v")) == (False, True)
    missing = dispatchd(own_broker, "trace", "on", "--vhost", "missing")
    assert (missing.returncode, missing.stderr) == (1, "dispatchd: no vhost 'missing'\n")
    assert api(own_broker, "GET", "vhosts/missing")[0] == 404


def test_it_survives_a_restart(own_broker: BrokerProcess, channel: BlockingChannel) -> None:
    channel.connection.close()
    own_broker.stop()
    own_broker.start()
    assert tracing(own_broker) is True
    connection = connect(own_broker, "/")
    watcher = watch(connection)
    connection.channel().basic_publish("amq.direct", "k", b"1")
    (copy,) = watcher.wait(1)
    assert (copy.routing_key, copy.body) == ("publish.amq.direct", b"1")
