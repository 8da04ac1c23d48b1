"""Makes an actor fail at one step of a handler: at a line of its code that calls something.

Only tests can: it puts itself between an actor's kind and its handler, and has Python trace what that does. Telling
others what was gathered for them (`tell_all`, `answered`), or to stop after this message, is no step: it can't fail.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import dispatchd.actors
from dispatchd.actors import runtime
from dispatchd.actors.duty import Duty
from dispatchd.actors.mailbox import Mailbox
from dispatchd.actors.runtime import Actor

FOLDER = Path(dispatchd.actors.__file__).parent
NO_STEPS = frozenset({"runtime.py", "duty.py", "turns.py", "mailbox.py", "failures.py", "messages.py"})
"""What carries the others: that it does not fail is what the rest relies on."""
TELLING = frozenset({"tell_all", "self.answered", "self.end"})
TELLING_CODE: frozenset[CodeType] = frozenset(
    told.__code__
    for told in (runtime.tell_all, Duty.answer, Actor.end, Mailbox.tell)
    if hasattr(told, "__code__")  # else it is compiled
)


class InjectedError(Exception):
    """What a step raises."""


class Step(NamedTuple):
    """A line of a handler of one message type, by one kind of actor."""

    kind: type[Actor]
    message: type
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.kind.__name__} {self.message.__name__} {self.file}:{self.line}"


def kinds() -> list[type[Actor]]:
    """Every kind of actor that a broker starts."""
    found, unseen = [], [Actor]
    while unseen:
        kind = unseen.pop()
        unseen += kind.__subclasses__()
        if kind.__module__.startswith("dispatchd.") and kind.kind != Actor.kind:
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


@cache
def step_lines(file: str) -> frozenset[int]:
    """The lines of a module of `dispatchd/actors` that can fail."""
    if file in NO_STEPS:
        return frozenset()
    tree = ast.parse((FOLDER / file).read_text())
    calls, told = set[int](), set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            calls.add(node.lineno)
            if ast.unparse(node.func) in TELLING:
                told.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(calls - told)


@cache
def _steps_of(code: CodeType) -> frozenset[int]:
    path = Path(code.co_filename)
    return step_lines(path.name) if path.parent == FOLDER else frozenset()


class _Tracer:
    """Sees the steps of a handler, and of all that it calls in actors' code."""

    def __init__(self, saw: Callable[[str, int], None]) -> None:
        self._saw = saw
        self._telling = 0

    def run(self, handler: Callable[[], Any]) -> Any:
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            return handler()
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if self._telling:
            return None
        if frame.f_code in TELLING_CODE:
            self._telling += 1
            frame.f_trace_lines = False
            return self._tells
        return self._runs if _steps_of(frame.f_code) else None

    def _tells(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "return":
            self._telling -= 1
        return self._tells

    def _runs(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and frame.f_lineno in _steps_of(frame.f_code):
            self._saw(Path(frame.f_code.co_filename).name, frame.f_lineno)
        return self._runs


class Recorder:
    """Notes all steps of all handlers, in the order in which they come first."""

    failed = None

    def __init__(self) -> None:
        self.steps: dict[Step, int] = {}
        self.handled: set[tuple[type[Actor], type]] = set()

    @contextmanager
    def installed(self) -> Iterator[None]:
        with _wrapped(kinds(), self._wrap):
            yield

    def _wrap(self, kind: type[Actor], message_type: type, handler: Callable[..., Any]) -> Callable[..., Any]:
        def handle(actor: Actor, message: Any) -> Any:
            self.handled.add((kind, message_type))
            return _Tracer(saw).run(lambda: handler(actor, message))

        def saw(file: str, line: int) -> None:
            step = Step(kind, message_type, file, line)
            self.steps[step] = self.steps.get(step, 0) + 1

        return handle


class Fault:
    """Fails once, when a step comes for the `occurrence`-th time. `failed` is the kind of who did."""

    def __init__(self, step: Step, occurrence: int = 1) -> None:
        self._step = step
        self._left = occurrence
        self.failed: type[Actor] | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        with _wrapped([self._step.kind], self._wrap):
            yield

    def _wrap(self, kind: type[Actor], message_type: type, handler: Callable[..., Any]) -> Callable[..., Any]:
        if message_type is not self._step.message:
            return handler

        def handle(actor: Actor, message: Any) -> Any:
            def saw(file: str, line: int) -> None:
                if (file, line) == self._step[2:]:
                    self._left -= 1
                    if not self._left:
                        self.failed = kind
                        raise InjectedError(str(self._step))

            if self._left <= 0:
                return handler(actor, message)
            return _Tracer(saw).run(lambda: handler(actor, message))

        return handle


@contextmanager
def _wrapped(among: list[type[Actor]], wrap: Callable[[type[Actor], type, Callable[..., Any]], Any]) -> Iterator[None]:
    originals = {kind: dict(kind._handlers) for kind in among}
    for kind, handlers in originals.items():
        kind._handlers.update({message: wrap(kind, message, handler) for message, handler in handlers.items()})
    try:
        yield
    finally:
        for kind, handlers in originals.items():
            kind._handlers.update(handlers)
