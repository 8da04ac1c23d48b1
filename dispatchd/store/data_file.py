"""The files of an LMDB store before LMDB sees them: claimed for one broker, created whole or not at all, verified.

LMDB maps its file and trusts it: a truncated one kills the process with SIGBUS at the first read, and an empty one is
begun anew. So the structure is read through plain file calls first.
"""

# lmdb.verify has no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lmdb import verify

from dispatchd.store.interface import StoreDamaged, StoreError
from dispatchd.store.pages import PageFile

DATA_FILE = "data.mdb"
LMDB_LOCK_FILE = "lock.mdb"
LOG_FILE = "redo.log"
LOCK_FILE = "dispatchd.lock"
_UNFINISHED = "creating"
_OWNER_SIZE = 20


def claim_directory(directory: Path) -> int:
    """Make the directory if it is missing, and lock it: LMDB alone would let several brokers in.

    Its name is synced, and those of the directories above, whoever made them: he may have ended before he did that.
    Returns the file descriptor that holds the lock until it is closed, or the process ends.
    Raises StoreError if the directory cannot be written, or another broker has it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        adopt(lock, directory)
    except OSError as error:
        found = f"{directory}: cannot be used as a store: {error.strerror}"
        raise StoreError(f"{found}, expected a directory that this user may write") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(lock, b"%-*d\n" % (_OWNER_SIZE - 1, os.getpid()), 0)  # always as long: a full disk may have no more
    except OSError as error:
        owner = os.pread(lock, _OWNER_SIZE, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise StoreError(f"{directory}: in use by another broker (process {owner}), expected to be alone") from None
        raise StoreError(f"{directory}: cannot be locked: {error.strerror}, expected a lock of its own") from error
    sync_way_to(directory)
    return lock


def adopt(descriptor: int, directory: Path) -> None:
    """Give a file to the owner of a directory, if root has made it: there a broker may be somebody else."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def create_data_file(directory: Path, fill: Callable[[Path], None]) -> None:
    """Make a new data file with what `fill` writes, and syncs, to the LMDB environment at the path it gets.

    It appears under its name when it is complete, so that a smaller one can only be a damaged one. One that was there
    before is replaced then, and a redo log that belonged to that one goes.
    """
    unfinished = directory / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    try:
        fill(unfinished)
        (unfinished / DATA_FILE).rename(directory / DATA_FILE)
    finally:
        shutil.rmtree(unfinished)
    sync_directory(directory)
    (directory / LOG_FILE).unlink(missing_ok=True)


def verify_data_file(data: Path) -> None:
    """Raises StoreDamaged with the first of the `faults` if there is one, OSError if the file cannot be read."""
    if found := faults(data):
        raise damaged(data, f"{found[0]} (faults: {len(found)})")


def faults(data: Path) -> list[str]:
    """What keeps LMDB from following every page; nothing if they are all in the file, and sound; 1.5 µs per record.

    The size alone does not tell: LMDB leaves free pages at the end unwritten, so a sound file may be shorter than its
    last page number says. Raises OSError if the file cannot be read.
    """
    try:
        with data.open("rb") as file:
            found: list[str] = _Verifier(file, data.stat().st_size).verify()
    except verify.VerifyError as error:
        found = [str(error)]
    except (ArithmeticError, LookupError, RecursionError, ValueError, struct.error) as error:
        found = [f"cannot be followed: {error!r}"]
    return found or _faults_of_metas(data)


def _faults_of_metas(data: Path) -> list[str]:
    """LMDB writes its two meta pages by turns and takes the one with the higher number of a transaction.

    So the numbers follow each other, or one is damaged, and the last commit may be taken back by that.
    """
    pages = PageFile(data)
    numbers = [meta.transaction for meta in pages.metas()]
    pages.close()
    if len(numbers) == 2 and numbers[0] == numbers[1] + 1:
        return []
    return [f"the meta pages are those of the transactions {numbers}, which do not follow each other"]


class _Verifier(verify._Verifier):
    """lmdb's own verifier, which of a value on several pages misses all but the first when the file ends too early."""

    def _mark_live(self, pgno: int, what: str) -> bool:
        if (pgno + 1) * self.psize > self.filesize:
            self.err(f"{what}: page {pgno} is beyond the end of the file")
        return bool(super()._mark_live(pgno, what))


def damaged(path: Path, found: str) -> StoreDamaged:
    """The one line in which a damaged store is refused."""
    return StoreDamaged(f"{path}: damaged: {found}, expected a whole store; it is left as it is")


def sync_way_to(directory: Path) -> None:
    """Have the names of a directory and of those above it on disk."""
    with suppress(OSError):  # where this user may not look, nobody has made a folder for him just now
        for folder in directory.absolute().parents:
            sync_directory(folder)


def sync_directory(directory: Path) -> None:
    """Have the names of what is in it on disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
