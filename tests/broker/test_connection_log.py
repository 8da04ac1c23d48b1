"""What the log says of each connection: who it was of, from where, and why it ended; nothing that is secret."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import pytest
from broker.admin import SECONDS, api
from broker.conftest import Connect
from broker.process import BrokerProcess
from broker.raw import RawClient
from pika import PlainCredentials
from pika.exceptions import AMQPError

Told = Callable[..., str]


@pytest.fixture
def told(own_broker: BrokerProcess) -> Told:
    """The one line with all of these words in it, waited for."""

    def told(*words: str) -> str:
        end = time.monotonic() + SECONDS
        while not (found := [line for line in own_broker.log if all(word in line for word in words)]):
            assert time.monotonic() < end, own_broker.log
            time.sleep(0.01)
        [line] = found
        return line.partition("dispatchd.actors.connection: ")[2]

    return told


def test_a_connection_is_logged_when_it_opens_and_closes(
    own_broker: BrokerProcess, connect: Connect, told: Told
) -> None:
    properties = {"connection_name": "my\napp" + "x" * 200}
    connection = connect(own_broker, client_properties=properties)
    [row] = api(own_broker, "GET", "connections")[1]
    shown = repr(properties["connection_name"][:100])
    assert told("opened") == f"{row['name']} of user 'guest': opened in vhost '/' by {shown}"
    connection.close()
    why = "by its client (200 'Normal shutdown')"
    assert told("closed") == f"{row['name']} of user 'guest': closed in vhost '/': {why}"
    assert not [line for line in own_broker.log if line.startswith("app")]


def test_why_it_closed(own_broker: BrokerProcess, connect: Connect, told: Told) -> None:
    api(own_broker, "PUT", "users/secretive", {"password": "s3cr3t", "tags": ""})
    with pytest.raises(AMQPError):
        connect(own_broker, credentials=PlainCredentials("secretive", "s3cr3t"))
    assert "closed before it was open: 530 " in told("secretive", "before it was open")

    cut = RawClient(own_broker.host, own_broker.port)
    cut.open()
    cut.close()
    assert told("the client closed").endswith("closed in vhost '/': the client closed the socket")

    connect(own_broker)
    [row] = api(own_broker, "GET", "connections")[1]
    api(own_broker, "DELETE", f"connections/{quote(row['name'], safe='')}")
    assert '320 "CONNECTION_FORCED - Closed via management plugin"' in told(": 320 ").replace("'", '"')

    wrong = connect(own_broker).channel()
    with suppress(AMQPError):
        wrong.exchange_declare("x", "no-such-type")
    assert "COMMAND_INVALID - unknown exchange type" in told(": 503 ")
    assert not [line for line in own_broker.log if "s3cr3t" in line]
    assert own_broker.trouble_since(0) == []
