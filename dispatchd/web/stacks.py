"""What every greenlet and native thread is doing right now, over HTTP on loopback and on a signal."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final

from gevent import Greenlet
from greenlet import getcurrent, greenlet

logger = logging.getLogger(__name__)

SHOWN_NAMES: Final = 50


def stacks() -> str:
    """The stacks of all greenlets and native threads of this process, as text.

    Greenlets at the same place share one stack, and the rarest come first: a stuck actor is not among a thousand that
    wait for messages. Only code is shown, no values: they may be passwords or contents of messages.
    """
    here = sys._getframe()
    current = getcurrent()
    greenlets = _grouped(
        (_name(each), here if each is current else each.gr_frame)
        for each in gc.get_objects()
        if isinstance(each, greenlet)
    )
    threads = _grouped((f"thread {ident}", frame) for ident, frame in sys._current_frames().items())
    return f"=== greenlets\n\n{greenlets}\n=== native threads\n\n{threads}"


def _name(each: greenlet) -> str:
    """Our actors' greenlets are named; a raw one, such as a hub, is known by its kind only."""
    return each.name if isinstance(each, Greenlet) else type(each).__name__


def _grouped(named: Iterable[tuple[str, FrameType | None]]) -> str:
    groups: dict[tuple[Any, ...], tuple[FrameType, list[str]]] = {}
    for name, frame in named:
        if frame is None:  # has not begun, has ended, or runs in another thread
            continue
        place = tuple((each.f_code, line) for each, line in traceback.walk_stack(frame))
        groups.setdefault(place, (frame, []))[1].append(name)
    lines = []
    for frame, names in sorted(groups.values(), key=lambda group: len(group[1])):
        more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
        lines.append(f"{len(names)}: {', '.join(sorted(names)[:SHOWN_NAMES])}{more}\n")
        lines += traceback.format_stack(frame)
        lines.append("\n")
    return "".join(lines)


def install_signal() -> None:
    """Log the stacks on SIGUSR1.

    The handler is Python's own, not gevent's: it also runs in the middle of a greenlet that never lets go of the loop.
    """

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        logger.warning("SIGUSR1: what runs now\n%s", stacks())

    signal.signal(signal.SIGUSR1, on_signal)
