"""What the dashboard and the alerts ask for is there: as names and labels, and as Prometheus itself evaluates it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker.admin import SECONDS
from broker.process import BrokerProcess
from pika import BasicProperties, BlockingConnection, ConnectionParameters

parser = pytest.importorskip("prometheus_client.parser")

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
RULES = DEPLOY / "prometheus/dispatchd.rules.yml"
OF_SCRAPE = {"instance", "job", "namespace"}
"""Labels that Prometheus adds."""
VARIABLES = {"$instance": ".*", "$__rate_interval": "3s", "$__interval": "3s"}
NONE_YET = re.compile(r"^resets")
"""Of what only is there when something has happened."""

STARTED = re.compile(r'msg="Listening on" address=(\S+).* msg="Server is ready', re.DOTALL)
"""What Prometheus logs. Between the two it answers everything with 503."""

needs_prometheus = pytest.mark.skipif(not (PROMETHEUS and PROMTOOL), reason="Debian's prometheus is missing")


def expressions_in(part: Any) -> Iterator[str]:
    """All queries of a dashboard."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("expr", "query") and isinstance(value, str) and value != "prometheus":
                yield value
            else:
                yield from expressions_in(value)
    elif isinstance(part, list):
        for each in part:
            yield from expressions_in(each)


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def queries() -> list[str]:
    found: list[str] = []
    for path in sorted(DEPLOY.glob("grafana/dashboards/*.json")):
        found += expressions_in(json.loads(path.read_text()))
    assert len(found) > 40
    return list(dict.fromkeys(found))


def jobs(target: str) -> list[dict[str, Any]]:
    """What is asked, of another target and without waiting."""
    found: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    for job in found:
        job["scrape_interval"] = "500ms"
        for config in job["static_configs"]:
            config["targets"] = [target]
    return found


def used(expression: str) -> tuple[set[str], set[str]]:
    """Names of metrics, and labels, in PromQL."""
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", expression))
    for part in re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in part.split(",")} - {""}
    labels |= set(re.findall(r"^label_values\(\w+, (\w+)\)$", expression))
    bare = re.sub(r"\{[^}]*\}|\b(?:by|on)\s*\([^)]*\)", "", expression)
    return set(re.findall(r"\b(?:rabbitmq|dispatchd)_\w+|\bup\b", bare)), labels


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("dashboards"), "--metrics-port", "0")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def channel(measured: BrokerProcess) -> Iterator[Any]:
    """Of a connection that consumes from one queue, and leaves messages in another."""
    connection = BlockingConnection(ConnectionParameters(measured.host, measured.port, heartbeat=0))
    channel = connection.channel()
    channel.queue_declare("lonely", durable=True)
    channel.queue_declare("busy")
    channel.basic_consume("busy", lambda *_: None, auto_ack=True)
    yield channel
    connection.close()


@pytest.fixture(scope="module")
def target(measured: BrokerProcess) -> str:
    [port] = re.findall(r"metrics is on port (\d+)", "\n".join(measured.log))
    return f"{measured.host}:{port}"


@pytest.fixture(scope="module")
def served(channel: Any, target: str) -> dict[str, set[str]]:
    """The labels of each metric that the broker tells."""
    found: dict[str, set[str]] = {"up": set()}
    for job in jobs(target):
        query = urllib.parse.urlencode(job.get("params", {}), doseq=True)
        url = f"http://{target}{job.get('metrics_path', '/metrics')}?{query}"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            for family in parser.text_string_to_metric_families(answer.read().decode()):
                for sample in family.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_all_names_and_labels_are_served(served: dict[str, set[str]]) -> None:
    for expression in [*queries(), *(rule["expr"] for rule in rules())]:
        names, labels = used(expression)
        assert names, expression
        assert names <= served.keys(), expression
        assert labels <= OF_SCRAPE.union(*(served[name] for name in names)), expression


def test_a_wrong_name_or_label_would_be_found() -> None:
    names, labels = used('sum by (kind) (rate(dispatchd_x{state="a",job=~"b"}[5m])) / on(queue) up')
    assert names == {"dispatchd_x", "up"}
    assert labels == {"kind", "state", "job", "queue"}


def test_panels_have_places_of_their_own() -> None:
    for path in DEPLOY.glob("grafana/dashboards/*.json"):
        panels = json.loads(path.read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            place = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not place & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= place
            assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_texts_of_alerts_name_labels_that_there_are(served: dict[str, set[str]]) -> None:
    for rule in rules():
        names, _ = used(rule["expr"])
        texts = " ".join(rule["annotations"].values())
        labels = set(re.findall(r"\$labels\.(\w+)", texts))
        assert labels <= OF_SCRAPE.union(*(served[name] for name in names)), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")


@needs_prometheus
def test_each_alert_fires_and_none_does_in_a_calm_hour() -> None:
    tests = RULES.with_name("dispatchd.rules.test.yml")
    for words in (("check", "rules", RULES), ("test", "rules", tests)):
        found = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False, timeout=SECONDS)
        assert found.returncode == 0, found.stdout + found.stderr
    text = tests.read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in text, rule["alert"]


@pytest.fixture(scope="module")
def prometheus(target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """One that asks the broker twice a second; it takes a path of its API with a query, and returns the data."""
    assert PROMETHEUS is not None
    folder = tmp_path_factory.mktemp("prometheus")
    config = {"global": {"evaluation_interval": "500ms"}, "rule_files": [str(RULES)], "scrape_configs": jobs(target)}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [PROMETHEUS, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             "--web.listen-address=127.0.0.1:0"],
            stderr=stderr,
        )  # fmt: skip
    try:
        end = time.monotonic() + SECONDS
        while not (found := STARTED.search(log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)

        def ask(path: str, **query: str) -> Any:
            url = f"http://{found[1]}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            with suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=SECONDS) as answer:
                return json.load(answer)["data"]
            raise AssertionError(f"Prometheus does not understand {query}")

        yield ask
    finally:
        process.kill()
        process.wait(SECONDS)


@needs_prometheus
def test_prometheus_finds_something_for_every_query(prometheus: Callable[..., Any], channel: Any) -> None:
    """Not only are the names there: labels match between the sides of an operator, too."""
    join = " * on(instance, job) group_left(rabbitmq_cluster) rabbitmq_identity_info"
    stock = '{rabbitmq_cluster=~".+",namespace="dispatchd",rabbitmq_endpoint="aggregated"}'
    left = [f"sum(rabbitmq_connections{join}{stock})"]
    for expression in queries():
        if not expression.startswith("label_values") and not NONE_YET.match(expression):
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            left.append(expression)
    channel.confirm_delivery()
    end = time.monotonic() + SECONDS
    while left:
        for queue in ("lonely", "busy"):
            channel.basic_publish("", queue, b"body", BasicProperties(delivery_mode=2))
        channel.connection.process_data_events(0.2)
        left = [each for each in left if not prometheus("query", query=each)["result"]]
        assert time.monotonic() < end, left
    [group] = prometheus("rules")["groups"]
    assert {rule["name"]: rule["health"] for rule in group["rules"]} == {rule["alert"]: "ok" for rule in rules()}
