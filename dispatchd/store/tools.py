"""What operators do to a store on disk: look into it, copy it, make it smaller, put a copy in its place.

To look into one and to copy it works beside a running broker, from another process: LMDB's readers see one state of the
file, whose pages are not used again for as long as they look, so that the file may grow.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import lmdb

from dispatchd.store.damage import in_one_line
from dispatchd.store.data_file import (
    DATA_FILE,
    LOCK_FILE,
    adopt,
    claim_directory,
    create_data_file,
    damaged,
    faults,
    sync_way_to,
)
from dispatchd.store.failures import told
from dispatchd.store.inspection import Inspection
from dispatchd.store.interface import StoreError
from dispatchd.store.layout import DATABASES, expect_known
from dispatchd.store.redo import is_that_of
from dispatchd.store.redo_log import read_log
from dispatchd.store.remains import Remains, TransactionGone
from dispatchd.store.replay import complete

_MAP_SIZE: Final = 1 << 42
"""More than any store has; it is only addresses."""
_ATTEMPTS: Final = 1000
"""One more is needed when a broker commits twice in the moment between two calls."""
_ATTEMPTS_TO_MATCH: Final = 3
"""A broker that begins a redo log, or ends, may do it between the look at the log and that at the data."""


def inspect(directory: Path) -> Inspection:
    """Read all that a store has. Raises StoreError if it cannot be read, StoreTooNew if its format is not known."""
    with _reading(directory) as environment:
        if environment is None:
            return _inspect(directory / DATA_FILE)
        return _inspect_in_use(directory / DATA_FILE, environment)


def back_up(directory: Path, target: Path) -> Inspection:
    """Copy a store to a new folder, or an empty one, with which a broker can start; returns what is in the copy.

    Raises StoreError if it cannot be done, StoreDamaged if the store is damaged; then there is no copy.
    """
    with told(target, "made"):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise StoreError(f"{target}: has files in it, expected a new folder or an empty one")
    sync_way_to(target)
    with _reading(directory) as environment, ExitStack() as opened:
        if environment is None:
            _sound(directory / DATA_FILE)
            environment = opened.enter_context(_environment(directory, lock=False))
        return _copy(environment, directory, target)


def restore(backup: Path, directory: Path, replaces: bool) -> Inspection:
    """Put a sound backup into the folder of a broker that does not run; returns what is in it.

    Raises StoreError if it cannot be done, StoreDamaged if the backup is damaged; then all is as it was.
    """
    _expect_store(backup)
    with _kept_from_others(backup) as is_ours:
        if not is_ours:
            raise StoreError(f"{backup}: in use by a broker, expected a backup")
        inspection = _sound(backup / DATA_FILE)
        with _claimed(directory), told(directory / DATA_FILE, "written"):
            if not replaces and (directory / DATA_FILE).exists():
                raise StoreError(f"{directory}: has data in it, expected none, or to be told to replace it")

            def copy(unfinished: Path) -> None:
                shutil.copyfile(backup / DATA_FILE, unfinished / DATA_FILE)
                complete(unfinished, backup, read_log(backup))
                _finish(unfinished / DATA_FILE, directory)

            create_data_file(directory, copy)
    return inspection


def compact(directory: Path) -> tuple[int, int]:
    """Write a sound store anew without its free pages; returns the size of the file before and after.

    Raises StoreError if it cannot be done, StoreDamaged if the store is damaged; then all is as it was.
    """
    with _claimed(directory):
        before = _sound(directory / DATA_FILE)
        with _environment(directory, lock=False) as environment:
            after = _copy(environment, directory, directory)
    return before.remains.size, after.remains.size


@contextmanager
def _reading(directory: Path) -> Iterator[lmdb.Environment | None]:
    """A store that nobody begins to use meanwhile; if a broker has it, the environment that it works in."""
    _expect_store(directory)
    with _kept_from_others(directory) as is_ours:
        if is_ours:
            yield None
        else:
            with _environment(directory, lock=True) as environment:
                yield environment


def _expect_store(directory: Path) -> None:
    if not (directory / DATA_FILE).is_file():
        raise StoreError(f"{directory}: no store, expected a folder with {DATA_FILE} in it")


@contextmanager
def _kept_from_others(directory: Path) -> Iterator[bool]:
    """Lock the directory if nobody has it, without making any file; whether that was so."""
    try:
        lock = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    except OSError as error:
        raise StoreError(f"{directory}: cannot be read: {error.strerror}, expected to be allowed to") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    lock = claim_directory(directory)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def _environment(directory: Path, *, lock: bool) -> Iterator[lmdb.Environment]:
    with told(directory / DATA_FILE, "opened"):
        environment = lmdb.open(
            str(directory), readonly=True, lock=lock, create=False, map_size=_MAP_SIZE, max_dbs=len(DATABASES)
        )
    with environment:
        yield environment


def _inspect(data: Path) -> Inspection:
    with told(data, "read"), Remains(data) as remains:
        expect_known(data, remains.format)
        remains.note(*faults(data))
        return Inspection(remains, read_log(data.parent))


def _inspect_in_use(data: Path, environment: lmdb.Environment) -> Inspection:
    for attempt in range(_ATTEMPTS):
        logged = read_log(data.parent)  # before the transaction: what is not in it any more is in that
        with environment.begin() as transaction:
            try:
                remains = Remains(data, transaction.id())
            except TransactionGone:
                continue
            with remains:
                expect_known(data, remains.format)
                if attempt < _ATTEMPTS_TO_MATCH and not is_that_of(logged, remains.log_state):
                    continue
                return Inspection(remains, logged)
    raise StoreError(f"{data}: changes faster than it can be looked at, expected a moment between two commits")


def _sound(data: Path) -> Inspection:
    """What is in a file, all of which has to be intact; raises StoreDamaged if not."""
    inspection = _inspect(data)
    if not inspection.is_sound:
        raise damaged(data, in_one_line(inspection))
    return inspection


def _copy(environment: lmdb.Environment, directory: Path, target: Path) -> Inspection:
    """Make a data file in `target` of what is in use in that of `directory`; returns what is in it."""
    copied: list[Inspection] = []

    def copy(unfinished: Path) -> None:
        logged = read_log(directory)  # before the copy: what is not in it any more is in that
        environment.copy(str(unfinished), compact=True)
        complete(unfinished, directory, logged)
        _finish(unfinished / DATA_FILE, directory)
        copied.append(_sound(unfinished / DATA_FILE))

    with told(target / DATA_FILE, "written"):
        create_data_file(target, copy)
    return copied[0]


def _finish(data: Path, directory: Path) -> None:
    """Sync a new file, and make it private to the owner of a directory."""
    with data.open("rb") as copied:
        os.fchmod(copied.fileno(), 0o600)
        adopt(copied.fileno(), directory)
        os.fsync(copied.fileno())
