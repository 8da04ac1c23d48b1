"""A part of a long list, as the query of a request asks for it: RabbitMQ's names, and its shape of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import bottle
import re2

from dispatchd.actors.breath import in_turns
from dispatchd.web.snapshots import Row
from dispatchd.web.sorting import in_order

PAGE_SIZE: Final = 100
MOST_ROWS: Final = 500
LONGEST_FILTER: Final = 1000
MOST_COLUMNS: Final = 100
LARGEST_PROGRAM: Final = 2_000
"""Instructions of what RE2 makes of an expression: no name costs more than milliseconds."""


class Paging:
    """What the query says. Raises 400 if it makes no sense.

    `page` None: all rows, as one array. `sort` is the name of a field, with dots into objects.
    """

    def __init__(self) -> None:
        query = bottle.request.query
        self.page = _number("page", 1, 1 << 40) if query.get("page") else None
        self.page_size = _number("page_size", 1, MOST_ROWS) if query.get("page_size") else PAGE_SIZE
        self.sort = tuple(query.getunicode("sort", "").split(".")) if query.get("sort") else ()
        self.is_reversed = query.get("sort_reverse") == "true"
        self._columns = [tuple(name.split(".")) for name in query.getunicode("columns", "").split(",") if name]
        if len(self._columns) > MOST_COLUMNS:
            raise bottle.HTTPError(400, f"columns has more than {MOST_COLUMNS} names")
        self._name = query.getunicode("name", "")
        if len(self._name) > LONGEST_FILTER:
            raise bottle.HTTPError(400, f"name is longer than {LONGEST_FILTER} characters")
        self._pattern = _pattern(self._name) if query.get("use_regex") == "true" and self._name else None

    def matches(self, name: str) -> bool:
        """Whether the filter lets this name through."""
        if self._pattern is None:
            return self._name.lower() in name.lower()
        return self._pattern.search(name) is not None

    def filtered(self, things: Iterable[Any], name_of: Callable[[Any], str]) -> list[Any]:
        """Those whose name the filter lets through; others have turns meanwhile."""
        if not self._name:
            return list(things)
        return [thing for thing in in_turns(things) if self.matches(name_of(thing))]

    def sorted(self, things: list[Any], key: Callable[[Any], Any]) -> list[Any]:
        """In the order of these keys, which may be of several types; what has none comes last, either way round."""
        return in_order(things, lambda thing: self._sortable(key(thing)), is_reversed=self.is_reversed)

    def _sortable(self, value: Any) -> tuple[int, Any]:
        if value is None:
            return -1 if self.is_reversed else 2, ""
        return (0, value) if isinstance(value, bool | int | float) else (1, str(value))

    def part(self, things: list[Any]) -> list[Any]:
        """The things of the page. Raises 400 if there is no such page."""
        if self.page is None:
            return things
        start = (self.page - 1) * self.page_size
        if start and start >= len(things):
            raise bottle.HTTPError(400, f"page_out_of_range: page {self.page}, but there are {self.pages(len(things))}")
        return things[start : start + self.page_size]

    def pruned(self, row: Row) -> Row:
        """The columns of a row that were asked for, which may be fields of objects in it; all without any."""
        if not self._columns:
            return row
        found: Row = {}
        for path in self._columns:
            if (value := field_of(row, path)) is not None:
                within = found
                for name in path[:-1]:
                    nested = within.get(name)
                    within[name] = within = nested if isinstance(nested, dict) else {}
                within[path[-1]] = value
        return found

    def pages(self, count: int) -> int:
        """How many pages so many things take; nothing is one page too."""
        return max(1, -(-count // self.page_size))

    def answer(self, rows: list[Row], total: int, filtered: int) -> Any:
        """The page as RabbitMQ has it, or the bare array."""
        if self.page is None:
            return rows
        return {
            "filtered_count": filtered,
            "item_count": len(rows),
            "items": rows,
            "page": self.page,
            "page_count": self.pages(filtered),
            "page_size": self.page_size,
            "total_count": total,
        }


def field_of(row: Any, path: tuple[str, ...]) -> Any:
    """What a row has at the end of this path; None if there is nothing."""
    for name in path:
        row = row.get(name) if isinstance(row, dict) else None
    return row


def _number(name: str, least: int, most: int) -> int:
    text = bottle.request.query.get(name)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise bottle.HTTPError(400, f"{name} is {text!r}, expected a number from {least} to {most}")
    return int(text)


def _pattern(text: str) -> Any:
    """An expression for RE2, whose time no name can make long. Raises 400."""
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else error
        reason = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        raise bottle.HTTPError(400, f"{text!r} is no regular expression: {reason}") from None
    if pattern.programsize > LARGEST_PROGRAM:
        raise bottle.HTTPError(400, f"{text!r} repeats too much")
    return pattern
