"""A load from its beginning to its end."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult

from dispatchd import is_compiled
from dispatchd.perf.client import Client
from dispatchd.perf.consumer import Consumer
from dispatchd.perf.counting.histogram import Histogram
from dispatchd.perf.counting.scanner import Scanner
from dispatchd.perf.errors import PerfError
from dispatchd.perf.meter import Meter
from dispatchd.perf.options import OptionError, load_of, perf_parser
from dispatchd.perf.plot import plot
from dispatchd.perf.producer import Producer
from dispatchd.perf.report import as_json, line, summary
from dispatchd.perf.topology import Topology

if TYPE_CHECKING:
    from dispatchd.perf.options import Load

EXIT_FAILURE = 1
EXIT_USAGE = 2


def run_perf(argv: Sequence[str]) -> int:
    """Do what the command line asks for; returns the exit status: 1 if the broker can't be reached or refuses.

    Raises SystemExit after --help, and with status 2 when `argv` is not understood.
    """
    try:
        load = load_of(perf_parser().parse_args(argv))
        for path in (load.json, load.plot):
            if path is not None:
                path.touch()  # a long load should not end with a report that can't be written
    except (OptionError, OSError) as error:
        print(f"dispatchd perf: {error}", file=sys.stderr)
        return EXIT_USAGE
    if not is_compiled():
        print("dispatchd perf: not compiled, so what is measured may be this load and not the broker", file=sys.stderr)
    failure = None
    meter = Meter()
    try:
        _Run(load, meter).run()
    except PerfError as error:
        failure = str(error)
    if meter.samples:
        print("\n".join(summary(load, meter)), flush=True)
    if load.json is not None:
        load.json.write_text(json.dumps(as_json(load, meter, failure), indent=2) + "\n")
    if load.plot is not None:
        load.plot.write_text(plot(load, meter.samples))
    if failure is not None:
        print(f"dispatchd perf: {failure}", file=sys.stderr)
        return EXIT_FAILURE
    return 0


class _Run:
    """All clients of a load, each in a greenlet, and what is printed meanwhile."""

    def __init__(self, load: Load, meter: Meter) -> None:
        self._load = load
        self._meter = meter
        self._producers: list[Producer] = []
        self._consumers: list[Consumer] = []
        self._consuming = load.consumers
        self._ended: AsyncResult[None] = AsyncResult()

    def run(self) -> None:
        """Until it is over, or somebody says so. Raises PerfError."""
        handlers = [gevent.signal_handler(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)]
        greenlets = [self._spawn(self._connect)]
        try:
            either: list[Any] = [greenlets[0], self._ended]
            gevent.wait(either, count=1)
            if greenlets[0].exception is not None:
                raise greenlets[0].exception
            if not self._ended.ready():
                greenlets += self._begin()
                self._watch()
            if self._ended.ready():
                self._ended.get()
        finally:
            gevent.killall(greenlets)
            for clients in (self._producers, self._consumers):
                gevent.joinall([gevent.spawn(each.client.close) for each in clients])
            for handler in handlers:
                handler.cancel()

    def _connect(self) -> None:
        load, meter = self._load, self._meter
        topology = Topology(load)
        client = Client(load.uri, "declarer", Scanner(Histogram()))
        try:
            topology.declare(client)
        finally:
            client.close()
        for number in range(load.consumers):
            self._consumers.append(Consumer(load, number, topology, meter.consumer_latency))
        for number in range(load.producers):
            key = topology.routing_key(number)
            self._producers.append(Producer(load, number, key, meter.confirm_latency))

    def _begin(self) -> list[gevent.Greenlet[..., None]]:
        load = self._load
        self._meter.begin(self._producers, self._consumers)
        consuming = [self._spawn(partial(self._consume, each)) for each in self._consumers]
        listening = [self._spawn(each.listen) for each in self._producers]
        producing = [self._spawn(each.run) for each in self._producers]
        limited = [*(producing if load.pmessages else ()), *(consuming if load.cmessages else ())]
        if limited:
            gevent.spawn(gevent.joinall, limited).link(self._end)
        return [*consuming, *listening, *producing]

    def _consume(self, consumer: Consumer) -> None:
        consumer.run()
        self._consuming -= 1
        # What it was sent and may not take is missed by others. The last one stays: its queue may go with it.
        if self._consuming:
            consumer.leave()

    def _watch(self) -> None:
        """Print a line for each interval, until the end."""
        load, meter = self._load, self._meter
        began = time.monotonic()
        deadline = began + load.time if load.time else math.inf
        tick = began
        was_blocked = ""
        while not self._ended.ready() and tick < deadline:
            tick = min(tick + load.interval, deadline)
            self._ended.wait(max(0.0, tick - time.monotonic()))
            print(line(load, meter.sample()), flush=True)
            blocked = next(filter(None, (each.client.blocked_because for each in self._producers)), "")
            if blocked != was_blocked:
                was_blocked = blocked
                print(
                    f"dispatchd perf: the broker blocks producers: {blocked}"
                    if blocked
                    else "dispatchd perf: the broker blocks producers no more",
                    file=sys.stderr,
                )

    def _spawn(self, work: Callable[[], None]) -> gevent.Greenlet[..., None]:
        def run() -> None:
            try:
                work()
            except PerfError as error:
                self._end(error=error)

        greenlet = gevent.spawn(run)
        greenlet.link_exception(lambda failed: self._end(error=failed.exception))
        return greenlet

    def _end(self, *_: Any, error: BaseException | None = None) -> None:
        if not self._ended.ready():
            if error is None:
                self._ended.set()
            else:
                self._ended.set_exception(error)
