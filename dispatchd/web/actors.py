"""Actors in the API: lists in pages, sorted here, the tree, failures, and everything about one of them.

All of it is read from outside. Only the page of one actor asks it for a snapshot, with a deadline.
"""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import nlargest, nsmallest
from itertools import islice
from typing import Any, Final

import bottle

from dispatchd.actors import vitals
from dispatchd.actors.breath import breathe
from dispatchd.actors.controls import ESSENTIAL, NotPossible, replayable
from dispatchd.actors.failures import Failure
from dispatchd.actors.runtime import Actor, System
from dispatchd.actors.summaries import count, summary, weight
from dispatchd.actors.windows import Window
from dispatchd.web.answers import answer_json
from dispatchd.web.encoding import json_list, plain
from dispatchd.web.guard import Guard
from dispatchd.web.requests import number_of_query, words_of_query
from dispatchd.web.roles import current
from dispatchd.web.snapshots import Row, Snapshots

ACTORS_PER_TURN: Final = 250
ROWS_PER_TURN: Final = 25
SHOWN_ACTORS: Final = 100
MOST_ACTORS: Final = 1000
SHOWN_MESSAGES: Final = 20
MOST_MESSAGES: Final = 200
SHOWN_CHILDREN: Final = 100
TREE_DEPTH: Final = 2
MOST_TREE_DEPTH: Final = 5
MOST_FAILURES: Final = 200

_BADNESS: Final = {state: number for number, state in enumerate(reversed(vitals.STATES))}


def _percentile(counts: Callable[[list[Window]], list[int]], share: float) -> Callable[[Actor], float]:
    return lambda actor: vitals.percentile(counts(vitals.windows_of(actor)), share)


# What actors can be sorted by: the names are those of the rows. Text begins with A, all else with the most.
SORTS: Final[dict[str, Callable[[Actor], Any]]] = {
    "id": lambda actor: actor.number,
    "kind": lambda actor: actor.kind,
    "name": lambda actor: actor.name,
    "state": lambda actor: _BADNESS[vitals.doing(actor)],
    "mailbox_depth": lambda actor: len(actor.actor_inbox),
    "mailbox_peak": vitals.peak,
    "oldest_ms": lambda actor: actor.actor_inbox.oldest_age(),
    "wait_p50_ms": _percentile(vitals.waits, 0.5),
    "wait_p99_ms": _percentile(vitals.waits, 0.99),
    "handled": lambda actor: actor.handled,
    "handled_per_second": lambda actor: vitals.rates(actor)[0],
    "mean_ms": lambda actor: vitals.handler_times(vitals.windows_of(actor))[0],
    "p99_ms": _percentile(vitals.takes, 0.99),
    "max_ms": lambda actor: vitals.handler_times(vitals.windows_of(actor))[1],
    "busy_percent": lambda actor: vitals.rates(actor)[1],
    "busy_ms": vitals.busy_ns,
    "handling_ms": vitals.handling_ms,
    "age_ms": lambda actor: -actor.began_at,
    "slow": lambda actor: actor.system.slow.by_actor[actor.number],
    "blocks": lambda actor: actor.system.blocks.by_actor[actor.number],
    "failures": lambda actor: actor.failures.total,
    "restarts": lambda actor: actor.restarts,
    "last_failure": lambda actor: actor.failures.last.at if actor.failures.last is not None else 0.0,
}
ALIASES: Final = {"mailbox": "mailbox_depth", "busy": "busy_percent", "rate": "handled_per_second"}
TEXTS: Final = frozenset({"kind", "name", "id"})


class Actors:
    """The handlers that look."""

    def __init__(self, system: System, guard: Guard) -> None:
        self._system = system
        self._guard = guard
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/actors", callback=self.show_some)
        app.get("/api/actors/tree", callback=self.tree)
        app.get("/api/actors/failures", callback=self.failures)
        app.get("/api/actors/slow", callback=self.slow)
        app.get("/api/actors/blocks", callback=self.blocks)
        app.get("/api/actors/<number:int>", callback=self.show)
        app.get("/api/actors/<number:int>/mailbox", callback=self.mailbox)
        app.get("/api/actors/<number:int>/stack", callback=self.stack)

    def show_some(self) -> str:
        """A page of actors. Raises 400 for what it can't be sorted by."""
        limit = number_of_query("limit", SHOWN_ACTORS, MOST_ACTORS)
        offset = number_of_query("offset", 0)
        sort = bottle.request.query.getunicode("sort", "state")
        order = bottle.request.query.getunicode("order", "")
        found = self.page(
            sort, limit, offset, order, words_of_query("kind"), words_of_query("state"),
            bottle.request.query.getunicode("name", ""),
        )  # fmt: skip
        items = json_list(found.pop("items"))
        facts = json.dumps({**found, "may_act": self._guard.permits(current())})
        return answer_json(f'{facts[:-1]}, "items": {items}}}')

    def page(
        self,
        sort: str = "state",
        limit: int = SHOWN_ACTORS,
        offset: int = 0,
        order: str = "",
        kinds: Iterable[str] = (),
        states: Iterable[str] = (),
        name: str = "",
    ) -> Row:
        """`items` are rows of actors; beside them are how many there are, how many match, and counts of both kinds.

        An empty filter lets everybody through; `name` is a part of the name, in upper or lower case, or #number.
        Raises 400 for a `sort` or an `order` that is none.
        """
        sort = ALIASES.get(sort, sort)
        if sort not in SORTS or order not in ("", "asc", "desc"):
            raise bottle.HTTPError(400, f"sort is one of {', '.join(SORTS)}, and order is asc or desc")
        key, wanted = SORTS[sort], offset + limit
        ascends = (order or ("asc" if sort in TEXTS else "desc")) == "asc"
        best, sign = (nsmallest, 1) if ascends else (nlargest, -1)
        by_kind: Counter[str] = Counter()
        by_state: Counter[str] = Counter()
        matched, first = 0, list[tuple[Any, int, Actor]]()
        is_wanted = _filter(set(kinds), set(states), name)
        for some in _in_turns(self._system.actors.values()):
            found = []
            for actor in some:
                state = vitals.doing(actor)
                by_kind[actor.kind] += 1
                by_state[state] += 1
                if is_wanted(actor, state):
                    found.append((key(actor), sign * actor.number, actor))
            matched += len(found)
            first = best(wanted, first + found) if found else first
        return {
            "total": by_kind.total(),
            "matched": matched,
            "offset": offset,
            "limit": limit,
            "kinds": dict(by_kind),
            "states": {state: by_state[state] for state in vitals.STATES},
            "items": [
                row_of(actor)
                for some in _in_turns((actor for _, _, actor in first[offset:]), ROWS_PER_TURN)
                for actor in some
            ],
        }

    def show(self, number: int) -> str:
        """Everything about one actor: vitals, its relatives, what it handled, what failed, and what it tells itself."""
        actor = self._find(number)
        snapshot = self._snapshots.of([actor])
        if not snapshot:
            raise _gone(number)
        children = [child for child in self._system.actors.values() if child.parent_number == number]
        parent = self._system.actors.get(actor.parent_number) if actor.parent_number is not None else None
        found = {
            **actor.vitals(),
            "permits": actor.actor_inbox.permits,
            "is_essential": actor.kind in ESSENTIAL,
            "can_stop": actor.farewell("") is not None,
            "may_act": self._guard.permits(current()),
            "parent_name": parent.name if parent is not None else None,
            "children": [brief(child) for child in islice(children, SHOWN_CHILDREN)],
            "children_total": len(children),
            "types": vitals.types_of(actor),
            "mailbox_head": [type(message).__name__ for message in actor.actor_inbox.peek(SHOWN_MESSAGES)],
            "kept_failures": [failure_row(failure) for failure in reversed(actor.failures.kept)],
            "snapshot": snapshot[0],
        }
        return answer_json(json.dumps(found, allow_nan=False))

    def tree(self) -> str:
        """Who is whose parent: from `root`, or those without a parent, `depth` levels down. Raises 404."""
        depth = number_of_query("depth", TREE_DEPTH, MOST_TREE_DEPTH)
        limit = number_of_query("limit", SHOWN_CHILDREN, MOST_ACTORS)
        root = number_of_query("root", 0)
        children: dict[int | None, list[Actor]] = {}
        for some in _in_turns(self._system.actors.values()):
            for actor in some:
                children.setdefault(actor.parent_number, []).append(actor)
        tops = [self._find(root)] if root else children.get(None, [])
        return answer_json(json_list(_node(actor, children, depth, limit) for actor in tops))

    def failures(self) -> str:
        """The newest failures of all actors, also of those that are gone; `actor` is a number to see one's only."""
        limit, number = number_of_query("limit", SHOWN_ACTORS, MOST_FAILURES), number_of_query("actor", 0)
        found = (failure for failure in self._system.failures if not number or failure.actor_number == number)
        return answer_json(json_list(failure_row(failure) for failure in islice(found, limit)))

    def slow(self) -> str:
        """The last handlers that took long, the newest first."""
        return answer_json(json_list(self._system.slow.rows()))

    def blocks(self) -> str:
        """The last times that the loop was blocked, with the stack then, the newest first."""
        return answer_json(json_list(self._system.blocks.rows()))

    def mailbox(self, number: int) -> str:
        """The oldest messages that wait: what they are, and nothing of what clients wrote."""
        inbox = self._find(number).actor_inbox
        limit = number_of_query("limit", SHOWN_MESSAGES, MOST_MESSAGES)
        items = [
            {
                "position": position,
                "type": type(message).__name__,
                "age_ms": round(age, 3),
                "count": count(message),
                "octets": weight(message),
                "is_asked": is_asked,
                "summary": summary(message),
            }
            for position, (age, message, is_asked) in enumerate(vitals.waiting_messages(self._find(number), limit))
        ]
        return answer_json(json.dumps({"total": len(inbox), "items": items}))

    def stack(self, number: int) -> str:
        """Where its greenlet is now, the innermost last: only code, no values."""
        actor = self._find(number)
        frame = actor.greenlet.gr_frame if actor.greenlet is not None else None
        lines = traceback.format_stack(frame) if frame is not None else []
        note = None if lines else "it has no greenlet until something comes for it"
        return answer_json(json.dumps({**brief(actor), "note": note, "stack": lines}))

    def _find(self, number: int) -> Actor:
        return find(self._system, number)


def find(system: System, number: int) -> Actor:
    """The actor with this number. Raises 404."""
    actor = system.actors.get(number)
    if actor is None:
        raise _gone(number)
    return actor


def _gone(number: int) -> Any:
    return bottle.HTTPError(404, f"There is no actor {number}")


def row_of(actor: Actor) -> Row:
    """An actor's row in a list: its vitals, with a failure in brief."""
    row, last = actor.vitals(), actor.failures.last
    row["last_failure"] = {"id": last.number, "at": last.at, "error": last.error} if last is not None else None
    return row


def brief(actor: Actor) -> Row:
    """As much of an actor as a link to it shows."""
    return {
        "id": actor.number,
        "kind": actor.kind,
        "name": actor.name,
        "state": vitals.doing(actor),
        "mailbox_depth": len(actor.actor_inbox),
        "failures": actor.failures.total,
        "restarts": actor.restarts,
    }


def failure_row(failure: Failure) -> Row:
    """A failure, with whether its message can be replayed, and why not."""
    reason = None
    try:
        replayable(failure)
    except NotPossible as error:
        reason = str(error)
    row: Row = plain({**failure.summary(), "can_replay": reason is None, "no_replay_because": reason})
    return row


def _node(actor: Actor, children: dict[int | None, list[Actor]], depth: int, limit: int) -> Row:
    own = children.get(actor.number, [])
    shown = nsmallest(limit, own, key=lambda child: (-_BADNESS[vitals.doing(child)], child.kind, child.name))
    below = [_node(child, children, depth - 1, limit) for child in shown] if depth else []
    return {**brief(actor), "children_total": len(own), "children": below}


def _filter(kinds: set[str], states: set[str], name: str) -> Callable[[Actor, str], bool]:
    part, number = name.lower(), name[1:] if name.startswith("#") else ""

    def is_wanted(actor: Actor, state: str) -> bool:
        if (kinds and actor.kind not in kinds) or (states and state not in states):
            return False
        return part in actor.name.lower() or number == str(actor.number)

    return is_wanted


def _in_turns(actors: Iterable[Actor], at_once: int = ACTORS_PER_TURN) -> Iterator[list[Actor]]:
    """As they were at the beginning, some at a time; everybody else has a turn in between."""
    left = iter(list(actors))
    while some := list(islice(left, at_once)):
        yield some
        breathe()
