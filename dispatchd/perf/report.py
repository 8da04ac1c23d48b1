"""What is shown of a load: lines like PerfTest's, and a report in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dispatchd import __version__, is_compiled
from dispatchd.perf.meter import COUNTS

if TYPE_CHECKING:
    from dispatchd.perf.meter import Latencies, Meter, Sample
    from dispatchd.perf.options import Load

SHOWN = ("min", "median", "75th", "95th", "99th")


def shown_counts(load: Load) -> tuple[str, ...]:
    """Which counts say anything about this load."""
    is_shown = {
        "sent": load.producers > 0,
        "returned": load.mandatory,
        "confirmed": load.producers > 0 and load.confirm > 0,
        "nacked": load.producers > 0 and load.confirm > 0,
        "received": load.consumers > 0,
    }
    return tuple(name for name in COUNTS if is_shown[name])


def shown_latencies(load: Load, sample: Sample) -> dict[str, Latencies]:
    """Which latencies say anything about this load, by what they are of."""
    shown = {}
    if load.consumers:
        shown["consumer"] = sample.consumer_latency
    if load.producers and load.confirm:
        shown["confirm"] = sample.confirm_latency
    return shown


def line(load: Load, sample: Sample) -> str:
    """An interval."""
    parts = [f"id: {load.id}", f"time {sample.time:.3f} s"]
    parts += [f"{name}: {_rate(sample.rate(name))} msg/s" for name in shown_counts(load)]
    if shown := shown_latencies(load, sample):
        texts = (f"{what} latency: {_latency(values)}" for what, values in shown.items())
        parts.append(f"{'/'.join(SHOWN)} {', '.join(texts)}")
    return ", ".join(parts)


def summary(load: Load, meter: Meter) -> list[str]:
    """The lines at the end."""
    total = meter.total()
    lines = []
    for name, verb in (("sent", "sending"), ("received", "receiving")):
        if name in shown_counts(load):
            lines.append(f"{verb} rate avg: {_rate(total.rate(name))} msg/s")
    for what, values in shown_latencies(load, total).items():
        lines.append(f"{what} latency {'/'.join(SHOWN)} {_latency(values)}")
    counted = ", ".join(f"{name}: {total.counts[name]}" for name in shown_counts(load))
    lines.append(f"{counted} in {total.seconds:.3f} s; CPU of the load: {cpu_per_message(meter):.2f} µs a message")
    return [f"id: {load.id}, {text}" for text in lines]


def cpu_per_message(meter: Meter) -> float:
    """Microseconds that the load itself used for each message that was received, or sent if none was received."""
    counts = meter.total().counts
    return meter.cpu_seconds() * 1e6 / (counts["received"] or counts["sent"] or 1)


def as_json(load: Load, meter: Meter, failure: str | None) -> dict[str, Any]:
    """The report: what was asked for (without the password), each interval, and everything together."""
    parameters = asdict(load)
    del parameters["uri"]["password"]
    for name in ("json", "plot"):
        parameters[name] = None if parameters[name] is None else str(parameters[name])
    return {
        "program": f"dispatchd perf {__version__}",
        "compiled": is_compiled(),
        "failure": failure,
        "parameters": parameters,
        "latency_unit": "microseconds",
        "intervals": [_row(load, sample) for sample in meter.samples],
        "total": _row(load, meter.total()) | {"load_cpu_us_per_message": round(cpu_per_message(meter), 3)},
    }


def _row(load: Load, sample: Sample) -> dict[str, Any]:
    names = shown_counts(load)
    return {
        "time": round(sample.time, 3),
        "seconds": round(sample.seconds, 3),
        "counts": {name: sample.counts[name] for name in names},
        "rates": {name: round(sample.rate(name), 1) for name in names},
        "latencies": shown_latencies(load, sample),
    }


def _rate(rate: float) -> str:
    if rate == 0 or rate >= 10:
        return str(int(rate))
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2f}"


def _latency(values: Latencies) -> str:
    return "/".join(str(values[name]) for name in SHOWN) + " µs"
