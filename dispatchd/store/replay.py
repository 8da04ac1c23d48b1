"""What a redo log has that its data file does not: at start, and for a copy, where it is brought at once."""

from __future__ import annotations

from pathlib import Path

from dispatchd.store.data_file import DATA_FILE, LOG_FILE, damaged
from dispatchd.store.headroom import map_size_for
from dispatchd.store.layout import LOG_KEY
from dispatchd.store.mapping import Mapping
from dispatchd.store.redo import Outstanding, State, end_log, outstanding
from dispatchd.store.redo_log import Logged, read_log
from dispatchd.store.tables import Tables, open_environment


def left_behind(tables: Tables, directory: Path) -> Outstanding | None:
    """What the log of a data file has that it does not, if there is one: the broker that had it did not end by itself.

    Raises StoreDamaged if the log is damaged, ValueError if what the data file says of it is, and OSError.
    """
    state = _state(tables)
    return None if state is None else _sound(directory, outstanding(state, read_log(directory)))


def complete(copy: Path, directory: Path, logged: Logged | None) -> None:
    """Bring a copy of a data file in `directory` up to what its log had before it was copied.

    Raises like `left_behind`, and what LMDB raises.
    """
    environment = open_environment(copy, map_size_for((copy / DATA_FILE).stat().st_size), is_synced=False)
    try:
        tables = Tables(environment, Mapping(copy / DATA_FILE))
        state = _state(tables)
        if state is None:
            return
        if logged is None or logged.identity != state.identity:
            now = read_log(directory)
            if now is not None and now.identity == state.identity:  # made since: all that was confirmed before is there
                logged = Logged.empty(state.identity)
        found = _sound(directory, outstanding(state, logged))
        with environment.begin(write=True) as transaction:
            found.pending.write(transaction, tables)
            end_log(transaction, tables)
        environment.sync(force=True)
    finally:
        environment.close()


def _state(tables: Tables) -> State | None:
    with tables.environment.begin() as transaction:
        value = transaction.get(LOG_KEY, db=tables.meta)
    return None if value is None else State.unpack(value)


def _sound(directory: Path, found: Outstanding) -> Outstanding:
    if found.faults:
        raise damaged(directory / LOG_FILE, "; ".join(found.faults))
    return found
