"""The line in which entries of one priority wait.

Entries leave a line from its head only, so whatever was delivered once stands before everything that never was.
Requeued entries therefore wait in a small sorted list of their own in front: each is back at its original place.

In a long line the middle may be on disk only: what is known of it are its places. In front of it stands what is needed
soon, behind it what has come lately.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from mypy_extensions import i64

from dispatchd.model.entry import QueueEntry
from dispatchd.model.places import Places
from dispatchd.model.stock import Stock

EVERYTHING: Final = 1 << 62


def _by_position_from_last(entry: QueueEntry) -> int:
    return -entry.position


class Line:
    """Entries in the order of their positions.

    `tail` is where new ones go: `ready` itself, unless there are entries on disk only (at the places `paged`, in all
    `away`) behind it. Entries of the tail up to the position `leaving` are about to be on disk only, and those in front
    that are more than `staying`.
    """

    def __init__(self) -> None:
        self.returned: list[QueueEntry] = []
        self.ready: deque[QueueEntry] = deque()
        self.paged: Places = Places()
        self.away: Stock = Stock()
        self.tail: deque[QueueEntry] = self.ready
        self.leaving: i64 = 0
        self.staying: i64 = EVERYTHING

    def __len__(self) -> int:
        behind = len(self.paged) + len(self.tail) if self.tail is not self.ready else 0
        return len(self.ready) + len(self.returned) + behind

    def head(self) -> QueueEntry | None:
        """The entry whose turn is next; None if nothing waits, or the next one is on disk."""
        if self.returned:
            return self.returned[-1]
        return self.ready[0] if self.ready or self._close_up() else None

    def pop(self) -> QueueEntry | None:
        """Remove the head; None if nothing waits, or the next one is on disk."""
        if self.returned:
            return self.returned.pop()
        return self.ready.popleft() if self.ready or self._close_up() else None

    def _close_up(self) -> bool:
        """With nothing in front, and nothing on disk between, the tail moves up. Whether there is a head then."""
        if self.tail is self.ready or len(self.paged):
            return False
        self.ready = self.tail
        self._forget_chosen()
        return bool(self.ready)

    def is_starved(self) -> bool:
        """Whether the next entry is on disk only."""
        return not self.returned and not self.ready and len(self.paged) > 0

    def first_fresh(self) -> int:
        """The position of the first entry that did not come back; 0 if there is none."""
        if self.ready:
            return self.ready[0].position
        if len(self.paged):
            return self.paged.first()
        return self.tail[0].position if self.tail else 0

    def put_back(self, entries: list[QueueEntry]) -> None:
        """Take entries in that were here before."""
        self.returned.extend(entries)
        self.returned.sort(key=_by_position_from_last)

    def entries(self) -> list[QueueEntry]:
        """What waits in memory, from the head."""
        behind = self.tail if self.tail is not self.ready else ()
        return [*reversed(self.returned), *self.ready, *behind]

    def give_up_places(self) -> Places:
        """The places of what is on disk only; what is in memory is all that is left here."""
        paged = self.paged
        self.paged = Places()
        self.away = Stock()
        return paged

    # Entries that are on disk only

    def restore(self, paged: Places, away: Stock) -> None:
        """Begin with these on disk only; what is taken in now comes behind them."""
        if len(paged):
            self.paged = paged
            self.away.add_all(away)
            self.tail = deque()

    def choose(self, keep: i64, keep_bytes: i64, least: i64, least_bytes: i64, most: i64) -> list[QueueEntry]:
        """Entries that may leave memory once they are on disk: the oldest of the tail.

        What stays in front has at least `keep` entries or `keep_bytes` of bodies. At least `least` entries that have
        `least_bytes` of bodies are chosen, if there are so many, but never more than `most`.
        """
        chosen: list[QueueEntry] = []
        if self.tail is self.ready:
            self._divide(keep, keep_bytes)
        else:
            chosen = self._choose_in_front(keep, keep_bytes, most)
        size: i64 = 0
        for entry in chosen:
            size += entry.message.size
        for entry in self.tail:
            if len(chosen) == most or (len(chosen) >= least and size >= least_bytes):
                break
            chosen.append(entry)
            size += entry.message.size
        if chosen:
            self.leaving = chosen[-1].position
        return chosen

    def _choose_in_front(self, keep: i64, keep_bytes: i64, most: i64) -> list[QueueEntry]:
        """The last of those in front, if these are more by far than may stay: less memory than before is to be used."""
        count: i64 = 0
        size: i64 = 0
        staying: i64 = 1
        for entry in self.ready:
            if count == 2 * keep or size > 2 * keep_bytes:
                break
            count += 1
            if count <= keep and size < keep_bytes:
                staying = count
            size += entry.message.size
        if count == len(self.ready):
            return []
        self.staying = staying
        return list(islice(self.ready, int(self.staying), int(self.staying + most)))

    def _divide(self, keep: i64, keep_bytes: i64) -> None:
        self.tail = self.ready
        self.ready = deque()
        size: i64 = 0
        while self.tail and len(self.ready) < keep and size < keep_bytes:
            entry = self.tail.popleft()
            size += entry.message.size
            self.ready.append(entry)

    def page_out(self, most: i64, also_in_front: bool) -> i64:
        """Let at most so many of the chosen entries go, as far as they are stored. Returns how many that were.

        While places are being read, nothing may come in front of them.
        """
        count: i64 = 0
        if also_in_front:
            while count < most and len(self.ready) > self.staying and self.ready[-1].is_stored():
                count += 1
                entry = self.ready.pop()
                self.paged.prepend(entry.position)
                self.away.add(entry.message)
        tail = self.tail
        while (
            count < most
            and tail is not self.ready
            and tail
            and tail[0].position <= self.leaving
            and tail[0].is_stored()
        ):
            count += 1
            entry = tail.popleft()
            self.paged.append(entry.position)
            self.away.add(entry.message)
        if count < most:
            self._forget_chosen()
        return count

    def _forget_chosen(self) -> None:
        self.leaving = 0
        self.staying = EVERYTHING

    def is_short(self, least_bytes: i64) -> bool:
        """Whether what stands in front has fewer octets of bodies than that."""
        size: i64 = 0
        for entry in self.ready:
            size += entry.message.size
            if size >= least_bytes:
                return False
        return True

    def page_in(self, entries: list[QueueEntry], count: i64) -> None:
        """The first `count` places were read, and are these entries now; those missing could not be read."""
        self.paged.drop(count)
        for entry in entries:
            self.ready.append(entry)
            self.away.remove(entry.message)


class Leavings:
    """What was in lines of which nothing is wanted any more, to be let go of little by little."""

    def __init__(self, lines: list[Line]) -> None:
        """`lines` have nothing on disk only. The last of them goes first."""
        self._lines: list[Line] = lines
        self._some: list[QueueEntry] = []

    def __len__(self) -> int:
        return sum([len(line) for line in self._lines], len(self._some))

    def some(self, count: i64) -> list[QueueEntry]:
        """As many entries, or the last ones; the same again until they are let go of."""
        while self._lines and len(self._some) < count:
            entry = self._lines[-1].pop()
            if entry is None:
                self._lines.pop()
            else:
                self._some.append(entry)
        return self._some

    def let_go(self) -> None:
        """Forget what `some` returned."""
        self._some = []
