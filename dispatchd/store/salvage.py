"""A new data file of what is intact in a damaged one, which is kept beside it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from dispatchd.model.checksums import CONTENTS, DEFINITIONS, ENTRIES, MARKS
from dispatchd.model.mending import mend
from dispatchd.model.names import printable
from dispatchd.model.records import mark_row, read_id
from dispatchd.store.damage import concerned
from dispatchd.store.data_file import DATA_FILE, LOG_FILE, create_data_file, damaged
from dispatchd.store.filling import fill
from dispatchd.store.inspection import Inspection
from dispatchd.store.layout import NAMES, definition_row, expect_known
from dispatchd.store.redo_log import read_log
from dispatchd.store.remains import Remains, Row

logger = logging.getLogger(__name__)

_LINES_LOGGED: Final = 100


def salvage(directory: Path, map_size: int) -> None:
    """Put all that is intact in the place of a damaged data file, which gets another name; the log says what is lost.

    A crash on the way leaves the damaged one. Raises StoreDamaged if nothing is intact, what LMDB raises, and OSError.
    """
    data = directory / DATA_FILE
    logged = read_log(directory)
    with Remains(data) as remains:
        expect_known(data, remains.format)
        inspection = Inspection(remains, logged)
    if not inspection.definitions and not any(queue.messages for queue in inspection.queues.values()):
        raise damaged(data, "nothing in it can be read")
    definitions, changes = _definitions(inspection)
    kept, kept_log = (_unused_name(directory / file) for file in (DATA_FILE, LOG_FILE))
    pending = inspection.outstanding.pending

    def write(unfinished: Path) -> None:
        with Remains(data) as again:
            tables = {
                NAMES[DEFINITIONS]: definitions,
                NAMES[MARKS]: _marks(inspection),
                NAMES[CONTENTS]: _kept(inspection, CONTENTS, pending[CONTENTS].over(again.rows(CONTENTS))),
                NAMES[ENTRIES]: _kept(inspection, ENTRIES, pending[ENTRIES].over(again.rows(ENTRIES))),
            }
            fill(unfinished, map_size, tables, _strays(inspection, again), used=data.stat().st_size)
        _keep(data, kept)
        if logged is not None:
            _keep(directory / LOG_FILE, kept_log)

    create_data_file(directory, write)
    for line in concerned(inspection)[:_LINES_LOGGED]:
        logger.warning("%s: lost: %s", data, line)
    for change in changes[:_LINES_LOGGED]:
        logger.warning("%s: %s", data, printable(change))
    if logged is not None:
        logger.warning("%s: is kept as %s; the data file has now what is intact of it", directory / LOG_FILE, kept_log)
    logger.warning(
        "%s: was damaged, and has now %d messages of it that are intact; the damaged one is kept as %s",
        data,
        sum(queue.messages for queue in inspection.queues.values()),
        kept,
    )


def _unused_name(file: Path) -> Path:
    names = (file.with_name(f"{file.name}.damaged-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _keep(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # not every file system has links
        shutil.copyfile(file, name)


def _definitions(inspection: Inspection) -> tuple[list[Row], list[str]]:
    rows, changes = inspection.definitions, []
    findings = inspection.remains.findings[DEFINITIONS]
    if findings.damaged or findings.missing != 0:
        with_messages = sorted(queue_id for queue_id, queue in inspection.queues.items() if queue.messages)
        mended = mend(rows, with_messages)
        rows, changes = mended.rows, mended.changes
    return sorted(definition_row(key, record) for key, record in rows.items()), changes


def _marks(inspection: Inspection) -> list[Row]:
    """How far each queue delivered; where that was lost, everything counts as delivered."""
    marks = dict(inspection.marks)
    findings = inspection.remains.findings[MARKS]
    if findings.damaged or findings.missing != 0:
        for queue_id, queue in inspection.queues.items():
            if queue.messages:
                marks.setdefault(queue_id, queue.last_position)
    return sorted(mark_row(queue_id, position) for queue_id, position in marks.items())


def _kept(inspection: Inspection, table: int, rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if _is_kept(inspection, table, row))


def _is_kept(inspection: Inspection, table: int, row: Row) -> bool:
    key, value = row
    if table == CONTENTS:
        return read_id(key) in inspection.contents
    return table == ENTRIES and inspection.size_of(value) is not None


def _strays(inspection: Inspection, remains: Remains) -> Iterator[tuple[bytes, bytes, bytes]]:
    for table, key, value in remains.strays():
        if key not in inspection.outstanding.pending[table] and _is_kept(inspection, table, (key, value)):
            yield NAMES[table], key, value
