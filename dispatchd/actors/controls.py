"""What an operator does to one actor, to what waits in its mailbox, and to what it failed at.

None of it stops another actor. Who publishes to a paused queue soon has no credit left, and is not read any further; a
paused connection is read until some reads wait for it, and its heartbeats come from a timer.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from greenlet import greenlet

from dispatchd.actors.failures import DROPPED, REFUSED, Failure
from dispatchd.actors.messages import ActorMessage, Quarantine, Restart

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Actor, System

ESSENTIAL = frozenset({"broker", "persistence", "scratch", "authenticator", "vhost", "monitor"})
"""Kinds of actors without which others can't go on: with persistence paused nothing durable is confirmed."""


NEEDED_TO_UNDO = "authenticator"
"""The kind of actor without which nobody can log in to resume it, or anything."""
LONGEST_PAUSE_OF_IT = 60.0


class NotPossible(Exception):  # noqa: N818 - it is the actor that is not such that this could be done
    """What was asked for can't be done to this actor as it is now; says why in one sentence."""


class Interrupted(BaseException):
    """Raised where an actor waits that is restarted in the middle of something. Handlers of `Exception` let it pass."""


class Pause:
    """A closed gate, and when it opens by itself: after so many seconds, or with None not at all."""

    def __init__(self, actor: Actor, seconds: float | None) -> None:
        self._until = None if seconds is None else monotonic() + seconds
        self._timer: gevent.Greenlet[..., None] | None = None
        if seconds is not None:
            self._timer = gevent.spawn_later(seconds, resume, actor)

    def left(self) -> float | None:
        """Seconds until the actor goes on; None if it waits to be told."""
        return None if self._until is None else max(0.0, self._until - monotonic())

    def cancel(self) -> None:
        """Somebody else opens the gate, or nobody needs to any more."""
        if self._timer is not None and self._timer is not gevent.getcurrent():
            self._timer.kill(block=False)


def pause(actor: Actor, seconds: float | None) -> None:
    """Let the actor finish what it handles and then handle nothing more, for so many seconds or until it is resumed.

    Raises NotPossible for the authenticator if that is long.
    """
    if actor.kind == NEEDED_TO_UNDO and (seconds is None or seconds > LONGEST_PAUSE_OF_IT):
        raise NotPossible(f"nobody could log in to resume it: {LONGEST_PAUSE_OF_IT:g} s at most")
    _forget_pause(actor)
    actor.system.pauses[actor.number] = Pause(actor, seconds)
    actor.actor_inbox.pause()


def resume(actor: Actor) -> None:
    """Let it go on."""
    _forget_pause(actor)
    actor.actor_inbox.resume()


def resume_all(system: System) -> None:
    """Let everybody go on, as a broker that stops needs them all."""
    for actor in list(system.actors.values()):
        if actor.actor_inbox.permits is not None:
            resume(actor)


def step(actor: Actor, count: int) -> None:
    """Let a paused actor handle so many more messages. Raises NotPossible if it is not paused."""
    _require_pause(actor)
    actor.actor_inbox.step(count)


def restart(actor: Actor) -> None:
    """Give it a new state, before it handles anything else; end what it handles now if that waits for something."""
    if actor.handling is not None and actor.greenlet is not None:
        gevent.get_hub().loop.run_callback(_interrupt, actor, actor.handling, actor.greenlet)
    else:
        _tell_first(actor, Restart())


def _interrupt(actor: Actor, message: Any, where: greenlet) -> None:
    """Called by the loop. If the actor still waits in the middle of this, it fails there: a failure has a restart.

    It must not have ended meanwhile: the greenlet may serve another by then.
    """
    if actor.handling is message and actor.greenlet is where:
        where.throw(Interrupted("an operator restarts the actor"))


def stop(actor: Actor, reason: str) -> None:
    """End it as its clients would see it end; it and its children go on for that, if they are paused.

    Raises NotPossible if there is no such end.
    """
    farewell = actor.farewell(reason)
    if farewell is None:
        raise NotPossible(f"a {actor.kind} does not stop: quarantine it, or delete what it stands for")
    _tell_first(actor, farewell)
    for each in [actor, *(each for each in actor.system.actors.values() if each.parent_number == actor.number)]:
        if each.actor_inbox.permits is not None:
            resume(each)


def quarantine(actor: Actor, reason: str) -> None:
    """Have it take leave of whoever relies on it, and refuse what it is told.

    Raises NotPossible if it does already, for the authenticator, and for what would end by it.
    """
    if actor.farewell(reason) is not None:
        raise NotPossible(f"for a {actor.kind} that would be the end: stop it")
    if actor.kind == NEEDED_TO_UNDO:
        raise NotPossible("nobody could log in to release it")
    if actor.is_quarantined:
        raise NotPossible("it is in quarantine already")
    _tell_first(actor, Quarantine(reason))


def release(actor: Actor) -> None:
    """Let it work again, with a new state. Raises NotPossible if it is not in quarantine."""
    if not actor.is_quarantined:
        raise NotPossible("it is not in quarantine")
    _tell_first(actor, Restart())


def drop_head(actor: Actor, by: str) -> Failure:
    """Take the oldest message out of the mailbox of a paused actor, refuse it, and return it as a failure.

    Raises NotPossible if the actor is not paused or nothing waits.
    """
    _require_pause(actor)
    waiting = actor.actor_inbox.take_out()
    if waiting is None:
        raise NotPossible("nothing waits in its mailbox")
    error = f"dropped by {by}"
    _, message, reply_to = waiting
    failure = Failure(actor.name, message, error, "", DROPPED, actor.kind, actor.number)
    actor.system.failures.add(failure)
    if reply_to is not None:
        reply_to.set(None)
    elif isinstance(message, ActorMessage):
        message.refuse(f"{actor.kind} {actor.name}: {error}")
    return failure


def replay(system: System, failure: Failure) -> None:
    """Tell the actor once more what it failed at, or was dropped. Raises NotPossible if that would do harm."""
    actor = system.actors.get(failure.actor_number)
    if actor is None:
        raise NotPossible("the actor is gone")
    actor.ref.tell(replayable(failure))
    failure.replays += 1


def replayable(failure: Failure) -> ActorMessage:
    """What is told in a replay. Raises NotPossible."""
    message: Any = failure.message
    if failure.fate not in (REFUSED, DROPPED):
        raise NotPossible(f"it was {failure.fate}: the actor has gone on with it by itself")
    if not isinstance(message, ActorMessage):
        raise NotPossible("its message is not kept any more" if message is None else "it was no message")
    again = message.replayed()
    if again is None:
        raise NotPossible("whoever waited was told that it was refused, and has gone on without it")
    return again


def _require_pause(actor: Actor) -> None:
    if actor.actor_inbox.permits is None:
        raise NotPossible("it is not paused")


def _forget_pause(actor: Actor) -> None:
    before = actor.system.pauses.pop(actor.number, None)
    if before is not None:
        before.cancel()


def _tell_first(actor: Actor, message: ActorMessage) -> None:
    if not actor.actor_inbox.is_closed:
        actor.actor_inbox.add_first(message)
