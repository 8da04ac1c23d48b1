"""Actors on gevent: what Pykka leaves to implementors of actor types, and what a broker needs beyond it.

Pykka isolates nothing by itself: an exception in a `tell` kills the actor with its queued messages, and a BaseException
(`gevent.Timeout`, `GreenletExit`) stops every actor of the process. So nothing leaves `on_receive` here. A failure is
recorded, the sender is told, and the actor goes on with a new state under the same reference and with the same mailbox.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from operator import attrgetter
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pykka
from greenlet import greenlet
from pykka.messages import _ActorStop

from dispatchd.actors import vitals
from dispatchd.actors.duty import Duty, tell_all
from dispatchd.actors.failures import ANSWERED, REFUSED, REPEATED, Failure, FailureHistory, FailureLog
from dispatchd.actors.holdups import HoldUps
from dispatchd.actors.mailbox import Mailbox
from dispatchd.actors.messages import ActorMessage, Quarantine, Restart, Snapshot
from dispatchd.actors.turns import Turns
from dispatchd.actors.windows import Window

if TYPE_CHECKING:
    from dispatchd.actors.controls import Pause

logger = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

RUNNING = "running"
PAUSED = "paused"
QUARANTINED = "quarantined"
STOPPED = "stopped"


def receives(message_type: type) -> Callable[[Handler], Handler]:
    """Mark a method of an actor as the one that handles messages of this type."""

    def mark(handler: Handler) -> Handler:
        handler.__dict__.setdefault("receives", []).append(message_type)
        return handler

    return mark


class Ref(pykka.ActorRef["Actor"]):
    """A reference that may outlive its actor: a message to a stopped one is refused, never lost without a word.

    `tell` is the mailbox's own: a message passes through no other function on its way.
    """

    tell: Callable[[ActorMessage], None]  # type: ignore[assignment]  # which Pykka has as a method

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self.name = actor.name
        self.number = actor.number
        self.mailbox = actor.actor_inbox
        self.tell = self.mailbox.tell


Telling = tuple[Ref, ActorMessage]
Told = list[Telling]
"""What is to be told to whom, in that order."""

__all__ = ["Actor", "Ref", "System", "Telling", "Told", "receives", "tell_all"]


def _of_its_duty(name: str) -> Any:
    def set_there(actor: Actor, value: Any) -> None:
        setattr(actor.duty, name, value)

    return property(attrgetter(f"duty.{name}"), set_there)


class System:
    """All actors of one broker, by number: what the admin looks at from outside.

    Those `measured` did something in the last minute; who is in `pauses` will go on by itself or is told to. `slow` are
    handlers that took long, `blocks` the times that the loop stood still, which the watchdog notes. `churn` counts who
    began and ended, by kind, and the declarations of queues; `handled` and `busy_ns` are of those that have ended.
    `parting` is told of each that ends, whose figures can be seen a last time.
    """

    def __init__(self) -> None:
        self.actors: dict[int, Actor] = {}
        self.measured: dict[int, Actor] = {}
        self.pauses: dict[int, Pause] = {}
        self.turns = Turns()
        self.failures = FailureLog()
        self.slow = HoldUps()
        self.blocks = HoldUps()
        self.ended = 0
        self.churn: Counter[str] = Counter()
        self.handled: Counter[str] = Counter()
        self.busy_ns: Counter[str] = Counter()
        self.parting: Callable[[Actor], None] = lambda actor: None
        self._numbers = count(1)

    def next_number(self) -> int:
        """A number for an actor, unique in this system."""
        return next(self._numbers)

    def register(self, actor: Actor) -> None:
        """Take an actor in that begins."""
        self.actors[actor.number] = actor
        self.churn[f"{actor.kind}_created"] += 1

    def unregister(self, actor: Actor) -> None:
        """Forget an actor that has stopped."""
        if self.actors.pop(actor.number, None) is not None:
            self.ended += 1
            self.churn[f"{actor.kind}_ended"] += 1
            self.handled[actor.kind] += actor.handled
            self.busy_ns[actor.kind] += actor.busy_ns
            self.parting(actor)
            self.measured.pop(actor.number, None)
            if (pause := self.pauses.pop(actor.number, None)) is not None:
                pause.cancel()
            self.slow.forget(actor.number)
            self.blocks.forget(actor.number)


class Actor(pykka.Actor):
    """An actor with a name, a parent, handlers by message type, and figures that are read from outside.

    `ref` is the reference to hand out. Subclasses mark their handlers with `@receives(MessageType)` and may override
    `restarted`, `quarantined`, `on_stop`, `farewell` and `waits_for`. A handler says `answered` when it is through with
    what can fail.
    """

    # Python lets objects share the keys of their dictionaries up to 30; with these in it a queue's would take 1.7 KiB.
    __slots__ = (
        "_quarantined_for",
        "answered",
        "began_at",
        "duty",
        "failures",
        "is_restarting",
        "name",
        "number",
        "parent",
        "parent_number",
        "ref",
        "restarts",
        "system",
    )

    kind: ClassVar[str] = "actor"
    _handlers: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {}

    handled: int = _of_its_duty("handled")
    busy_ns: int = _of_its_duty("busy_ns")
    handling: Any = _of_its_duty("handling")
    handling_since: int = _of_its_duty("handling_since")
    is_answered: bool = _of_its_duty("is_answered")
    is_quarantined: bool = _of_its_duty("is_quarantined")
    window: Window | None = _of_its_duty("window")
    past: Window | None = _of_its_duty("past")
    traced_by: Callable[[type, int, int, str], object] | None = _of_its_duty("traced_by")
    greenlet: greenlet | None = _of_its_duty("greenlet")

    actor_inbox: Mailbox  # type: ignore[assignment]  # which only Pykka's own loop would get envelopes from

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._handlers = {
            message_type: attribute
            for ancestor in reversed(cls.__mro__)
            for attribute in vars(ancestor).values()
            for message_type in getattr(attribute, "receives", ())
        }

    def __init__(self, system: System, name: str, parent: Ref | None) -> None:
        super().__init__()
        self.name = name
        self.duty = Duty(self, self._handlers, system.turns)
        self.answered = self.duty.answer
        self.actor_inbox = self.duty.inbox
        self.number = system.next_number()
        self.ref = self._actor_ref = Ref(self)
        self.system = system
        self.parent = parent
        self.failures = FailureHistory()
        self.began_at = perf_counter_ns()
        self.restarts = 0
        self.is_restarting = False
        self.parent_number = parent.number if parent is not None else None
        self._quarantined_for = ""

    @property
    def state(self) -> str:
        """One of running, paused, quarantined, stopped."""
        if self.actor_stopped.is_set():
            return STOPPED
        if self.is_quarantined:
            return QUARANTINED
        return RUNNING if self.actor_inbox.permits is None else PAUSED

    # What Pykka leaves to implementors of actor types. Its global registry is not used: taking an actor out of it costs
    # time in proportion to the number of actors.

    @staticmethod
    def _create_actor_inbox() -> Any:
        return None  # it has to know whose it is

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.begin()

    @property
    def title(self) -> str:
        """What the greenlet is called on which the actor has its turn."""
        return f"{self.kind} {self.name}"

    def _stop(self) -> None:
        self.actor_inbox.is_closed = True
        super()._stop()

    def start_up(self) -> None:
        """What Pykka does before the first message."""
        self._actor_loop_setup()

    def shut_down(self) -> None:
        """What Pykka does after the last message."""
        self._stop()
        self._actor_loop_teardown()

    def _actor_loop_teardown(self) -> None:
        self.system.unregister(self)
        for _, message, reply_to in self.actor_inbox.drain():
            if reply_to is not None:
                reply_to.set(None)
            elif not isinstance(message, _ActorStop):
                self._refuse(message, f"{self.title} has stopped")

    def begin(self) -> Ref:
        """Let the actor start with its first turn; returns its reference."""
        self.system.register(self)
        self._start_actor_loop()
        return self.ref

    def end(self) -> None:
        """Stop after the message that is being handled: what waits in the mailbox is refused."""
        if not self.actor_inbox.is_closed:
            self.actor_inbox.add_first(_ActorStop())

    def on_receive(self, message: Any) -> Any:
        """Handle one message, as Pykka asks for it. Whatever happens, nothing is raised."""
        return self.duty.handle(message)

    def is_measured(self) -> None:
        """Something is noted of the actor from now on."""
        self.system.measured[self.number] = self

    def fail(self, message: Any, error: BaseException, *, may_repeat: bool = True) -> Any:
        """Go on after a failure. Returns what the handler did when the message was tried once more."""
        repeats = may_repeat and not self.is_answered and getattr(message, "is_repeatable", False)
        fate = ANSWERED if self.is_answered else REPEATED if repeats else REFUSED
        failure = self._note_failure(message, error, fate)
        too_many = self.failures.add(failure, time.monotonic())
        logger.error("%s %s failed: %s\n%s", self.kind, self.name, failure.error, failure.traceback)
        if fate == REFUSED:
            self._refuse(message, f"{self.kind} {self.name} failed: {failure.error}")
        if too_many:
            self._quarantine_for_failures()
        else:
            self._restart()
        return self._repeat(message) if repeats else None

    def _note_failure(self, message: Any, error: BaseException, fate: str) -> Failure:
        failure = Failure.of(self.name, message, error, fate, kind=self.kind, actor_number=self.number)
        self.system.failures.add(failure)
        (self.window or self.duty.open_window()).figures_of(type(message)).failures += 1
        return failure

    def _repeat(self, message: Any) -> Any:
        """The new state may manage what the old one could not."""
        try:
            return self._handlers[type(message)](self, message)
        except BaseException as error:  # noqa: BLE001 - as in on_receive
            return self.fail(message, error, may_repeat=False)

    def _refuse(self, message: Any, reason: str) -> None:
        try:
            message.refuse(reason)
        except BaseException:
            logger.exception("%s %s could not refuse %r", self.kind, self.name, message)

    def _restart(self) -> None:
        self.restarts += 1
        self.is_restarting = True
        try:
            self.restarted()
        except BaseException as error:
            self.failures.add(self._note_failure("restart", error, ANSWERED), time.monotonic())
            logger.exception("%s %s could not be restarted", self.kind, self.name)
            self._quarantine_for_failures()
        finally:
            self.is_restarting = False

    def _quarantine_for_failures(self) -> None:
        last = self.failures.last
        self._quarantine(f"after repeated failures: {last.error if last else 'unknown'}")

    def _quarantine(self, why: str) -> None:
        self.is_quarantined = True
        self._quarantined_for = why
        logger.error("%s", self._quarantine_reason())
        try:
            self.quarantined(self._quarantine_reason())
        except BaseException:
            logger.exception("%s %s could not say goodbye", self.kind, self.name)

    def refuse_quarantined(self, message: Any) -> None:
        """Refuse what is not for an actor in quarantine."""
        message.refuse(self._quarantine_reason())

    def _quarantine_reason(self) -> str:
        return f"{self.kind} {self.name} is quarantined {self._quarantined_for}"

    def restarted(self) -> None:
        """Build a new state after a failure; the reference and the mailbox stay. Raising means quarantine."""

    def quarantined(self, reason: str) -> None:
        """Take leave of whoever relies on this actor; from now on its messages are refused."""

    @receives(Restart)
    def on_restart(self, _message: Restart) -> None:
        """An operator's restart: a new state, and out of quarantine."""
        self.is_quarantined = False
        self.failures.forgive()
        self._restart()

    @receives(Quarantine)
    def on_quarantine(self, message: Quarantine) -> None:
        """An operator's quarantine."""
        if not self.is_quarantined:
            self._quarantine(message.reason)

    def farewell(self, _reason: str) -> ActorMessage | None:
        """What makes the actor end in good order, with this reason for whoever relies on it; None if nothing does."""
        return None

    def waits_for(self) -> str | None:
        """For whom or what it waits before it goes on with something. It is called from outside, and only looks."""
        return None

    @receives(Snapshot)
    def on_snapshot(self, _message: Snapshot) -> dict[str, Any] | None:
        """What the admin shows of this actor; None if it can't tell. To look at a broken one does nothing to it."""
        try:
            return self.snapshot()
        except Exception:
            logger.exception("%s %s can't show its state", self.kind, self.name)
            return None

    def snapshot(self) -> dict[str, Any]:
        """Facts about the actor's state, ready for JSON."""
        return {"name": self.name}

    def figures(self) -> dict[str, Any]:
        """The part of them that is added up over all actors of a kind."""
        return self.snapshot()

    @property
    def is_resting(self) -> bool:
        """Whether nothing goes on in the actor, so that anybody may look at its state, and need not ask it."""
        inbox = self.actor_inbox
        return self.duty.has_started and not inbox.is_due and not inbox and inbox.permits is None

    def vitals(self) -> dict[str, Any]:
        """The actor's row in the admin, read from outside: it needs no help of the actor, which may be stuck."""
        return vitals.vitals(self)
