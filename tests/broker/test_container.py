"""What the image's files say, run without an image: entry point, tools and settings, read-only and without rights."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dispatchd

ROOT = Path(__file__).parents[2]
USER = 10001
SECONDS = 20
READY = re.compile(r"is ready: AMQP on port \d+, admin on (\d+)")
READ_ONLY = 'mount --bind "$1" "$1"; mount -o remount,bind,ro /; shift; exec "$@"'
"""Only the folder of the data can be written to."""


class Layout:
    """A folder `bin` as the Dockerfile makes it, its variables, and an empty volume; root gives up all rights."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.data.mkdir(mode=0o770)
        self._folder = folder / "bin"
        self._folder.mkdir()
        text = (ROOT / "Dockerfile").read_text()
        self.environment = {
            "PATH": f"{self._folder}:/usr/bin:/bin",
            "PYTHONPATH": str(Path(dispatchd.__file__).parents[1]),
            **dict(re.findall(r"\b((?:DISPATCHD|PYTHON)[A-Z_]*)=(\S+)", text)),
        }
        self._write("dispatchd", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m dispatchd "$@"\n')
        shutil.copy(ROOT / "docker-entrypoint.sh", self._folder)
        tools = re.findall(r"cd /usr/local/bin \\\n    (&& for .*?)\nCOPY", text, re.DOTALL)[0].replace("\\\n", "")
        subprocess.run(["sh", "-ec", f"true {tools}"], cwd=self._folder, check=True)
        self._rights: list[str] = []
        if os.geteuid() == 0:
            # In a namespace of users it is another one, who reads what root can: Python may be in root's home.
            other = ["unshare", "--user", f"--map-user={USER}", "--map-group=0", "--"]
            self._rights = ["unshare", "--mount", "sh", "-euc", READ_ONLY, "sh", str(self.data), *other]

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)
        (self._folder / name).chmod(0o755)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of the image with its variables."""
        return subprocess.Popen(
            [*self._rights, *words],
            env=self.environment,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        process = self.begin(*words)
        out, _ = process.communicate(timeout=SECONDS)
        return process.returncode, out


@pytest.fixture
def layout() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        status, out = layout.run("id", "-u")
        if "unshare failed" in out:
            pytest.skip(f"the system has no namespaces for tests: {out}")
        assert (status, out) == (0, f"{USER if os.geteuid() == 0 else os.geteuid()}\n")
        yield layout


def begun(layout: Layout) -> tuple[subprocess.Popen[str], str]:
    """A broker that the entry point started, and what it logged until it was ready."""
    process = layout.begin("docker-entrypoint.sh")
    assert process.stdout is not None
    seen, end = "", time.monotonic() + SECONDS
    while "Server startup complete" not in seen:
        line = process.stdout.readline()
        assert line, seen
        assert time.monotonic() < end, seen
        seen += line
    return process, seen


def test_it_runs_read_only_and_with_no_rights(layout: Layout) -> None:
    ports = {f"DISPATCHD_{name}_PORT": "0" for name in ("AMQP", "ADMIN", "DEBUG")}
    layout.environment |= {"DISPATCHD_PERSIST_DIR": str(layout.data), "DISPATCHD_BIND": "127.0.0.1", **ports}
    process, log = begun(layout)
    try:
        assert "WARNING" not in log
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.findall(r"^CapEff:\t(\w+)", status, re.MULTILINE) == ["0" * 16]
        if os.geteuid() == 0:
            assert "Read-only file system" in layout.run("touch", str(layout.data.parent / "x"))[1]
        [port] = READY.findall(log)
        layout.environment["DISPATCHD_URL"] = f"http://127.0.0.1:{port}"
        for words, told in (
            (["dispatchd", "healthcheck"], "ok"),
            (["rabbitmq-diagnostics", "-q", "check_running"], ""),
            (["rabbitmqctl", "-q", "list_vhosts"], "name\n/\n"),
            (["rabbitmqadmin", "declare", "queue", "name=q"], "queue declared"),
        ):
            found, out = layout.run(*words)
            assert (found, told in out) == (0, True), out
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, rest
