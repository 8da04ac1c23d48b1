"""Positions of entries that are on disk only: eight bytes are all that a queue keeps of each of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

from mypy_extensions import i64

_CHUNK: Final = 8192


class Places:
    """Positions in ascending order: added and dropped at both ends, in chunks so that none of that copies much.

    The first `_dropped` places of the first chunk are free.
    """

    def __init__(self, positions: Iterable[int] = ()) -> None:
        self._chunks: list[array[int]] = []
        self._count: i64 = 0
        self._dropped: i64 = 0
        for position in positions:
            self.append(position)

    def __len__(self) -> int:
        return self._count

    def append(self, position: i64) -> None:
        """Add one at the end."""
        if not self._chunks or len(self._chunks[-1]) >= _CHUNK:
            self._chunks.append(array("q"))
        self._chunks[-1].append(position)
        self._count += 1

    def prepend(self, position: i64) -> None:
        """Add one at the beginning."""
        if self._dropped == 0:
            self._chunks.insert(0, array("q", bytes(8 * _CHUNK)))
            self._dropped = _CHUNK
        self._dropped -= 1
        self._chunks[0][self._dropped] = position
        self._count += 1

    def first(self) -> int:
        """The first of them; there has to be one."""
        return self._chunks[0][self._dropped]

    def last(self) -> int:
        """The last of them; 0 if there is none."""
        return self._chunks[-1][-1] if self._count else 0

    def head(self, count: i64) -> list[int]:
        """The first `count`, or as many as there are."""
        positions: list[int] = []
        start = self._dropped
        for chunk in self._chunks:
            positions.extend(chunk[start : start + count - len(positions)])
            if len(positions) >= count:
                break
            start = 0
        return positions

    def tail(self, count: i64) -> list[int]:
        """The last `count`, or as many as there are."""
        positions = array("q")
        for chunk in reversed(self._chunks):
            positions = chunk + positions
            if len(positions) >= min(count, self._count):
                break
        return positions[max(len(positions) - min(count, self._count), 0) :].tolist()

    def drop(self, count: i64) -> None:
        """Remove the first `count`, or as many as there are."""
        left = min(count, self._count)
        self._count -= left
        self._dropped += left
        while self._chunks and self._dropped >= len(self._chunks[0]):
            self._dropped -= len(self._chunks[0])
            del self._chunks[0]
