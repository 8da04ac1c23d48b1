"""Actors on gevent: what Pykka leaves to implementors of actor types, and what a broker needs beyond it.

Pykka isolates nothing by itself: an exception in a `tell` kills the actor with its queued messages, and a BaseException
(`gevent.Timeout`, `GreenletExit`) stops every actor of the process. So nothing leaves `on_receive` here. A failure is
recorded, the sender is told, and the actor goes on with a new state under the same reference and with the same mailbox.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import pykka
from greenlet import getcurrent, greenlet
from pykka.messages import _ActorStop

from dispatchd.actors import vitals
from dispatchd.actors.failures import ANSWERED, REFUSED, REPEATED, Failure, FailureHistory, FailureLog
from dispatchd.actors.holdups import HoldUps
from dispatchd.actors.mailbox import Mailbox
from dispatchd.actors.messages import ActorMessage, Quarantine, Restart, Snapshot
from dispatchd.actors.turns import Turns
from dispatchd.actors.vitals import SLOW_NS

if TYPE_CHECKING:
    from dispatchd.actors.controls import Pause
    from dispatchd.actors.vitals import Window

logger = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

LONGEST_TURN = 16
"""Messages that an actor handles before it lets others have a turn, however many more wait for it."""

HANDLED = "handled"
FAILED = "failed"

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
    """A reference that may outlive its actor: a message to a stopped one is refused, never lost without a word."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self.name = actor.name
        self.number = actor.number
        self.mailbox = actor.actor_inbox

    def tell(self, message: ActorMessage) -> None:
        """Put a message into the actor's mailbox; if it has stopped, refuse the message to whoever waits for it."""
        if self.mailbox.is_closed:
            message.refuse(f"{self.name} has stopped")
        else:
            self.mailbox.add(message)


Telling = tuple[Ref, ActorMessage]
Told = list[Telling]
"""What is to be told to whom, in that order."""


def tell_all(told: Sequence[Telling]) -> None:
    """Tell all of it. That can't fail: what was gathered is told, or nothing of it is."""
    for ref, message in told:
        ref.tell(message)


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

    Subclasses mark their handlers with `@receives(MessageType)` and may override `restarted`, `quarantined`, `on_stop`,
    `farewell` and `waits_for`.
    """

    # Python lets objects share the keys of their dictionaries up to 30; with these in it a queue's would take 1.7 KiB.
    __slots__ = (
        "_has_started",
        "_quarantined_for",
        "began_at",
        "busy_ns",
        "failures",
        "greenlet",
        "handled",
        "handling",
        "handling_since",
        "is_answered",
        "is_quarantined",
        "is_restarting",
        "name",
        "number",
        "outcome",
        "parent",
        "parent_number",
        "past",
        "restarts",
        "system",
        "traced_by",
        "window",
    )

    kind: ClassVar[str] = "actor"
    _handlers: ClassVar[dict[type, Callable[[Any, Any], Any]]] = {}

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
        self.actor_inbox = Mailbox(self, system.turns)
        self.name = name
        self.number = system.next_number()
        self._actor_ref = Ref(self)
        self.system = system
        self.parent = parent
        self.failures = FailureHistory()
        self.handled = 0
        self.busy_ns = 0
        self.window: Window | None = None
        self.past: Window | None = None
        self.traced_by: Callable[[type, int, int, str], object] | None = None
        self.began_at = perf_counter_ns()
        self.restarts = 0
        self.is_quarantined = False
        self.is_restarting = False
        self.handling: Any = None
        self.handling_since = 0
        self.is_answered = False
        self.outcome = HANDLED
        self.parent_number = parent.number if parent is not None else None
        self.greenlet: greenlet | None = None
        self._quarantined_for = ""
        self._has_started = False

    @property
    def ref(self) -> Ref:
        """The reference to hand out."""
        return cast("Ref", self._actor_ref)

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

    def take_turn(self) -> None:
        """Handle some of what waits. It does what Pykka does in a loop on a thread of the actor's own."""
        inbox = self.actor_inbox
        waiting = inbox.waiting
        self.greenlet = getcurrent()
        try:
            if not self._has_started:
                self._has_started = True
                self._actor_loop_setup()
            started = perf_counter_ns()
            for _ in range(LONGEST_TURN):
                if not waiting or not (inbox.permits is None or inbox.lets_through()):
                    break
                put_at, message, reply_to = waiting.popleft()
                if type(message) is _ActorStop:
                    self._stop()
                    self._actor_loop_teardown()
                    break
                self.handling_since = started
                answer = self.on_receive(message)
                started = self._note(message, put_at, started)
                if reply_to is not None:
                    reply_to.set(answer)
        finally:
            self.greenlet = None
            inbox.turn_ended()

    def _stop(self) -> None:
        self.actor_inbox.is_closed = True
        super()._stop()

    def _actor_loop_teardown(self) -> None:
        self.system.unregister(self)
        for _, message, reply_to in self.actor_inbox.drain():
            if reply_to is not None:
                reply_to.set(None)
            elif not isinstance(message, _ActorStop):
                self._refuse(message, f"{self.name} has stopped")

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
        """Handle one message. Whatever happens, nothing is raised."""
        self.handling, self.is_answered, self.outcome = message, False, HANDLED
        try:
            handler = self._handlers.get(type(message))
            if handler is None:
                raise TypeError(f"a {self.kind} does not understand {message!r}")
            if self.is_quarantined and not message.reaches_quarantined:
                self.outcome = REFUSED
                message.refuse(self._quarantine_reason())
                return None
            return handler(self, message)
        except BaseException as error:  # noqa: BLE001 - gevent.Timeout and GreenletExit would stop every actor
            self.outcome = FAILED
            return self._fail(message, error)
        finally:
            self.handling = None

    def _note(self, message: Any, put_at: int, started: int) -> int:
        """A message was handled: note how long it had waited, and took. Returns when that was."""
        ended = perf_counter_ns()
        took, waited, message_type = ended - started, started - put_at, type(message)
        window = self.window or self.open_window()
        self.handled += 1
        self.busy_ns += took
        if took < SLOW_NS and waited < SLOW_NS:
            window.waits[waited.bit_length()] += 1
            window.takes[took.bit_length()] += 1
        else:
            window.note_long(waited, took)
            if took >= SLOW_NS:
                self.system.slow.note(self, message, took)
        figures = window.types.get(message_type) or window.figures_of(message_type)
        figures.count += 1
        figures.time += took
        if took > figures.longest:
            figures.longest = took
        if self.traced_by is not None:
            self.traced_by(message_type, waited, took, self.outcome)
        return ended

    def open_window(self) -> Window:
        """Begin to note what the actor does in the half minute that has begun."""
        self.window = window = vitals.Window(self)
        self.system.measured[self.number] = self
        return window

    def answered(self, told: Sequence[Telling] = ()) -> None:
        """Tell all of this: from now on the message that is being handled is neither refused nor repeated.

        If the rest of its handler fails, it is for `restarted` to go on with that.
        """
        self.is_answered = True
        for ref, message in told:
            ref.tell(message)

    def _fail(self, message: Any, error: BaseException, *, may_repeat: bool = True) -> Any:
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
        (self.window or self.open_window()).figures_of(type(message)).failures += 1
        return failure

    def _repeat(self, message: Any) -> Any:
        """The new state may manage what the old one could not."""
        try:
            return self._handlers[type(message)](self, message)
        except BaseException as error:  # noqa: BLE001 - as in on_receive
            return self._fail(message, error, may_repeat=False)

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
        return self._has_started and not inbox.is_due and not inbox and inbox.permits is None

    def vitals(self) -> dict[str, Any]:
        """The actor's row in the admin, read from outside: it needs no help of the actor, which may be stuck."""
        return vitals.vitals(self)
