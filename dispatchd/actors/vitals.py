"""How actors do, read from outside: what is noted of each message they handle, and the rows made of it.

What is noted has to be cheap, because it always is: two counts by powers of two, and three figures by type. Figures
of the last minute are those of two windows, one that is being filled and the one before; an actor that has had nothing
to do for so long has neither, so what rests takes no memory for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import gevent

from dispatchd.actors.breath import in_turns
from dispatchd.actors.windows import WINDOW_SECONDS, Window

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Actor, System

LOOK_SECONDS: Final = 2.0

IDLE: Final = "idle"
RUNNING: Final = "running"
WAITING: Final = "waiting"
PAUSED: Final = "paused"
RESTARTING: Final = "restarting"
QUARANTINED: Final = "quarantined"
DEAD: Final = "dead"
STATES: Final = (QUARANTINED, DEAD, RESTARTING, PAUSED, WAITING, RUNNING, IDLE)
"""The worst first."""


def look_at_vitals(system: System) -> None:
    """Look from now on at who did something in the last minute."""
    gevent.spawn(_look_for_ever, system).name = "vitals"


def _look_for_ever(system: System) -> None:
    before = turned = monotonic()
    while True:
        gevent.sleep(LOOK_SECONDS)
        now = monotonic()
        look(system, now - before)
        if now - turned >= WINDOW_SECONDS:
            turn(system)
            turned = now
        before = now


def look(system: System, seconds: float) -> None:
    """Note how busy they were since the last look, so many seconds ago."""
    for actor in _still_there(system.measured):
        window = actor.window or actor.past
        if window is not None:
            handled, busy = window.seen
            window.seen = actor.handled, busy_ns(actor)
            window.per_second = (actor.handled - handled) / seconds
            window.busy = min(1.0, (window.seen[1] - busy) / 1e9 / seconds)


def turn(system: System) -> None:
    """Begin new windows: what was in the ones before the last is forgotten."""
    for actor in _still_there(system.measured):
        inbox = actor.actor_inbox
        actor.past, actor.window = actor.window, None
        if actor.past is not None:
            actor.past.peak, inbox.peak = inbox.peak, len(inbox)
        elif actor.handling is not None:
            actor.duty.open_window()
        else:
            del system.measured[actor.number]


def _still_there(actors: dict[int, Actor]) -> Iterator[Actor]:
    """Those that are there still when it is their turn; others run in between."""
    for number in in_turns(list(actors)):
        if (actor := actors.get(number)) is not None:
            yield actor


def percentile(counts: Sequence[int], share: float) -> float:
    """A percentile in milliseconds, of counts by bits: right to the power of two, in between by proportion."""
    below, wanted = 0, share * sum(counts)
    for bits, found in enumerate(counts):
        if found and below + found >= wanted:
            least, most = 1 << bits >> 1, (1 << bits) - 1
            return float(least + (wanted - below) / found * (most - least)) / 1e6
        below += found
    return 0.0


def waits(windows: list[Window]) -> list[int]:
    """How long messages waited, counted by bits."""
    return _added_up([window.waits for window in windows])


def takes(windows: list[Window]) -> list[int]:
    """How long handlers took, counted by bits."""
    return _added_up([window.takes for window in windows])


def _added_up(counts: list[list[int]]) -> list[int]:
    return counts[0] if len(counts) == 1 else list(map(sum, zip(*counts, strict=True)))


def windows_of(actor: Actor) -> list[Window]:
    """Those of the last minute that there are."""
    return [window for window in (actor.window, actor.past) if window is not None]


def types_of(actor: Actor) -> list[dict[str, Any]]:
    """What the actor handled in the last minute by type of message, the most frequent first; times in milliseconds."""
    rows: dict[str, dict[str, Any]] = {}
    for window in windows_of(actor):
        for message_type, figures in window.types.items():
            row = rows.setdefault(message_type.__name__, {"count": 0, "time_ms": 0.0, "max_ms": 0.0, "failures": 0})
            row["count"] += figures.count
            row["time_ms"] += figures.time / 1e6
            row["max_ms"] = max(row["max_ms"], figures.longest / 1e6)
            row["failures"] += figures.failures
    for row in rows.values():
        row["mean_ms"] = row["time_ms"] / row["count"] if row["count"] else 0.0
    found = [{"type": name, **{key: _rounded(value) for key, value in row.items()}} for name, row in rows.items()]
    return sorted(found, key=lambda row: -row["count"])


def doing(actor: Actor) -> str:
    """What it does now, one of STATES."""
    if actor.actor_stopped.is_set():
        return DEAD
    if actor.is_quarantined:
        return QUARANTINED
    if actor.is_restarting:
        return RESTARTING
    if actor.actor_inbox.permits is not None:
        return PAUSED
    if actor.handling is not None:
        return RUNNING
    if waits_for(actor):
        return WAITING
    return RUNNING if len(actor.actor_inbox) else IDLE


def waits_for(actor: Actor) -> str | None:
    """For whom or what it waits, while it may handle other messages."""
    try:
        return actor.waits_for()
    except Exception:  # noqa: BLE001 - to look at a broken actor does nothing to it, nor to who looks
        return None


def handling_ms(actor: Actor) -> float:
    """For how long it has handled the message that it handles now."""
    return (perf_counter_ns() - actor.handling_since) / 1e6 if actor.handling is not None else 0.0


def busy_ns(actor: Actor) -> int:
    """How long all its handlers took until now, the one that runs included."""
    return actor.busy_ns + (perf_counter_ns() - actor.handling_since if actor.handling is not None else 0)


def peak(actor: Actor) -> int:
    """The deepest that its mailbox was in the last minute."""
    return max(actor.actor_inbox.peak, actor.past.peak if actor.past is not None else 0)


def rates(actor: Actor) -> tuple[float, float]:
    """Messages handled a second, and the share (0 to 1) of the time that was spent with them, at the last look."""
    window = actor.window or actor.past
    return (window.per_second, window.busy) if window is not None else (0.0, 0.0)


def handler_times(windows: list[Window]) -> tuple[float, float]:
    """Mean and maximum of the handlers' times, in milliseconds."""
    figures = [each for window in windows for each in window.types.values()]
    handled = sum(each.count for each in figures)
    mean = sum(each.time for each in figures) / handled if handled else 0
    return mean / 1e6, max((each.longest for each in figures), default=0) / 1e6


def vitals(actor: Actor) -> dict[str, Any]:
    """An actor's row in the admin: it needs no help of the actor, which may be stuck. Times are in milliseconds."""
    last, inbox, windows = actor.failures.last, actor.actor_inbox, windows_of(actor)
    mean, longest = handler_times(windows)
    per_second, busy = rates(actor)
    pause = actor.system.pauses.get(actor.number)
    resumes_in = pause.left() if pause is not None else None
    return {
        "id": actor.number,
        "kind": actor.kind,
        "name": actor.name,
        "parent": actor.parent_number,
        "state": doing(actor),
        "waits_for": waits_for(actor),
        "resumes_in_ms": _rounded(resumes_in * 1000) if resumes_in is not None else None,
        "mailbox_depth": len(inbox),
        "mailbox_peak": peak(actor),
        "oldest_ms": _rounded(inbox.oldest_age() * 1000),
        "wait_p50_ms": _rounded(percentile(waits(windows), 0.5)) if windows else None,
        "wait_p99_ms": _rounded(percentile(waits(windows), 0.99)) if windows else None,
        "handled": actor.handled,
        "handled_per_second": _rounded(per_second),
        "mean_ms": _rounded(mean) if windows else None,
        "p99_ms": _rounded(min(percentile(takes(windows), 0.99), longest)) if windows else None,
        "max_ms": _rounded(longest) if windows else None,
        "busy_percent": _rounded(busy * 100),
        "busy_ms": _rounded(busy_ns(actor) / 1e6),
        "handling": type(actor.handling).__name__ if actor.handling is not None else None,
        "handling_ms": _rounded(handling_ms(actor)),
        "age_ms": _rounded((perf_counter_ns() - actor.began_at) / 1e6),
        "slow": actor.system.slow.by_actor[actor.number],
        "blocks": actor.system.blocks.by_actor[actor.number],
        "failures": actor.failures.total,
        "restarts": actor.restarts,
        "last_failure": last.summary() if last else None,
    }


def waiting_messages(actor: Actor, count: int) -> Iterator[tuple[float, Any, bool]]:
    """(age in milliseconds, message, whether somebody waits for a reply) of the oldest in its mailbox."""
    now = perf_counter_ns()
    for stamp, message, reply_to in actor.actor_inbox.oldest(count):
        yield (now - stamp) / 1e6, message, reply_to is not None


def _rounded(value: float) -> float:
    return round(value, 3)
