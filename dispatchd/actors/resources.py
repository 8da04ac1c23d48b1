"""What this process may use, and what it uses: memory, and disk where its data are. All of it is read from files."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container, in the two versions of control groups; as the process sees them, its own is at the root."""
STATM: Final = Path("/proc/self/statm")


def memory_limit() -> int:
    """Octets of memory that this process can have: its container's limit, or the machine's memory, if that is less."""
    limit = PAGE * os.sysconf("SC_PHYS_PAGES")
    for file in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # there is no such file, or it says "max"
            limit = min(limit, int(file.read_text()))
    return limit


def memory_used() -> int:
    """Octets of memory that this process has to itself. What is mapped from files is the system's, to take back."""
    resident, shared = map(int, STATM.read_text().split()[1:3])
    return (resident - shared) * PAGE


def give_memory_back() -> None:
    """Ask the C library to let the system have what was freed."""
    with suppress(OSError, AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True, slots=True)
class Usage:
    """Octets. `disk_free` is None if it could not be found out."""

    memory: int
    disk_free: int | None


def measure(directory: Path | None, unused: Callable[[], int] = int) -> Usage:
    """What is used and free now; `directory` is where the data are, None if they are in memory. May block.

    `unused` says how many octets of the disk the data have taken and do not need any more: they are as good as free.
    """
    free = None
    if directory is not None:
        with suppress(OSError):
            found = os.statvfs(directory)
            free = found.f_bavail * found.f_frsize + unused()
    return Usage(memory_used(), free)
