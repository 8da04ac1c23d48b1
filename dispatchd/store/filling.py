"""A data file filled from nothing: an empty one, or one with the rows of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from dispatchd.store.data_file import DATA_FILE
from dispatchd.store.headroom import keep_spare
from dispatchd.store.layout import DATABASES, FORMAT, FORMAT_KEY, META_NAME

Rows = Iterable[tuple[bytes, bytes]]

_ROWS_IN_ONE_TRANSACTION: Final = 50_000


def fill(
    directory: Path,
    map_size: int,
    tables: Mapping[bytes, Rows] | None = None,
    strays: Iterable[tuple[bytes, bytes, bytes]] = (),
    used: int = 0,
) -> None:
    """Make a data file in an empty directory, of the format of now, with these rows by the names of their tables.

    Rows come in the order of their keys; only `strays`, with the names of their tables, come in any order, and are left
    out where there is such a row already. All take about `used` bytes, for which the disk has to have room at once.
    The file is synced when this returns. Raises what LMDB raises, and OSError.
    """
    environment = lmdb.open(str(directory), map_size=map_size, max_dbs=len(DATABASES), mode=0o600, sync=False)
    try:
        with environment.begin(write=True) as transaction:
            for name in DATABASES:
                environment.open_db(name, transaction)
            meta = environment.open_db(META_NAME, transaction)
            transaction.put(FORMAT_KEY, b"%d" % FORMAT, db=meta)
        if used:
            keep_spare(directory / DATA_FILE, used)
        for name, rows in (tables or {}).items():
            _put(environment, name, iter(rows))
        _put_strays(environment, iter(strays))
        environment.sync(force=True)
    finally:
        environment.close()


def _put(environment: lmdb.Environment, name: bytes, rows: Rows) -> None:
    table = environment.open_db(name, create=False)
    while some := list(islice(rows, _ROWS_IN_ONE_TRANSACTION)):
        with environment.begin(write=True) as transaction:
            taken, added = transaction.cursor(table).putmulti(some, append=True)
        if taken != len(some) or added != len(some):
            raise lmdb.Error(f"{name.decode()}: took {taken} of {len(some)} records and added {added}")


def _put_strays(environment: lmdb.Environment, strays: Iterator[tuple[bytes, bytes, bytes]]) -> None:
    tables = {name: environment.open_db(name, create=False) for name in DATABASES}
    while some := list(islice(strays, _ROWS_IN_ONE_TRANSACTION)):
        with environment.begin(write=True) as transaction:
            for name, key, value in some:
                transaction.put(key, value, db=tables[name], overwrite=False)
