"""What `dispatchd store` does beside a broker that runs with the data."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from broker.clients import depth, get_all, persistent
from crash.conftest import Connect
from crash.durable_broker import DurableBroker

TOOL_SECONDS = 30


def store(broker: DurableBroker, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dispatchd", "store", *words, "--persist-dir", str(broker.persist_dir)],
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
    )


@pytest.fixture
def flood(connect: Connect) -> Iterator[list[int]]:
    """Somebody publishes to the queue "flood", and says which numbers were confirmed."""
    confirmed: list[int] = []
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("flood", durable=True)

    def publish() -> None:
        for number in range(1_000_000):
            channel.basic_publish("", "flood", b"%d" % number, persistent())
            confirmed.append(number)

    publishing = gevent.spawn(publish)
    yield confirmed
    publishing.kill()


def test_a_running_brokers_data_are_sound(broker: DurableBroker, flood: list[int]) -> None:
    for _ in range(3):
        checked = store(broker, "check")
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
        before = len(flood)
        shown = store(broker, "stats", "--json")
        [queue] = json.loads(shown.stdout)["queues"]
        assert (queue["name"], queue["damaged"]) == ("flood", 0)
        assert before <= queue["messages"] <= len(flood) + 1
    assert not broker.trouble_since(0)


def test_a_backup_of_a_running_broker_has_all_that_was_confirmed_before(
    broker: DurableBroker, flood: list[int], tmp_path: Path
) -> None:
    while len(flood) < 100:
        gevent.sleep(0.01)
    before = len(flood)
    made = store(broker, "backup", str(tmp_path / "backup"))
    assert made.returncode == 0, made.stderr
    after = len(flood)
    other = DurableBroker(tmp_path / "backup")
    other.start()
    connect = Connect(other)
    try:
        found = [int(body) for body in get_all(connect().channel(), "flood")]
        assert found == list(range(len(found)))
        assert before <= len(found) <= after + 1
    finally:
        connect.close_all()
        assert other.end(signal.SIGTERM) == 0
    assert not broker.trouble_since(0)
    assert not other.trouble_since(0)


def test_a_running_broker_keeps_its_data_to_itself(broker: DurableBroker, connect: Connect, tmp_path: Path) -> None:
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    channel.basic_publish("", "q", b"1", persistent())
    assert store(broker, "backup", str(tmp_path / "backup")).returncode == 0
    for refused in (store(broker, "compact"), store(broker, "restore", str(tmp_path / "backup"), "--force")):
        assert refused.returncode == 1
        assert "in use by another broker" in refused.stderr
    channel.basic_publish("", "q", b"2", persistent())
    connect.close_all()
    assert broker.end(signal.SIGTERM) == 0
    assert store(broker, "compact").returncode == 0
    broker.start()
    assert depth(connect().channel(), "q") == 2
    connect.close_all()
    assert broker.end(signal.SIGTERM) == 0
    assert store(broker, "restore", str(tmp_path / "backup"), "--force").returncode == 0
    broker.start()
    assert get_all(connect().channel(), "q") == [b"1"]
