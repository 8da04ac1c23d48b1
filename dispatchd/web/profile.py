"""Where the CPU time goes: a native thread looks at the stacks of all threads some times a second.

What the loop's thread does is attributed to actors: on the name of one stand the messages that it handled, on these the
functions that ran. Compiled functions have no frames of their own: their time is that of whoever called them.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from types import FrameType
from typing import Final

from gevent import monkey

from dispatchd.actors.watchdog import SERVES, handled_in

SAMPLES_PER_SECOND: Final = 100
DEEPEST: Final = 60
MOST_STACKS: Final = 20_000
IDLE_CODE: Final = frozenset(
    {
        ("hub.py", "Hub.run"),
        ("_threading.py", "acquire_with_timeout"),
        ("_threading.py", "_Condition.wait"),
        ("watchdog.py", "Watchdog._watch_until_stopped"),
    }
)
"""Where threads are that wait for something to do: file and function of the innermost frame."""
CARRIES: Final = ("turns.", "duty.")
"""What is between a worker and a handler, and has frames where it is not compiled."""

_sleep: Final = monkey.get_original("time", "sleep")
_get_ident: Final = monkey.get_original("threading", "get_ident")

Stack = tuple[str, ...]
"""The outermost first."""


@dataclass(slots=True)
class Profile:
    """How often each stack was seen. `samples` counts the looks, `idle` those in which the loop had nothing to do."""

    stacks: Counter[Stack] = field(default_factory=Counter)
    samples: int = 0
    idle: int = 0
    seconds: float = 0.0

    def folded(self) -> str:
        """One line for each stack, as flame graph tools read them."""
        return "".join(f"{';'.join(_plain(each) for each in stack)} {n}\n" for stack, n in sorted(self.stacks.items()))


def sample(thread_of_loop: int, seconds: float) -> Profile:
    """Look for so many seconds, on the thread that calls this, which is left out."""
    profile, begin, own = Profile(), time.monotonic(), _get_ident()
    while (passed := time.monotonic() - begin) < seconds:
        _sleep(max(0.0, (profile.samples + 1) / SAMPLES_PER_SECOND - passed))
        profile.samples += 1
        for thread, frame in sys._current_frames().items():
            if thread == own:
                continue
            if _is_idle(frame):
                profile.idle += thread == thread_of_loop
            elif len(profile.stacks) < MOST_STACKS:
                profile.stacks[stack_of(frame, is_loop=thread == thread_of_loop)] += 1
    profile.seconds = time.monotonic() - begin
    return profile


def stack_of(frame: FrameType, *, is_loop: bool) -> Stack:
    """The functions that run, below the actor that they run for: kind, name, type of the message."""
    functions: list[str] = []
    each: FrameType | None = frame
    while each is not None and len(functions) < DEEPEST:
        if each.f_code is SERVES and (found := handled_in(each)) is not None:
            actor, message = found
            while functions and functions[-1].startswith(CARRIES):
                functions.pop()
            whose = (f"{actor.kind}s", f"{actor.kind} {actor.name}", type(message).__name__)
            return (*whose, *reversed(functions))
        functions.append(_function(each))
        each = each.f_back
    return ("the loop" if is_loop else "native threads", *reversed(functions))


def _function(frame: FrameType) -> str:
    return f"{PurePath(frame.f_code.co_filename).stem}.{frame.f_code.co_qualname}"


def _is_idle(frame: FrameType) -> bool:
    code = frame.f_code
    return (PurePath(code.co_filename).name, code.co_qualname) in IDLE_CODE


def _plain(label: str) -> str:
    return "".join(character if character.isprintable() and character != ";" else "?" for character in label)
