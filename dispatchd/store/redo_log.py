"""The redo log: a file beside LMDB's, in which a batch is durable after a single write that is synced.

It is written once when it is made, so that to write it over changes nothing but its octets. Records begin at pages of
their own, have numbers that go up by one, and a checksum that begins with the log's identity: no record of another log,
of another round, or in a message that somebody sent passes for one of this.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from fcntl import F_GETFL, F_SETFL, fcntl
from pathlib import Path
from struct import Struct
from typing import Final, Self
from zlib import crc32

from dispatchd.store.batches import Batch, decode
from dispatchd.store.data_file import LOG_FILE, adopt, sync_directory

LOG_BYTES: int = 4 << 20  # not final: that can be set from outside, compiled or not
PAGE: Final = 4096
IDENTITY_SIZE: Final = 16

_MAGIC: Final = b"dispatchd redo 1"
_HEAD: Final = Struct("<4sIQI")  # magic, size of the batch, number, checksum of the three others and the batch
_RECORD: Final = b"redo"
_CHECKSUM_SIZE: Final = 4


def _checksum(identity: bytes, number: int, batch: bytes) -> int:
    return crc32(batch, crc32(_HEAD.pack(_RECORD, len(batch), number, 0), crc32(identity)))


def _first_page(identity: bytes) -> bytes:
    head = _MAGIC + identity
    return head + crc32(head).to_bytes(_CHECKSUM_SIZE, "little")


class RedoLog:
    """One that is written. `number` is that of the last record, whether it could be written or not."""

    def __init__(self, directory: Path) -> None:
        """Make it. Raises OSError if that can't be done; then there is none."""
        self._path = directory / LOG_FILE
        self.identity = os.urandom(IDENTITY_SIZE)
        self.number = 0
        self._at = LOG_BYTES
        self._path.unlink(missing_ok=True)
        self._mapping = mmap.mmap(-1, LOG_BYTES)
        self._pages = memoryview(self._mapping)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_DSYNC, 0o600)
        try:
            adopt(self._file, directory)
            first = _first_page(self.identity)
            self._expect(LOG_BYTES, os.pwrite(self._file, first.ljust(LOG_BYTES, b"\0"), 0))
            os.fsync(self._file)
            sync_directory(directory)
            self._pass_by_the_cache(first)
        except BaseException:
            self.close()
            self._path.unlink(missing_ok=True)
            raise

    def _write(self, data: bytes, at: int) -> None:
        """Write whole pages, from memory that is a page's too: nothing else may pass by the system's cache.

        What is behind the data in the last of them has no meaning.
        """
        end = len(data) + -len(data) % PAGE
        self._pages[: len(data)] = data
        with self._pages[:end] as pages:
            self._expect(end, os.pwrite(self._file, pages, at))

    def _expect(self, size: int, written: int) -> None:
        if written != size:
            raise OSError(errno.ENOSPC, f"{self._path}: {written} of {size} bytes could be written")

    def _pass_by_the_cache(self, first: bytes) -> None:
        """Have writes go past the system's cache, where the disk can do that: 75 to 95 µs each, else 100 to 140."""
        flags = fcntl(self._file, F_GETFL)
        try:
            fcntl(self._file, F_SETFL, flags | os.O_DIRECT)
            self._write(first, 0)
        except OSError:
            fcntl(self._file, F_SETFL, flags)

    def has_room(self, size: int) -> bool:
        """Whether a batch of so many octets can follow; never in a new one before `begin_again`."""
        return self._at + _HEAD.size + size <= LOG_BYTES

    def append(self, batch: bytes) -> None:
        """Write the next record, for which there is room; it is durable when this returns.

        If it raises OSError, the record may be there or not: there is room for no other one before `begin_again`.
        """
        self.number += 1
        at, self._at = self._at, LOG_BYTES
        checksum = _checksum(self.identity, self.number, batch)
        self._write(_HEAD.pack(_RECORD, len(batch), self.number, checksum) + batch, at)
        end = at + _HEAD.size + len(batch)
        self._at = end + -end % PAGE

    def begin_again(self) -> None:
        """Write the next record over the first: LMDB has what is in all of them, and knows that."""
        self._at = PAGE

    def close(self) -> None:
        """Nothing is written any more."""
        os.close(self._file)
        self._pages.release()
        self._mapping.close()


class Logged:
    """What a log has, whatever state it is in. `identity` is None if its first page is damaged."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        end = len(_MAGIC) + IDENTITY_SIZE
        head, checksum = data[:end], int.from_bytes(data[end : end + _CHECKSUM_SIZE], "little")
        is_whole = head.startswith(_MAGIC) and crc32(head) == checksum
        self.identity = head[len(_MAGIC) :] if is_whole else None

    @classmethod
    def empty(cls, identity: bytes) -> Self:
        """One without records."""
        return cls(_first_page(identity))

    def records(self, identity: bytes) -> dict[int, Batch]:
        """The records that are whole and those of this log, by their numbers, in their order in the file."""
        found = {}
        for at in range(PAGE, len(self._data), PAGE):
            if self._data.startswith(_RECORD, at):
                _, size, number, checksum = _HEAD.unpack_from(self._data, at)
                batch = self._data[at + _HEAD.size : at + _HEAD.size + size]
                if len(batch) == size and checksum == _checksum(identity, number, batch):
                    with suppress(ValueError):
                        found[number] = decode(batch)
        return found


def read_log(directory: Path) -> Logged | None:
    """The log in a folder, if there is one. Raises OSError if it can't be read.

    A broker may write to it meanwhile: it is read from its end to its beginning, so that no record is missing that was
    written before one that is found.
    """
    try:
        file = os.open(directory / LOG_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = min(os.fstat(file).st_size, LOG_BYTES)
        pages = [os.pread(file, PAGE, at) for at in reversed(range(0, size, PAGE))]
    finally:
        os.close(file)
    return Logged(b"".join(reversed(pages)))
