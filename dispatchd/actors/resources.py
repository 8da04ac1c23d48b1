"""What this process may use, and what it uses: memory, and disk where its data are. All of it is read from files."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container, in the two versions of control groups; as the process sees them, its own is at the root."""
MALLOC_OPTIONS: Final = {-8: 1, -3: 9 << 17, -1: 4 << 20}
"""GNU's M_ARENA_MAX, M_MMAP_THRESHOLD, which stays as it is set, and M_TRIM_THRESHOLD, which would stay at 128 KiB:
with that messages of 1 MiB cost 1.3 times as much, in new pages for what had just been given back. They still fit under
the second: as blocks of their own they cost 1.2 times as much."""
STATM: Final = Path("/proc/self/statm")


def raise_file_limit() -> int:
    """Have as many files and sockets as the system grants this process; returns how many that are.

    Many systems give a process 1,024 until it asks for more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # no limit at all may be more than the system has
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


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


def keep_memory_together() -> bool:
    """Have the C library keep one heap, without large blocks in it; whether it is GNU's, which can. For the start.

    Left alone it learns to take blocks of up to 32 MiB from the heap, where small ones that stay keep it from
    shrinking: while clients came and went a broker grew by 3 % in ten minutes, with this by 0.3 %. Blocks as large as
    a read still come from the heap: with new pages for each, messages of 16 KiB cost half as much again.
    """
    with suppress(OSError, AttributeError):  # another C library than GNU's
        library = ctypes.CDLL(None)
        return all(library.mallopt(option, value) for option, value in MALLOC_OPTIONS.items())
    return False


def give_memory_back() -> None:
    """Ask the C library to let the system have what was freed."""
    with suppress(OSError, AttributeError):
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
