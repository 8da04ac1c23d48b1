"""`dispatchd list`, `publish`, `get` and the like, against a running broker."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
from broker.conftest import Connect
from broker.process import BrokerProcess
from pika.exceptions import ConnectionClosedByBroker

from dispatchd.cli import main


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("broker-commands"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def broker(started: BrokerProcess, connect: Connect) -> BrokerProcess:
    """One for all these tests, with an empty queue of two bindings."""
    channel = connect(started).channel()
    channel.queue_declare("orders")
    channel.queue_purge("orders")
    channel.queue_bind("orders", "amq.topic", "a.#", arguments={"x": 1})
    return started


def command(broker: BrokerProcess, *words: str) -> tuple[int, str, str]:
    """Run a command in this process; returns status, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([*words, "--url", f"http://{broker.host}:{broker.admin_port}"])
    return status, out.getvalue(), err.getvalue()


def run(broker: BrokerProcess, *words: str) -> str:
    status, out, err = command(broker, *words)
    assert (status, err) == (0, "")
    return out


def rows(broker: BrokerProcess, *words: str) -> Any:
    return json.loads(run(broker, *words, "--json"))


def test_all_kinds_are_listed(broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(broker).channel()
    channel.basic_qos(prefetch_count=7)
    tag = channel.basic_consume("orders", lambda *_: None)
    assert [row["name"] for row in rows(broker, "list", "queues")] == ["orders"]
    assert {"", "amq.topic"} <= {row["name"] for row in rows(broker, "list", "exchanges")}
    connections = rows(broker, "list", "connections")
    assert {row["user"] for row in connections} == {"guest"}
    assert 7 in [row["prefetch_count"] for row in rows(broker, "list", "channels")]
    [consumer] = rows(broker, "list", "consumers")
    assert (consumer["queue"], consumer["consumer_tag"], consumer["prefetch_count"]) == ("orders", tag, 7)
    bindings = rows(broker, "list", "bindings", "--vhost", "/")
    assert {(row["source"], row["destination"], row["routing_key"]) for row in bindings} == {
        ("", "orders", "orders"),
        ("amq.topic", "orders", "a.#"),
    }
    channel.basic_cancel(tag)


def test_a_table_has_the_columns_that_are_asked_for(broker: BrokerProcess) -> None:
    assert run(broker, "list", "queues", "--columns", "name, durable").splitlines() == [
        "name    durable",
        "orders  false",
    ]
    status, _, err = command(broker, "list", "queues", "--columns", "name,nome")
    assert status == 1
    assert "there is no column 'nome', expected some of " in err
    assert run(broker, "list", "queues", "--columns", "policy").splitlines() == ["policy", "null"]
    for words in (["list", "vhosts"], ["vhost", "list"]):
        assert run(broker, *words, "--columns", "name,tracing").splitlines() == ["name  tracing", "/     false"]
        status, _, err = command(broker, *words, "--columns", "frob")
        assert status == 1
        assert "there is no column 'frob', expected some of " in err


def test_a_message_is_published_got_and_purged(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\0")))
    run(broker, "publish", "a.b", "--exchange", "amq.topic")
    run(broker, "publish", "orders", "--body", "hello", "--properties", '{"delivery_mode": 2}')
    for _ in range(2):
        first, second = rows(broker, "get", "orders", "--count", "5")
        assert (first["payload"], first["payload_encoding"], first["exchange"]) == ("/wA=", "base64", "amq.topic")
        assert (second["payload"], second["properties"]) == ("hello", {"delivery_mode": 2})
    assert [row["payload"] for row in rows(broker, "queue", "peek", "orders", "--skip", "1")] == ["hello"]
    assert len(rows(broker, "get", "orders", "--ack")) == 1
    run(broker, "purge", "orders")
    assert rows(broker, "get", "orders") == []


def test_what_no_queue_took_has_its_own_end(broker: BrokerProcess) -> None:
    assert command(broker, "publish", "nowhere", "--body", "x") == (1, "", "dispatchd: no queue took the message\n")
    status, _, err = command(broker, "publish", "orders", "--body", "x", "--properties", "{")
    assert (status, err[:37]) == (1, "dispatchd: --properties is {, expecte")


def test_messages_are_moved_and_queues_deleted(broker: BrokerProcess, connect: Connect) -> None:
    connect(broker).channel().queue_declare("other")
    run(broker, "publish", "orders", "--body", "x")
    assert rows(broker, "queue", "move", "orders", "other", "--count", "3") == [{"moved": 1, "refused": 0}]
    status, _, err = command(broker, "queue", "delete", "other", "--if-empty")
    assert status == 1
    assert "not empty" in err
    run(broker, "queue", "delete", "other")
    assert [row["name"] for row in rows(broker, "list", "queues")] == ["orders"]


def test_an_exchange_is_deleted(broker: BrokerProcess, connect: Connect) -> None:
    connect(broker).channel().exchange_declare("mine")
    run(broker, "exchange", "delete", "mine", "--if-unused")
    assert "mine" not in {row["name"] for row in rows(broker, "list", "exchanges")}


def test_a_connection_is_closed_with_a_reason(broker: BrokerProcess, connect: Connect) -> None:
    before = {row["name"] for row in rows(broker, "list", "connections")}
    connection = connect(broker)
    [name] = {row["name"] for row in rows(broker, "list", "connections")} - before
    run(broker, "connection", "close", name, "--reason", "go home")
    with pytest.raises(ConnectionClosedByBroker, match="go home"):
        connection.process_data_events(time_limit=5)


def test_what_is_not_there_is_refused_and_no_broker_is_another_matter(broker: BrokerProcess) -> None:
    status, out, err = command(broker, "purge", "nothing")
    assert (status, out) == (1, "")
    assert "no queue 'nothing'" in err
    assert main(["list", "queues", "--url", f"http://{broker.host}:1"]) == 69
