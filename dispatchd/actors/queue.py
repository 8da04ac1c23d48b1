"""A queue: takes messages in, hands them to consumers, and tells persistence what has to be kept."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dispatchd.actors.alarm import Alarm, now_ms
from dispatchd.actors.dead_letterer import DeadLetterer
from dispatchd.actors.held_credit import HeldCredit
from dispatchd.actors.messages import (
    Accepted,
    ActorMessage,
    Add,
    Cancel,
    Committed,
    ConsumerCancelled,
    Delete,
    DeleteQueue,
    Deliver,
    Denied,
    Discard,
    Dispatch,
    Done,
    Enqueue,
    Fetched,
    Got,
    Govern,
    Mark,
    OnDisk,
    PlacesDeleted,
    Released,
    Request,
    Requeue,
    Retire,
    ReviewCredit,
    Routed,
    Settle,
    Settled,
    Settlement,
    Stage,
    Subscribe,
    Unsubscribe,
)
from dispatchd.actors.pager import Pager
from dispatchd.actors.purger import PurgeMore, Purger
from dispatchd.actors.republisher import Answer
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.actors.use_timer import UseReview, UseTimer
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AccessRefused, AmqpError
from dispatchd.model.catalogue import Catalogue, in_use, not_empty
from dispatchd.model.dead_letters import DELIVERY_LIMIT, EXPIRED, MAXLEN, REJECTED, is_cycle
from dispatchd.model.deduplication import make_deduplication
from dispatchd.model.entry import QueueEntry
from dispatchd.model.queue import Queue
from dispatchd.model.queue_rules import DROP_HEAD, REJECT_PUBLISH_DLX, QueueRules

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage
    from dispatchd.actors.stored_queues import StoredQueues
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.definitions import QueueDefinition
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


class QueueActor(Actor):
    """One queue of a vhost. With consumers and a backlog it keeps publish credit back, so that they can keep up."""

    kind = "queue"

    def __init__(
        self, system: System, definition: QueueDefinition, catalogue: Catalogue, vhost: Ref, storage: Storage
    ) -> None:
        super().__init__(system, definition.name, vhost)
        self._definition = definition
        self._catalogue = catalogue
        self._vhost = vhost
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
        self._had_consumers = False
        self._deleting = False

    def restore(self, stored: StoredQueues) -> None:
        """Take in what the store kept, before the actor begins."""
        queue, queue_id = self._queue, self._definition.queue_id
        if self._deduplication is not None:
            self._deduplication.recall(stored.latest(queue_id, self._deduplication.size), now_ms())
        for priority, found in enumerate(stored.take(queue_id, self._rules.max_priority)):
            queue.restore_paged(priority, found.positions, found.bytes)
        self._marked = queue.delivered_up_to = queue.delivered_before = stored.delivered_up_to(queue_id)
        queue.last_position = max(queue.last_position, self._marked)

    def on_start(self) -> None:
        """Begin the timers that a queue may have from its first moment on."""
        self._use.begin(self._rules.expires)
        self._pager.read_ahead(self._queue)

    # Publishing

    @receives(Enqueue)
    def on_enqueue(self, message: Enqueue) -> None:
        """Take messages in."""
        publishing, messages, queue = message.publishing, message.messages, self._queue
        transaction = publishing.transaction
        now = now_ms()
        if publishing.death and publishing.death != REJECTED:
            messages = [each for each in messages if not is_cycle(each, self._definition.name)]
        self._drop_expired(now)
        refused: list[Message] = []
        deliveries: list[tuple[Consumer, list[QueueEntry]]] = []
        if self._rules.rejects_publishes:
            stored = self._let_in(messages, now, refused, deliveries)
        else:
            if self._deduplication is not None:
                messages = self._deduplication.new_ones(messages, now)
            stored = queue.enqueue(messages, now)
        confirms_stored = bool(stored) and publishing.confirm
        waits_for_disk = bool(stored) and self._pressure.is_high
        held = waits_for_disk or self._held_credit.is_due(queue)
        publishing.channel.tell(Accepted(publishing, stored=confirms_stored, held=held, refused=refused))
        if stored:
            queue_id = self._definition.queue_id
            if transaction is None:
                self._persistence.tell(Add(queue_id, stored, publishing if confirms_stored else None))
            else:
                self._persistence.tell(Stage(transaction, queue_id, added=stored))
        if waits_for_disk:
            self._pressure.hold(publishing)
        elif held:
            self._held_credit.hold(publishing, queue)
        self._deliver(deliveries)
        self._dispatch(now - 1)  # without time to live it may still go to a consumer who waits
        if self._rules.has_limit:
            self._drop_overflow(len(messages), transaction)
        self._drop_expired(now)
        self._watch_expiry()
        if refused and self._rules.overflow == REJECT_PUBLISH_DLX:
            self._give_up([QueueEntry(each, self.ref, 0) for each in refused], MAXLEN)
        self._pager.review(queue)

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

    @receives(ReviewCredit)
    def on_review_credit(self, _message: ReviewCredit) -> None:
        """Publishers wait for consumers that are fast, not for slow ones."""
        self._held_credit.review(self._queue)

    # Consuming

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

    @receives(OnDisk)
    def on_disk(self, message: OnDisk) -> None:
        """What is not needed soon can leave memory now."""
        self._pager.stored(self._queue, message)

    @receives(Fetched)
    def on_fetched(self, message: Fetched) -> None:
        """What is needed soon is in memory again."""
        if not self._pager.fetched(self._queue, message):
            return
        self._drop_overflow(0)
        self._serve()
        waiting, self._waiting_gets = self._waiting_gets, deque()
        for request in waiting:
            self.on_request(request)

    @receives(PlacesDeleted)
    def on_places_deleted(self, message: PlacesDeleted) -> None:
        """A part of what was purged is deleted."""
        self._pager.deleted(message)
        self._purger.go_on()

    def _purge_some(self) -> None:
        self._forget(self._purger.some())
        self._purger.let_go()

    @receives(PurgeMore)
    def on_purge_more(self, _message: PurgeMore) -> None:
        """There is more than fits one turn to let go of."""
        self._purge_some()

    @receives(Dispatch)
    def on_dispatch(self, _message: Dispatch) -> None:
        """There may be room for deliveries again."""
        self._dispatch_is_due = False
        self._pager.go_on(self._queue)
        self._serve()

    def _serve(self) -> None:
        """Deliver what has not expired meanwhile."""
        now = now_ms()
        self._dispatch(now)
        self._drop_expired(now)
        self._watch_expiry()

    @receives(Settle)
    def on_settle(self, message: Settle, transaction: Transaction | None = None) -> None:
        """Let go of what was acknowledged."""
        self._queue.settle(message.entries)
        self._forget(message.entries, transaction)
        self._serve()

    @receives(Discard)
    def on_discard(self, message: Discard, transaction: Transaction | None = None) -> None:
        """Let go of what was rejected."""
        rejected = [entry for entry in message.entries if entry.is_out]  # the message may come twice, deaths must not
        self._queue.settle(rejected)
        self._give_up(rejected, REJECTED, transaction)
        self._serve()

    @receives(Requeue)
    def on_requeue(self, message: Requeue, transaction: Transaction | None = None) -> None:
        """Put back what was not acknowledged."""
        self._give_up(self._queue.requeue(message.entries), DELIVERY_LIMIT, transaction)
        self._drop_overflow(len(message.entries), transaction)
        self._serve()

    @receives(Settlement)
    def on_settlement(self, message: Settlement) -> None:
        """Settle for a transaction. The answer comes last: after a failure on the way all of this is repeated."""
        transaction = message.transaction
        match message.outcome(message.entries):
            case Settle() as settle:
                self.on_settle(settle, transaction)
            case Discard() as discard:
                self.on_discard(discard, transaction)
            case Requeue() as requeue:
                self.on_requeue(requeue, transaction)
        transaction.channel.tell(Settled(transaction))

    @receives(Unsubscribe)
    def on_unsubscribe(self, message: Unsubscribe) -> None:
        """A channel closes."""
        self._remove(message.consumer)

    # What has to go

    def _give_up(self, entries: list[QueueEntry], reason: str, transaction: Transaction | None = None) -> None:
        if entries:
            self._forget(self._dead_letterer.publish(entries, reason), transaction)

    @receives(Routed)
    @receives(Accepted)
    @receives(Released)
    @receives(Committed)
    def on_dead_letters(self, message: Answer) -> None:
        """What was dead-lettered is where it had to go, or on its way there."""
        self._forget(self._dead_letterer.heard(message))

    def _drop_overflow(self, come: int, transaction: Transaction | None = None) -> None:
        """Let heads go until the queue is no longer than allowed, if not at once, after so many have come."""
        at_most = come + HEADS_IN_ONE_TURN
        dropped = self._queue.drop_overflow(at_most, self._sheds)
        self._give_up(dropped, MAXLEN, transaction)
        if len(dropped) == at_most:
            self.ref.tell(DropMore())
        elif self._sheds:
            self._sheds = self._queue.is_too_long()

    @receives(DropMore)
    def on_drop_more(self, _message: DropMore) -> None:
        """There were more heads too many than fit one turn."""
        self._drop_overflow(0)
        self._drop_expired(now_ms())
        self._watch_expiry()

    def _drop_expired(self, now: int) -> None:
        self._give_up(self._queue.drop_expired(now), EXPIRED)
        self._pager.read_ahead(self._queue)

    def _watch_expiry(self) -> None:
        """See that somebody looks when the next head expires."""
        self._expiry.set(self._queue.next_expiry())

    @receives(ExpiryDue)
    def on_expiry_due(self, _message: ExpiryDue) -> None:
        """The head's time may be over."""
        self._expiry.rang()
        self._drop_expired(now_ms())
        self._watch_expiry()

    @receives(UseReview)
    def on_use_review(self, _message: UseReview) -> None:
        """A queue with x-expires goes when nobody consumed, declared or got from it for so long."""
        if not self._deleting and self._use.is_over(bool(self._queue.consumers)):
            self._delete(None)

    # Policies

    @receives(Govern)
    def on_govern(self, _message: Govern) -> None:
        """Other policies govern the queue; those for its length do at once, those for time to live what comes later.

        As in RabbitMQ a queue that is to reject new messages from now on has dropped the oldest until now, and does so
        once more for its new length.
        """
        old = self._rules
        self._read_rules()
        self._sheds = DROP_HEAD in (old.overflow, self._rules.overflow)
        self._use.begin(self._rules.expires)
        self._drop_overflow(0)
        self._drop_expired(now_ms())
        self._watch_expiry()
        self._pager.review(self._queue)

    def _read_rules(self) -> None:
        rules = QueueRules(self._definition.governed_arguments)
        self._rules = self._queue.rules = self._dead_letterer.rules = rules
        self._pager.obey(rules)

    # Methods

    def _remove(self, consumer: Consumer) -> None:
        self._queue.remove_consumer(consumer)
        self._use.note_use()
        self._held_credit.release(self._queue)
        if self._definition.auto_delete and self._had_consumers and not self._queue.consumers and not self._deleting:
            self._delete(None)
        else:
            self._serve()

    @receives(Request)
    @receives(Subscribe)
    @receives(Cancel)
    def on_request(self, request: Request) -> None:
        """Carry out a method for a channel."""
        try:
            self._perform(request)
        except AmqpError as error:
            request.reply_to.tell(Denied(request, error))

    def _perform(self, request: Request) -> None:
        match request, request.method:
            case Subscribe(), m.BasicConsume():
                self._subscribe(request)
            case Cancel(), m.BasicCancel() as method:
                self._remove(request.consumer)
                self._answer(request, m.BasicCancelOk(method.consumer_tag))
            case _, m.BasicGet() as method:
                self._get(request, method)
            case _, m.QueueDeclare():
                queue = self._queue
                self._use.note_use()
                counts = (len(queue), len(queue.consumers))
                self._answer(request, m.QueueDeclareOk(self._definition.name, *counts))
            case _, m.QueuePurge():
                self._purger.purge(self._queue, request)
                self._held_credit.release(self._queue)
                self._purge_some()
            case _, m.QueueDelete() as method:
                self._delete_if(request, method)
            case _:
                raise TypeError(f"a queue can't carry out {request.method!r}")

    def _answer(self, request: Request, reply: m.Method) -> None:
        request.reply_to.tell(Done(request, reply))

    def _resource(self) -> str:
        return self._catalogue.resource("queue", self._definition.name)

    def _subscribe(self, request: Subscribe) -> None:
        consumer, queue = request.consumer, self._queue
        may_be_exclusive = not queue.consumers and not self._rules.single_active_consumer
        if queue.has_exclusive_consumer() or (consumer.exclusive and not may_be_exclusive):
            raise AccessRefused(f"{self._resource()} in exclusive use")
        consumer.queue = self.ref
        queue.add_consumer(consumer)
        self._had_consumers = True
        self._answer(request, m.BasicConsumeOk(consumer.tag))
        self._serve()

    def _get(self, request: Request, method: m.BasicGet) -> None:
        self._use.note_use()
        now = now_ms()
        self._drop_expired(now)
        if self._queue.next_expiry() <= now:
            self.ref.tell(request)  # until the rest of what has expired is gone
            return
        entry = self._queue.take()
        if entry is None and len(self._queue):
            self._waiting_gets.append(request)
            self._pager.read_ahead(self._queue)
            return
        if entry is not None:
            if method.no_ack:
                entry.is_out = False
                self._forget([entry])
            else:
                self._queue.unacked += 1
            self._mark_delivered()
            self._held_credit.release(self._queue)
            self._drop_expired(now)
            self._watch_expiry()
        request.reply_to.tell(Got(request, entry, len(self._queue)))

    def _delete_if(self, request: Request, method: m.QueueDelete) -> None:
        if method.if_unused and self._queue.consumers:
            raise in_use(self._resource())
        if method.if_empty and len(self._queue):
            raise not_empty(self._resource())
        self._delete(request)

    def _delete(self, request: Request | None) -> None:
        self._deleting = True
        self._vhost.tell(DeleteQueue(self.ref, self._definition.name, len(self._queue), request))

    @receives(Retire)
    def on_retire(self, message: Retire) -> None:
        """The queue has been deleted: consumers and held publishers are let go, then what is stored."""
        self._expiry.cancel()
        self._part_with_consumers()
        for request in self._waiting_gets:
            request.refuse(f"{self._resource()} is deleted")
        self._pager.end()
        self._purger.end(self._queue)
        if message.last_word is not None:
            receiver, last_word = message.last_word
            receiver.tell(last_word)
        self.end()

    def _part_with_consumers(self) -> None:
        for consumer in self._queue.remove_all_consumers():
            consumer.channel.tell(ConsumerCancelled(consumer))
        self._held_credit.release(self._queue)

    # Failure

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

    def quarantined(self, reason: str) -> None:
        """Consumers are told, and may go elsewhere."""
        self._part_with_consumers()
        self._purger.refuse(reason)

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
