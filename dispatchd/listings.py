"""How rabbitmqadmin shows rows: as a table, with tabs, and so on, with a column for each leaf that is not too deep."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from dispatchd.model.names import printable

Row = dict[str, Any]
Cells = list[list[str]]

NOTHING: Final = "No items"
FIRST: Final = ("vhost", "name", "type", "source", "destination", "destination_type", "routing_key", "exchange")
"""Columns that stand before the others, which are in the order of the alphabet."""
AS_JSON: Final = frozenset({"definition", "value"})
"""Objects that are one cell each."""
RULE: Final = "-" * 80


def leaves(row: Row, before: str = "") -> Iterator[tuple[str, Any]]:
    """What is in a row, objects in objects with dots; an object itself is not among it."""
    for key, value in row.items():
        name = before + key
        if isinstance(value, dict) and name not in AS_JSON:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def cell(value: Any) -> str:
    """A leaf as text; True and False as Python has them, like rabbitmqadmin, which is in Python."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def columns_of(rows: Sequence[Row], depth: int) -> list[str]:
    """All columns that some row has, with at most `depth` names each."""
    found = {name for row in rows for name, _ in leaves(row) if name.count(".") < depth}
    first = [name for name in FIRST if name in found]
    return first + sorted(found.difference(first))


def show(rows: Sequence[Row], form: str, columns: Sequence[str], depth: int, *, with_names: bool) -> str:
    """All rows in a form of FORMS; `columns` are those to show, or empty: all down to `depth`.

    `with_names` says whether a line with the columns' names is above the rows with tabs.
    """
    if form == "raw_json":
        return json.dumps(rows)
    if form == "pretty_json":
        return json.dumps(rows, indent=2, sort_keys=True)
    if not rows:
        return "" if form == "bash" else NOTHING
    names = list(columns) or columns_of(rows, depth)
    found = [dict(leaves(row)) for row in rows]
    lines = [[printable(cell(row.get(name))) for name in names] for row in found]
    if form == "tsv":
        return "\n".join("\t".join(line) for line in ([names] if with_names else []) + lines)
    return _FORMS[form](names, lines)


def _table(names: Sequence[str], lines: Cells) -> str:
    widths = [max(map(len, cells)) for cells in zip(names, *lines, strict=True)]
    rule = "".join(f"+{'-' * (width + 2)}" for width in widths) + "+"
    head = "".join(f"| {name:^{width}} " for name, width in zip(names, widths, strict=True)) + "|"
    body = ["".join(f"| {each:<{width}} " for each, width in zip(line, widths, strict=True)) + "|" for line in lines]
    return "\n".join([rule, head, rule, *body, rule])


def _long(names: Sequence[str], lines: Cells) -> str:
    width = max(map(len, names))
    parts = ("\n".join(f"{name:>{width}}: {each}" for name, each in zip(names, line, strict=True)) for line in lines)
    return f"\n{RULE}\n\n" + "".join(f"{part}\n\n{RULE}\n\n" for part in parts).rstrip("\n") + "\n"


def _pairs(names: Sequence[str], lines: Cells) -> str:
    return "\n".join(" ".join(f'{name}="{each}"' for name, each in zip(names, line, strict=True)) for line in lines)


def _bash(names: Sequence[str], lines: Cells) -> str:
    return " ".join(line[names.index("name")] for line in lines) if "name" in names else ""


_FORMS: Final[dict[str, Callable[[Sequence[str], Cells], str]]] = {
    "table": _table,
    "long": _long,
    "kvp": _pairs,
    "bash": _bash,
}
FORMS: Final = ("table", "tsv", "long", "kvp", "bash", "raw_json", "pretty_json")
"""What `show` knows."""
