"""What a queue has in memory: the middle of a long one goes to disk, and comes back ahead of its delivery.

Persistent messages of a durable queue are on disk anyhow; the others go to a scratch store.
"""

from __future__ import annotations

import logging
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

import gevent

from dispatchd.actors.messages import Add, Define, Delete, DeletePlaces, Dispatch, Fetch, Fetched, OnDisk, PlacesDeleted
from dispatchd.actors.runtime import Told, tell_all
from dispatchd.model.entry import NOT_STORED
from dispatchd.model.places import Places
from dispatchd.model.residency import Residency, page_in, page_out

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.storage import Storage
    from dispatchd.model.definitions import QueueDefinition
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.queue import Queue
    from dispatchd.model.queue_rules import QueueRules
    from dispatchd.model.stored_entries import StoredEntry

DELETED_IN_ONE_GO = 2_000
RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Pager:
    """One queue's. `has_spilled`: the scratch store has, or had, something of it. `lost` counts what could not be read.

    `reads` and `spills` count messages that were read, and that were stored only to leave memory.

    `unwanted` are places of entries to be deleted. Answers name the `_generation` that they were asked for in: a queue
    that failed begins a new one.
    """

    def __init__(self, ref: Ref, definition: QueueDefinition, storage: Storage, residency: Residency) -> None:
        self._ref = ref
        self._queue_id = definition.queue_id
        self._durable = definition.durable
        self._storage = storage
        self._residency = residency
        self._generation = 0
        self._to_be_stored = 0
        self._reading: Fetch | None = None
        self._to_be_read = 0
        self._answers: list[list[StoredEntry]] = []
        self.unwanted: list[Places] = []
        self._to_be_deleted = 0
        self.has_spilled = False
        self.lost = 0
        self.reads = 0
        self.spills = 0

    def obey(self, rules: QueueRules) -> None:
        """Other policies govern the queue: another part of it may be in memory."""
        self._residency = self._storage.residency(rules)

    def restart(self, queue: Queue) -> None:
        """The queue failed: answers to what was asked before mean nothing any more."""
        self._generation += 1
        self._to_be_stored = 0
        self._forget_reading()
        if not self._to_be_deleted:
            self._delete_some()
        self.review(queue)

    def _stores(self) -> tuple[Ref, ...]:
        """Who may have something of this queue."""
        if not self.has_spilled:
            return (self._storage.persistence,)
        return (self._storage.persistence, self._storage.scratch) if self._durable else (self._storage.scratch,)

    def is_scratch(self, entry: QueueEntry) -> bool:
        """Whether an entry has no place in what outlives the broker."""
        return not (self._durable and entry.message.persistent)

    # Out

    def review(self, queue: Queue) -> None:
        """See whether there is too much in memory, and if so have the middle stored; `stored` is what follows."""
        if self._to_be_stored or not self._residency.is_exceeded(queue):
            return
        chosen = self._residency.choose(queue)
        scratch = [entry for entry in chosen if self.is_scratch(entry)]
        if len(scratch) < len(chosen):
            self._ask_to_store(self._storage.persistence)
        if scratch:
            self.has_spilled = True
            spilled = [entry for entry in scratch if entry.slot == NOT_STORED]
            self.spills += len(spilled)
            self._storage.scratch.tell(Add(self._queue_id, spilled))
            self._ask_to_store(self._storage.scratch)

    def _ask_to_store(self, actor: Ref) -> None:
        self._to_be_stored += 1
        actor.tell(Define([], then=(self._ref, OnDisk(self._ref, self._generation))))

    def stored(self, queue: Queue, answer: OnDisk) -> None:
        """What was chosen is on disk, or will be later: let go of it, a part in each turn."""
        if answer.generation != self._generation:
            return
        self._to_be_stored -= 1
        if self._to_be_stored:
            return
        if page_out(queue, also_in_front=self._reading is None):
            self._to_be_stored = 1
            self._ref.tell(answer)
        elif not answer.has_failed:
            self.review(queue)

    def forget_scratch(self, entries: list[QueueEntry], told: Told) -> list[QueueEntry]:
        """Add to `told` what deletes those that only left memory; returns the others."""
        scratch = [entry for entry in entries if self.is_scratch(entry)]
        if not scratch:
            return entries
        told.append((self._storage.scratch, Delete(self._queue_id, scratch)))
        return [entry for entry in entries if not self.is_scratch(entry)]

    # In

    def go_on(self, queue: Queue) -> None:
        """Try again what failed, if something did, and see what has to be in memory now."""
        if self.unwanted and not self._to_be_deleted:
            self._delete_some()
        self.review(queue)
        self.read_ahead(queue)

    def read_ahead(self, queue: Queue) -> None:
        """Have read what the queue needs soon; `fetched` is what follows."""
        if self._reading is not None:
            return
        wanted = self._residency.wanted(queue)
        if wanted is not None:
            self._reading = Fetch(self._ref, self._queue_id, *wanted)
            self._answers, stores = [], self._stores()
            self._to_be_read = len(stores)
            for actor in stores:
                actor.tell(self._reading)

    def fetched(self, queue: Queue, answer: Fetched) -> bool:
        """Take in what was read. Whether the queue has got further by it."""
        request = self._reading
        if request is None or answer.request is not request:
            return False
        if answer.entries is None:
            self._forget_reading()
            gevent.spawn_later(RETRY_SECONDS, self._ref.tell, Dispatch())
            return False
        self._answers.append(answer.entries)
        self._to_be_read -= 1
        if self._to_be_read:
            return False
        found = self._answers[0] if len(self._answers) == 1 else sorted(chain(*self._answers), key=itemgetter(0))
        missing = len(request.positions) - len(found)
        page_in(queue, request.priority, len(request.positions), found)
        self._reading = None
        self.lost += missing
        self.reads += len(found)
        if missing:
            logger.error("%d messages of queue %s are missing in the store, or damaged", missing, self._ref.name)
        return True

    def _forget_reading(self) -> None:
        self._reading = None

    # Away

    def delete(self) -> None:
        """Have deleted what is `unwanted`, some at a time; `deleted` is what follows. It must not be read any more."""
        self._forget_reading()
        if not self._to_be_deleted:
            self._delete_some()

    def is_deleting(self) -> bool:
        """Whether there is still something to be deleted."""
        return bool(self.unwanted) or self._to_be_deleted > 0

    def _delete_some(self) -> None:
        while self.unwanted and not len(self.unwanted[0]):
            del self.unwanted[0]
        if not self.unwanted:
            return
        positions = self.unwanted[0].head(DELETED_IN_ONE_GO)
        request = DeletePlaces(self._ref, self._queue_id, positions)
        told: Told = [(actor, request) for actor in self._stores()]
        count = len(told)
        self.unwanted[0].drop(len(positions))
        self._to_be_deleted = count
        tell_all(told)

    def deleted(self, answer: PlacesDeleted) -> None:
        """Take note of an answer; what could not be deleted comes last. `go_on_deleting` is what follows."""
        failed = [Places(answer.request.positions)] if answer.has_failed else []
        self._to_be_deleted -= 1
        self.unwanted += failed

    def go_on_deleting(self, answer: PlacesDeleted) -> None:
        """Go on with the next ones, or in a while with what could not be deleted."""
        if answer.has_failed:
            gevent.spawn_later(RETRY_SECONDS, self._ref.tell, Dispatch())
        elif not self._to_be_deleted:
            self._delete_some()

    def end(self) -> None:
        """The queue is deleted; what outlives the broker is for the vhost to drop."""
        if self.has_spilled:
            self._storage.scratch.tell(Define([], dropped_queues=[self._queue_id]))
