"""What the actors say of themselves, asked so that none of them can hold up the page.

All actors of a kind are asked at once and have one deadline together. Who misses it gets a row that says so, made of
what can be seen from outside.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import gevent
import pykka

from dispatchd.actors.messages import Snapshot
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.encoding import ROWS_PER_TURN, plain

SNAPSHOT_MS = 250
LATE = f"did not answer in {SNAPSHOT_MS} ms"
FAILED = "failed to answer"

Row = dict[str, Any]

# What a queue knows and the overview adds up.
QUEUE_TOTALS = ("consumers", "messages_ready", "messages_unacknowledged", "published", "delivered", "acknowledged")


class Snapshots:
    """Asks the actors of one system for their snapshots.

    An actor that has not answered the last question is not asked again: a stuck one would only get a deeper mailbox
    from being looked at.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._unanswered: WeakKeyDictionary[Actor, pykka.Future[Any]] = WeakKeyDictionary()

    def of_kind(self, kind: str) -> list[Row]:
        """Return a row for each actor of this kind, by name; see `of`."""
        rows = self.of([actor for actor in self._system.actors.values() if actor.kind == kind])
        return sorted(rows, key=lambda row: (str(row["name"]), row["id"]))

    def of(self, actors: Iterable[Actor]) -> list[Row]:
        """Ask these actors, and wait SNAPSHOT_MS for all of them together.

        Each row is ready for JSON and has `id`, `name`, `mailbox_depth` and `actor_state` (the runtime's), beside what
        the actor tells; a row with `late` (why nothing was told) has only these and `state`. An actor that stops
        meanwhile has no row.
        """
        asked = [(actor, self._ask(actor)) for actor in actors]
        deadline = time.monotonic() + SNAPSHOT_MS / 1000
        rows = []
        for number, (actor, future) in enumerate(asked, start=1):
            told = self._answer(future, max(0.0, deadline - time.monotonic()))
            if not actor.actor_stopped.is_set():
                rows.append(row_of(actor, told))
            if number % ROWS_PER_TURN == 0:
                gevent.sleep(0)
        return rows

    def totals(self) -> Row:
        """Add up what the queues tell, and count the actors by kind.

        `late` is the number of queues whose figures are missing.
        """
        queues = self.of_kind("queue")
        told = [row for row in queues if "late" not in row]
        kinds = Counter(actor.kind for actor in self._system.actors.values())
        return {
            "connections": kinds["connection"],
            "channels": kinds["channel"],
            "exchanges": kinds["exchange"],
            "queues": kinds["queue"],
            **{figure: sum(row.get(figure, 0) for row in told) for figure in QUEUE_TOTALS},
            "late": len(queues) - len(told),
        }

    def _ask(self, actor: Actor) -> pykka.Future[Any]:
        pending = self._unanswered.get(actor)
        if pending is not None and self._answer(pending, 0.0) == LATE:
            return pending
        future = actor.ref.ask(Snapshot(), block=False)
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


def row_of(actor: Actor, told: Row | str) -> Row:
    """Make the row of an actor of what it told, or of why it told nothing."""
    seen = {"id": actor.number, "mailbox_depth": len(actor.actor_inbox), "actor_state": actor.state}
    if isinstance(told, str):
        return {"name": actor.name, "state": actor.state, "late": told, **seen}
    return {"name": actor.name, **plain(told), **seen}


def actor_totals(system: System) -> Row:
    """Count the actors by state, and sum up their mailboxes: read from outside, whatever the actors do."""
    actors = list(system.actors.values())
    states = Counter(actor.state for actor in actors)
    deepest = max(actors, key=lambda actor: len(actor.actor_inbox), default=None)
    return {
        "total": len(actors),
        **{state: states[state] for state in ("running", "paused", "quarantined")},
        "mailbox_depth": sum(len(actor.actor_inbox) for actor in actors),
        "deepest": deepest.vitals() if deepest is not None and len(deepest.actor_inbox) else None,
        "failures": sum(actor.failures.total for actor in actors),
        "restarts": sum(actor.restarts for actor in actors),
    }
