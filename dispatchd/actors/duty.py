"""What every actor does, whatever it is: takes turns, has its messages handled, and notes what that took.

Each message that a client sends comes through here several times, so this is compiled, and the handlers are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from greenlet import getcurrent
from pykka.messages import _ActorStop

from dispatchd.actors.failures import REFUSED
from dispatchd.actors.mailbox import Mailbox
from dispatchd.actors.turns import Turns, TurnTaker
from dispatchd.actors.windows import SLOW_NS, Window

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Actor

LONGEST_TURN: Final = 16
"""Messages that an actor handles before it lets others have a turn, however many more wait for it."""

HANDLED: Final = "handled"
FAILED: Final = "failed"


class Duty(TurnTaker):
    """An actor's.

    `handling` is the message that is being handled, since `handling_since` (`perf_counter_ns`), on `greenlet`; it has
    been `is_answered` when it may neither be refused nor repeated any more. `handled` and `busy_ns` are sums since the
    actor began; `window` is what happened in the half minute that has begun, `past` in the one before. `traced_by` is
    told of each message: its type, how long it waited and took in nanoseconds, and how it ended.
    """

    __slots__ = (
        "_handlers",
        "actor",
        "busy_ns",
        "greenlet",
        "handled",
        "handling",
        "handling_since",
        "has_started",
        "inbox",
        "is_answered",
        "is_quarantined",
        "outcome",
        "past",
        "traced_by",
        "window",
    )

    def __init__(self, actor: Actor, handlers: dict[type, Callable[[Any, Any], Any]], turns: Turns) -> None:
        super().__init__()
        self.actor = actor
        self._handlers = handlers
        self.inbox = Mailbox(self, turns)
        self.has_started = False
        self.is_quarantined = False
        self.greenlet: Any = None
        self.handling: Any = None
        self.handling_since = 0
        self.is_answered = False
        self.outcome: str = HANDLED
        self.handled = 0
        self.busy_ns = 0
        self.window: Window | None = None
        self.past: Window | None = None
        self.traced_by: Callable[[type, int, int, str], object] | None = None

    @property
    def title(self) -> str:
        """What the greenlet is called meanwhile."""
        title: str = self.actor.title
        return title

    def take_turn(self) -> int:
        """Do what Pykka does in a loop on a thread of the actor's own, for some of what waits in the mailbox."""
        inbox, waiting = self.inbox, self.inbox.waiting
        now: int = perf_counter_ns()
        self.greenlet = getcurrent()
        try:
            if not self.has_started:
                self.has_started = True
                self.actor.start_up()
            for _ in range(LONGEST_TURN):
                if not waiting or not (inbox.permits is None or inbox.lets_through()):
                    break
                put_at, message, reply_to = waiting.popleft()
                if type(message) is _ActorStop:
                    self.actor.shut_down()
                    break
                self.handling_since = now
                answer = self.handle(message)
                now = self.note(message, put_at, now)
                if reply_to is not None:
                    reply_to.set(answer)
        finally:
            self.greenlet = None
            inbox.turn_ended()
        return now

    def handle(self, message: Any) -> Any:
        """Handle one message. Whatever happens, nothing is raised."""
        self.handling = message
        self.is_answered = False
        self.outcome = HANDLED
        actor = self.actor
        try:
            handler = self._handlers.get(type(message))
            if handler is None:
                raise TypeError(f"a {actor.kind} does not understand {message!r}")
            if self.is_quarantined and not message.reaches_quarantined:
                self.outcome = REFUSED
                actor.refuse_quarantined(message)
                return None
            return handler(actor, message)
        except BaseException as error:  # noqa: BLE001 - gevent.Timeout and GreenletExit would stop every actor
            self.outcome = FAILED
            return actor.fail(message, error)
        finally:
            self.handling = None

    def note(self, message: Any, put_at: int, began: int) -> int:
        """A message was handled: note how long it had waited, and took. Returns when that was."""
        now: int = perf_counter_ns()
        took, waited, message_type = now - began, began - put_at, type(message)
        window = self.window
        if window is None:
            window = self.open_window()
        self.handled += 1
        self.busy_ns += took
        window.note(message_type, waited, took)
        if took >= SLOW_NS:
            self.actor.system.slow.note(self.actor, message, took)
        if self.traced_by is not None:
            self.traced_by(message_type, waited, took, self.outcome)
        return now

    def open_window(self) -> Window:
        """Begin to note what the actor does in the half minute that has begun."""
        self.window = window = Window(self.handled, self.busy_ns, self.past)
        self.actor.is_measured()
        return window

    def answer(self, told: Sequence[tuple[Any, Any]] = ()) -> None:
        """Tell all of this: from now on the message that is being handled is neither refused nor repeated.

        If the rest of its handler fails, it is for `restarted` to go on with that.
        """
        self.is_answered = True
        tell_all(told)


def tell_all(told: Sequence[tuple[Any, Any]]) -> None:
    """Tell all of it: receivers and messages. That can't fail: what was gathered is told, or nothing of it is."""
    for ref, message in told:
        ref.tell(message)
