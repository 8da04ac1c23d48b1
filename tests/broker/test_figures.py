"""What the management says of messages: RabbitMQ's figures for the same traffic, which tests/compat compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pika
import pytest
from broker.admin import api
from broker.process import BrokerProcess
from broker.traffic import BODY, STAMP, counted, persistent_steps, send, until
from pika.adapters.blocking_connection import BlockingConnection

from dispatchd.actors.queue_counts import EACH_IN_MEMORY

ALL = {
    "publish": 12, "confirm": 3, "return_unroutable": 1, "drop_unroutable": 2, "deliver": 1, "deliver_no_ack": 1,
    "deliver_get": 6, "get": 3, "get_no_ack": 1, "get_empty": 1, "ack": 1, "redeliver": 1,
}  # fmt: skip
OF_CHANNELS = [
    {"deliver_get": 4, "get": 3, "get_no_ack": 1, "get_empty": 1, "ack": 1, "redeliver": 1},
    {"publish": 3, "confirm": 3},
    {"publish": 9, "return_unroutable": 1, "drop_unroutable": 2},
    {"deliver": 1, "deliver_get": 1},
    {"deliver_no_ack": 1, "deliver_get": 1},
    {},
]
OF_QUEUES = {
    "empty": {"get_empty": 1},
    "stats": {"publish": 8, "deliver": 1, "deliver_get": 5, "get": 3, "get_no_ack": 1, "ack": 1, "redeliver": 1},
    "taken": {"publish": 1, "deliver_no_ack": 1, "deliver_get": 1},
}


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker in whose vhosts / and other the same has happened; `manager` sees the second, and may not monitor."""
    process = BrokerProcess(tmp_path_factory.mktemp("counting"))
    process.start()
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    api(process, "PUT", "vhosts/other", {})
    api(process, "PUT", "users/manager", {"password": "manager", "tags": "management"})
    api(process, "PUT", "permissions/other/manager", everything)
    where = [pika.ConnectionParameters(process.host, process.port, vhost, heartbeat=0) for vhost in ("/", "other")]
    connections = [BlockingConnection(each) for each in where]
    for connection in connections:
        send(connection)
    yield process
    process.kill()


def twice(figures: dict[str, int]) -> dict[str, int]:
    return {name: 2 * count for name, count in figures.items()}


def test_the_overview_of_all_and_of_what_a_user_sees(counting: BrokerProcess) -> None:
    told = until(counting, "overview", counted, twice(ALL))
    assert told["object_totals"] == {"connections": 2, "channels": 12, "exchanges": 14, "queues": 6, "consumers": 4}
    totals = {name: told["queue_totals"][name] for name in ("messages", "messages_ready", "messages_unacknowledged")}
    assert list(totals.values()) == [10, 8, 2]
    assert (told["message_stats"]["disk_writes"], told["message_stats"]["disk_reads"]) == (6, 0)
    told = until(counting, "overview", counted, ALL, user="manager")
    assert told["object_totals"] == {"connections": 0, "channels": 0, "exchanges": 7, "queues": 3}
    assert [told["queue_totals"][name] for name in totals] == [5, 4, 1]
    assert told["message_stats"]["disk_writes"] == 3
    assert not {"listeners", "actors", "history", "persistence", "resources"} & told.keys()
    assert told["totals"]["queues"] == 3
    rows = api(counting, "GET", "vhosts", user="manager", password="manager")[1]
    assert [(row["name"], row["messages"], counted(row)) for row in rows] == [("other", 5, ALL)]
    assert rows[0]["recv_oct"] > 0


def test_figures_of_channels_and_exchanges(counting: BrokerProcess) -> None:
    def channels(told: Any) -> list[dict[str, int]]:
        return [counted(row) for row in sorted(told, key=lambda row: row["number"]) if row["vhost"] == "/"]

    rows = until(counting, "channels", channels, OF_CHANNELS)
    last = next(row for row in rows if row["transactional"])
    assert (last["messages_uncommitted"], last["acks_uncommitted"]) == (1, 0)

    def exchanges(told: Any) -> dict[str, tuple[int, int]]:
        stats = {row["name"]: row["message_stats"] for row in told}
        return {name: (each["publish_in"], each["publish_out"]) for name, each in stats.items() if each["publish_in"]}

    until(counting, "exchanges/%2F", exchanges, {"": (11, 9), "amq.fanout": (1, 0)})


def test_figures_of_queues(counting: BrokerProcess) -> None:
    until(counting, "queues/%2F", lambda rows: {row["name"]: counted(row) for row in rows}, OF_QUEUES)

    def is_idle(row: Any) -> bool:
        return "idle_since" in row and row["consumer_capacity"] == 0

    row = until(counting, "queues/%2F/stats", is_idle, True)
    count, size = 5, len(BODY)
    expected = {
        "messages": count, "messages_ready": count - 1, "messages_unacknowledged": 1, "messages_ram": count,
        "messages_ready_ram": count - 1, "messages_unacknowledged_ram": 1, "messages_paged_out": 0,
        "message_bytes": count * size, "message_bytes_ready": (count - 1) * size,
        "message_bytes_unacknowledged": size, "message_bytes_ram": count * size, "message_bytes_paged_out": 0,
        "consumer_utilisation": 0, "head_message_timestamp": None, "messages_details": {"rate": 0.0},
        "messages_persistent": 0, "message_bytes_persistent": 0, "memory": count * (size + EACH_IN_MEMORY),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert 0 <= (datetime.now(UTC) - datetime.fromisoformat(row["idle_since"])).total_seconds() < 60
    capacities = {name: api(counting, "GET", f"queues/%2F/{name}")[1]["consumer_capacity"] for name in OF_QUEUES}
    assert capacities == {"empty": 0, "stats": 0, "taken": 1}


def test_what_is_persistent_is_known_wherever_it_is(
    counting: BrokerProcess, connect: Callable[..., BlockingConnection], fresh: Callable[[str], str]
) -> None:
    """As RabbitMQ 3.10.8 tells of the same steps: tests/compat."""
    channel = connect(counting).channel()
    kept, brief = fresh("kept"), fresh("brief")
    found = []
    for _ in persistent_steps(channel, kept, brief):
        rows = [api(counting, "GET", f"queues/%2F/{name}")[1] for name in (kept, brief)]
        found.append([(row["messages_persistent"], row["message_bytes_persistent"]) for row in rows])
    assert found == [[(4, 40), (0, 0)], [(3, 30), (0, 0)], [(1, 10), (0, 0)], [(0, 0), (0, 0)]]


def test_what_is_persistent_is_known_after_a_restart(own_broker: BrokerProcess) -> None:
    with BlockingConnection(pika.ConnectionParameters(own_broker.host, own_broker.port)) as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        for mode in (1, 2, 2):
            channel.basic_publish("", "q", BODY, pika.BasicProperties(delivery_mode=mode))
    own_broker.stop()
    own_broker.start()
    row = api(own_broker, "GET", "queues/%2F/q")[1]
    assert (row["messages"], row["messages_persistent"], row["message_bytes_persistent"]) == (2, 2, 2 * len(BODY))


def test_who_is_the_single_active_consumer_is_told(
    counting: BrokerProcess, connect: Callable[..., BlockingConnection], fresh: Callable[[str], str]
) -> None:
    channel = connect(counting).channel()
    alone = fresh("alone")
    channel.queue_declare(alone, arguments={"x-single-active-consumer": True})
    row = api(counting, "GET", f"queues/%2F/{alone}")[1]
    assert row["single_active_consumer_tag"] is None
    for tag in ("first", "second"):
        channel.basic_consume(alone, lambda *_: None, consumer_tag=tag)
    assert api(counting, "GET", f"queues/%2F/{alone}")[1]["single_active_consumer_tag"] == "first"


def test_the_stamp_of_the_next_message(counting: BrokerProcess, fresh: Callable[[str], str]) -> None:
    name = fresh("stamped")
    assert api(counting, "PUT", f"queues/%2F/{name}", {})[0] == 201
    assert api(counting, "GET", f"queues/%2F/{name}")[1]["head_message_timestamp"] is None
    message = {"routing_key": name, "payload": "x", "properties": {"timestamp": STAMP, "headers": {"a": "b"}}}
    assert api(counting, "POST", "exchanges/%2F/amq.default/publish", message)[0] == 200
    assert api(counting, "GET", f"queues/%2F/{name}")[1]["head_message_timestamp"] == STAMP
    assert api(counting, "DELETE", f"queues/%2F/{name}")[0] == 204


def test_what_a_connection_read_and_wrote(counting: BrokerProcess) -> None:
    for row in api(counting, "GET", "connections")[1]:
        assert 0 < row["recv_cnt"] <= row["recv_oct"]
        assert 0 < row["send_cnt"] <= row["send_oct"]
        assert row["send_pend"] == 0
