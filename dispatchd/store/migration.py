"""From an older format to that of now: all rows go to a new file, which takes the place of the old one at once.

A crash in the middle leaves the old file as it was. It takes as much disk again as the rows have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import lmdb

from dispatchd.model.checksums import CONTENTS, DEFINITIONS, ENTRIES, MARKS, with_checksum
from dispatchd.store.data_file import create_data_file
from dispatchd.store.filling import Rows, fill
from dispatchd.store.layout import CONTENTS_NAME, DEFINITIONS_NAME, ENTRIES_NAME, MARKS_NAME, read_definition
from dispatchd.store.recovery import index

OLDEST_FORMAT: Final = 1

_TABLES: Final = {
    DEFINITIONS_NAME: DEFINITIONS,
    CONTENTS_NAME: CONTENTS,
    ENTRIES_NAME: ENTRIES,
    MARKS_NAME: MARKS,
}


def migrate(old: lmdb.Environment, directory: Path, map_size: int) -> None:
    """Put a file of the format of now in the place of the one of format 1 that is open.

    Raises ValueError naming the first row that makes no sense, and what LMDB raises; the old file is then in its place.
    """
    with old.begin() as transaction:

        def rows(name: bytes) -> Rows:
            table = _TABLES[name]
            for key, value in transaction.cursor(old.open_db(name, transaction, create=False)):
                yield key, with_checksum(table, key, value)

        definitions = dict(read_definition(*row) for row in rows(DEFINITIONS_NAME))
        index(definitions, rows(CONTENTS_NAME), rows(ENTRIES_NAME), rows(MARKS_NAME))
        tables = {name: rows(name) for name in _TABLES}
        used = (old.info()["last_pgno"] + 1) * old.stat()["psize"]
        create_data_file(directory, lambda unfinished: fill(unfinished, map_size, tables, used=used))
