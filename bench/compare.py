"""Put the same loads on dispatchd, compiled and interpreted, and on the peers that Debian packages, by turns.

    make bench
    .venv/bin/python bench/compare.py --turns 5 --only dispatchd --only RabbitMQ --load "-P 2 -C 4 -q 100"
    .venv/bin/python bench/compare.py --only dispatchd --against "spike=python /path/to/actors.py {port}"

Each turn has a freshly started broker in a fresh folder. On a shared machine only ratios within one run count, and what
shows first is the CPU per message. A broker that fails a load, or stalls in it, has no more turns of that one.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from brokers import Broker, broker, installed
from chart import chart
from loads import LOADS, Figures, Load, LoadError, build_load_generator, put_load
from results import Cell, Results, absolute_tables, ratio_table


def measure(program: Path, one: Broker, load: Load, seconds: float) -> Figures:
    """One turn. Raises LoadError."""
    with tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory, one.start(Path(directory)) as (port, pid):
        return put_load(program, port, pid, load.options, seconds)


def compare(brokers: Sequence[Broker], loads: Sequence[Load], turns: int, seconds: float) -> Results:
    """Measure all of them and tell of each turn; which broker begins changes with each turn."""
    results: Results = {load: {one.name: Cell() for one in brokers} for load in loads}
    with tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory:
        program = build_load_generator(Path(directory))
        for load, row in results.items():
            print(f"{load.name}: amqpload {load.options}", flush=True)
            for turn in range(turns):
                first = turn % len(brokers)
                for one in (*brokers[first:], *brokers[:first]):
                    if not row[one.name].failure:
                        _take_turn(program, one, load, seconds, row[one.name])
    return results


def _take_turn(program: Path, one: Broker, load: Load, seconds: float, cell: Cell) -> None:
    try:
        figures = measure(program, one, load, seconds)
    except LoadError as failure:
        cell.failure = str(failure)
        print(f"    {one.name:22} {failure}", flush=True)
    except (OSError, AssertionError) as error:
        cell.failure = "does not start"
        print(f"    {one.name:22} does not start: {error}", flush=True)
    else:
        cell.turns.append(figures)
        print(
            f"    {one.name:22} {figures.received:11,.0f}/s {figures.cpu:9,.2f} µs"
            f"  p50 {figures.p50:.2f} ms, p99 {figures.p99:.2f} ms, {figures.memory:.0f} MB",
            flush=True,
        )


def machine() -> str:
    """What it was measured on."""
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in processors if line.startswith("model name")), platform.machine())
    return (
        f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()};"
        f" other work on them before: a load of {os.getloadavg()[0]:.1f}"
    )


def report(results: Results, brokers: Sequence[Broker], how: str, picture: str) -> str:
    """The document in Markdown. `how` are paragraphs on what was done where."""
    names = [one.name for one in brokers]
    parts = [
        "# How dispatchd compares",
        f"![Throughput and CPU per message]({picture})",
        how,
        "| broker | version |\n|---|---|\n" + "\n".join(f"| {one.name} | {one.version} |" for one in brokers),
    ]
    if len(names) > 1:
        parts += [
            f"## {names[0]} beside the others",
            "Times the messages received a second (more is better), times the CPU per message (less is better).",
            ratio_table(results, names),
        ]
    parts += ["## Figures", absolute_tables(results, names)]
    return "\n\n".join(parts) + "\n"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each load (default: %(default)s)")
    parser.add_argument("--only", action="append", metavar="NAME", help="of the brokers that are installed")
    parser.add_argument("--against", action="append", default=[], metavar="NAME=COMMAND", help="another broker")
    parser.add_argument("--load", action="append", metavar="OPTIONS", help="amqpload's options, instead of the list")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the results in Markdown, and a chart beside it")
    given = parser.parse_args(arguments)
    if given.turns < 1 or given.seconds <= 0:
        parser.error("--turns and --seconds have to be positive")
    return given


def main() -> None:
    """Measure, and write or print what it came to."""
    given = parse_arguments(sys.argv[1:])
    brokers = [one for one in installed() if given.only is None or one.name in given.only]
    for other in given.against:
        name, _, command = other.partition("=")
        brokers.append(Broker(name, command, partial(broker, command)))
    named = {load.options: load for load in LOADS}
    loads = [named.get(each, Load(each, each)) for each in given.load] if given.load else LOADS
    how = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} on {machine()}."
        f" Medians of {given.turns} turns of {given.seconds:g} seconds, each on a freshly started broker, by turns;"
        " brokers and load share the cores, bodies have 100 bytes unless said. At full speed"
        " latencies are those of full socket buffers.\n\n"
        f"    {shlex.join(['bench/compare.py', *sys.argv[1:]])}"
    )
    began = time.monotonic()
    results = compare(brokers, loads, given.turns, given.seconds)
    print(f"{(time.monotonic() - began) / 60:.0f} minutes\n")
    picture = given.write.with_suffix(".svg") if given.write else Path("results.svg")
    document = report(results, brokers, how, picture.name)
    if given.write:
        given.write.write_text(document)
        picture.write_text(chart(results, [one.name for one in brokers]))
        print(f"{given.write} and {picture} have the results")
    else:
        print(document)


if __name__ == "__main__":
    main()
