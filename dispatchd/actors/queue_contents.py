"""What a queue's actor does with its contents: hands them out, lets go of them, and has them back after a failure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.alarm import Alarm, now_ms
from dispatchd.actors.dead_letterer import DeadLetterer
from dispatchd.actors.held_credit import HeldCredit
from dispatchd.actors.messages import ActorMessage, Delete, Deliver, Dispatch, Enqueue, Mark, Request, Stage
from dispatchd.actors.pager import Pager
from dispatchd.actors.purger import Purger
from dispatchd.actors.runtime import Actor, Ref, System
from dispatchd.actors.use_timer import UseTimer
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.dead_letters import EXPIRED, MAXLEN
from dispatchd.model.deduplication import make_deduplication
from dispatchd.model.queue import Queue
from dispatchd.model.queue_rules import QueueRules

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage
    from dispatchd.actors.stored_queues import StoredQueues
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.definitions import QueueDefinition
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.transaction import Transaction

ENTRIES_IN_ONE_TURN = 2000
"""What persistence is told to forget at once: acks of many messages must not hold up the loop."""
HEADS_IN_ONE_TURN = 100
"""What goes at once, beyond what has just come, when a queue is too long: with a new limit that may be all of it."""


@dataclass(frozen=True, slots=True)
class ExpiryDue(ActorMessage):
    """A queue's timer to itself: its head may have expired."""


@dataclass(frozen=True, slots=True)
class DropMore(ActorMessage):
    """A queue to itself: it is still too long."""

    is_repeatable: ClassVar[bool] = True


class QueueContents(Actor):
    """The part of a queue that has its messages; the queue itself sees to when each step has its turn."""

    def __init__(
        self, system: System, definition: QueueDefinition, catalogue: Catalogue, vhost: Ref, storage: Storage
    ) -> None:
        super().__init__(system, definition.name, vhost)
        self._definition = definition
        self._catalogue = catalogue
        self._persistence = storage.persistence
        self._pressure = storage.pressure
        self._rules = QueueRules(definition.governed_arguments)
        self._queue = Queue(self.ref, definition.durable, 0, self._rules)
        self._deduplication = make_deduplication(definition.arguments)
        self._dead_letterer = DeadLetterer(self.ref, definition.name, self._rules, catalogue)
        self._expiry = Alarm(self.ref, ExpiryDue())
        self._use = UseTimer(self.ref)
        self._sheds = False
        self._marked = 0
        self._held_credit = HeldCredit(self.ref)
        self._pager = Pager(self.ref, definition, storage, storage.residency(self._rules))
        self._purger = Purger(self.ref, self._pager)
        self._waiting_gets: deque[Request] = deque()
        self._dispatch_is_due = False

    def restore(self, stored: StoredQueues) -> None:
        """Take in what the store kept, before the actor begins."""
        queue, queue_id = self._queue, self._definition.queue_id
        if self._deduplication is not None:
            self._deduplication.recall(stored.latest(queue_id, self._deduplication.size), now_ms())
        for priority, found in enumerate(stored.take(queue_id, self._rules.max_priority)):
            queue.restore_paged(priority, found.positions, found.bytes)
        self._marked = queue.delivered_up_to = queue.delivered_before = stored.delivered_up_to(queue_id)
        queue.last_position = max(queue.last_position, self._marked)

    # In

    def _let_in(
        self,
        messages: list[Message],
        now: int,
        refused: list[Message],
        deliveries: list[tuple[Consumer, list[QueueEntry]]],
    ) -> list[QueueEntry]:
        """Take in what fits, one by one, since what goes to a consumer at once makes room; returns what to store."""
        stored: list[QueueEntry] = []
        deduplication = self._deduplication
        for message in messages:
            if deduplication is not None and deduplication.is_duplicate(message, now):
                continue
            if self._queue.is_full_for(message):
                refused.append(message)
            else:
                if deduplication is not None:
                    deduplication.remember(message, now)
                stored.extend(self._queue.enqueue([message], now))
                deliveries.extend(self._queue.dispatch(now - 1))
        return stored

    # Out

    def _dispatch(self, now: int) -> None:
        queue = self._queue
        self._deliver(queue.dispatch(now))
        self._mark_delivered()
        self._held_credit.release(self._queue)
        if queue.unfinished and not self._dispatch_is_due:
            self._dispatch_is_due = True
            self.ref.tell(Dispatch())

    def _deliver(self, deliveries: list[tuple[Consumer, list[QueueEntry]]]) -> None:
        for consumer, entries in deliveries:
            consumer.channel.tell(Deliver(consumer, entries))
            if consumer.no_ack:
                self._forget(entries)

    def _mark_delivered(self) -> None:
        if self._definition.durable and self._queue.delivered_up_to > self._marked:
            self._marked = self._queue.delivered_up_to
            self._persistence.tell(Mark(self._definition.queue_id, self._marked))

    def _forget(self, entries: list[QueueEntry], transaction: Transaction | None = None) -> None:
        if self._pager.has_spilled:
            entries = self._pager.forget_scratch(entries)
        if self._definition.durable:
            queue_id = self._definition.queue_id
            for start in range(0, len(entries), ENTRIES_IN_ONE_TURN):
                some = entries[start : start + ENTRIES_IN_ONE_TURN]
                if transaction is None:
                    self._persistence.tell(Delete(queue_id, some))
                else:
                    self._persistence.tell(Stage(transaction, queue_id, deleted=some))

    def _serve(self) -> None:
        """Deliver what has not expired meanwhile."""
        now = now_ms()
        self._dispatch(now)
        self._drop_expired(now)
        self._watch_expiry()

    # What has to go

    def _give_up(self, entries: list[QueueEntry], reason: str, transaction: Transaction | None = None) -> None:
        if entries:
            self._forget(self._dead_letterer.publish(entries, reason), transaction)

    def _drop_overflow(self, come: int, transaction: Transaction | None = None) -> None:
        """Let heads go until the queue is no longer than allowed, if not at once, after so many have come."""
        at_most = come + HEADS_IN_ONE_TURN
        dropped = self._queue.drop_overflow(at_most, self._sheds)
        self._give_up(dropped, MAXLEN, transaction)
        if len(dropped) == at_most:
            self.ref.tell(DropMore())
        elif self._sheds:
            self._sheds = self._queue.is_too_long()

    def _drop_expired(self, now: int) -> None:
        self._give_up(self._queue.drop_expired(now), EXPIRED)
        self._pager.read_ahead(self._queue)

    def _watch_expiry(self) -> None:
        """See that somebody looks when the next head expires."""
        self._expiry.set(self._queue.next_expiry())

    def _purge_some(self) -> None:
        self._forget(self._purger.some())
        self._purger.let_go()

    # Rules, and failures

    def _read_rules(self) -> None:
        rules = QueueRules(self._definition.governed_arguments)
        self._rules = self._queue.rules = self._dead_letterer.rules = rules
        self._pager.obey(rules)

    def restarted(self) -> None:
        """A new order from the entries and consumers of the old one: nothing that the queue held is lost."""
        if self._deduplication is not None and isinstance(self.handling, Enqueue):
            self._deduplication.forget(self.handling.messages)  # they were refused
        old = self._queue
        self._read_rules()
        for consumer, stranded in old.take_deliveries():
            consumer.give_back(stranded)
            old.requeue(stranded, counts=False)
        queue = Queue(self.ref, self._definition.durable, old.last_position, self._rules)
        queue.keep_paged(old)
        queue.restore(sorted({id(entry): entry for entry in old.entries()}.values(), key=lambda entry: entry.position))
        queue.adopt(old)
        self._queue = queue
        self._dispatch_is_due = False
        self._held_credit.restart_review(queue)
        self._expiry.cancel()
        self._pager.restart(queue)
        self._purger.restart()
        self._serve()

    def snapshot(self) -> dict[str, Any]:
        """The queue's row in the admin."""
        definition, queue = self._definition, self._queue
        return {
            "name": definition.name,
            "vhost": self._catalogue.vhost,
            "durable": definition.durable,
            "auto_delete": definition.auto_delete,
            "exclusive": definition.exclusive,
            "arguments": definition.arguments,
            **definition.governance.to_row(),
            "state": self.state,
            "messages": len(queue) + queue.unacked,
            "messages_ready": len(queue),
            "messages_unacknowledged": queue.unacked,
            "message_bytes_ready": queue.ready_bytes,
            "messages_paged_out": sum(len(line.paged) for line in queue.lines),
            "messages_lost": self._pager.lost,
            "consumers": len(queue.consumers),
            "consumer_details": [
                {
                    "consumer_tag": consumer.tag,
                    "channel": consumer.channel.name,
                    "ack_required": not consumer.no_ack,
                    "exclusive": consumer.exclusive,
                    "prefetch_count": consumer.prefetch,
                    "unacked": consumer.unacked,
                    "delivered": consumer.delivered,
                }
                for consumer in queue.consumers
            ],
            "published": queue.published,
            "delivered": queue.delivered,
            "redelivered": queue.redelivered,
            "acknowledged": queue.acknowledged,
            "duplicates_dropped": self._deduplication.dropped if self._deduplication is not None else 0,
            "holds_credit": bool(self._held_credit),
        }
