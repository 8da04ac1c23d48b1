"""What a load has come to, interval by interval and as a whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatchd.perf.counting.histogram import Histogram

if TYPE_CHECKING:
    from dispatchd.perf.consumer import Consumer
    from dispatchd.perf.producer import Producer

PERCENTILES = {"min": 0.0, "median": 50.0, "75th": 75.0, "95th": 95.0, "99th": 99.0, "99.9th": 99.9, "max": 100.0}
COUNTS = ("sent", "returned", "confirmed", "nacked", "received")

Counts = dict[str, int]
Latencies = dict[str, int]
"""Microseconds by the names of PERCENTILES."""


@dataclass(frozen=True)
class Sample:
    """What happened in the `seconds` up to `time`, in seconds since the load began."""

    time: float
    seconds: float
    counts: Counts
    consumer_latency: Latencies
    confirm_latency: Latencies

    def rate(self, name: str) -> float:
        """A second, of one of COUNTS."""
        return self.counts[name] / self.seconds if self.seconds > 0 else 0.0


class Meter:
    """Reads what all clients have counted; `consumer_latency` and `confirm_latency` are theirs to record in."""

    def __init__(self) -> None:
        self.consumer_latency = Histogram()
        self.confirm_latency = Histogram()
        self.samples: list[Sample] = []
        self._all_consumer_latency = Histogram()
        self._all_confirm_latency = Histogram()
        self._producers: Sequence[Producer] = ()
        self._consumers: Sequence[Consumer] = ()
        self._began = self._sampled = time.monotonic()
        self._cpu = time.process_time()
        self._before = dict.fromkeys(COUNTS, 0)

    def begin(self, producers: Sequence[Producer], consumers: Sequence[Consumer]) -> None:
        """The load begins now."""
        self._producers, self._consumers = producers, consumers
        self._began = self._sampled = time.monotonic()
        self._cpu = time.process_time()

    def sample(self) -> Sample:
        """The interval that ends now."""
        now, counts = time.monotonic(), self._counts()
        sample = Sample(
            now - self._began,
            now - self._sampled,
            {name: counts[name] - self._before[name] for name in COUNTS},
            latencies(self.consumer_latency),
            latencies(self.confirm_latency),
        )
        self.consumer_latency.pour_into(self._all_consumer_latency)
        self.confirm_latency.pour_into(self._all_confirm_latency)
        self._sampled, self._before = now, counts
        self.samples.append(sample)
        return sample

    def total(self) -> Sample:
        """Everything up to the last sample."""
        seconds = self._sampled - self._began
        consumer, confirm = latencies(self._all_consumer_latency), latencies(self._all_confirm_latency)
        return Sample(seconds, seconds, self._before, consumer, confirm)

    def cpu_seconds(self) -> float:
        """What the load itself has used since it began."""
        return time.process_time() - self._cpu

    def _counts(self) -> Counts:
        waiting = [each.unconfirmed for each in self._producers if each.unconfirmed is not None]
        return {
            "sent": sum(each.sent for each in self._producers),
            "returned": sum(each.scanner.returned for each in self._producers),
            "confirmed": sum(each.acked for each in waiting),
            "nacked": sum(each.nacked for each in waiting),
            "received": sum(each.scanner.received for each in self._consumers),
        }


def latencies(histogram: Histogram) -> Latencies:
    """What is shown of a histogram of nanoseconds."""
    return {name: histogram.percentile(percent) // 1000 for name, percent in PERCENTILES.items()}
