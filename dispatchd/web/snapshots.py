"""What the actors say of themselves, asked so that none of them can hold up the page.

Some are asked at a time, and all together may keep the page waiting for SNAPSHOT_MS. Who takes longer gets a row that
says so, made of what can be seen from outside. In lists actors that rest are looked at without being asked: to wake
100,000 would take 700 MiB.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import pykka

from dispatchd.actors.breath import breathe, in_turns
from dispatchd.actors.messages import ActorMessage, Snapshot
from dispatchd.actors.runtime import PAUSED, QUARANTINED, Actor, System
from dispatchd.web.encoding import plain
from dispatchd.web.sorting import in_order

logger = logging.getLogger(__name__)

SNAPSHOT_MS = 250
LEAST_MS = 5
"""What actors have to answer in when others have used all of that up."""
HELD = frozenset({PAUSED, QUARANTINED})
SHOWN_HELD = 20
ACTORS_AT_ONCE = 25
"""So many rows take about a millisecond."""
LATE = f"did not answer in {SNAPSHOT_MS} ms"
FAILED = "failed to answer"

Row = dict[str, Any]


class Snapshots:
    """Asks the actors of one system for their snapshots, or another question with an answer for JSON.

    An actor that has not answered the last question is not asked again: a stuck one would only get a deeper mailbox
    from being looked at.
    """

    def __init__(
        self,
        system: System,
        question: Callable[[], ActorMessage] = Snapshot,
        look: Callable[[Actor], Row] = lambda actor: actor.snapshot(),
    ) -> None:
        """`look` finds out from outside what is asked: of who is paused, in whom nothing goes on."""
        self._system = system
        self._question = question
        self._look_at = look
        self._unanswered: WeakKeyDictionary[Actor, pykka.Future[Any]] = WeakKeyDictionary()

    def of_kind(self, kind: str) -> list[Row]:
        """Return a row for each actor of this kind, by name; as `of`, but those that rest are not woken."""
        told = self._tell(self._of_kind(kind), wake=False)
        return in_order([row_of(actor, each) for actor, each in told], _by_name)

    def _of_kind(self, kind: str) -> list[Actor]:
        return [actor for actor in in_turns(list(self._system.actors.values())) if actor.kind == kind]

    def of(self, actors: Iterable[Actor], *, wake: bool = True) -> list[Row]:
        """Ask these actors, those that rest only with `wake`, and wait SNAPSHOT_MS for all of them together.

        Each row is ready for JSON and has `id`, `name`, `mailbox_depth` and `actor_state` (the runtime's), beside what
        the actor tells; a row with `late` (why nothing was told) has only these and `state`. An actor that stops
        meanwhile has no row.
        """
        return [row for _, row in self.each(actors, wake=wake)]

    def each(self, actors: Iterable[Actor], *, wake: bool = True) -> Iterator[tuple[Actor, Row]]:
        """As `of`, one by one, each with its actor: to keep 10,000 rows, and free them at once, takes 40 ms."""
        for actor, told in self._tell(actors, wake=wake):
            yield actor, row_of(actor, told)

    def _tell(self, actors: Iterable[Actor], *, wake: bool) -> Iterator[tuple[Actor, Row | str]]:
        """Each actor that has not stopped, with what it tells, or what can be seen of one in whom nothing goes on."""
        patience, left = SNAPSHOT_MS / 1000, iter(actors)
        while some := list(islice(left, ACTORS_AT_ONCE)):
            asked = [
                (actor, self._look(actor) if is_halted(actor) or (actor.is_resting and not wake) else self._ask(actor))
                for actor in some
            ]
            deadline = time.monotonic() + max(patience, LEAST_MS / 1000)
            for actor, told in asked:
                if isinstance(told, pykka.Future):
                    began = time.monotonic()
                    told = self._answer(told, max(0.0, deadline - began))
                    patience -= time.monotonic() - began if told == LATE else 0.0
                if not actor.actor_stopped.is_set():
                    yield actor, told
            breathe()

    def _look(self, actor: Actor) -> Row | str:
        try:
            return self._look_at(actor)
        except Exception:
            logger.exception("%s %s can't show its state", actor.kind, actor.name)
            return FAILED

    def _ask(self, actor: Actor) -> pykka.Future[Any]:
        pending = self._unanswered.get(actor)
        if pending is not None and self._answer(pending, 0.0) == LATE:
            return pending
        future = actor.ref.ask(self._question(), block=False)
        self._unanswered[actor] = future
        return future

    @staticmethod
    def _answer(future: pykka.Future[Any], seconds: float) -> Row | str:
        try:
            answer = future.get(timeout=seconds)
        except pykka.Timeout:
            return LATE
        except pykka.ActorDeadError:
            return FAILED
        return answer if isinstance(answer, dict) else FAILED


def is_halted(actor: Actor) -> bool:
    """Whether an actor is paused, and through with what it handled: a question would only wait with the rest."""
    return actor.actor_inbox.permits == 0 and actor.handling is None


def _by_name(row: Row) -> tuple[str, int]:
    return str(row["name"]), row["id"]


def row_of(actor: Actor, told: Row | str) -> Row:
    """Make the row of an actor of what it told, or of why it told nothing."""
    seen = {"id": actor.number, "mailbox_depth": len(actor.actor_inbox), "actor_state": actor.state}
    if isinstance(told, str):
        return {"name": actor.name, "state": actor.state, "late": told, **seen}
    return {"name": actor.name, **plain(told), **seen}


def actor_totals(system: System) -> Row:
    """Count the actors by state, and sum up their mailboxes: read from outside, whatever the actors do."""
    states: Counter[str] = Counter()
    sums: Counter[str] = Counter(total=0, mailbox_depth=0, failures=0, restarts=0)
    deepest: Actor | None = None
    held: list[Row] = []
    for actor in in_turns(list(system.actors.values())):
        states[actor.state] += 1
        sums["total"] += 1
        sums["failures"] += actor.failures.total
        sums["restarts"] += actor.restarts
        if actor.state in HELD and len(held) < SHOWN_HELD:
            held.append(_held(actor))
        if depth := len(actor.actor_inbox):
            sums["mailbox_depth"] += depth
            if deepest is None or depth > len(deepest.actor_inbox):
                deepest = actor
    return {
        **sums,
        **{state: states[state] for state in ("running", "paused", "quarantined")},
        "slow": system.slow.figures(),
        "blocks": system.blocks.figures(),
        "held": held,
        "deepest": deepest.vitals() if deepest is not None else None,
    }


def _held(actor: Actor) -> Row:
    """One that handles nothing for now: every page says so."""
    pause = actor.system.pauses.get(actor.number)
    left = pause.left() if pause is not None else None
    return {
        "id": actor.number,
        "kind": actor.kind,
        "name": actor.name,
        "state": actor.state,
        "resumes_in_ms": round(left * 1000) if left is not None else None,
    }
