"""The pages of a data file, read with plain file calls: all rows that can be found, whatever state it is in.

Nothing here trusts what it reads, and nothing stops at a fault: whether a row is what was stored, its checksum tells.
The layout is that of LMDB 0.9 on machines with 64 bits: a page has a number, flags and the places of its nodes; a node
of a leaf has a key and a value, or the number of the first of the pages that a large value has to itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

_ORDER: Final = "<" if sys.byteorder == "little" else ">"
_PAGE: Final = Struct(f"{_ORDER}QHHHH")  # number, padding, flags, end of the places, begin of the nodes
_LARGE: Final = Struct(f"{_ORDER}Q2xHI")  # number, flags, how many pages
_NODE: Final = Struct(f"{_ORDER}HHHH")  # low and high half of the value's size, flags, size of the key
_TREE: Final = Struct(f"{_ORDER}IHHQQQQQ")
_META: Final = Struct(f"{_ORDER}16xI20x48s48sQQ")  # magic number, free list, tables, last page, transaction
_PLACE: Final = Struct(f"{_ORDER}H")
_NUMBER: Final = Struct(f"{_ORDER}Q")

_MAGIC: Final = 0xBEEFC0DE
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # flags of pages
_ON_PAGES, _IS_TREE = 1, 2  # flags of nodes
_METAS: Final = 2
_DEEPEST: Final = 32
_PAGE_SIZES: Final = tuple(1 << bits for bits in range(9, 16))
_NO_PAGE: Final = (1 << 64) - 1


class Tree(NamedTuple):
    """A B-tree as LMDB records it. In that of the free list `padding` is the size of all pages."""

    padding: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


class Meta(NamedTuple):
    """What one of the two first pages says: the state of the file after a transaction."""

    transaction: int
    last_page: int
    free: Tree
    main: Tree


class Node(NamedTuple):
    """A row. A value that cannot be read is empty, and `tree` is what a sub-database has as its value."""

    key: bytes
    value: bytes
    tree: Tree | None = None


@dataclass(slots=True)
class Stretch:
    """All that can be read of the keys from `first` on that come before `end`, if there is one.

    With a fault, some may be missing.
    """

    first: bytes
    end: bytes | None
    nodes: list[Node]
    faults: list[str]


class PageFile:
    """An open data file. `reached` has a 1 at the number of each page that was read so far."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be read."""
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        self.page_size = self._find_page_size()
        self.page_count = self.size // self.page_size
        self.reached = bytearray(self.page_count)

    def close(self) -> None:
        """Nothing is to be read any more."""
        self._file.close()

    def forget(self) -> None:
        """Begin anew: nothing was read."""
        self.reached = bytearray(self.page_count)

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, at)

    def _meta_at(self, at: int) -> Meta | None:
        octets = self._read(at, _META.size)
        if len(octets) < _META.size:
            return None
        magic, free, main, last_page, transaction = _META.unpack(octets)
        meta = Meta(transaction, last_page, Tree._make(_TREE.unpack(free)), Tree._make(_TREE.unpack(main)))
        return meta if magic == _MAGIC and meta.free.padding in _PAGE_SIZES else None

    def _find_page_size(self) -> int:
        for at in (0, *_PAGE_SIZES):
            meta = self._meta_at(at)
            if meta is not None and at in (0, meta.free.padding):
                return meta.free.padding
        return os.sysconf("SC_PAGE_SIZE")

    def metas(self) -> list[Meta]:
        """What the meta pages say, as far as they make sense; the latest first."""
        found = (self._meta_at(number * self.page_size) for number in range(_METAS))
        return sorted((meta for meta in found if meta is not None), reverse=True)

    def walk(self, tree: Tree) -> Iterator[Stretch]:
        """All of a tree, in the order of its keys."""
        waiting: list[tuple[int, bytes, bytes | None, int]] = []
        if tree.root != _NO_PAGE:
            waiting.append((tree.root, b"", None, 1))
        while waiting:
            number, first, end, depth = waiting.pop()
            if not self._reach(number, 1) or depth > _DEEPEST:
                yield Stretch(first, end, [], [f"page {number} cannot be part of a tree"])
                continue
            page = self._read(number * self.page_size, self.page_size)
            stored_number, _, flags, _, _ = _PAGE.unpack_from(page)
            if stored_number != number or flags not in (_BRANCH, _LEAF):
                yield Stretch(first, end, [], [f"page {number} has the number {stored_number} and flags {flags:#x}"])
            elif flags == _LEAF:
                yield Stretch(first, end, *self._nodes(page, number))
            elif children := self._children(page, first, end):
                waiting.extend((*child, depth + 1) for child in reversed(children))
            else:
                yield Stretch(first, end, [], [f"page {number} leads nowhere"])

    def _reach(self, number: int, count: int) -> bool:
        """Note that pages are in use. False if that cannot be, or they were in use already."""
        if number < _METAS or number + count > self.page_count or any(self.reached[number : number + count]):
            return False
        self.reached[number : number + count] = b"\1" * count
        return True

    def _places(self, page: bytes) -> list[int | None]:
        """Where the nodes are, None for one that is not behind the rest: between may be what was deleted."""
        _, _, _, end, begin = _PAGE.unpack_from(page)
        if not _PAGE.size <= end <= begin <= len(page) or end % 2:
            return []
        places = (place for (place,) in _PLACE.iter_unpack(page[_PAGE.size : end]))
        return [place if begin <= place <= len(page) - _NODE.size else None for place in places]

    def _children(self, page: bytes, first: bytes, end: bytes | None) -> list[tuple[int, bytes, bytes | None]]:
        """Number, first key and end of each page below; nothing if one of them makes no sense."""
        found: list[tuple[int, bytes]] = []
        for place in self._places(page):
            if place is None:
                return []
            low, high, highest, key_size = _NODE.unpack_from(page, place)
            key = page[place + _NODE.size :][:key_size] if found else first
            if found and not found[-1][1] < key:
                return []
            found.append((low | high << 16 | highest << 32, key))
        ends = [*(key for _, key in found[1:]), end]
        return [(number, key, its_end) for (number, key), its_end in zip(found, ends, strict=True)] if found else []

    def _nodes(self, page: bytes, number: int) -> tuple[list[Node], list[str]]:
        nodes, faults = [], []
        places = self._places(page)
        if min((place for place in places if place), default=0) != _PAGE.unpack_from(page)[4]:
            faults.append(f"page {number} does not say where all of its rows are")
        for place in places:
            node = None if place is None else self._node(page, place, faults)
            if node is None:
                faults.append(f"page {number} has a row that makes no sense")
            else:
                nodes.append(node)
        return nodes, faults

    def _node(self, page: bytes, place: int, faults: list[str]) -> Node | None:
        low, high, flags, key_size = _NODE.unpack_from(page, place)
        size = low | high << 16
        key_at = place + _NODE.size
        value_at = key_at + key_size
        key = page[key_at:value_at]
        if flags & _ON_PAGES and value_at + _NUMBER.size <= len(page):
            return Node(key, self._large(_NUMBER.unpack_from(page, value_at)[0], size, faults))
        if value_at + size > len(page) or flags & _ON_PAGES:
            return None
        value = page[value_at : value_at + size]
        is_tree = flags & _IS_TREE and size == _TREE.size
        return Node(key, value, Tree._make(_TREE.unpack(value)) if is_tree else None)

    def _large(self, number: int, size: int, faults: list[str]) -> bytes:
        count = (_PAGE.size + size - 1) // self.page_size + 1
        if not self._reach(number, count):
            faults.append(f"the {count} pages from {number} on cannot be those of a value")
            return b""
        value = self._read(number * self.page_size, _PAGE.size + size)
        if _LARGE.unpack_from(value) != (number, _OVERFLOW, count):
            faults.append(f"page {number} is not the first of {count} pages of a value")
        return value[_PAGE.size :]

    # What no tree leads to

    def free_pages(self, meta: Meta) -> tuple[bytearray, list[str]]:
        """A 1 at the number of each free page, and what is wrong with their list."""
        free, faults = bytearray(self.page_count), []
        for stretch in self.walk(meta.free):
            faults += stretch.faults
            for node in stretch.nodes:
                numbers = [number for (number,) in _NUMBER.iter_unpack(node.value[: len(node.value) // 8 * 8])]
                if not numbers or numbers[0] != len(numbers) - 1:
                    faults.append(f"the free pages of transaction {node.key.hex()} cannot be read")
                for number in numbers[1:]:
                    if number < self.page_count:
                        free[number] = 1
        return free, faults

    def unreached(self, free: bytearray | None, last_page: int) -> Iterator[Stretch]:
        """Each leaf page that was not read so far and is not free: what was below a branch page that is damaged."""
        number = _METAS
        while number <= last_page:
            if not self.reached[number] and not (free and free[number]):
                page = self._read(number * self.page_size, self.page_size)
                stored_number, _, flags, _, _ = _PAGE.unpack_from(page)
                if stored_number == number and flags == _LEAF:
                    yield Stretch(b"", None, *self._nodes(page, number))
                elif stored_number == number and flags == _OVERFLOW:  # what clients sent may look like a page
                    number += max(_LARGE.unpack_from(page)[2], 1) - 1
            number += 1
