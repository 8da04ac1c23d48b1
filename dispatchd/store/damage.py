"""What of a store is damaged, in words: each queue with the number of messages concerned."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dispatchd.model.checksums import DEFINITIONS, MARKS
from dispatchd.model.names import printable
from dispatchd.store.inspection import Inspection
from dispatchd.store.interface import StoreDamaged
from dispatchd.store.redo_log import read_log
from dispatchd.store.remains import Remains

_MOST_NAMED: Final = 5


def concerned(inspection: Inspection) -> list[str]:
    """What is lost to damage: a line for each queue, with its name and a number of messages, then all else."""
    lines = [
        f"{_number(queue.damaged, 'message')} of {_owner(inspection, queue_id)}"
        for queue_id, queue in sorted(inspection.queues.items())
        if queue.damaged
    ]
    if inspection.lost != 0:
        where = _some([_owner(inspection, queue_id) for queue_id in inspection.lost_in], "queues") or "an unknown queue"
        lines.append(f"{_number(inspection.lost, 'message')} of {where}{' together' * (len(inspection.lost_in) > 1)}")
    for table, name in ((DEFINITIONS, "definition"), (MARKS, "mark")):
        findings = inspection.remains.findings[table]
        missing = findings.missing
        count = None if missing is None else missing + len(findings.damaged)
        if count != 0:
            what = f"{_number(count, name)}"
            lines.append(what if table == DEFINITIONS else f"{what} of what was delivered")
    lost = inspection.outstanding.lost
    if lost != 0:
        lines.append(f"{_number(lost, 'batch', 'batches')} of what was confirmed last")
    return lines


def explained(data: Path, error: StoreDamaged) -> StoreDamaged:
    """The refusal of a file that cannot be used, with what is concerned, and how to go on."""
    try:
        with Remains(data) as remains:
            inspection = Inspection(remains, read_log(data.parent))
    except (OSError, LookupError, ValueError):
        return error
    what = _some(concerned(inspection), "more") or "no message"
    return StoreDamaged(f"{error}. Concerned: {what}. `dispatchd store check` tells all, --salvage serves the rest")


def in_one_line(inspection: Inspection) -> str:
    """The same for a refusal, with the first fault of the file if there is one."""
    faults = inspection.remains.faults
    parts = [_some(concerned(inspection), "more") or "no message"]
    if faults:
        parts.append(f"{faults[0]} (faults: {len(faults)})")
    return "; ".join(parts)


def _owner(inspection: Inspection, queue_id: int) -> str:
    if not queue_id:
        return "an unknown queue"
    owner = inspection.queues[queue_id].owner
    return f"a queue without a definition (id {queue_id})" if owner is None else printable(str(owner))


def _number(count: int | None, noun: str, plural: str = "") -> str:
    plural = plural or f"{noun}s"
    return f"an unknown number of {plural}" if count is None else f"{count:,} {noun if count == 1 else plural}"


def _some(names: list[str], others: str) -> str:
    named = names[:_MOST_NAMED]
    if len(names) > len(named):
        named.append(f"{len(names) - len(named):,} {others}")
    return ", ".join(named)
