"""The image of the Dockerfile, built and run without a container engine: buildah, chroot and namespaces. Needs root."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE, IMAGE = "localhost/dispatchd-test-base", "localhost/dispatchd-test"
BUILD_SECONDS = 1200
START_SECONDS = 30
READY = re.compile(r"is ready: AMQP on port (\d+), admin on (\d+)")
OF_BASE = "python3,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates"
"""What is in Python's image on Debian, and a compiler, so that the build needs no packages of Debian's."""
OF_PIP = re.compile(r"PIP_|SSL_CERT")
"""Variables that say how pip reaches an index, where that needs saying."""

BEGIN = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
mount --bind "$2" "$1/data/dispatchd"
mount -o remount,ro,bind "$1"
exec chroot --userspec="$3" "$1" /usr/bin/env -i "${@:4}"
"""
"""Root of the image, folder of the data, user and group, variables and command: with a root that is read-only."""


def run(*words: str, seconds: float = BUILD_SECONDS, **settings: Any) -> str:
    """Run a command of the system; returns what it prints."""
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    found = subprocess.run(
        words, capture_output=True, check=False, text=True, timeout=seconds, env=environment, **settings
    )
    assert found.returncode == 0, f"{' '.join(words)}\n{found.stdout}{found.stderr}"
    return found.stdout.strip()


def make_base() -> None:
    """Make BASE of Debian's packages, unless it is there."""
    if BASE in run("buildah", "images", "--format", "{{.Name}}").split():
        return
    with tempfile.TemporaryDirectory() as folder:
        run("debootstrap", "--variant=minbase", f"--include={OF_BASE}", "bookworm", folder)
        container = run("buildah", "from", "scratch")
        run("buildah", "add", "-q", container, folder, "/")
        run("buildah", "commit", "-q", "--rm", container, BASE)


def build() -> None:
    """Build IMAGE from the Dockerfile on BASE."""
    make_base()
    given = [word for name in os.environ if OF_PIP.match(name) for word in ("--env", name)]
    run(
        *("buildah", "bud", "--format", "docker", "-v", "/etc/ssl/certs:/etc/ssl/certs:ro", *given),
        *("--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", "REVISION=0123abc", "-t", IMAGE, str(ROOT)),
    )


def described(image: str = IMAGE) -> dict[str, Any]:
    """What Docker would know of it."""
    found: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    return found


def octets_below(folder: Path) -> int:
    """What its files take on the disk."""
    return int(run("du", "-s", "-B1", str(folder)).split()[0])


class Files:
    """The files of an image, at `root`."""

    def __init__(self, image: str = IMAGE) -> None:
        self._container = run("buildah", "from", image)
        self.root = Path(run("buildah", "mount", self._container))

    def remove(self) -> None:
        run("buildah", "rm", self._container)


class Container:
    """A running broker with a file system of its own, as process 1; ports are free ones of this machine."""

    def __init__(self, root: Path, data: Path, user: str, *, more: Sequence[str] = ()) -> None:
        """`user` is a user and a group in numbers, `more` are variables such as `NAME=value`."""
        config = described()
        self._root = root
        self._environment = [*config["Env"], *more]
        ports = [f"DISPATCHD_{name}_PORT=0" for name in ("AMQP", "ADMIN", "DEBUG")]
        words = [str(root), str(data), user, *self._environment, *ports, *config["Entrypoint"]]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", BEGIN, "bash", *words],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + START_SECONDS
        while not (ready := READY.search(self.log)):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)
        self.port, self.admin_port = map(int, ready.groups())
        self.pid = int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text())

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def status(self, field: str) -> list[str]:
        """What the kernel says of the broker."""
        [line] = re.findall(rf"^{field}:(.*)$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return str(line).split()

    def execute(self, *words: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
        """As `docker exec`, as root, where the health check asks as well."""
        url = f"DISPATCHD_URL=http://127.0.0.1:{self.admin_port}"
        return subprocess.run(
            ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root", "--wd=/", "/usr/bin/env", "-i",
             *self._environment, url, *words],
            capture_output=True, check=False, text=True, timeout=seconds,
        )  # fmt: skip

    def stop(self) -> int:
        """As `docker stop`; returns the exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self._process.wait(START_SECONDS)

    def remove(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(START_SECONDS)
        self._log.close()
