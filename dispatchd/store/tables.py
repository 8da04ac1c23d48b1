"""An LMDB environment that is open, with its tables."""

from __future__ import annotations

from pathlib import Path

import lmdb

from dispatchd.store.layout import CONTENTS_NAME, DATABASES, DEFINITIONS_NAME, ENTRIES_NAME, MARKS_NAME
from dispatchd.store.mapping import Mapping


class Tables:
    """Closes when nobody refers to it any more: whoever reads has what he reads from, whatever comes after it.

    `mapping` is where its file is mapped.
    """

    def __init__(self, environment: lmdb.Environment, mapping: Mapping) -> None:
        """Raises lmdb.NotFoundError if a table is missing."""
        self.environment = environment
        self.mapping = mapping
        self.definitions, self.entries, self.contents, self.marks = (
            environment.open_db(name, create=False)
            for name in (DEFINITIONS_NAME, ENTRIES_NAME, CONTENTS_NAME, MARKS_NAME)
        )

    def statistics(self, transaction: lmdb.Transaction[bytes]) -> dict[str, int]:
        """How many rows each table has, and `bytes_used`."""
        return {
            "definitions": transaction.stat(self.definitions)["entries"],
            "entries": transaction.stat(self.entries)["entries"],
            "contents": transaction.stat(self.contents)["entries"],
            "marks": transaction.stat(self.marks)["entries"],
            "bytes_used": self.bytes_used(transaction),
        }

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
