"""What a queue's actor does with its contents: hands them out, lets go of them, and has them back after a failure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.ages import Ages
from dispatchd.actors.alarm import Alarm
from dispatchd.actors.clock import now_ms
from dispatchd.actors.dead_letterer import DeadLetterer
from dispatchd.actors.held_credit import HeldCredit
from dispatchd.actors.inspection import Inspectable
from dispatchd.actors.messages import (
    ActorMessage,
    Delete,
    Deliver,
    Dispatch,
    Enqueue,
    Mark,
    Request,
    Stage,
    Subscribe,
)
from dispatchd.actors.orders import Peek
from dispatchd.actors.pager import Pager
from dispatchd.actors.purger import Purger
from dispatchd.actors.queue_counts import QueueCounts
from dispatchd.actors.runtime import Ref, System, Told, receives, tell_all
from dispatchd.actors.shown_messages import shown
from dispatchd.actors.use_timer import UseTimer
from dispatchd.amqp.properties import timestamp
from dispatchd.model.binding import QUEUE
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.dead_letters import EXPIRED, MAXLEN
from dispatchd.model.deduplication import make_deduplication
from dispatchd.model.queue import Queue
from dispatchd.model.queue_rules import DROP_HEAD, QueueRules

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage
    from dispatchd.actors.stored_queues import StoredQueues
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.definitions import QueueDefinition
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.line import Line
    from dispatchd.model.router import Publishing
    from dispatchd.model.transaction import Transaction

ENTRIES_IN_ONE_TURN = 2000
"""What persistence is told to forget at once: acks of many messages must not hold up the loop."""
SHOWN_PUBLISHERS = 20
SHOWN_BINDINGS = 500
HEADS_IN_ONE_TURN = 100
"""What goes at once, beyond what has just come, when a queue is too long: with a new limit that may be all of it."""


@dataclass(frozen=True, slots=True)
class ExpiryDue(ActorMessage):
    """A queue's timer to itself: its head may have expired."""


@dataclass(frozen=True, slots=True)
class DropMore(ActorMessage):
    """A queue to itself: it is still too long."""

    is_repeatable: ClassVar[bool] = True


class QueueContents(Inspectable):
    """The part of a queue that has its messages; the queue itself sees to when each step has its turn.

    What a step takes out of the order is in hand, as `_deliveries`, as `_taken` for a basic.get, or as `_dying`, until
    others are told of it. A failure on the way leaves it there: `restarted` puts it back, or goes on with it.
    """

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
        self._newcomers: list[Message] = []
        self._deliveries: list[tuple[Consumer, list[QueueEntry]]] = []
        self._taken: QueueEntry | None = None
        self._dying: list[tuple[list[QueueEntry], str, Transaction | None]] = []
        self._dead_letterer = DeadLetterer(self.ref, definition.name, self._rules, catalogue)
        self._expiry = Alarm(self.ref, ExpiryDue())
        self._use = UseTimer(self.ref)
        self._sheds = False
        self._marked = 0
        self._counts = QueueCounts()
        self._held_credit = HeldCredit(self.ref, storage.crowd)
        self._pager = Pager(self.ref, definition, storage, storage.residency(self._rules))
        self._purger = Purger(self.ref, self._pager)
        self._waiting_gets: list[Request] = []
        self._dispatch_is_due = False
        self._ages: Ages | None = None

    def restore(self, stored: StoredQueues) -> None:
        """Take in what the store kept, before the actor begins."""
        queue, queue_id = self._queue, self._definition.queue_id
        if self._deduplication is not None:
            self._deduplication.recall(stored.latest(queue_id, self._deduplication.size), now_ms())
        for priority, found in enumerate(stored.take(queue_id, self._rules.max_priority)):
            queue.restore_paged(priority, found.positions, found.bytes)
        self._marked = queue.delivered_up_to = queue.delivered_before = stored.delivered_up_to(queue_id)
        queue.last_position = queue.accepted_up_to = max(queue.last_position, self._marked)

    # In

    def _choose(self, messages: list[Message], now: int, refused: list[Message]) -> list[QueueEntry]:
        """Take messages in, unless they are duplicates or, as a limit asks for, `refused`; returns what to store."""
        if self._rules.rejects_publishes:
            return self._let_in(messages, now, refused)
        if self._deduplication is not None:
            messages = self._newcomers = self._deduplication.new_ones(messages, now)
        return self._queue.enqueue(messages, now)

    def _let_in(self, messages: list[Message], now: int, refused: list[Message]) -> list[QueueEntry]:
        """Take in what fits, one by one, since what goes to a consumer at once makes room."""
        stored: list[QueueEntry] = []
        deduplication = self._deduplication
        for message in messages:
            if deduplication is not None and deduplication.is_duplicate(message, now):
                continue
            if self._queue.is_full_for(message):
                refused.append(message)
            else:
                if deduplication is not None:
                    self._newcomers.append(message)
                    deduplication.remember(message, now)
                stored.extend(self._queue.enqueue([message], now))
                self._deliveries += self._queue.dispatch(now - 1)
        return stored

    # Out

    def _dispatch(self, now: int) -> None:
        queue = self._queue
        deliveries = queue.dispatch(now)
        if deliveries:
            self._deliveries += deliveries
            self._deliver()
            self._mark_delivered()
        if self._held_credit.is_engaged:
            self._held_credit.release(self._queue)
        if queue.unfinished and not self._dispatch_is_due:
            self._dispatch_is_due = True
            self.ref.tell(Dispatch())

    def _deliver(self) -> None:
        deliveries = self._deliveries
        while deliveries:
            consumer, entries = deliveries[0]
            told: Told = [(consumer.channel, Deliver(consumer, entries))]
            if consumer.no_ack:
                told += self._forgetting(entries)
                self._counts.delivered_no_ack += len(entries)
            del deliveries[0]
            tell_all(told)

    def _mark_delivered(self) -> None:
        if self._definition.durable and self._queue.delivered_up_to > self._marked:
            self._marked = self._queue.delivered_up_to
            self._persistence.tell(Mark(self._definition.queue_id, self._marked))

    def _forgetting(self, entries: list[QueueEntry], transaction: Transaction | None = None) -> Told:
        """What makes others forget these entries."""
        told: Told = []
        if self._pager.has_spilled:
            entries = self._pager.forget_scratch(entries, told)
        if self._definition.durable:
            queue_id = self._definition.queue_id
            for start in range(0, len(entries), ENTRIES_IN_ONE_TURN):
                some = entries[start : start + ENTRIES_IN_ONE_TURN]
                if transaction is None:
                    told.append((self._persistence, Delete(queue_id, some)))
                else:
                    told.append((self._persistence, Stage(transaction, queue_id, deleted=some)))
        return told

    def _serve(self) -> None:
        """Deliver what has not expired meanwhile."""
        now = now_ms()
        self._dispatch(now)
        self._tidy(now)

    def _get_again(self) -> None:
        """What had to be read first may be here now."""
        told: Told = [(self.ref, request) for request in self._waiting_gets]
        self._waiting_gets = []
        tell_all(told)

    # What has to go

    def _give_up(self) -> None:
        """Part with what is dying: it is dead-lettered, or forgotten at once if it has nowhere to go."""
        dying = self._dying
        while dying:
            entries, reason, transaction = dying[0]
            told = self._dead_letterer.publish(entries, reason) or self._forgetting(entries, transaction)
            del dying[0]
            tell_all(told)

    def _part_with(self, arrived: list[Publishing]) -> None:
        """Forget what died: its dead letters are where they had to go."""
        on_their_way = self._dead_letterer.on_their_way
        for publishing in arrived:
            told = self._forgetting(on_their_way[publishing])
            del on_their_way[publishing]
            tell_all(told)

    def _drop_overflow(self, come: int, transaction: Transaction | None = None) -> None:
        """Let heads go until the queue is no longer than allowed, if not at once, after so many have come."""
        at_most = come + HEADS_IN_ONE_TURN
        dropped = self._queue.drop_overflow(at_most, self._sheds)
        if dropped:
            self._dying += [(dropped, MAXLEN, transaction)]
            self._give_up()
        if len(dropped) == at_most:
            self.ref.tell(DropMore())
        elif self._sheds:
            self._sheds = self._queue.is_too_long()

    def _tidy(self, now: int) -> None:
        """Part with what has expired, see to it that the next is noticed, and have read what is needed soon."""
        if not self._queue.is_calm():
            self._drop_expired(now)
            self._watch_expiry()

    def _drop_expired(self, now: int) -> None:
        expired = self._queue.drop_expired(now)
        if expired:
            self._dying += [(expired, EXPIRED, None)]
            self._give_up()
        self._pager.read_ahead(self._queue)

    def _watch_expiry(self) -> None:
        """See that somebody looks when the next head expires."""
        at = self._queue.next_expiry()
        if at < self._expiry.at:
            self._expiry.set(at)

    def _purge_some(self) -> None:
        tell_all(self._forgetting(self._purger.some()))
        self._purger.let_go()

    def on_stop(self) -> None:
        """Let go of what is in hand: its entries name their queue, and nobody else would free the two together."""
        self._deliveries, self._dying, self._taken = [], [], None
        self._dead_letterer.on_their_way.clear()

    # Rules, and failures

    def _read_rules(self) -> None:
        """Other policies may govern the queue.

        As in RabbitMQ a queue that is to reject new messages from now on has dropped the oldest until now, and does so
        once more for its new length.
        """
        rules = QueueRules(self._definition.governed_arguments)
        self._sheds = self._sheds or DROP_HEAD in (self._rules.overflow, rules.overflow)
        self._rules = self._queue.rules = self._dead_letterer.rules = rules
        self._pager.obey(rules)

    def restarted(self) -> None:
        """A new order from the entries and consumers of the old one: nothing that the queue held is lost."""
        old = self._queue
        if not self.is_answered:
            self._take_back(self.handling)
        self._read_rules()
        self._deliveries.extend(old.take_deliveries())
        while self._deliveries:
            old.recall(*self._deliveries[0])
            del self._deliveries[0]
        if self._taken is not None:
            old.recall(None, [self._taken])
            self._taken = None
        self._queue = queue = old.rebuilt()
        self._dispatch_is_due = False
        self._held_credit.restart_review(queue)
        self._expiry.cancel()
        self._pager.restart(queue)
        self._purger.restart()
        self._mark_delivered()
        self._part_with(self._dead_letterer.arrived())
        self._give_up()
        self._drop_overflow(0)
        self._serve()
        self._get_again()

    def _take_back(self, message: ActorMessage) -> None:
        """Undo what a message has done that failed: it is refused, or comes again."""
        if isinstance(message, Enqueue) and self._deduplication is not None:
            self._deduplication.forget(self._newcomers)
        elif isinstance(message, Subscribe):
            self._queue.remove_consumer(message.consumer)

    def waits_for(self) -> str | None:
        """What it needs before it can answer."""
        return "persistence, to read what somebody wants to get" if self._waiting_gets else None

    # What operators see

    @receives(Peek)
    def on_peek(self, order: Peek) -> None:
        """Show messages that are ready, and leave them where they are."""
        waiting = chain.from_iterable(_in_memory(line) for line in reversed(self._queue.lines))
        entries = islice(waiting, order.skip, order.skip + order.count)
        order.fulfil([shown(entry, order.encoding, order.truncate) for entry in entries])

    def details(self) -> dict[str, Any]:
        """What the page of the queue shows beyond its row; ages are null where nobody saw the message come."""
        oldest = [_first_position(line) for line in self._queue.lines if len(line)]
        age = self._ages.age(min(oldest), time.monotonic()) if oldest and self._ages is not None else None
        held = Counter(publishing.channel.name for publishing in self._held_credit.held)
        return {
            "oldest_ready_ms": round(age * 1000) if age is not None else None,
            "held_publishings": dict(held.most_common(SHOWN_PUBLISHERS)),
            "bindings": [
                {
                    "source": binding.source,
                    "routing_key": binding.routing_key,
                    "arguments": binding.arguments,
                    "properties_key": binding.properties_key,
                }
                for binding in islice(self._catalogue.bindings_to(QUEUE, self._definition.name), SHOWN_BINDINGS)
            ],
        }

    def figures(self) -> dict[str, Any]:
        """What is seen from outside, and added up: a row takes ten times as long, and there may be 100,000."""
        return {
            "vhost": self._catalogue.vhost,
            "consumers": len(self._queue.consumers),
            "holds_credit": bool(self._held_credit),
            **self._counts.figures(self._queue, self._pager, now_ms()),
        }

    def snapshot(self) -> dict[str, Any]:
        """The queue's row in the admin."""
        definition, queue = self._definition, self._queue
        return {
            "name": definition.name,
            "durable": definition.durable,
            "auto_delete": definition.auto_delete,
            "exclusive": definition.exclusive,
            "arguments": definition.arguments,
            **definition.governance.to_row(),
            "state": self.state,
            **self.figures(),
            "head_message_timestamp": self._head_timestamp(),
            "messages_lost": self._pager.lost,
            "messages_dying": sum(len(entries) for entries, _, _ in self._dying) + self._dead_letterer.count(),
            "consumer_details": [
                {
                    "consumer_tag": consumer.tag,
                    "channel": consumer.channel.name,
                    "ack_required": not consumer.no_ack,
                    "exclusive": consumer.exclusive,
                    "prefetch_count": consumer.prefetch,
                    "unacked": consumer.unacked,
                    "delivered": consumer.delivered,
                    "arguments": consumer.arguments,
                    "active": not queue.rules.single_active_consumer or consumer is queue._active,
                }
                for consumer in queue.consumers
            ],
            "duplicates_dropped": self._deduplication.dropped if self._deduplication is not None else 0,
        }

    def _head_timestamp(self) -> int | None:
        """When the next message was published, as its publisher says; None if it does not, or only the disk has it."""
        for line in reversed(self._queue.lines):
            if len(line):
                return None if line.is_starved() else timestamp(next(_in_memory(line)).message.header)
        return None


def _in_memory(line: Line) -> Iterator[QueueEntry]:
    """What waits in a line from its head; what is on disk only is passed over."""
    behind = line.tail if line.tail is not line.ready else ()
    return chain(reversed(line.returned), line.ready, behind)


def _first_position(line: Line) -> int:
    return line.returned[-1].position if line.returned else line.first_fresh()
