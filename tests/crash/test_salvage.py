"""A damaged store: refused in one line with what is concerned, and served without it when that is asked for."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from broker.clients import get_all, persistent
from crash.conftest import Connect
from crash.durable_broker import DurableBroker, refusal


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped broker with three queues, which all got ten messages of their own, and one together."""
    broker = DurableBroker(tmp_path_factory.mktemp("stored") / "data")
    broker.start()
    connect = Connect(broker)
    channel = connect().channel()
    channel.confirm_delivery()
    channel.exchange_declare("all", "fanout", durable=True)
    for name in ("first", "second", "third"):
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "all", "")
        for number in range(10):
            channel.basic_publish("", name, b"%d of %s" % (number, name.encode()), persistent())
    channel.basic_publish("all", "", b"of all", persistent())
    connect.close_all()
    assert broker.end(signal.SIGTERM) == 0
    subprocess.run(
        [sys.executable, "-m", "dispatchd", "store", "compact", "--persist-dir", str(broker.persist_dir)],
        check=True,
        timeout=20,
        capture_output=True,
    )
    return broker.persist_dir


@pytest.fixture
def data(stored: Path, tmp_path: Path) -> Path:
    """The file of a copy of that folder."""
    return Path(shutil.copytree(stored, tmp_path / "data"), "data.mdb")


def damage(data: Path, *found: bytes) -> bytes:
    """Change a bit in each of these places; returns the file."""
    octets = bytearray(data.read_bytes())
    for place in found:
        assert octets.count(place) == 1
        octets[octets.index(place)] ^= 2
    data.write_bytes(octets)
    return bytes(octets)


def bodies(name: str, *without: int) -> list[bytes]:
    return [*(b"%d of %s" % (number, name.encode()) for number in range(10) if number not in without), b"of all"]


def salvaged(data: Path) -> DurableBroker:
    broker = DurableBroker(data.parent, "--salvage", "--log-level", "info")
    broker.start()
    return broker


def test_what_is_damaged_is_told_and_everything_else_served(data: Path) -> None:
    octets = damage(data, b"3 of first", b"4 of second", b"5 of second")
    told = "1 message of queue 'first' in vhost '/', 2 messages of queue 'second' in vhost '/'"
    line = refusal(data.parent)
    assert f"Concerned: {told}. `dispatchd store check` tells all, --salvage serves the rest" in line
    assert data.read_bytes() == octets
    broker = salvaged(data)
    connect = Connect(broker)
    channel = connect().channel()
    channel.confirm_delivery()
    channel.basic_publish("all", "", b"more", persistent())
    connect.close_all()
    assert broker.end(signal.SIGTERM) == 0
    lost = [line.partition("lost: ")[2] for line in broker.log if "lost: " in line]
    assert ", ".join(lost) == told
    assert any(f"the damaged one is kept as {data}.damaged-1" in line for line in broker.log)
    assert (data.parent / "data.mdb.damaged-1").read_bytes() == octets
    again = DurableBroker(data.parent)
    again.start()
    connect = Connect(again)
    channel = connect().channel()
    assert get_all(channel, "first") == [*bodies("first", 3), b"more"]
    assert get_all(channel, "second") == [*bodies("second", 4, 5), b"more"]
    assert get_all(channel, "third") == [*bodies("third"), b"more"]
    connect.close_all()
    assert again.end(signal.SIGTERM) == 0
    assert not again.trouble_since(0)


def test_messages_of_a_queue_that_was_lost_are_in_another(data: Path) -> None:
    damage(data, b'"name": "second"')
    assert "Concerned: 1 definition. " in refusal(data.parent)
    broker = salvaged(data)
    connect = Connect(broker)
    channel = connect().channel()
    channel.queue_declare("second", durable=True)
    assert get_all(channel, "second") == []
    [name] = [row["name"] for row in broker.api("queues") if row["name"].startswith("salvaged-")]
    assert get_all(channel, name) == bodies("second")
    assert get_all(channel, "third") == bodies("third")
    channel.basic_publish("all", "", b"more", persistent())
    assert get_all(channel, "first") == [*bodies("first"), b"more"]
    assert get_all(channel, "second") == []
    connect.close_all()
    assert any("a binding in vhost '/' is gone: queue 'second' was lost" in line for line in broker.log)
    assert broker.end(signal.SIGTERM) == 0


def test_a_sound_store_is_served_as_ever(data: Path) -> None:
    broker = salvaged(data)
    connect = Connect(broker)
    assert get_all(connect().channel(), "first") == bodies("first")
    connect.close_all()
    assert broker.end(signal.SIGTERM) == 0
    assert not broker.trouble_since(0)
    assert not (data.parent / "data.mdb.damaged-1").exists()
