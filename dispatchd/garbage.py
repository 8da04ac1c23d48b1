"""Python's collector of cyclic garbage, kept from walking through every waiting message again and again.

Left alone it looks at all objects whenever they have become a quarter more: a backlog of a million messages was taken
in at 150,000 a second, with this at 600,000. Messages are in no cycles; actors that have ended are, so it is their
number that calls for a full collection here.

What was freed is given back to the system then, which takes one or two milliseconds: left to the C library, a broker of
60 MiB whose clients come and go had become 73 MiB after half an hour, and of 40 MiB with it.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Callable

import gevent

from dispatchd.actors.resources import give_memory_back

logger = logging.getLogger(__name__)

YOUNG_THRESHOLDS = (5_000, 5)
"""Objects between collections of the youngest, and how many of those between collections of the next generation."""
NEVER = 1_000_000_000
CHECK_SECONDS = 10.0
ENDED_ACTORS = 2_000
"""How many actors may have ended since the last full collection. They leave 4 KiB of garbage each at most."""
BLOCKS_FOR_ONE_MORE = 100
"""One more may have ended for so many blocks of memory that are in use: with a million messages waiting, a collection
stops the loop for 0.3 s, and comes after 30,000 actors."""


class GarbageCollection:
    """Decides when all objects are looked at. `ended_actors` says how many actors have ended so far."""

    def __init__(self, ended_actors: Callable[[], int]) -> None:
        self._ended_actors = ended_actors
        self._ended_before = 0
        self._blocks_at_start = sys.getallocatedblocks()

    def start(self) -> None:
        """Leave alone for ever what is there now, and look at the young only from now on."""
        gc.collect()
        gc.freeze()
        self._blocks_at_start = sys.getallocatedblocks()
        gc.set_threshold(*YOUNG_THRESHOLDS, NEVER)
        gevent.spawn(self._run).name = "garbage collection"

    def _run(self) -> None:
        while True:
            gevent.sleep(CHECK_SECONDS)
            self.collect_if_due()

    def collect_if_due(self) -> bool:
        """Collect if enough actors have ended; the more memory is in use, the more have to. Whether it did."""
        ended = self._ended_actors()
        newly_ended = ended - self._ended_before
        if newly_ended < ENDED_ACTORS:
            return False
        blocks = sys.getallocatedblocks() - self._blocks_at_start
        if newly_ended < ENDED_ACTORS + blocks // BLOCKS_FOR_ONE_MORE:
            return False
        began = time.perf_counter()
        gc.collect()
        give_memory_back()
        self._ended_before = ended
        logger.debug("a full garbage collection took %.0f ms", (time.perf_counter() - began) * 1000)
        return True
