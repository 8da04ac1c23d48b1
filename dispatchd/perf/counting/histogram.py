"""How often which value was seen, with an error below 1 percent, whatever the size of the values."""

import math
from typing import Final

from mypy_extensions import i64

_HALF: Final = 128  # values of one power of two share so many buckets: each is less than 1/128 of its value wide
_SMALL: Final = 256  # smaller values have a bucket each


class Histogram:
    """Counts of values that are not negative; nothing but the counts is kept.

    A list of counts that is as long as the largest value needs: 3,300 for one second in nanoseconds.
    """

    __slots__ = ("_counts", "largest", "smallest", "total")

    def __init__(self) -> None:
        self._counts: list[i64] = []
        self.total: i64 = 0
        self.smallest: i64 = 0
        self.largest: i64 = 0

    def record(self, value: i64, times: i64) -> None:
        """Count `value`, `times` times. What is negative counts as 0."""
        if times <= 0:
            return
        if value < 0:
            value = 0
        bucket = _bucket(value)
        if bucket >= len(self._counts):
            self._counts.extend([0] * int(bucket + 1 - len(self._counts)))
        self._counts[bucket] += times
        if self.total == 0 or value < self.smallest:
            self.smallest = value
        if value > self.largest:
            self.largest = value
        self.total += times

    def pour_into(self, other: "Histogram") -> None:
        """Add everything to `other`, and begin anew."""
        if self.total == 0:
            return
        if len(self._counts) > len(other._counts):
            other._counts.extend([0] * (len(self._counts) - len(other._counts)))
        for bucket, count in enumerate(self._counts):
            if count:
                other._counts[bucket] += count
        if other.total == 0 or self.smallest < other.smallest:
            other.smallest = self.smallest
        if self.largest > other.largest:
            other.largest = self.largest
        other.total += self.total
        self._counts = []
        self.total = 0
        self.smallest = 0
        self.largest = 0

    def percentile(self, percent: float) -> int:
        """The least value that `percent` of those seen don't exceed, or up to 1/128 more; 0 if none was seen."""
        if self.total == 0:
            return 0
        if percent <= 0.0:
            return self.smallest
        wanted: i64 = math.ceil(float(self.total) * percent / 100.0)
        seen: i64 = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return max(self.smallest, min(self.largest, _highest(bucket)))
        return self.largest


def _bucket(value: i64) -> i64:
    shift: i64 = 0
    while value >> (shift + 8) >= _SMALL:
        shift += 8
    while value >> shift >= _SMALL:
        shift += 1
    return shift * _HALF + (value >> shift)


def _highest(bucket: i64) -> i64:
    """The largest value of a bucket."""
    if bucket < _SMALL:
        return bucket
    shift: i64 = bucket // _HALF - 1
    return ((bucket - shift * _HALF + 1) << shift) - 1
