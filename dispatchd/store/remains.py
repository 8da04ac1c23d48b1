"""The intact rows of a data file, whatever state it is in, and where there are rows that are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from dispatchd.model.checksums import is_intact, with_checksum
from dispatchd.store.layout import (
    DATABASES,
    FORMAT,
    FORMAT_KEY,
    KEY_SIZES,
    LOG_KEY,
    META_NAME,
    NAMES,
)
from dispatchd.store.pages import Meta, PageFile, Tree

Row = tuple[bytes, bytes]

_FIRST_WITH_CHECKSUMS: Final = 2
_FAULTS_KEPT: Final = 100


class TransactionGone(Exception):  # noqa: N818 - reads as what happened
    """The file does not say any more what it was after a transaction."""


@dataclass(slots=True)
class Findings:
    """Of one table: how many rows are intact, the keys of those that are not, and where there should be more.

    `counted` is how many LMDB counts, None if that cannot be read. A gap is from a key on, up to another, if any.
    """

    counted: int | None = None
    intact: int = 0
    damaged: list[bytes] = field(default_factory=list)
    gaps: list[tuple[bytes, bytes | None]] = field(default_factory=list)

    @property
    def missing(self) -> int | None:
        """How many rows of the gaps were not found anywhere; None if nobody can know."""
        if not self.gaps:
            return 0
        return None if self.counted is None else max(self.counted - self.intact - len(self.damaged), 0)


class Remains:
    """What can be read of a data file, once: first the `rows` of each table, then the `strays`.

    `faults` says what is wrong with the file itself, up to a limit. Unless the free pages are known, strays may be rows
    that were deleted. `log_state` is what the file says of its redo log, if it does; unless it `knows_of_log`, it
    may have said something that can't be read any more.
    """

    def __init__(self, path: Path, transaction: int | None = None) -> None:
        """Read the file as it was after one of its last two transactions; by itself after the last that makes sense.

        Raises OSError if the file cannot be read, TransactionGone if there were two since.
        """
        self._pages = PageFile(path)
        self.size = self._pages.size
        self.page_size = self._pages.page_size
        self.faults: list[str] = []
        self.findings = {table: Findings() for table in NAMES}
        metas = [meta for meta in self._pages.metas() if transaction in (None, meta.transaction)]
        if transaction is not None and not metas:
            self._pages.close()
            raise TransactionGone
        if transaction is None and len(metas) < 2:
            self.note("a meta page makes no sense, so what the last commit did may be missing")
        self._trees, self._free, self.last_page = self._choose(metas)
        self.free_are_known = self._free is not None
        self.free_pages = sum(self._free or b"")
        meta = self._meta()
        self.format = self._format(meta)
        self.log_state = meta.get(LOG_KEY)
        self.knows_of_log = bool(meta) and (transaction is not None or len(metas) == 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, _error: object, _trace: object) -> None:
        self._pages.close()

    def note(self, *faults: str) -> None:
        """Remember what is wrong."""
        self.faults.extend(faults[: _FAULTS_KEPT - len(self.faults)])

    def _choose(self, metas: list[Meta]) -> tuple[dict[bytes, Tree], bytearray | None, int]:
        """Tables, free pages and last page of the last state of which tables or free pages can be read."""
        for meta in metas:
            self._pages.forget()
            trees, faults = self._tables(meta)
            free, free_faults = self._pages.free_pages(meta)
            self.note(*faults, *free_faults)
            if trees or not free_faults:
                return trees, None if free_faults else free, min(meta.last_page, self._pages.page_count - 1)
        self._pages.forget()
        return {}, None, self._pages.page_count - 1

    def _tables(self, meta: Meta) -> tuple[dict[bytes, Tree], list[str]]:
        stretches = list(self._pages.walk(meta.main))
        trees = {node.key: node.tree for one in stretches for node in one.nodes if node.tree is not None}
        faults = [fault for one in stretches for fault in one.faults]
        return (trees if len(trees) == len(DATABASES) else {}), faults

    def _meta(self) -> dict[bytes, bytes]:
        tree = self._trees.get(META_NAME)
        stretches = self._pages.walk(tree) if tree is not None else ()
        return {node.key: node.value for stretch in stretches for node in stretch.nodes}

    def _format(self, meta: dict[bytes, bytes]) -> int:
        value = meta.get(FORMAT_KEY, b"")
        if value.isdigit():
            return int(value)
        self.note("the version of the format cannot be read")
        return FORMAT

    def rows(self, table: int) -> Iterator[Row]:
        """Those of a table that are intact, in the order of their keys, with checksums even if the file has none."""
        findings, tree, last = self.findings[table], self._trees.get(NAMES[table]), b""
        if tree is None:
            self.note(f"the table of {NAMES[table].decode()} cannot be found")
            findings.gaps.append((b"", None))
            return
        findings.counted = tree.entries
        for stretch in self._pages.walk(tree):
            if stretch.faults:
                self.note(*stretch.faults)
                findings.gaps.append((stretch.first, stretch.end))
            for key, value, _ in stretch.nodes:
                if self.format < _FIRST_WITH_CHECKSUMS:
                    value = with_checksum(table, key, value)
                if last < key and self._is_intact(table, key, value):
                    last = key
                    findings.intact += 1
                    yield key, value
                else:
                    findings.damaged.append(key)
        there = findings.intact + len(findings.damaged)
        if there > tree.entries:  # some of what makes no sense never was a row
            findings.damaged.sort(key=lambda key: len(key) != KEY_SIZES[table])
            del findings.damaged[max(tree.entries - findings.intact, 0) :]
        if there != tree.entries and not findings.gaps:
            self.note(f"of {tree.entries} {NAMES[table].decode()} there are {there}")
            findings.gaps.append((b"", None))

    def strays(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Intact rows that no table leads to any more: table, key and value; none if nothing is missing."""
        if self.format < _FIRST_WITH_CHECKSUMS or not any(findings.gaps for findings in self.findings.values()):
            return
        for stretch in self._pages.unreached(self._free, self.last_page):
            for key, value, _ in stretch.nodes:
                for table in NAMES:
                    if self._is_intact(table, key, value):
                        self.findings[table].intact += 1
                        yield table, key, value

    def _is_intact(self, table: int, key: bytes, value: bytes) -> bool:
        return len(key) == KEY_SIZES[table] and is_intact(table, key, value)
