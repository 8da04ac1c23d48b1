"""An LMDB environment that is open, with its tables."""

from __future__ import annotations

from pathlib import Path

import lmdb

from dispatchd.model.checksums import CONTENTS, DEFINITIONS, ENTRIES, MARKS
from dispatchd.store.layout import DATABASES, META_NAME, NAMES
from dispatchd.store.mapping import Mapping


class Tables:
    """Closes when nobody refers to it any more: whoever reads has what he reads from, whatever comes after it.

    `mapping` is where its file is mapped; `by_number` has the tables under the numbers of their checksums.
    """

    def __init__(self, environment: lmdb.Environment, mapping: Mapping) -> None:
        """Raises lmdb.NotFoundError if a table is missing."""
        self.environment = environment
        self.mapping = mapping
        self.meta = environment.open_db(META_NAME, create=False)
        self.by_number = {table: environment.open_db(name, create=False) for table, name in NAMES.items()}
        self.definitions, self.entries, self.contents, self.marks = (
            self.by_number[table] for table in (DEFINITIONS, ENTRIES, CONTENTS, MARKS)
        )

    def statistics(self, transaction: lmdb.Transaction[bytes]) -> dict[str, int]:
        """How many rows each table has, and `bytes_used`."""
        counts = {name.decode(): transaction.stat(self.by_number[table])["entries"] for table, name in NAMES.items()}
        return counts | {"bytes_used": self.bytes_used(transaction)}

    def bytes_used(self, transaction: lmdb.Transaction[bytes]) -> int:
        """Octets of the pages in use: they become fewer when rows go, and the file stays as large."""
        used = 0
        for table in (self.definitions, self.entries, self.contents, self.marks):
            found = transaction.stat(table)
            used += found["psize"] * (found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"])
        return used


def open_environment(directory: Path, map_size: int, *, is_synced: bool) -> lmdb.Environment:
    """Open the environment in a directory. Raises what LMDB raises."""
    return lmdb.open(str(directory), map_size=map_size, max_dbs=len(DATABASES), mode=0o600, sync=is_synced)
