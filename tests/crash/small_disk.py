"""A file system of a few MiB in memory, which only a process of its own has mounted: it goes when that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo mounted && exec cat'


class SmallDisk:
    """`within` is the command that another command is to be run by, to find the disk at `path`.

    This process finds it at `seen`.
    """

    def __init__(self, path: Path, size: int) -> None:
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            pytest.skip("no file system can be mounted here: there is no unshare or no nsenter")
        self.path = path
        path.mkdir()
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", str(size), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != "mounted\n":
            pytest.skip(f"no file system can be mounted here: {self._holder.stderr.read().strip()}")
        holder = str(self._holder.pid)
        self.within = ("nsenter", "--target", holder, "--user", "--mount", "--preserve-credentials")
        self.seen = Path(f"/proc/{holder}/root{path}")

    def close(self) -> None:
        """Let go of it, and of all that is on it."""
        self._holder.communicate(timeout=10)

    @property
    def free(self) -> int:
        found = os.statvfs(self.seen)
        return found.f_bavail * found.f_frsize

    def fill(self) -> Path:
        """Make a file that leaves nothing free; returns it."""
        ballast = self.seen / "ballast"
        with ballast.open("wb") as file:
            if self.free:
                os.posix_fallocate(file.fileno(), 0, self.free)
        return ballast
