from __future__ import annotations

from typing import Any

from dispatchd.commands import table


def test_columns_are_as_wide_as_they_have_to_be() -> None:
    rows: list[dict[str, Any]] = [{"name": "a", "queues": 12}, {"name": "longer", "queues": 3, "more": 1}, {"name": ""}]
    assert table(("name", "queues"), rows).splitlines() == ["name    queues", "a       12", "longer  3", "        null"]


def test_a_terminal_obeys_nothing_that_clients_wrote() -> None:
    assert table(("name",), [{"name": "a\x1b[2J\nb"}]).splitlines() == ["name", r"a\x1b[2J\nb"]
