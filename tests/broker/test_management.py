"""RabbitMQ's management API as its tools use it: unmodified, against a running broker."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from broker.admin import SECONDS, api
from broker.process import BrokerProcess
from pika import PlainCredentials
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection
from pika.exceptions import ConnectionClosedByBroker

RABBITMQADMIN = shutil.which("rabbitmqadmin")


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("managed"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def consuming(managed: BrokerProcess, connect: Callable[..., BlockingConnection], fresh: Callable[[str], str]) -> str:
    """A queue with a message that is ready, one that is out, and a consumer with the tag `ct1`; returns its name."""
    name = fresh("q")
    channel: BlockingChannel = connect(managed).channel()
    channel.queue_declare(name, durable=True)
    channel.basic_qos(prefetch_count=1)
    for body in (b"one", b"two"):
        channel.basic_publish("", name, body)
    arrived: list[bytes] = []
    channel.basic_consume(name, lambda *got: arrived.append(got[3]), consumer_tag="ct1")
    while not arrived:
        channel.connection.process_data_events(1)
    return name


@pytest.fixture
def admin(managed: BrokerProcess) -> Callable[..., str]:
    """rabbitmqadmin: it takes the words of its command, and returns what it prints."""
    if RABBITMQADMIN is None:
        pytest.skip("no rabbitmqadmin: Debian's rabbitmq-server has it")

    def run(*words: str, status: int = 0) -> str:
        where = ["--host", managed.host, "--port", str(managed.admin_port)]
        found = subprocess.run(
            [sys.executable, RABBITMQADMIN, *where, *words],
            capture_output=True, check=False, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert found.returncode == status, found.stdout + found.stderr
        return found.stdout + found.stderr

    return run


# --- rabbitmqadmin


def test_rabbitmqadmin_lists_and_shows_everything(admin: Callable[..., str], consuming: str) -> None:
    assert "ct1" in admin("list", "consumers")
    assert consuming in admin("list", "queues")
    assert consuming in admin("list", "queues", "name", "messages", "message_stats.publish_details.rate")
    assert consuming in admin("list", "queues", "vhost", "name", "node", "consumers", "messages_ready", "type", "state")
    for kind in ("connections", "channels", "exchanges", "bindings", "users", "vhosts", "permissions", "nodes"):
        assert "No items" not in admin("list", kind), kind
    for kind in ("policies", "operator_policies", "parameters", "vhost_limits"):
        admin("list", kind)
    assert "3.12.0" in admin("show", "overview")


def test_rabbitmqadmin_declares_publishes_gets_and_deletes(
    admin: Callable[..., str], fresh: Callable[[str], str], tmp_path: Path
) -> None:
    queue, exchange = fresh("q"), fresh("x")
    admin("declare", "queue", f"name={queue}", "durable=true", 'arguments={"x-max-length": 5}')
    admin("declare", "exchange", f"name={exchange}", "type=topic")
    admin("declare", "binding", f"source={exchange}", f"destination={queue}", "routing_key=a.*")
    assert "a.%2A" in admin("list", "bindings", "source", "destination", "properties_key")
    assert "published" in admin("publish", f"exchange={exchange}", "routing_key=a.b", "payload=hello")
    assert "NOT routed" in admin("publish", f"exchange={exchange}", "routing_key=none", "payload=hello")
    assert "hello" in admin("get", f"queue={queue}", "ackmode=ack_requeue_false")
    admin("publish", "exchange=amq.default", f"routing_key={queue}", "payload=more")
    admin("purge", "queue", f"name={queue}")
    assert "No items" in admin("get", f"queue={queue}")
    admin(
        "delete", "binding", f"source={exchange}", f"destination={queue}", "destination_type=queue",
        "properties_key=a.%2A",
    )  # fmt: skip
    definitions = tmp_path / "definitions.json"
    admin("export", str(definitions))
    admin("delete", "queue", f"name={queue}")
    admin("delete", "exchange", f"name={exchange}")
    admin("import", str(definitions))
    assert queue in admin("list", "queues")
    admin("delete", "queue", f"name={queue}")
    assert "Not found" in admin("delete", "queue", f"name={queue}", status=1)


def test_rabbitmqadmin_closes_a_connection(
    admin: Callable[..., str], managed: BrokerProcess, connect: Callable[..., BlockingConnection]
) -> None:
    connection = connect(managed)
    names = {row["name"] for row in api(managed, "GET", "connections")[1]}
    for name in names:
        admin("close", "connection", f"name={name}")
    with pytest.raises(Exception, match="320"):
        connection.process_data_events(5)


# --- Codes, permissions and checks


def test_declaring_says_whether_it_is_new(managed: BrokerProcess, fresh: Callable[[str], str]) -> None:
    for kind, other in (("queues", {"durable": False}), ("exchanges", {"type": "fanout"})):
        path = f"{kind}/%2F/{fresh('thing')}"
        assert [api(managed, "PUT", path, {"durable": "true"})[0] for _ in range(2)] == [201, 204]
        status, told = api(managed, "PUT", path, {"durable": True, **other})
        assert status == 400
        assert "inequivalent arg" in told["reason"]
        assert api(managed, "PUT", path, {"arguments": {"x-max-length": "ten"}, "durable": "maybe"})[0] == 400
        assert api(managed, "PUT", path.replace("%2F", "none"), {})[0] == 404
        assert [api(managed, "DELETE", path)[0] for _ in range(2)] == [204, 404]
    assert api(managed, "PUT", "queues/%2F/amq.mine", {})[0] == 403


def test_a_bindings_location_is_its_address(managed: BrokerProcess, fresh: Callable[[str], str]) -> None:
    queue = fresh("q")
    api(managed, "PUT", f"queues/%2F/{queue}", {})
    between = f"bindings/%2F/e/amq.headers/q/{queue}"
    names = set()
    for body in ({}, {"routing_key": "a/b ~"}, {"routing_key": "a/b ~", "arguments": {"x-match": "all", "n": 1}}):
        request = urllib.request.Request(
            f"http://{managed.host}:{managed.admin_port}/api/{between}",
            json.dumps(body).encode(),
            {"Authorization": f"Basic {b64encode(b'guest:guest').decode()}"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            assert answer.status == 201
            location = answer.headers["Location"].rpartition("/")[2]
        names.add(location)
        row = api(managed, "GET", f"{between}/{location}")[1]
        assert (row["routing_key"], row["arguments"]) == (body.get("routing_key", ""), body.get("arguments", {}))
    assert len(names) == len(api(managed, "GET", between)[1]) == 3
    assert len(api(managed, "GET", f"queues/%2F/{queue}/bindings")[1]) == 4
    for name in names:
        assert [api(managed, "DELETE", f"{between}/{name}")[0] for _ in range(2)] == [204, 404]
    assert api(managed, "POST", f"bindings/%2F/e/none/q/{queue}", {})[0] == 404
    assert api(managed, "POST", f"bindings/%2F/e/amq.default/q/{queue}", {})[0] == 403


def test_users_do_what_their_permissions_say(managed: BrokerProcess, fresh: Callable[[str], str]) -> None:
    user, mine, others = fresh("user"), fresh("mine"), fresh("others")
    api(managed, "PUT", f"users/{user}", {"password": "pw", "tags": "management"})
    pattern = {"configure": "mine$", "write": "mine$|^amq.topic$|^amq.default$", "read": "mine$|^amq.topic$"}
    api(managed, "PUT", f"permissions/%2F/{user}", pattern)
    api(managed, "PUT", f"topic-permissions/%2F/{user}", {"exchange": "amq.topic", "write": "^a", "read": "^a"})
    api(managed, "PUT", f"queues/%2F/{others}", {})

    def ask(method: str, path: str, body: Any = None) -> int:
        return api(managed, method, path, body, user, "pw")[0]

    message = {"routing_key": "a", "payload": "x", "properties": {}}
    assert ask("PUT", f"queues/%2F/{mine}", {}) == 201
    assert ask("POST", f"bindings/%2F/e/amq.topic/q/{mine}", {"routing_key": "a"}) == 201
    assert ask("POST", "exchanges/%2F/amq.topic/publish", message) == 200
    assert ask("POST", f"queues/%2F/{mine}/get", {"ackmode": "ack_requeue_false"}) == 200
    assert ask("DELETE", f"queues/%2F/{mine}/contents") == 204
    assert ask("PUT", f"exchanges/%2F/{mine}", {"arguments": {"alternate-exchange": "amq.fanout"}}) == 401
    assert ask("PUT", f"queues/%2F/{others}", {}) == 401
    assert ask("DELETE", f"queues/%2F/{others}") == 401
    assert ask("DELETE", f"queues/%2F/{others}/contents") == 401
    assert ask("POST", f"queues/%2F/{others}/get", {"ackmode": "ack_requeue_true"}) == 401
    assert ask("POST", f"bindings/%2F/e/amq.topic/q/{others}", {"routing_key": "a"}) == 401
    assert ask("POST", f"bindings/%2F/e/amq.topic/q/{mine}", {"routing_key": "b"}) == 401
    assert ask("POST", "exchanges/%2F/amq.topic/publish", {**message, "routing_key": "b"}) == 401
    assert ask("POST", "exchanges/%2F/amq.fanout/publish", message) == 401
    assert ask("POST", "exchanges/%2F/amq.topic/publish", {**message, "properties": {"user_id": "guest"}}) == 400
    assert ask("GET", "nodes") == 401
    assert ask("GET", "metrics/per-object") == 401
    assert ask("DELETE", f"queues/%2F/{mine}") == 204
    assert api(managed, "DELETE", f"queues/%2F/{others}")[0] == 204


def test_health_checks(managed: BrokerProcess) -> None:
    for check in (
        "alarms", "local-alarms", "virtual-hosts", "node-is-quorum-critical", "is-in-service", "ready-to-serve-clients",
        f"port-listener/{managed.port}", "protocol-listener/amqp091", "protocol-listener/http",
    ):  # fmt: skip
        status, told = api(managed, "GET", f"health/checks/{check}")
        assert (status, told["status"]) == (200, "ok"), check
    assert api(managed, "GET", "health/checks/port-listener/1")[0] == 503
    status, told = api(managed, "GET", "health/checks/protocol-listener/mqtt")
    assert (status, told["missing"]) == (503, "mqtt")
    assert "amqp" in told["protocols"]
    assert api(managed, "GET", "aliveness-test/%2F")[1] == {"status": "ok"}
    assert api(managed, "GET", "aliveness-test/none")[0] == 404


def test_an_alarm_fails_its_check(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--memory-high-watermark", "1MB")
    while not (alarms := api(broker, "GET", "overview")[1]["alarms"]):
        pass
    status, told = api(broker, "GET", "health/checks/alarms")
    assert (status, told["status"], alarms[0]["cause"]) == (503, "failed", "memory")
    assert api(broker, "GET", "nodes")[1][0]["mem_alarm"] is True


def test_lists_have_columns_pages_and_a_slash_at_the_end(managed: BrokerProcess, consuming: str) -> None:
    rows = api(managed, "GET", f"queues/?columns=name,messages,state&name={consuming}&sort=&pagination=false")[1]
    assert rows == [{"name": consuming, "messages": 2, "state": "running"}]
    nested = "channels?columns=connection_details.peer_port,connection_details.name,number"
    row = api(managed, "GET", nested)[1][0]
    assert [list(row), list(row["connection_details"])] == [["connection_details", "number"], ["peer_port", "name"]]
    page = api(managed, "GET", f"queues/%2f/?page=1&page_size=5&use_regex=true&pagination=false&name={consuming}$")[1]
    assert (page["page_count"], page["item_count"], page["items"][0]["name"]) == (1, 1, consuming)
    page = api(managed, "GET", "bindings?page=1&page_size=1&sort=destination&sort_reverse=true&columns=destination")[1]
    assert [len(page["items"]), *page["items"][0]] == [1, "destination"]
    assert api(managed, "GET", "consumers?page=9")[0] == 400


# --- Fields of tools that can't be run here: a missing one, or one of another type, breaks them

NUMBER, TEXT, TRUTH, OBJECT, ARRAY = (int, float), str, bool, dict, list
RATE = "{}_details.rate"
STATS = (
    "publish", "confirm", "return_unroutable", "drop_unroutable", "deliver", "deliver_no_ack", "deliver_get", "get",
    "get_no_ack", "get_empty", "ack", "redeliver", "disk_reads", "disk_writes",
)  # fmt: skip
FIELDS: dict[str, dict[str, Any]] = {
    # rabbitmqadmin v2 (rabbitmq-http-api-rs), Telegraf, Datadog, kbudde's exporter
    "overview": {
        **dict.fromkeys(("cluster_name", "node", "erlang_full_version", "erlang_version", "rabbitmq_version"), TEXT),
        **dict.fromkeys(("product_name", "product_version", "rates_mode"), TEXT),
        "statistics_db_event_queue": int,
        **{
            f"churn_rates.{name}": int
            for name in (
                "connection_created", "connection_closed", "queue_declared", "queue_created", "queue_deleted",
                "channel_created", "channel_closed",
            )
        },
        "churn_rates.queue_created_details.rate": NUMBER,
        **{f"object_totals.{name}": int for name in ("connections", "channels", "queues", "exchanges", "consumers")},
        **{f"queue_totals.messages{name}": int for name in ("", "_ready", "_unacknowledged")},
        "queue_totals.messages_details.rate": NUMBER,
        **{f"message_stats.{name}": int for name in STATS},
        **{f"message_stats.{RATE.format(name)}": NUMBER for name in STATS},
        **{f"listeners.0.{name}": TEXT for name in ("node", "protocol", "ip_address")},
        "listeners.0.port": int,
        "exchange_types.0.name": TEXT,
    },
    "nodes": {
        **dict.fromkeys(("0.name", "0.type", "0.os_pid", "0.rates_mode"), TEXT),
        **{
            f"0.{name}": int
            for name in (
                "uptime", "run_queue", "processors", "fd_total", "fd_used", "proc_total", "proc_used", "mem_limit",
                "mem_used", "disk_free", "disk_free_limit", "sockets_total", "sockets_used",
            )
        },
        **dict.fromkeys(("0.mem_alarm", "0.disk_free_alarm", "0.being_drained", "0.running"), TRUTH),
        **dict.fromkeys(("0.enabled_plugins", "0.partitions", "0.applications"), ARRAY),
    },
    "vhosts": {"0.name": TEXT, "0.tags": ARRAY, "0.metadata": OBJECT, "0.tracing": TRUTH, "0.messages": int},
    "users": {"0.name": TEXT, "0.tags": ARRAY, "0.password_hash": TEXT, "0.limits": OBJECT},
    "connections": {
        **dict.fromkeys(("0.name", "0.node", "0.protocol", "0.user", "0.vhost", "0.state", "0.type"), TEXT),
        **dict.fromkeys(("0.peer_host", "0.host", "0.auth_mechanism"), TEXT),
        **dict.fromkeys(("0.connected_at", "0.channels", "0.channel_max", "0.frame_max", "0.timeout"), int),
        **dict.fromkeys(("0.peer_port", "0.port", "0.recv_oct", "0.send_oct"), int),
        **dict.fromkeys(("0.recv_cnt", "0.send_cnt", "0.send_pend"), int),
        "0.client_properties": OBJECT, "0.ssl": TRUTH, "0.recv_oct_details.rate": NUMBER,
    },
    "channels": {
        **dict.fromkeys(("0.name", "0.vhost", "0.user", "0.node", "0.state"), TEXT),
        **dict.fromkeys(("0.number", "0.consumer_count", "0.prefetch_count", "0.global_prefetch_count"), int),
        **dict.fromkeys(("0.messages_unacknowledged", "0.messages_unconfirmed"), int),
        "0.connection_details.name": TEXT, "0.connection_details.peer_host": TEXT,
        "0.connection_details.peer_port": int, "0.confirm": TRUTH, "0.transactional": TRUTH,
    },
    "consumers": {
        "0.consumer_tag": TEXT, "0.active": TRUTH, "0.ack_required": TRUTH, "0.exclusive": TRUTH,
        "0.prefetch_count": int, "0.arguments": OBJECT, "0.consumer_timeout": int, "0.queue.name": TEXT,
        "0.queue.vhost": TEXT, "0.channel_details.number": int, "0.channel_details.peer_port": int,
        **{f"0.channel_details.{name}": TEXT for name in ("name", "connection_name", "node", "peer_host", "user")},
    },
    # KEDA reads the rates and sums
    "queues": {
        **dict.fromkeys(("0.name", "0.vhost", "0.type", "0.node", "0.state"), TEXT),
        **dict.fromkeys(("0.durable", "0.auto_delete", "0.exclusive"), TRUTH),
        **dict.fromkeys(("0.messages", "0.messages_ready", "0.messages_unacknowledged", "0.consumers"), int),
        "0.arguments": OBJECT, "0.effective_policy_definition": OBJECT,
        "0.message_stats.publish_details.rate": NUMBER, "0.message_stats.deliver_get_details.rate": NUMBER,
        **{f"0.message_bytes{name}": int for name in ("", "_ready", "_unacknowledged", "_ram", "_paged_out")},
        **{f"0.messages{name}": int for name in ("_ram", "_ready_ram", "_unacknowledged_ram", "_paged_out")},
        **dict.fromkeys(("0.messages_persistent", "0.message_bytes_persistent", "0.memory"), int),
        "0.consumer_capacity": NUMBER, "0.consumer_utilisation": NUMBER, "0.messages_details.rate": NUMBER,
    },
    "exchanges": {
        **dict.fromkeys(("0.name", "0.vhost", "0.type"), TEXT),
        **dict.fromkeys(("0.durable", "0.auto_delete", "0.internal"), TRUTH),
        "0.arguments": OBJECT, "0.message_stats.publish_in": int, "0.message_stats.publish_out_details.rate": NUMBER,
    },
    # Terraform's provider (rabbit-hole)
    "permissions": dict.fromkeys(("0.user", "0.vhost", "0.configure", "0.write", "0.read"), TEXT),
    # rabbitmqadmin v2 and Telegraf
    "nodes/rabbit@HOST/memory": {
        **{
            f"memory.{name}": int
            for name in (
                "connection_readers", "connection_writers", "connection_channels", "connection_other", "queue_procs",
                "plugins", "other_proc", "metrics", "mgmt_db", "mnesia", "metadata_store", "other_ets", "binary",
                "msg_index", "code", "atom", "other_system", "allocated_unused", "reserved_unallocated",
                "quorum_queue_procs", "stream_queue_procs", "total.rss", "total.allocated", "total.erlang",
            )
        },
        "memory.strategy": TEXT,
    },
    "auth/attempts/rabbit@HOST": {
        "0.protocol": TEXT,
        **dict.fromkeys(("0.auth_attempts", "0.auth_attempts_succeeded", "0.auth_attempts_failed"), int),
    },
    # AMQPStorm
    "top/rabbit@HOST": {
        "node": TEXT, "row_count": int,
        **{f"processes.0.{name}": TEXT for name in ("pid", "status", "name.type")},
        **{f"processes.0.{name}": int for name in ("message_queue_len", "reductions", "reduction_delta")},
    },
    "bindings": {
        **{
            f"0.{name}": TEXT
            for name in ("vhost", "source", "destination", "destination_type", "routing_key", "properties_key")
        },
        "0.arguments": OBJECT,
    },
}  # fmt: skip


@pytest.mark.parametrize("path", FIELDS)
def test_fields_of_tools(managed: BrokerProcess, consuming: str, path: str) -> None:
    told = api(managed, "GET", path.replace("HOST", socket.gethostname()))[1]
    for field, expected in FIELDS[path].items():
        value = told
        for name in field.split("."):
            value = value[int(name)] if isinstance(value, list) else value[name]
        assert isinstance(value, expected), (field, value)
        assert expected is TRUTH or not isinstance(value, bool), field


# --- Others


def test_what_there_is_nothing_of(managed: BrokerProcess) -> None:
    for path in (
        "parameters", "parameters/shovel", "parameters/shovel/%2F", "global-parameters", "shovels", "shovels/%2F",
        "federation-links", "federation-links/%2F", "feature-flags", "deprecated-features/used", "extensions",
    ):  # fmt: skip
        assert api(managed, "GET", path) == (200, []), path
    for path in ("parameters/shovel/none", "shovels/none", "parameters/shovel/%2F/x", "global-parameters/x"):
        assert api(managed, "GET", path)[0] in (404, 405), path
    status, told = api(managed, "PUT", "parameters/shovel/%2F/x", {"value": {}})
    assert (status, told["reason"]) == (400, "Validation failed\n\ncomponent shovel not found\n")
    assert api(managed, "PUT", "global-parameters/x", {"value": 1})[0] == 400
    assert api(managed, "PUT", "feature-flags/stream_queue/enable", {})[0] == 400
    assert api(managed, "POST", "rebalance/queues", {}) == (204, None)


def test_a_hash_is_of_the_password(managed: BrokerProcess, fresh: Callable[[str], str]) -> None:
    password, user = "a b/c%é", fresh("user")
    status, told = api(managed, "GET", f"auth/hash_password/{quote(password, safe='')}")
    assert status == 200
    body = {"password_hash": told["ok"], "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "management"}
    assert api(managed, "PUT", f"users/{user}", body)[0] == 201
    assert api(managed, "GET", "whoami", user=user, password=password)[1]["name"] == user
    assert api(managed, "GET", "whoami", user=user, password="other")[0] == 401
    assert api(managed, "GET", "auth/hash_password/x", user=user, password=password)[0] == 401


def test_logins_are_counted_by_protocol(
    start_broker: Callable[..., BrokerProcess], connect: Callable[..., BlockingConnection]
) -> None:
    broker = start_broker()
    connect(broker)
    assert api(broker, "GET", "whoami", password="wrong")[0] == 401
    [name] = [row["name"] for row in api(broker, "GET", "nodes")[1]]
    rows = {row.pop("protocol"): row for row in api(broker, "GET", f"auth/attempts/{name}")[1]}
    counts = ("auth_attempts", "auth_attempts_succeeded", "auth_attempts_failed")
    assert rows == {
        "amqp091": dict(zip(counts, (1, 1, 0), strict=True)),
        "http": dict(zip(counts, (3, 2, 1), strict=True)),
    }


def test_the_connections_of_a_user_are_closed(
    managed: BrokerProcess, connect: Callable[..., BlockingConnection], fresh: Callable[[str], str]
) -> None:
    user = fresh("user")
    api(managed, "PUT", f"users/{user}", {"password": "pw", "tags": ""})
    api(managed, "PUT", f"permissions/%2F/{user}", {"configure": "", "write": "", "read": ""})
    others = connect(managed)
    theirs = [connect(managed, credentials=PlainCredentials(user, "pw")) for _ in range(2)]
    assert len(api(managed, "GET", f"connections/username/{user}")[1]) == 2
    assert api(managed, "DELETE", f"connections/username/{user}") == (204, None)
    for connection in theirs:
        with pytest.raises(ConnectionClosedByBroker, match="Closed via management plugin"):
            connection.process_data_events(5)
    others.process_data_events(0)
    assert others.is_open
    assert api(managed, "DELETE", "connections/username/nobody") == (204, None)


def test_amqpstorms_client(managed: BrokerProcess, consuming: str, fresh: Callable[[str], str]) -> None:
    pytest.importorskip("requests", reason="AMQPStorm's management needs it")
    from amqpstorm.management.api import ManagementApi
    from amqpstorm.management.exception import ApiError

    client = ManagementApi(f"http://{managed.host}:{managed.admin_port}", "guest", "guest", timeout=SECONDS)
    assert client.aliveness_test("/") == {"status": "ok"}
    assert client.overview()["cluster_name"] == client.nodes()[0]["name"]
    assert client.whoami()["name"] == "guest"
    queue, exchange = fresh("declared"), fresh("exchange")
    client.queue.declare(queue, durable=True, arguments={"x-max-priority": 3})
    assert client.queue.get(queue)["arguments"] == {"x-max-priority": 3}
    client.exchange.declare(exchange, exchange_type="fanout")
    client.queue.bind(queue, exchange, routing_key="key")
    keys = [(row["source"], row["routing_key"]) for row in client.queue.bindings(queue)]
    assert keys == [("", queue), (exchange, "key")]
    client.exchange.bind(exchange, "amq.topic", routing_key="#")
    client.exchange.unbind(exchange, "amq.topic", routing_key="#", properties_key="%23")
    client.basic.publish("x" * 5000, routing_key=queue)
    [message] = client.basic.get(queue, requeue=False, to_dict=True)
    assert isinstance(message, dict)
    assert message["payload"] == "x" * 5000
    client.queue.unbind(queue, exchange, routing_key="key")
    client.exchange.delete(exchange)
    client.queue.delete(queue)
    with pytest.raises(ApiError, match=r"404|NOT-FOUND"):
        client.queue.get(queue)
    assert consuming in [row["name"] for row in client.queue.list(show_all=True)]
    assert [row["number"] for row in client.channel.list()] == [1]
    assert len(client.connection.list()) >= 1
    node = client.nodes()[0]["name"]
    assert client.top()[0]["node"] == node
    assert client.healthchecks.get()["status"] == client.healthchecks.get(node)["status"] == "ok"
