"""Room that additions leave free, so that a full store can still be emptied.

LMDB never writes over a page in use: even a removal takes new pages first, and with none left, in the map or on the
disk, a store would stay full for ever.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from dispatchd.model.journal import Changes

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SPARE_BYTES: Final = 8 << 20
"""Disk space for removals: a batch copies at most a page for each, and pages come back two commits later."""
_SPARE_MAP: Final = 64 << 20
_PROBE_BYTES: Final = 1 << 20


def map_size_for(limit: int) -> int:
    """The size of the map in which `limit` bytes of pages in use leave plenty for removals; it is only addresses."""
    return limit + limit // 4 + _SPARE_MAP


def adds(changes: Changes) -> bool:
    """Whether the batch may make the store larger."""
    return bool(changes.entries or changes.contents or any(changes.definitions.values()))


def keep_spare(data: Path, used: int) -> int:
    """Allocate SPARE_BYTES of disk more than the `used` bytes of pages in use; pages that are free count.

    Returns for how many bytes in use there is room now. Raises OSError if the disk has none for it. A file system that
    cannot allocate ahead gives no such promise.
    """
    wanted = used + SPARE_BYTES
    size = data.stat().st_size
    if size < wanted:
        with data.open("r+b") as file:
            _allocate(file.fileno(), size, wanted + SPARE_BYTES)
        size = wanted + SPARE_BYTES
    return size - SPARE_BYTES


def unused(data: Path, used: int) -> int:
    """How much more may be added before `keep_spare` takes more of the disk."""
    return max(data.stat().st_size - used - SPARE_BYTES, 0)


def is_full(directory: Path) -> bool:
    """Whether files can't grow: LMDB says EIO as well when the disk had room for a part of what it wrote."""
    probe = directory / "probe"
    try:
        with probe.open("wb") as file:
            _allocate(file.fileno(), 0, _PROBE_BYTES)
    except OSError as error:
        return error.errno in FULL
    finally:
        with suppress(OSError):
            probe.unlink()
    return False


def _allocate(file: int, begin: int, end: int) -> None:
    try:
        os.posix_fallocate(file, begin, end - begin)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
