"""Lists that are not asked of actors: filtered, in order, a page of them, with the columns that the query names."""

from __future__ import annotations

import json

from dispatchd.actors.breath import in_turns
from dispatchd.web.answers import Answer, answer_json, answer_rows
from dispatchd.web.encoding import plain
from dispatchd.web.paging import Paging, field_of
from dispatchd.web.snapshots import Row


def answer_table(rows: list[Row]) -> Answer:
    """Answer with the rows as the query asks for them. Raises 400."""
    paging = Paging()
    found = paging.filtered(rows, lambda row: str(row.get("name", "")))
    if paging.sort:
        found = paging.sorted(found, lambda row: field_of(row, paging.sort))
    elif paging.is_reversed:
        found.reverse()
    part = [plain(paging.pruned(row)) for row in in_turns(paging.part(found))]
    if paging.page is None:
        return answer_rows(part)
    return answer_json(json.dumps(paging.answer(part, len(rows), len(found)), allow_nan=False))
