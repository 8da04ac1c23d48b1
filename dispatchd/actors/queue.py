"""A queue: takes messages in, hands them to consumers, and tells persistence what has to be kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dispatchd.actors.ages import Ages
from dispatchd.actors.clock import now_ms
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
from dispatchd.actors.runtime import Ref, System, Telling, Told, receives, tell_all
from dispatchd.actors.use_timer import UseReview
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AccessRefused, AmqpError
from dispatchd.model.catalogue import Catalogue, in_use, not_empty
from dispatchd.model.dead_letters import DELIVERY_LIMIT, MAXLEN, REJECTED, is_cycle
from dispatchd.model.entry import QueueEntry
from dispatchd.model.queue_rules import REJECT_PUBLISH_DLX

if TYPE_CHECKING:
    from dispatchd.actors.storage import Storage
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.definitions import QueueDefinition
    from dispatchd.model.router import Publishing
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
        self._newcomers = []  # before anything can fail: what was new in the batch before is known for good
        now = now_ms()
        if publishing.death and publishing.death != REJECTED:
            messages = [each for each in messages if not is_cycle(each, self._definition.name)]
        if not queue.is_calm():
            self._tidy(now)
        refused: list[Message] = []
        if self._deduplication is None and not self._rules.rejects_publishes:
            stored = queue.enqueue(messages, now)
        else:
            stored = self._choose(messages, now, refused)
        self._accept(publishing, stored, refused)
        if self._held_credit.held:
            self._held_credit.begin_review(queue)
        if self._deliveries:
            self._deliver()
        if self._dying:
            self._give_up()
        self._dispatch(now - 1)  # without time to live it may still go to a consumer who waits
        if self._rules.has_limit:
            self._drop_overflow(len(messages), transaction)
        if not queue.is_calm():
            self._tidy(now)
        self._pager.review(queue)

    def _accept(self, publishing: Publishing, stored: list[QueueEntry], refused: list[Message]) -> None:
        """Answer who published, and have stored what has to be: until then a failure leaves nothing of it."""
        queue, queue_id, transaction = self._queue, self._definition.queue_id, publishing.transaction
        confirms_stored = bool(stored) and publishing.confirm
        waits_for_disk = bool(stored) and self._pressure.is_high
        held = waits_for_disk or self._held_credit.is_due(queue)
        told: Told = []  # the disk first: the channel has its turn while that writes
        if stored and transaction is not None:
            told.append((self._persistence, Stage(transaction, queue_id, added=stored)))
        elif stored:
            told.append((self._persistence, Add(queue_id, stored, publishing if confirms_stored else None)))
        is_silent = not (confirms_stored or held or refused or publishing.waits_for_one())
        if not is_silent:
            told.append((publishing.channel, Accepted(publishing, stored=confirms_stored, held=held, refused=refused)))
        if refused and self._rules.overflow == REJECT_PUBLISH_DLX:
            dead = [QueueEntry(each, self.ref, 0) for each in refused]
            self._dying += [(dead, MAXLEN, None)]
        if held:
            (self._pressure if waits_for_disk else self._held_credit).held[publishing] = None
        queue.accepted_up_to = queue.last_position
        publishing.awaiting -= is_silent
        self.answered(told)
        self._counts.stored += len(stored)
        if self._ages is None:
            self._ages = Ages()
        self._ages.note(queue.last_position, time.monotonic())  # for a batch, not for each message of it

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
        self._get_again()

    @receives(PlacesDeleted)
    def on_places_deleted(self, message: PlacesDeleted) -> None:
        """A part of what was purged is deleted."""
        self._pager.deleted(message)
        self.answered()
        self._pager.go_on_deleting(message)
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
    def on_settle(self, message: Settle) -> None:
        """Let go of what was acknowledged."""
        self._settle(message.entries)

    @receives(Discard)
    def on_discard(self, message: Discard) -> None:
        """Let go of what was rejected."""
        self._discard(message.entries)

    @receives(Requeue)
    def on_requeue(self, message: Requeue) -> None:
        """Put back what was not acknowledged."""
        self._requeue(message.entries)

    @receives(Settlement)
    def on_settlement(self, message: Settlement) -> None:
        """Settle for a transaction."""
        transaction = message.transaction
        settle = {Settle: self._settle, Discard: self._discard, Requeue: self._requeue}[message.outcome]
        settle(message.entries, transaction, (transaction.channel, Settled(transaction)))

    def _settle(self, entries: list[QueueEntry], transaction: Transaction | None = None, *answer: Telling) -> None:
        self._queue.settle(entries)
        self.answered([*self._forgetting(entries, transaction), *answer])
        self._serve()

    def _discard(self, entries: list[QueueEntry], transaction: Transaction | None = None, *answer: Telling) -> None:
        rejected = [entry for entry in entries if entry.is_out]  # they may come twice, deaths must not
        self._queue.discard(rejected)
        if rejected:
            self._dying += [(rejected, REJECTED, transaction)]
        self.answered([*answer])
        self._give_up()
        self._serve()

    def _requeue(self, entries: list[QueueEntry], transaction: Transaction | None = None, *answer: Telling) -> None:
        exhausted = self._queue.requeue(entries)
        if exhausted:
            self._dying += [(exhausted, DELIVERY_LIMIT, transaction)]
        self.answered([*answer])
        self._give_up()
        self._drop_overflow(len(entries), transaction)
        self._serve()

    @receives(Unsubscribe)
    def on_unsubscribe(self, message: Unsubscribe) -> None:
        """A channel closes."""
        self._remove(message.consumer)

    # What has to go

    @receives(Routed)
    @receives(Accepted)
    @receives(Released)
    @receives(Committed)
    def on_dead_letters(self, message: Routed | Accepted | Released | Committed) -> None:
        """What was dead-lettered is where it had to go, or on its way there."""
        heard_of = self._dead_letterer.heard(message)
        self.answered()
        self._part_with(self._dead_letterer.arrived(heard_of))

    @receives(DropMore)
    def on_drop_more(self, _message: DropMore) -> None:
        """There were more heads too many than fit one turn."""
        self._drop_overflow(0)
        self._tidy(now_ms())

    @receives(ExpiryDue)
    def on_expiry_due(self, _message: ExpiryDue) -> None:
        """The head's time may be over."""
        self._expiry.rang()
        self._tidy(now_ms())

    @receives(UseReview)
    def on_use_review(self, _message: UseReview) -> None:
        """A queue with x-expires goes when nobody consumed, declared or got from it for so long."""
        if not self._deleting and self._use.is_over(bool(self._queue.consumers)):
            self._delete(None)

    # Policies

    @receives(Govern)
    def on_govern(self, _message: Govern) -> None:
        """Other policies govern the queue; those for its length do at once, those for time to live what comes later."""
        self._read_rules()
        self._use.begin(self._rules.expires)
        self._drop_overflow(0)
        self._tidy(now_ms())
        self._pager.review(self._queue)

    # Methods

    def _remove(self, consumer: Consumer, *answer: Telling) -> None:
        self._queue.remove_consumer(consumer)
        self.answered([*answer])
        self._use.note_use()
        self._held_credit.release(self._queue)
        if not self._delete_if_unused():
            self._serve()

    def _delete_if_unused(self) -> bool:
        """An auto-delete queue goes with its last consumer."""
        is_unused = self._definition.auto_delete and self._had_consumers and not self._queue.consumers
        if is_unused and not self._deleting:
            self._delete(None)
        return is_unused

    @receives(Request)
    @receives(Subscribe)
    @receives(Cancel)
    def on_request(self, request: Request) -> None:
        """Carry out a method for a channel."""
        try:
            self._perform(request)
        except AmqpError as error:
            self.answered([(request.reply_to, Denied(request, error))])

    def _perform(self, request: Request) -> None:
        match request, request.method:
            case Subscribe(), m.BasicConsume():
                self._subscribe(request)
            case Cancel(), m.BasicCancel() as method:
                self._remove(request.consumer, self._answer(request, m.BasicCancelOk(method.consumer_tag)))
            case _, m.BasicGet() as method:
                self._get(request, method)
            case _, m.QueueDeclare():
                queue = self._queue
                self._use.note_use()
                counts = (len(queue), len(queue.consumers))
                self.answered([self._answer(request, m.QueueDeclareOk(self._definition.name, *counts))])
            case _, m.QueuePurge():
                self._purger.purge(self._queue, request)
                self.answered()
                self._pager.delete()
                self._held_credit.release(self._queue)
                self._purge_some()
            case _, m.QueueDelete() as method:
                self._delete_if(request, method)
            case _:
                raise TypeError(f"a queue can't carry out {request.method!r}")

    def _answer(self, request: Request, reply: m.Method) -> Telling:
        return request.reply_to, Done(request, reply)

    def _resource(self) -> str:
        return self._catalogue.resource("queue", self._definition.name)

    def _subscribe(self, request: Subscribe) -> None:
        consumer, queue = request.consumer, self._queue
        may_be_exclusive = not queue.consumers and not self._rules.single_active_consumer
        if queue.has_exclusive_consumer() or (consumer.exclusive and not may_be_exclusive):
            raise AccessRefused(f"{self._resource()} in exclusive use")
        answer = self._answer(request, m.BasicConsumeOk(consumer.tag))
        consumer.queue = self.ref
        queue.add_consumer(consumer)
        self._had_consumers = True
        self.answered([answer])
        self._serve()

    def _get(self, request: Request, method: m.BasicGet) -> None:
        self._use.note_use()
        queue, now = self._queue, now_ms()
        self._tidy(now)
        if queue.next_expiry() <= now:  # the rest of what has expired has to go first
            self.answered([(self.ref, request)])
            return
        self._taken = queue.take(method.no_ack)
        if self._taken is None and len(queue):
            self._waiting_gets += [request]
            self.answered()
            self._pager.read_ahead(queue)
            return
        self._tidy(now)
        entry = self._taken
        told: Told = [(request.reply_to, Got(request, entry, len(queue)))]
        if entry is not None and method.no_ack:
            told += self._forgetting([entry])
        self._taken = None
        self.answered(told)
        self._counts.count_get(entry is not None, no_ack=method.no_ack)
        self._mark_delivered()
        self._held_credit.release(queue)

    def _delete_if(self, request: Request, method: m.QueueDelete) -> None:
        if method.if_unused and self._queue.consumers:
            raise in_use(self._resource())
        if method.if_empty and len(self._queue):
            raise not_empty(self._resource())
        self._delete(request)

    def _delete(self, request: Request | None) -> None:
        told: Told = [(self._vhost, DeleteQueue(self.ref, self._definition.name, len(self._queue), request))]
        self._deleting = True
        self.answered(told)

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
        told: Told = [(consumer.channel, ConsumerCancelled(consumer)) for consumer in self._queue.consumers]
        self._queue.remove_all_consumers()
        tell_all(told)
        self._held_credit.release(self._queue)

    # Failure

    def restarted(self) -> None:
        """As of its contents; a consumer whose removal failed may have been the last."""
        super().restarted()
        self._delete_if_unused()

    def quarantined(self, reason: str) -> None:
        """Consumers are told, and may go elsewhere."""
        self._part_with_consumers()
        self._purger.refuse(reason)
