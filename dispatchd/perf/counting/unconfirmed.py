"""Publishes that wait for their confirm, and how long they wait."""

from mypy_extensions import i64

from dispatchd.perf.counting.histogram import Histogram

_SETTLED = -1


class Unconfirmed:
    """Of each publish on a channel with confirms: when it was sent, until it is settled.

    `latency` gets the nanoseconds that each acked one has waited.
    """

    __slots__ = ("_first", "_mask", "_next", "_sent", "acked", "count", "latency", "nacked")

    def __init__(self, latency: Histogram) -> None:
        self._sent: list[i64] = [_SETTLED]  # by tag, a ring that grows
        self._mask: i64 = 0
        self._first: i64 = 1  # no lower tag waits
        self._next: i64 = 1
        self.latency: Histogram = latency
        self.count: i64 = 0
        self.acked: i64 = 0
        self.nacked: i64 = 0

    def add(self, count: i64, now: i64) -> None:
        """`count` more were published."""
        tag: i64 = self._next
        end: i64 = tag + count
        while end - self._first > len(self._sent):
            self._grow()
        self._next = end
        self.count += count
        while tag < end:
            self._sent[tag & self._mask] = now
            tag += 1

    def settle(self, tag: i64, multiple: bool, acked: bool, now: i64) -> None:
        """The server has acked or nacked `tag`, or all up to `tag` (0 = all that were published)."""
        if tag >= self._next or (tag == 0 and multiple):
            tag = self._next - 1
        at: i64 = self._first if multiple else tag
        if at < self._first:
            return
        run: i64 = 0
        run_sent: i64 = 0
        settled: i64 = 0
        while at <= tag:
            sent: i64 = self._sent[at & self._mask]
            if sent != _SETTLED:
                self._sent[at & self._mask] = _SETTLED
                settled += 1
                if sent != run_sent:
                    if acked:
                        self.latency.record(now - run_sent, run)
                    run_sent = sent
                    run = 0
                run += 1
            at += 1
        if acked:
            self.latency.record(now - run_sent, run)
            self.acked += settled
        else:
            self.nacked += settled
        self.count -= settled
        while self._first < self._next and self._sent[self._first & self._mask] == _SETTLED:
            self._first += 1

    def _grow(self) -> None:
        larger: list[i64] = [_SETTLED] * (2 * len(self._sent))
        mask: i64 = len(larger) - 1
        tag: i64 = self._first
        while tag < self._next:
            larger[tag & mask] = self._sent[tag & self._mask]
            tag += 1
        self._sent = larger
        self._mask = mask
