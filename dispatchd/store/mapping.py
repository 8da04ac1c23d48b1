"""The pages of a data file that LMDB has mapped: the system counts them to this process until it wants them back.

Who looks at the resident set, or has a container's limit on it, sees a backlog there that is not in memory. So these
pages are let go of when they are many. They stay in the system's cache: to touch one again costs a minor fault.
"""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

MOST_RESIDENT: Final = 128 << 20
"""Octets of mapped files that may count to this process."""

LOOK_SECONDS: Final = 0.05
"""To look takes as long as a tenth of a small commit."""

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")
_MAPS: Final = Path("/proc/self/maps")
_MADV_DONTNEED: Final = 4


class Mapping:
    """Where a file is mapped. It does nothing where the system does not tell (other systems than Linux)."""

    def __init__(self, file: Path) -> None:
        """`file` is mapped already, and stays so."""
        self._areas = _areas(file)
        self._looked = 0.0

    def trim(self) -> None:
        """Let go of the pages if too many of mapped files are resident. May take milliseconds: for a native thread."""
        now = time.monotonic()
        if not self._areas or now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        if _resident() > MOST_RESIDENT:
            for start, size in self._areas:
                _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED)


def _resident() -> int:
    return int(_STATM.read_text().split()[2]) * _PAGE


def _areas(file: Path) -> list[tuple[int, int]]:
    """Start and size of each mapping of the file."""
    areas = []
    with suppress(OSError):
        path = str(file.resolve())
        for line in _MAPS.read_text().splitlines():
            addresses, _, _, _, _, *mapped = line.split(maxsplit=5)
            if mapped == [path]:
                start, end = (int(address, 16) for address in addresses.split("-"))
                areas.append((start, end - start))
    return areas


_libc = ctypes.CDLL(None)
