"""A queue: takes messages in, hands them to consumers, and tells persistence what has to be kept."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from dispatchd.actors.alarm import now_ms
from dispatchd.actors.messages import (
    Accepted,
    Add,
    Cancel,
    Committed,
    ConsumerCancelled,
    DeleteQueue,
    Denied,
    Discard,
    Dispatch,
    Done,
    Enqueue,
    Fetched,
    Got,
    Govern,
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
from dispatchd.actors.purger import PurgeMore
from dispatchd.actors.queue_contents import DropMore, ExpiryDue, QueueContents
from dispatchd.actors.republisher import Answer
from dispatchd.actors.runtime import Ref, System, receives
from dispatchd.actors.use_timer import UseReview
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AccessRefused, AmqpError
from dispatchd.model.catalogue import Catalogue, in_use, not_empty
from dispatchd.model.dead_letters import DELIVERY_LIMIT, MAXLEN, REJECTED, is_cycle
from dispatchd.model.entry import QueueEntry
from dispatchd.model.queue_rules import DROP_HEAD, REJECT_PUBLISH_DLX

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.definitions import QueueDefinition
    from dispatchd.model.transaction import Transaction


class QueueActor(QueueContents):
    """One queue of a vhost. With consumers and a backlog it keeps publish credit back, so that they can keep up."""

    kind = "queue"

    def __init__(
        self, system: System, definition: QueueDefinition, catalogue: Catalogue, vhost: Ref, storage: Storage
    ) -> None:
        super().__init__(system, definition, catalogue, vhost, storage)
        self._vhost = vhost
        self._had_consumers = False
        self._deleting = False

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

    @receives(ReviewCredit)
    def on_review_credit(self, _message: ReviewCredit) -> None:
        """Publishers wait for consumers that are fast, not for slow ones."""
        self._held_credit.review(self._queue)

    # Consuming

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

    @receives(Routed)
    @receives(Accepted)
    @receives(Released)
    @receives(Committed)
    def on_dead_letters(self, message: Answer) -> None:
        """What was dead-lettered is where it had to go, or on its way there."""
        self._forget(self._dead_letterer.heard(message))

    @receives(DropMore)
    def on_drop_more(self, _message: DropMore) -> None:
        """There were more heads too many than fit one turn."""
        self._drop_overflow(0)
        self._drop_expired(now_ms())
        self._watch_expiry()

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
        self._use.end()
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

    def quarantined(self, reason: str) -> None:
        """Consumers are told, and may go elsewhere."""
        self._part_with_consumers()
        self._purger.refuse(reason)
