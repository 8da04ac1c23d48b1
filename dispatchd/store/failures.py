"""What LMDB, the system or a record raises, as the store's own errors: one line that names the file."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb

from dispatchd.store.data_file import damaged
from dispatchd.store.headroom import FULL, is_full
from dispatchd.store.interface import StoreError, StoreFull

_CORRUPT: Final = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)


@contextmanager
def told(data: Path, done: str, limit: int = 0) -> Iterator[None]:
    """Raises StoreFull, StoreDamaged or StoreError for what is raised inside.

    `done` is what could not be done to the file, and `limit` how many bytes it may have.
    """
    try:
        yield
    except lmdb.MapFullError as error:
        raise StoreFull(f"{data}: full: reached its limit of {limit} bytes, expected room for this batch") from error
    except _CORRUPT as error:
        raise damaged(data, str(error)) from error
    except (lmdb.Error, OSError) as error:
        # LMDB's errors have a code, py-lmdb's own have none.
        code = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
        if code in FULL or (code == errno.EIO and done != "read" and is_full(data.parent)):
            raise StoreFull(f"{data}: full: {error}, expected room on its disk") from error
        raise StoreError(f"{data}: could not be {done}: {error}") from error
    except ValueError as error:
        raise damaged(data, str(error)) from error
