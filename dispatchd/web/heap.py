"""What is in memory: objects by type, what was allocated where, and how the collector of cyclic garbage does."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from typing import Final

SHOWN_TYPES: Final = 60
SHOWN_LINES: Final = 40


def by_type() -> str:
    """How many objects there are of each type, and what they take themselves, without what they refer to.

    Objects without references to others, such as bytes, are not known one by one: look at those who hold them. Those of
    the start are left out as well: the collector never looks at them again.
    """
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for each in gc.get_objects():
        name = f"{type(each).__module__}.{type(each).__qualname__}"
        counts[name] += 1
        sizes[name] += sys.getsizeof(each, 0)
    lines = [f"{counts.total()} objects, {_kib(sizes.total())} KiB\n", f"{'count':>10} {'KiB':>10}  type"]
    lines += [f"{counts[name]:>10} {_kib(size):>10}  {name}" for name, size in sizes.most_common(SHOWN_TYPES)]
    return "\n".join(lines) + "\n"


def allocated_lines(before: tracemalloc.Snapshot, after: tracemalloc.Snapshot) -> str:
    """What was allocated between the two, and is still held, by line of code."""
    lines = [f"{'KiB more':>10} {'blocks':>10}  where"]
    for each in after.compare_to(before, "lineno")[:SHOWN_LINES]:
        frame = each.traceback[0]
        lines.append(f"{_kib(each.size_diff):>10} {each.count_diff:>+10}  {frame.filename}:{frame.lineno}")
    return "\n".join(lines) + "\n"


def garbage() -> str:
    """The collector's generations, what it could not free, and memory in use as Python counts it."""
    heading = ("generation", "threshold", "count", "collections", "collected", "uncollectable")
    rows: list[tuple[object, ...]] = [heading]
    for number, (threshold, count, stats) in enumerate(
        zip(gc.get_threshold(), gc.get_count(), gc.get_stats(), strict=True)
    ):
        rows.append((number, threshold, count, *(stats[name] for name in heading[3:])))
    lines = [" ".join(f"{cell!s:>13}" for cell in row) for row in rows]
    lines.append(f"\nnever looked at again: {gc.get_freeze_count()}")
    lines.append(f"could not be freed: {len(gc.garbage)}")
    lines.append(f"blocks of memory in use: {sys.getallocatedblocks()}")
    return "\n".join(lines) + "\n"


def _kib(octets: int) -> str:
    return f"{octets / 1024:,.1f}"
