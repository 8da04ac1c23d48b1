"""A broker that can't work says so in one line, and leaves what it found as it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path

import lmdb
import pika
import pytest
from broker.clients import get_all
from crash.conftest import Connect
from crash.durable_broker import DurableBroker, refusal
from soak import cases, seeded

DAMAGES = cases(8, 300)
METAS_END = 2 * os.sysconf("SC_PAGE_SIZE")
BODIES = [b"x" * size for size in (10, 3000, 50_000)]


def bodies(broker: DurableBroker) -> list[bytes]:
    """Of all messages."""
    connect = Connect(broker)
    try:
        return get_all(connect().channel(), "kept")
    finally:
        connect.close_all()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a stopped broker with some messages."""
    broker = DurableBroker(tmp_path_factory.mktemp("stored") / "data")
    broker.start()
    connect = Connect(broker)
    channel = connect().channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True)
    channel.exchange_declare("events", "topic", durable=True)
    channel.queue_bind("kept", "events", "#")
    for body in BODIES:
        channel.basic_publish("events", "key", body, pika.BasicProperties(delivery_mode=2))
    connect.close_all()
    assert broker.end(signal.SIGTERM) == 0
    return broker.persist_dir


@pytest.fixture
def data(stored: Path, tmp_path: Path) -> Path:
    """The file of a copy of that folder."""
    return Path(shutil.copytree(stored, tmp_path / "data"), "data.mdb")


def refused(data: Path) -> str:
    before = data.read_bytes()
    line = refusal(data.parent)
    assert data.read_bytes() == before
    assert str(data.parent) in line
    return line


@pytest.mark.parametrize("share", [0, 0.2, 0.6])
def test_a_truncated_file(data: Path, share: float) -> None:
    with lmdb.open(str(data.parent), max_dbs=5, readonly=True, lock=False) as environment:
        used = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    os.truncate(data, int(used * share))
    assert "damaged" in refused(data)


def test_a_file_of_something_else(data: Path) -> None:
    data.write_bytes(b"not a store at all. " * 5000)
    assert "damaged" in refused(data)


@pytest.mark.parametrize("octets", [b"", b"not a lock at all. " * 500, b"\xff" * 8192])
def test_a_damaged_lock_file_loses_nothing(data: Path, octets: bytes) -> None:
    """It has nothing that outlives the process."""
    data.with_name("lock.mdb").write_bytes(octets)
    broker = DurableBroker(data.parent)
    broker.start()
    try:
        assert bodies(broker) == BODIES
    finally:
        broker.kill()


def test_pages_overwritten(data: Path) -> None:
    octets = bytearray(data.read_bytes())
    page = os.sysconf("SC_PAGE_SIZE")
    octets[2 * page :] = bytes(octet ^ 0xFF for octet in octets[2 * page :])
    data.write_bytes(octets)
    assert "damaged" in refused(data)


@pytest.mark.parametrize(
    ("found", "instead"),
    [
        (b'"what": "queue"', b'"what": "quete"'),
        (b'"queue_id": 1', b'"queue_id"= 1'),
        (b'"durable": true', b'"curable": true'),
        (b'"name": "kept"', b'"name":  12345'),
        (b'"type": "topic"', b'"type": "tapic"'),
        (b'"arguments": "AAAA', b'"arguments": "____'),
        (b'"source": "events"', b'"source": "evants"'),
        (b'"destination": "kept"', b'"destination": "kapt"'),
    ],
)
def test_octets_of_a_definition_changed(data: Path, found: bytes, instead: bytes) -> None:
    octets = data.read_bytes()
    assert found in octets
    assert len(found) == len(instead)
    data.write_bytes(octets.replace(found, instead))
    refused(data)


@pytest.mark.timeout(30 + 2 * DAMAGES)
def test_octets_changed_anywhere(data: Path, tmp_path: Path) -> None:
    """A broker refuses in one line, or serves what was stored: then nothing is stored where octets were changed.

    Only in a meta page they may take back the last commit, by making the number of a transaction a smaller one.
    """
    chance = seeded(20240611)
    octets = data.read_bytes()
    used = len(octets.rstrip(b"\0"))
    for number in range(DAMAGES):
        damaged = bytearray(octets)
        size = chance.choice([1, 1, 8, 512])
        at = chance.randrange(used - size)
        damaged[at : at + size] = chance.randbytes(size)
        broker = DurableBroker(tmp_path / f"damaged-{number}", "--log-level", "info")
        broker.persist_dir.mkdir()
        (broker.persist_dir / "data.mdb").write_bytes(damaged)
        with suppress(AssertionError):
            broker.start()
        if broker.is_running:
            found = bodies(broker)
            assert found == BODIES or (at < METAS_END and found == BODIES[:-1]), f"{size} octets at {at}"
            assert broker.end(signal.SIGTERM) == 0
            assert not broker.trouble_since(0), f"{size} octets at {at}"
        else:
            assert len(broker.log) == 1, f"{size} octets at {at}: {broker.log}"
            assert broker.log[0].startswith(f"dispatchd: {broker.persist_dir}"), f"{size} octets at {at}"


def test_a_store_of_a_later_version(data: Path) -> None:
    with lmdb.open(str(data.parent), max_dbs=5) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as transaction:
            transaction.put(b"format", b"99", db=meta)
    assert "format 99" in refused(data)


def test_two_brokers_on_one_folder(broker: DurableBroker) -> None:
    assert "in use by another broker" in refusal(broker.persist_dir)
    assert broker.end(signal.SIGTERM) == 0


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refusal(tmp_path / "file")


@pytest.mark.parametrize("port", ["amqp-port", "admin-port", "debug-port"])
def test_a_port_in_use(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        line = refusal(tmp_path / "data", f"--{port}", number)
    assert number in line
    assert "in use" in line
