"""How a redo log and LMDB go together: which batches are logged, when LMDB gets them, and what it says of the log."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple, Self
from zlib import crc32

import lmdb

from dispatchd.model.checksums import CHECKSUM_SIZE
from dispatchd.model.journal import Changes
from dispatchd.store.batches import by_table, encode
from dispatchd.store.data_file import DATA_FILE, LOG_FILE
from dispatchd.store.headroom import keep_spare
from dispatchd.store.layout import FORMAT, FORMAT_KEY, FORMAT_WITH_LOG, LOG_KEY
from dispatchd.store.pending import Pending, room_for
from dispatchd.store.redo_log import IDENTITY_SIZE, Logged, RedoLog
from dispatchd.store.tables import Tables

logger = logging.getLogger(__name__)

MOST_OCTETS: Final = 1 << 20
"""Of bodies in a batch that is logged: to write a large one twice costs more than a sync."""
# Those that are not final can be set from outside, compiled or not.
MOST_ROWS: int = 2000
"""That wait for LMDB: the confirm that comes upon the end of the log waits for them, about 4 ms."""
SECONDS_BETWEEN_ATTEMPTS: float = 30.0
"""To make a log, or to write it, where that failed."""


class State(NamedTuple):
    """What a data file says of its log: which one it is, and the number of the last record that LMDB has."""

    identity: bytes
    applied: int

    def pack(self) -> bytes:
        """As it is stored, with a checksum."""
        packed = _STATE.pack(*self)
        return packed + crc32(packed).to_bytes(CHECKSUM_SIZE, "little")

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """What was stored. Raises ValueError if this is none."""
        packed, checksum = value[: _STATE.size], value[_STATE.size :]
        if len(value) != _STATE.size + CHECKSUM_SIZE or checksum != crc32(packed).to_bytes(CHECKSUM_SIZE, "little"):
            raise ValueError(f"what it says of {LOG_FILE} does not match its checksum")
        return cls(*_STATE.unpack(packed))


_STATE: Final = Struct(f"<{IDENTITY_SIZE}sQ")


class Redo:
    """Logs what somebody waits for, and has the rest of what a commit does to LMDB.

    `pending` is what LMDB does not have yet; another one takes its place when LMDB has it.
    """

    def __init__(self, directory: Path) -> None:
        """Nothing is logged before somebody waits for a batch; the log is made with the next commit then."""
        self._directory = directory
        self._data = directory / DATA_FILE
        self._log: RedoLog | None = None
        self._kept = 0
        self._applied = 0
        self._next_attempt = 0.0
        self._is_left_behind = False
        self.pending = Pending(of_journal=True)

    def resume(self, found: Outstanding) -> None:
        """Go on from the log that an earlier run left behind: LMDB gets all of it with the next commit."""
        self.pending = found.pending
        self._is_left_behind = True

    @property
    def is_behind(self) -> bool:
        """Whether LMDB lacks something that is logged."""
        return self._is_left_behind or (self._log is not None and self._log.number != self._applied)

    @property
    def is_begun(self) -> bool:
        """Whether there is a log."""
        return self._log is not None

    def log(self, changes: Changes, used: int, limit: int) -> bool:
        """Have a batch durable in the log; False if it is one for LMDB, also because the log can't be written.

        That has `used` octets, and may have `limit`: what is logged must find room there later on.
        """
        if changes.dropped_queues or changes.body_bytes > MOST_OCTETS or not self._can_be_used():
            return False
        batch = by_table(changes)
        octets = encode(batch)
        log, pending = self._log, self.pending
        rows = pending.rows_with(batch)
        if log is None or not log.has_room(len(octets)) or rows > MOST_ROWS:
            return False
        room = room_for(rows, pending.octets + len(octets))
        if used + room > limit or not self._keep(used + room):
            return False
        try:
            log.append(octets)
        except OSError as error:
            self._give_up("written", error)
            return False
        pending.add(batch)
        return True

    def _give_up(self, done: str, error: OSError) -> None:
        self._next_attempt = time.monotonic() + SECONDS_BETWEEN_ATTEMPTS
        logger.error("%s: could not be %s: %s; confirms take longer", self._directory / LOG_FILE, done, error)

    def _keep(self, room: int) -> bool:
        """See that LMDB's file has so much room, which it does not lose again."""
        if room > self._kept:
            try:
                self._kept = keep_spare(self._data, room)
            except OSError:
                return False
        return True

    def _can_be_used(self) -> bool:
        if self._is_left_behind or time.monotonic() < self._next_attempt:
            return False
        if self._log is None:
            try:
                self._log = RedoLog(self._directory)
            except OSError as error:
                self._give_up("made", error)
        return self._log is not None

    def write(self, transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        """Have LMDB get what it does not have yet, in a transaction after which `written` is to be called."""
        self.pending.write(transaction, tables)
        if self._is_left_behind:
            end_log(transaction, tables)
        if self._log is not None and (self._applied, self._log.has_room(0)) != (self._log.number, True):
            transaction.put(LOG_KEY, State(self._log.identity, self._log.number).pack(), db=tables.meta)
            transaction.put(FORMAT_KEY, b"%d" % FORMAT_WITH_LOG, db=tables.meta)

    def written(self) -> None:
        """The transaction is in force."""
        if self._is_left_behind:
            self.ended()
        if self._log is not None:
            self._applied = self._log.number
            self._log.begin_again()
        if len(self.pending):
            self.pending = Pending(of_journal=True)

    def end(self, transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
        """Have LMDB know of no log, in a transaction after which `ended` is to be called."""
        self.pending.write(transaction, tables)
        end_log(transaction, tables)

    def ended(self) -> None:
        """The transaction is in force."""
        if self._log is not None:
            self._log.close()
        with suppress(OSError):  # what no data file names is removed when the next one is made
            (self._directory / LOG_FILE).unlink(missing_ok=True)
        self._log, self._is_left_behind, self.pending = None, False, Pending(of_journal=True)


def end_log(transaction: lmdb.Transaction[bytes], tables: Tables) -> None:
    """Have a data file be one without a log."""
    transaction.delete(LOG_KEY, db=tables.meta)
    transaction.put(FORMAT_KEY, b"%d" % FORMAT, db=tables.meta)


@dataclass
class Outstanding:
    """What a log has that its data file does not.

    `faults` says what is wrong with the log; `lost` is how many batches are lost with that, None if nobody can know.
    """

    pending: Pending = field(default_factory=lambda: Pending(of_journal=False))
    records: int = 0
    faults: list[str] = field(default_factory=list)
    lost: int | None = 0


def outstanding(state: State | None, logged: Logged | None) -> Outstanding:
    """What of a log, if there is one, belongs to a data file that says this of it.

    A record that is not whole is a batch that was not confirmed, unless there is a later one: that is written when the
    one before is durable.
    """
    found = Outstanding()
    if state is None:
        return found
    if logged is None:
        found.faults.append(f"{LOG_FILE} is missing")
        found.lost = None
        return found
    records = logged.records(state.identity)
    if logged.identity != state.identity:
        found.faults.append(f"{LOG_FILE} is that of other data, or its first page is damaged")
        found.lost = None
    numbers = sorted(number for number in records if number > state.applied)
    for number in numbers:
        found.pending.add(records[number])
    found.records = len(numbers)
    missing = numbers[-1] - state.applied - len(numbers) if numbers else 0
    if missing:
        found.faults.append(f"{missing} of {missing + len(numbers)} records in {LOG_FILE} are damaged")
        found.lost = missing
    return found


def is_that_of(logged: Logged | None, state: bytes | None) -> bool:
    """Whether this is the log, or its absence, that a data file speaks of."""
    identity = None if logged is None else logged.identity
    return state is None or (identity is not None and state.startswith(identity))


def state_of_unknown(logged: Logged | None) -> State | None:
    """What a data file may have said of a log, if that can't be read: the records of the last round were to come.

    Each round begins at the beginning of the file, with numbers above those of the one before.
    """
    if logged is None or logged.identity is None:
        return None
    first = next(iter(logged.records(logged.identity)), 1)
    return State(logged.identity, first - 1)
