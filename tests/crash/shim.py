"""Puts disk.c under a process: the files below a folder are recorded, and can be made to fail."""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_FAULTS = struct.Struct("<iiii")
WRITES, SYNCS, LAST_WRITES, LOG_WRITES = 1, 2, 4, 8


@cache
def _compiled() -> bytes:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler for tests/crash/disk.c")
    with TemporaryDirectory() as folder:
        library = Path(folder, "disk.so")
        source = Path(__file__).with_name("disk.c")
        options = ("-std=gnu11", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread")
        subprocess.run((compiler, *options), check=True, timeout=60)
        return library.read_bytes()


class Shim:
    """`within` is the command that runs another one on this disk."""

    def __init__(self, directory: Path, root: Path) -> None:
        """Skips the test where there is no C compiler. `directory` gets what the shim needs, `root` is watched."""
        library = directory / "disk.so"
        library.write_bytes(_compiled())
        self.recording = directory / "recording"
        faults = directory / "faults"
        faults.write_bytes(bytes(_FAULTS.size))
        with faults.open("r+b") as file:
            self._faults = mmap.mmap(file.fileno(), _FAULTS.size)
        variables = {"LD_PRELOAD": library, "DISK_ROOT": root, "DISK_RECORDING": self.recording, "DISK_FAULTS": faults}
        self.within = ("env", *(f"{name}={value}" for name, value in variables.items()))

    def fail(self, what: int, *, count: int = 1 << 30, applied: bool = False) -> None:
        """Let so many calls of these kinds fail; `applied`: the first of them happens all the same."""
        self._faults[:] = _FAULTS.pack(what, errno.EIO, count, applied)

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.fail(0)
