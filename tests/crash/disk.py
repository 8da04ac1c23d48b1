"""What disk.c has recorded, and what is left of it on a disk whose power is cut: a state that the system allows.

What was synced is there. Of what was not, any part may be: each page of a write for itself, or each sector of it; the
changes of a folder in their order up to some point. A write that was under way is one that was not synced.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<cQQII")
PAGE = 4096
SECTOR = 512


class Operation(NamedTuple):
    """`kind` is W for a write, D for one that is synced when it returns; S for a sync of a file or a folder; T for a
    file cut and A for one allocated up to `offset`; C for a file, M for a folder that is made; R for a name changed to
    the one in `data`, and U for one that goes. `at` is when it began (`monotonic_ns`).
    """

    kind: str
    at: int
    path: str
    offset: int
    data: bytes


def read_recording(file: Path) -> Iterator[Operation]:
    """The operations in their order, of processes that have ended.

    The last may be there by half if its process was killed: that is cut off, for another process to follow.
    """
    recorded = file.read_bytes()
    at = end = 0
    while at + _HEAD.size <= len(recorded):
        kind, time, offset, path_size, data_size = _HEAD.unpack_from(recorded, at)
        at += _HEAD.size
        path = recorded[at : at + path_size]
        data = recorded[at + path_size : at + path_size + data_size]
        at += path_size + data_size
        if at <= len(recorded):
            end = at
            yield Operation(kind.decode(), time, path.decode(), offset, data)
    os.truncate(file, end)


class Content:
    """The pages of a file, and how large it is. A page that is missing is empty."""

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}
        self.size = 0

    def copy(self) -> Content:
        copy = Content()
        copy.pages, copy.size = self.pages.copy(), self.size
        return copy

    def write(self, offset: int, data: bytes) -> None:
        self.size = max(self.size, offset + len(data))
        while data:
            number, begin = divmod(offset, PAGE)
            some = data[: PAGE - begin]
            page = self.pages.get(number, bytes(PAGE))
            self.pages[number] = page[:begin] + some + page[begin + len(some) :]
            offset, data = offset + len(some), data[len(some) :]

    def cut(self, size: int) -> None:
        self.size = size
        self.pages = {number: page for number, page in self.pages.items() if number * PAGE < size}
        if size // PAGE in self.pages:
            self.pages[size // PAGE] = self.pages[size // PAGE][: size % PAGE].ljust(PAGE, b"\0")

    def apply(self, operation: Operation) -> None:
        if operation.kind == "T":
            self.cut(operation.offset)
        elif operation.kind == "A":
            self.size = max(self.size, operation.offset)
        else:
            self.write(operation.offset, operation.data)

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(self.size)
            for number, page in self.pages.items():
                os.pwrite(file.fileno(), page[: self.size - number * PAGE], number * PAGE)


@dataclass
class File:
    synced: Content = field(default_factory=Content)
    pending: list[Operation] = field(default_factory=list)


@dataclass
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[str, File | Folder | None]] = field(default_factory=list)

    def set(self, name: str, node: File | Folder | None) -> None:
        self.pending.append((name, node))
        _set(self.names, name, node)


def _set(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


class Cut:
    """What of the things that were not synced is there after one cut: nothing, all, or parts by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._share = chance.choice([0, 0.1, 0.5, 0.5, 0.9, 1])
        self._piece = chance.choice([PAGE, PAGE, SECTOR])

    def first_of(self, changes: list[tuple[str, File | Folder | None]]) -> list[tuple[str, File | Folder | None]]:
        """The changes of a folder come in their order."""
        return changes[: round(self._share * (len(changes) + self._chance.uniform(-0.5, 0.5)))]

    def some_of(self, operations: list[Operation]) -> Iterator[Operation]:
        """Of two that write to one place the later one may be missing."""
        for operation in operations:
            for piece in self._pieces(operation):
                if self._chance.random() < self._share:
                    yield piece

    def _pieces(self, operation: Operation) -> Iterator[Operation]:
        if not operation.data:
            yield operation
        begin, end = operation.offset, operation.offset + len(operation.data)
        while begin < end:
            size = min(self._piece - begin % self._piece, end - begin)
            at = begin - operation.offset
            yield operation._replace(offset=begin, data=operation.data[at : at + size])
            begin += size


class Disk:
    """What is known to be on the disk below the folder `root`, and what may be, as operations come."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = Folder()

    def apply(self, operation: Operation) -> None:
        node, (folder, name) = self._find(operation.path), self._place(operation.path)
        match operation.kind, node:
            case "C", _:
                folder.set(name, File())
            case "M", _:
                folder.set(name, Folder())
            case "U", _:
                folder.set(name, None)
            case "R", _:
                other_folder, other_name = self._place(operation.data.decode())
                other_folder.set(other_name, node)
                folder.set(name, None)
            case "S", Folder():
                node.synced, node.pending = node.names.copy(), []
            case "S", File():
                for pending in node.pending:
                    node.synced.apply(pending)
                node.pending = []
            case "D", File():
                node.pending = [each for each in node.pending if not _overlap(each, operation)]
                node.synced.apply(operation)
            case _, File():
                node.pending.append(operation)
            case _:
                raise ValueError(f"{operation.kind} of {operation.path}, which is not there")

    def _parts(self, path: str) -> list[str]:
        return list(Path(path).relative_to(self._root).parts)

    def _place(self, path: str) -> tuple[Folder, str]:
        """Which name in which folder a path is."""
        *parents, name = self._parts(path) or [""]
        folder = self._top
        for parent in parents:
            below = folder.names[parent]
            assert isinstance(below, Folder)
            folder = below
        return folder, name

    def _find(self, path: str) -> File | Folder | None:
        folder, name = self._place(path)
        return folder.names.get(name) if name else self._top

    def save(self, target: Path, under_way: Operation, cut: Cut) -> None:
        """Put into the folder `target` what is on the disk if its power is cut during this operation."""
        node = self._find(under_way.path)
        self._save(self._top, target, cut, {id(node): under_way} if under_way.kind in "WDTA" else {})

    def _save(self, folder: Folder, target: Path, cut: Cut, under_way: dict[int, Operation]) -> None:
        target.mkdir()
        names = folder.synced.copy()
        for name, node in cut.first_of(folder.pending):
            _set(names, name, node)
        for name, node in names.items():
            if isinstance(node, Folder):
                self._save(node, target / name, cut, under_way)
            else:
                content = node.synced.copy()
                also = under_way.get(id(node))
                for operation in cut.some_of([*node.pending, *([also] if also else [])]):
                    content.apply(operation)
                content.save(target / name)


def _overlap(one: Operation, other: Operation) -> bool:
    begin, end = max(one.offset, other.offset), min(one.offset + len(one.data), other.offset + len(other.data))
    return one.kind in "WD" and begin < end
