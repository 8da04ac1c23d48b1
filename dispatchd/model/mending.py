"""Definitions that fit together again after some of them were lost, so that a broker can start with the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dispatchd.model.catalogue import PREDECLARED
from dispatchd.model.definitions import QueueDefinition, Record, VhostDefinition
from dispatchd.model.stored_definitions import (
    BINDINGS,
    EXCHANGES,
    QUEUES,
    USERS,
    VHOSTS,
    owners,
    queue_row,
    read_row,
    vhost_row,
)

_DEFAULT_VHOST: Final = "/"
_NEW_NAME: Final = "salvaged-"


class Mended:
    """`rows` are all definitions, by their keys; `changes` says in words how they differ from what was left."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.changes: list[str] = []


def mend(rows: dict[bytes, bytes], queue_ids: Iterable[int]) -> Mended:
    """Make definitions complete of which some were lost; `queue_ids` are those of all queues that have messages.

    Bindings from or to what was lost go. A vhost that was lost and is named by the rest is made anew, without its
    description and tags. Messages whose queue was lost get a new one: durable, called "salvaged-" and its id, in the
    vhost "/" if there is one. Raises ValueError for a row that is no definition.
    """
    mended = Mended()
    read = {key: read_row(value) for key, value in rows.items()}
    there = {
        (row["vhost"], row["what"], row["record"]["name"])
        for row in read.values()
        if row["what"] in (VHOSTS, EXCHANGES, QUEUES)
    }
    for key, row in read.items():
        lost_end = _lost_end(row["vhost"], row["record"], there) if row["what"] == BINDINGS else ""
        if lost_end:
            mended.changes.append(f"a binding in vhost '{row['vhost']}' is gone: {lost_end} was lost")
        else:
            mended.rows[key] = rows[key]
    vhosts = sorted({row["vhost"] for row in read.values() if row["what"] != USERS})
    known = owners(rows.values())
    ownerless = [queue_id for queue_id in queue_ids if queue_id not in known]
    if ownerless and not vhosts:
        vhosts.append(_DEFAULT_VHOST)
    for vhost in vhosts:
        if (vhost, VHOSTS, vhost) not in there:
            _add(mended, vhost_row(VhostDefinition(vhost)), f"vhost '{vhost}' is made anew")
    for queue_id in ownerless:
        vhost = _DEFAULT_VHOST if _DEFAULT_VHOST in vhosts else vhosts[0]
        name = f"{_NEW_NAME}{queue_id}"
        while (vhost, QUEUES, name) in there:
            name += "'"
        queue = QueueDefinition(name, queue_id, durable=True)
        _add(
            mended, queue_row(vhost, queue), f"queue '{name}' in vhost '{vhost}' has the messages of one that was lost"
        )
    return mended


def _lost_end(vhost: str, binding: Record, there: set[tuple[str, str, str]]) -> str:
    """The end of a binding that is not there, "" if both are."""
    for kind, name in ((EXCHANGES, binding["source"]), (binding["kind"], binding["destination"])):
        is_predeclared = kind == EXCHANGES and any(name == predeclared for predeclared, _, _ in PREDECLARED)
        if not is_predeclared and (vhost, kind, name) not in there:
            return f"{kind} '{name}'"
    return ""


def _add(mended: Mended, row: tuple[bytes, bytes], change: str) -> None:
    mended.rows[row[0]] = row[1]
    mended.changes.append(change)
