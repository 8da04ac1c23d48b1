"""The monitor: looks every second at memory and disk, and raises an alarm when they run short."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool

from dispatchd.actors.messages import ActorMessage, AlarmEnded, AlarmRaised, Dispatch
from dispatchd.actors.resources import Usage, give_memory_back, measure, memory_limit
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.model.alarms import DISK, MEMORY, tightened

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
ENDS_BELOW = 0.95
"""Of the watermark: an alarm that ends as soon as it can begins again at once."""
NUDGED_IN_ONE_TURN = 1000


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Octets: more memory than `memory`, or less free disk than `disk_free`, where `directory` is, is an alarm."""

    memory: int
    disk_free: int
    directory: Path | None

    @classmethod
    def of(cls, memory: float, disk_free: int, directory: Path | None) -> Watermarks:
        """`memory` is octets, or up to 1.0 a fraction of what the process can have."""
        return cls(int(memory_limit() * memory) if memory <= 1 else int(memory), disk_free, directory)


@dataclass(frozen=True, slots=True)
class Look(ActorMessage):
    """The monitor's timer to itself."""


@dataclass(frozen=True, slots=True)
class Measured(ActorMessage):
    """The thread that measures to the monitor."""

    result: AsyncResult[Usage]


@dataclass(frozen=True, slots=True)
class Nudge(ActorMessage):
    """To itself: tell these queues, a part in each turn, that less of them may be in memory."""

    queues: list[Ref]


class MonitorActor(Actor):
    """Tells the broker of alarms, and queues to have less in memory when it gets short."""

    kind = "monitor"

    def __init__(
        self,
        system: System,
        broker: Ref,
        watermarks: Watermarks,
        storage: Storage,
        measure: Callable[[Path | None], Usage] = measure,
    ) -> None:
        super().__init__(system, "monitor", broker)
        self._broker = broker
        self._watermarks = watermarks
        self._resident = storage.resident
        self._most, self._most_bytes = int(storage.resident.most), int(storage.resident.most_bytes)
        self._measure = measure
        self._thread = ThreadPool(1)
        self._raised: set[str] = set()
        self._usage = Usage(0, None)
        self._timer: gevent.Greenlet[..., None] | None = None

    def on_start(self) -> None:
        """Look at once: there may be too little from the beginning."""
        self.ref.tell(Look())

    def on_stop(self) -> None:
        """Look no more."""
        self._look_later(None)
        gevent.spawn(self._thread.kill)

    def restarted(self) -> None:
        """Whatever failed, go on looking."""
        self._look_later(CHECK_SECONDS)

    def _look_later(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.kill(block=False)
        self._timer = gevent.spawn_later(seconds, self.ref.tell, Look()) if seconds is not None else None

    @receives(Look)
    def on_look(self, _message: Look) -> None:
        """A file system may take its time to answer."""
        result = self._thread.spawn(self._measure, self._watermarks.directory)
        result.rawlink(lambda result: self.ref.tell(Measured(result)))

    @receives(Measured)
    def on_measured(self, message: Measured) -> None:
        """See what is short."""
        self._look_later(CHECK_SECONDS)
        usage, marks = message.result.value, self._watermarks
        if usage is None:
            logger.error("memory and disk could not be measured: %s", message.result.exception)
            return
        self._usage = usage
        limit = marks.memory * (ENDS_BELOW if MEMORY in self._raised else 1)
        detail = f"{_shown(usage.memory)} used, more than the watermark of {_shown(marks.memory)}"
        self._set(MEMORY, usage.memory > limit, detail)
        if usage.disk_free is not None:
            least = marks.disk_free / (ENDS_BELOW if DISK in self._raised else 1)
            detail = f"{_shown(usage.disk_free)} free, less than the limit of {_shown(marks.disk_free)}"
            self._set(DISK, usage.disk_free < least, detail)
        self._tighten(usage.memory / marks.memory)

    def _set(self, cause: str, is_short: bool, detail: str) -> None:
        if is_short:
            if cause == MEMORY:
                give_memory_back()
            self._raised.add(cause)
            self._broker.tell(AlarmRaised(cause, detail))
        elif cause in self._raised:
            self._raised.discard(cause)
            self._broker.tell(AlarmEnded(cause))

    def _tighten(self, used: float) -> None:
        most = tightened(self._most, used)
        was, self._resident.most = self._resident.most, most
        self._resident.most_bytes = tightened(self._most_bytes, used)
        if most < was:
            queues = [actor.ref for actor in self.system.actors.values() if actor.kind == "queue"]
            self.ref.tell(Nudge(queues))

    @receives(Nudge)
    def on_nudge(self, message: Nudge) -> None:
        """Queues look at what they have in memory when they are asked to deliver."""
        for queue in islice(message.queues, NUDGED_IN_ONE_TURN):
            queue.tell(Dispatch())
        del message.queues[:NUDGED_IN_ONE_TURN]
        if message.queues:
            self.ref.tell(message)

    def snapshot(self) -> dict[str, Any]:
        """The monitor's row in the admin; sizes in octets."""
        return {
            "name": self.name,
            "memory_used": self._usage.memory,
            "memory_high_watermark": self._watermarks.memory,
            "disk_free": self._usage.disk_free,
            "disk_free_limit": self._watermarks.disk_free,
            "resident_messages_of_a_queue": int(self._resident.most),
            "alarms": sorted(self._raised),
        }


def _shown(octets: int) -> str:
    return f"{octets / (1 << 20):,.1f} MiB"
