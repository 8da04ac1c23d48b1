"""What Prometheus is told, by a running broker, as Prometheus' own parser reads it."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from broker.admin import SECONDS, api
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingConnection

from dispatchd.actors.queue_counts import EACH_IN_MEMORY
from dispatchd.model import alarms
from dispatchd.web.metrics import CAUSES

parser = pytest.importorskip("prometheus_client.parser")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

OVERVIEW_DASHBOARD = (
    "rabbitmq_identity_info", "rabbitmq_build_info", "rabbitmq_erlang_uptime_seconds", "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked", "rabbitmq_queues", "rabbitmq_channels", "rabbitmq_connections",
    "rabbitmq_global_publishers", "rabbitmq_global_consumers", "rabbitmq_process_open_fds", "rabbitmq_process_max_fds",
    "rabbitmq_process_resident_memory_bytes", "rabbitmq_resident_memory_limit_bytes",
    "rabbitmq_disk_space_available_bytes", "rabbitmq_disk_space_available_limit_bytes",
    "rabbitmq_global_messages_received_total", "rabbitmq_global_messages_received_confirm_total",
    "rabbitmq_global_messages_confirmed_total", "rabbitmq_global_messages_routed_total",
    "rabbitmq_global_messages_unroutable_dropped_total", "rabbitmq_global_messages_unroutable_returned_total",
    "rabbitmq_global_messages_delivered_consume_auto_ack_total", "rabbitmq_global_messages_get_empty_total",
    "rabbitmq_global_messages_delivered_consume_manual_ack_total",
    "rabbitmq_global_messages_delivered_get_auto_ack_total", "rabbitmq_global_messages_delivered_get_manual_ack_total",
    "rabbitmq_global_messages_delivered_total", "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_global_messages_acknowledged_total", "rabbitmq_connections_opened_total",
    "rabbitmq_connections_closed_total", "rabbitmq_channels_opened_total", "rabbitmq_channels_closed_total",
    "rabbitmq_queues_declared_total", "rabbitmq_queues_created_total", "rabbitmq_queues_deleted_total",
    "rabbitmq_message_size_bytes_bucket", "rabbitmq_message_size_bytes_count", "rabbitmq_message_size_bytes_sum",
)  # fmt: skip
"""What RabbitMQ's dashboard 10991 asks for."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("measured"), "--management-port", "0", "--metrics-port", "0")
    process.start()
    yield process
    process.kill()


def fetch(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return str(answer.read().decode())


def scrape(broker: BrokerProcess, path: str = "metrics") -> Samples:
    """All samples; each family has one type, and its samples stand together."""
    login = b64encode(b"guest:guest").decode()
    text = fetch(f"http://{broker.host}:{broker.admin_port}/{path}", Authorization=f"Basic {login}")
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    shown = [re.split(r"[ {]", line)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len([name for name, _ in groupby(shown)]) == len(set(shown))
    found: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type in ("gauge", "counter", "histogram")
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def total(samples: Samples, name: str) -> float:
    return sum(value for (each, _), value in samples.items() if each == name)


def until(look: Callable[[], Any], wanted: Any) -> None:
    """Look until it is so; what is seen is at most a second old."""
    end = time.monotonic() + SECONDS
    while (found := look()) != wanted:
        assert time.monotonic() < end, found


def test_a_dashboards_names_are_there(measured: BrokerProcess) -> None:
    names = {name for name, _ in scrape(measured)}
    assert set(OVERVIEW_DASHBOARD) <= names
    own = {name for name in names if name.startswith("dispatchd_")}
    assert own == set(re.findall(r"dispatchd_\w+", (Path(__file__).parents[2] / "docs/metrics.md").read_text()))
    assert own >= {
        "dispatchd_actors", "dispatchd_actor_mailbox_depth", "dispatchd_actor_messages_handled_total",
        "dispatchd_loop_lag_seconds", "dispatchd_store_commits_total", "dispatchd_store_last_commit_seconds",
    }  # fmt: skip


def test_what_is_counted_survives_whoever_counted_it(
    start_broker: Callable[..., BrokerProcess], connect: Callable[..., BlockingConnection]
) -> None:
    broker = start_broker()
    for round_ in range(1, 4):
        connection = connect(broker)
        channel = connection.channel()
        channel.queue_declare("short-lived")
        channel.basic_publish("amq.topic", "nowhere", b"body")
        for _ in range(5):
            channel.basic_publish("", "short-lived", b"body")
        assert channel.queue_declare("short-lived", passive=True).method.message_count == 5
        for _ in range(3):
            channel.basic_get("short-lived", auto_ack=True)
        channel.queue_delete("short-lived")
        connection.close()
        expected = {
            "rabbitmq_global_messages_received_total": 6 * round_,
            "rabbitmq_global_messages_routed_total": 5 * round_,
            "rabbitmq_global_messages_delivered_total": 3 * round_,
            "rabbitmq_global_messages_delivered_get_auto_ack_total": 3 * round_,
            "rabbitmq_channel_get_total": 3 * round_,
            "rabbitmq_queue_get_total": 3 * round_,
            "rabbitmq_global_messages_unroutable_dropped_total": round_,
            "rabbitmq_connections_opened_total": round_,
            "rabbitmq_connections_closed_total": round_,
            "rabbitmq_channels_closed_total": round_,
            "rabbitmq_queues_created_total": round_,
            "rabbitmq_queues_deleted_total": round_,
        }

        def seen(expected: dict[str, int] = expected) -> dict[str, float]:
            samples = scrape(broker)
            return {name: total(samples, name) for name in expected}

        until(seen, expected)


def test_each_object_has_its_figures(
    measured: BrokerProcess, connect: Callable[..., BlockingConnection], fresh: Callable[[str], str]
) -> None:
    odd = fresh('q "quoted"\\n')
    channel = connect(measured).channel()
    channel.queue_declare(odd)
    channel.queue_declare(fresh("other"))
    channel.basic_publish("", odd, b"body")
    until(lambda: channel.queue_declare(odd, passive=True).method.message_count, 1)
    of_queue = (("queue", odd), ("vhost", "/"))
    samples = scrape(measured, "metrics/per-object")
    assert samples["rabbitmq_queue_messages_ready", of_queue] == 1
    assert samples["rabbitmq_queue_messages_published_total", of_queue] == 1
    assert samples["rabbitmq_queue_messages_persistent", of_queue] == 0
    assert samples["rabbitmq_queue_messages_persistent_bytes", of_queue] == 0
    assert samples["rabbitmq_queue_process_memory_bytes", of_queue] == len(b"body") + EACH_IN_MEMORY
    assert total(samples, "rabbitmq_channel_messages_published_total") >= 1
    assert scrape(measured, "metrics/detailed") == {}
    path = "metrics/detailed?family=queue_coarse_metrics&family=connection_metrics"
    samples = scrape(measured, path)
    assert samples["rabbitmq_detailed_queue_messages", of_queue] == 1
    assert {name for name, _ in samples} == {
        "rabbitmq_detailed_queue_messages_ready", "rabbitmq_detailed_queue_messages_unacked",
        "rabbitmq_detailed_queue_messages", "rabbitmq_detailed_connection_channels",
        "rabbitmq_detailed_connection_incoming_packets_total", "rabbitmq_detailed_connection_outgoing_packets_total",
    }  # fmt: skip
    assert scrape(measured, f"{path}&vhost=%2F") == samples
    assert scrape(measured, f"{path}&vhost=none") == {}


def test_alarms_held_actors_and_refused_logins_are_told(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--memory-high-watermark", "1000")
    until(lambda: scrape(broker)["dispatchd_alarm", (("cause", "memory"),)], 1)
    samples = scrape(broker)
    assert {dict(labels)["cause"] for name, labels in samples if name == "dispatchd_alarm"} == set(CAUSES)
    assert total(samples, "dispatchd_alarm") == 1
    assert api(broker, "GET", "overview", password="wrong")[0] == 401
    [vhost] = api(broker, "GET", "vhosts")[1]
    assert api(broker, "PUT", f"actors/{vhost['id']}/pause", {"for": None, "confirm": "/"})[0] == 200
    samples = scrape(broker)
    assert samples["dispatchd_logins_refused_total", ()] == 1
    assert samples["dispatchd_actors_held", (("state", "paused"),)] == 1
    assert samples["dispatchd_actors_held", (("state", "quarantined"),)] == 0


def test_all_alarms_that_there_are_have_a_sample() -> None:
    assert set(CAUSES) == {alarms.MEMORY, alarms.DISK, alarms.STORE, alarms.SCRATCH, alarms.FAILING}


def test_sizes_of_messages_by_the_bounds_that_rabbitmqs_dashboard_names(
    start_broker: Callable[..., BrokerProcess], connect: Callable[..., BlockingConnection]
) -> None:
    broker = start_broker()
    channel = connect(broker).channel()
    for size in (0, 100, 101, 50_000):
        channel.basic_publish("amq.fanout", "", b"x" * size)
    channel.tx_select()
    channel.basic_publish("amq.fanout", "", b"x" * 2_000_000)
    channel.tx_commit()
    samples = scrape(broker)
    name, protocol = "rabbitmq_message_size_bytes", ("protocol", "amqp091")
    buckets = {dict(labels)["le"]: value for (each, labels), value in samples.items() if each == f"{name}_bucket"}
    assert buckets == {
        "100.0": 2, "1000.0": 3, "10000.0": 3, "100000.0": 4, "1e+06": 4, "1e+07": 5, "5e+07": 5, "1e+08": 5, "+Inf": 5,
    }  # fmt: skip
    assert samples[f"{name}_count", (protocol,)] == 5
    assert samples[f"{name}_sum", (protocol,)] == 2_050_201


def test_ports_of_their_own(measured: BrokerProcess) -> None:
    found = dict(re.findall(r"(management|metrics) is on port (\d+)", "\n".join(measured.log)))
    text = fetch(f"http://{measured.host}:{found['metrics']}/metrics")
    assert "rabbitmq_identity_info" in text
    with pytest.raises(urllib.error.HTTPError, match="404"):
        fetch(f"http://{measured.host}:{found['metrics']}/api/overview")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(f"http://{measured.host}:{found['management']}/metrics")
    assert api(measured, "GET", f"health/checks/port-listener/{found['management']}")[0] == 200
    assert api(measured, "GET", "health/checks/protocol-listener/http%2Fprometheus")[0] == 200
