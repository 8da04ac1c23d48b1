"""RabbitMQ's tools that are not of RabbitMQ itself, unmodified, against a running broker."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broker.admin import SECONDS
from broker.process import BrokerProcess
from kombu import Connection
from pika.adapters.blocking_connection import BlockingConnection


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("tools"))
    process.start()
    yield process
    process.kill()


@pytest.fixture
def waiting(managed: BrokerProcess, connect: Callable[..., BlockingConnection]) -> Iterator[str]:
    """Celery's queue with two tasks in it, and a connection; returns its name."""
    channel = connect(managed).channel()
    channel.queue_declare("celery", durable=True)
    for _ in range(2):
        channel.basic_publish("", "celery", b"task")
    channel.queue_declare("celery", passive=True)
    yield "celery"
    channel.queue_delete("celery")


# --- Monitoring plugins for Nagios and Icinga, in Debian's nagios-plugins-rabbitmq

HOST = socket.gethostname().partition(".")[0]
CHECKS = {
    "aliveness": ([], "OK - vhost: /"),
    "connections": ([], r"connections OK \(1\)"),
    # It counts the places of the last ones, from 0.
    "objects": ([], r"vhost=0;; exchange=6;; binding=[01];; queue=[01];; channel=0"),
    "overview": ([], r"messages OK \(2\) messages_ready OK \(2\)"),
    "partition": (["-n", HOST], "OK"),
    "queue": (["--queue", "celery"], r"messages OK \(2\) .* consumers OK \(0\)"),
    "server": (["-n", HOST], r"Memory OK .* Process OK .* FD OK .* Sockets OK"),
    "watermark": (["-n", HOST], "OK - mem_alarm disk_free_alarm"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_nagios(managed: BrokerProcess, waiting: str, name: str) -> None:
    options, expected = CHECKS[name]
    program = shutil.which(f"check_rabbitmq_{name}")
    if program is None:
        pytest.skip("Debian's nagios-plugins-rabbitmq is missing")
    command = [program, "-H", managed.host, "--port", str(managed.admin_port), "-u", "guest", "-p", "guest", *options]
    end = time.monotonic() + SECONDS  # sums are a second old at most
    while True:
        found = subprocess.run(command, capture_output=True, check=False, text=True, timeout=SECONDS)
        if (found.returncode == 0 and re.search(expected, found.stdout)) or time.monotonic() > end:
            break
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(expected, found.stdout), found.stdout


# --- Celery's and kombu's


class OverUnixSocket(http.client.HTTPConnection):
    """HTTP to a program that listens at a path, so that it needs no port that may be in use."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def test_flowers_page_of_the_broker(managed: BrokerProcess, waiting: str, tmp_path: Path) -> None:
    pytest.importorskip("flower", reason="Flower is missing")
    path = tmp_path / "flower"
    url = f"http://guest:guest@{managed.host}:{managed.admin_port}/api/"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "celery", "-b", f"amqp://guest:guest@{managed.host}:{managed.port}//", "flower",
                f"--broker-api={url}", f"--unix-socket={path}", "--port=0",
            ],
            stdout=log, stderr=log, cwd=tmp_path,
        )  # fmt: skip
    try:
        end = time.monotonic() + SECONDS
        while not path.exists():
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.05)
        client = OverUnixSocket(path)
        client.request("GET", "/broker")
        page = client.getresponse().read().decode()
        client.close()
    finally:
        process.terminate()
        process.wait(SECONDS)
    row = page.partition('<tr id="celery">')[2].partition("</tr>")[0]
    columns = re.findall(r"<td[^>]*>([^<]*)</td>", row)
    assert columns[:5] == [waiting, "2", "0", "2", "0"], page  # messages, unacked, ready, consumers


def test_kombus_manager(managed: BrokerProcess, waiting: str, fresh: Callable[[str], str]) -> None:
    pytest.importorskip("pyrabbit", reason="kombu's manager is pyrabbit")
    queue, exchange = fresh("q"), fresh("x")
    with Connection(f"amqp://guest:guest@{managed.host}:{managed.port}//") as connection:
        manager = connection.get_manager(hostname=managed.host, port=managed.admin_port)
        assert {row["name"]: row["messages"] for row in manager.get_queues("/")}[waiting] == 2
        assert manager.get_queue_depth("/", waiting) == 2
        assert manager.get_vhost_names() == ["/"]
        assert manager.get_overview()["node"] == manager.get_nodes()[0]["name"]
        assert manager.get_whoami()["name"] == "guest"
        assert manager.get_vhost_permissions("/")[0]["user"] == "guest"
        assert manager.get_user_permissions("guest")[0]["vhost"] == "/"
        manager.create_queue("/", queue)
        manager.create_exchange("/", exchange, "topic")
        manager.create_binding("/", exchange, queue, "a.*")
        assert manager.publish("/", exchange, "a.b", "hello")
        [message] = manager.get_messages("/", queue, count=1, requeue=False)
        assert message["payload"] == "hello"
        manager.purge_queue("/", queue)
        assert [row["routing_key"] for row in manager.get_queue_bindings("/", queue)] == [queue, "a.*"]
        manager.delete_binding("/", exchange, queue, "a.*")
        manager.delete_exchange("/", exchange)
        manager.delete_queue("/", queue)
        [name] = [row["name"] for row in manager.get_connections()]
        assert manager.get_connection(name)["channels"] == 1
        assert [row["number"] for row in manager.get_channels()] == [1]
