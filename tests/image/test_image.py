"""The image as it is built and run: who it runs as, what it can write, what is in it. `make test-image`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pika
import pytest
from image.container import BASE, Container, Files, described, octets_below

import dispatchd

pytestmark = pytest.mark.timeout(1800)  # the first of them builds
Start = Callable[..., Container]
USER = 10001
MOST_ADDED = 30_000_000
"""Octets; python:3.13-slim has about 120 MB, and the image should stay below 150."""


def test_the_image_says_what_it_is(files: Files) -> None:
    config = described()
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["title"] == "dispatchd"
    assert labels["version"] == dispatchd.__version__
    assert labels["revision"] == "0123abc"
    assert labels["licenses"] == "MIT"
    assert labels["name"] == BASE
    assert config["Entrypoint"] == ["docker-entrypoint.sh"]
    assert config["Healthcheck"]["Test"] == ["CMD", "dispatchd", "healthcheck"]
    assert config["StopSignal"] == "SIGTERM"
    assert set(config["ExposedPorts"]) == {"5672/tcp", "5671/tcp", "8080/tcp"}
    assert set(config["Volumes"]) == {"/data/dispatchd"}


def test_it_is_small_and_has_nothing_to_build_or_install_with(files: Files) -> None:
    base = Files(BASE)
    try:
        assert octets_below(files.root) - octets_below(base.root) < MOST_ADDED
    finally:
        base.remove()
    installed = files.root / "opt/dispatchd"
    assert {path.name for path in installed.rglob("*")} & {"pip", "tests", "mypy", "setuptools"} == set()
    assert not [path for path in installed.rglob("*") if path.suffix in (".c", ".h", ".pyx", ".pxd")]
    [packages] = installed.glob("lib/python3*/site-packages")
    assert list((packages / "dispatchd/__pycache__").glob("server.*.pyc"))
    assert list(packages.glob("gevent-*.dist-info/licenses/*"))


def test_nobody_but_its_user_could_change_it(files: Files) -> None:
    for path in (files.root / "opt/dispatchd").rglob("*"):
        status = path.lstat()
        assert status.st_uid == 0
        assert path.is_symlink() or not status.st_mode & 0o022, path


def published(port: int, count: int) -> int:
    """Publish some durable messages, and return how many there are."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True)
    for _ in range(count):
        channel.basic_publish("", "kept", b"body", pika.BasicProperties(delivery_mode=2))
    ready = channel.queue_declare("kept", passive=True).method.message_count
    connection.close()
    return int(ready)


@pytest.mark.parametrize("user", ["0:0", f"{USER}:0", "4711:0"], ids=["root", "its-user", "any-user"])
def test_it_runs_without_rights_on_a_read_only_root(start: Start, tmp_path: Path, user: str) -> None:
    """Started as root it makes the volume its user's and is that user; started as somebody else it stays that."""
    number = int(user.partition(":")[0])
    data = tmp_path / "data"
    data.mkdir()
    if number == 0:
        (data / "of-root").touch()  # as a container engine leaves a folder of the host that it has made
    else:
        data.chmod(0o770)  # as the folder in the image, which a new volume is a copy of
        os.chown(data, USER, 0)
    container = start(data, user)
    expected = number or USER
    assert set(container.status("Uid")) == {str(expected)}
    assert container.status("CapEff") == container.status("CapPrm") == ["0000000000000000"]
    assert published(container.port, 3) == 3
    assert container.stop() == 0, container.log
    assert {path.stat().st_uid for path in data.rglob("*")} == {expected}
    container = start(data, user)
    assert published(container.port, 1) == 4
    for path in ("/x", "/opt/dispatchd/x", "/etc/x"):
        assert "Read-only file system" in container.execute("touch", path).stderr


def test_tools_health_check_and_settings_work_in_it(start: Start, tmp_path: Path) -> None:
    settings = ["RABBITMQ_DEFAULT_USER=alice", "RABBITMQ_DEFAULT_PASS=s3cret"]
    data = tmp_path / "data"
    data.mkdir()
    container = start(data, "0:0", more=settings)
    assert "Server startup complete" in container.log
    for words in (
        described()["Healthcheck"]["Test"][1:],
        ["rabbitmq-diagnostics", "-q", "ping"],
        ["rabbitmqctl", "add_vhost", "shop"],
        ["rabbitmqctl", "set_permissions", "-p", "shop", "alice", ".*", ".*", ".*"],
        ["rabbitmqadmin", "-V", "shop", "declare", "queue", "name=q"],
        ["rabbitmqadmin", "-V", "shop", "publish", "routing_key=q", "payload=hello"],
        ["dispatchd", "list", "queues", "--vhost", "shop"],
    ):
        found = container.execute(*words)
        assert found.returncode == 0, (words, found.stdout + found.stderr)
    assert "q" in found.stdout
    assert container.execute("rabbitmqadmin", "-u", "alice", "-p", "wrong", "list", "queues").returncode == 1
    compiled = container.execute("dispatchd", "--version").stdout
    assert compiled == f"dispatchd {dispatchd.__version__} (compiled)\n"
    assert container.stop() == 0
