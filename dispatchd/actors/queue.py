"""A queue: takes messages in, hands them to consumers, and tells persistence what has to be kept."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import gevent

from dispatchd.actors.messages import (
    Accepted,
    Add,
    Cancel,
    ConsumerCancelled,
    Delete,
    DeleteQueue,
    Deliver,
    Denied,
    Dispatch,
    Done,
    Enqueue,
    Got,
    Mark,
    Released,
    Request,
    Requeue,
    Retire,
    ReviewCredit,
    Settle,
    Subscribe,
    Unsubscribe,
)
from dispatchd.actors.runtime import Actor, Ref, System, receives
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AccessRefused, AmqpError
from dispatchd.model.catalogue import Catalogue, in_use, not_empty
from dispatchd.model.queue import Queue

if TYPE_CHECKING:
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.definitions import QueueDefinition
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.router import Publishing

BACKLOG_THAT_HOLDS_CREDIT = 2000
ENTRIES_IN_ONE_TURN = 2000
"""What persistence is told to forget at once: a purge of a long queue must not hold up the loop."""
REVIEW_SECONDS = 0.05
FAST_CONSUMERS = 10_000
"""Credit units a second that consumers take at least, with publishers held back, if it was a flood of publishes that
kept the broker from serving them. Others are slow by themselves, and nothing is held back for their sake."""
LENIENT_SECONDS = (0.25, 4.0)
"""How long nothing is held back once consumers turned out to be slow: at first, and at most. Then it is tried again."""


class QueueActor(Actor):
    """One queue of a vhost. With consumers and a backlog it keeps publish credit back, so that they can keep up."""

    kind = "queue"

    def __init__(
        self, system: System, definition: QueueDefinition, catalogue: Catalogue, vhost: Ref, persistence: Ref
    ) -> None:
        super().__init__(system, definition.name, vhost)
        self._definition = definition
        self._catalogue = catalogue
        self._vhost = vhost
        self._persistence = persistence
        self._queue = Queue(self.ref, definition.durable)
        self._marked = 0
        self._held: deque[Publishing] = deque()
        self._review: tuple[float, int] | None = None
        self._lenient_until = 0.0
        self._lenience = LENIENT_SECONDS[0]
        self._dispatch_is_due = False
        self._had_consumers = False
        self._deleting = False

    def restore(self, entries: list[QueueEntry], delivered_up_to: int) -> None:
        """Take in what the store kept, before the actor begins."""
        self._queue.restore(entries)
        self._queue.last_position = max(self._queue.last_position, delivered_up_to)
        self._marked = self._queue.delivered_up_to = delivered_up_to

    # Publishing

    @receives(Enqueue)
    def on_enqueue(self, message: Enqueue) -> None:
        """Take messages in."""
        publishing = message.publishing
        stored = self._queue.enqueue(message.messages)
        confirms_stored = bool(stored) and publishing.confirm
        held = self._holds_credit()
        publishing.channel.tell(Accepted(publishing, stored=confirms_stored, held=held))
        if stored:
            queue_id = self._definition.queue_id
            self._persistence.tell(Add(queue_id, stored, publishing if confirms_stored else None))
        if held:
            self._held.append(publishing)
            self._begin_review()
        self._dispatch()

    def _holds_credit(self) -> bool:
        queue = self._queue
        if len(queue) < BACKLOG_THAT_HOLDS_CREDIT or not queue.consumers:
            return False
        return time.monotonic() >= self._lenient_until

    def _begin_review(self) -> None:
        if self._review is None:
            self._review = (time.monotonic(), int(self._queue.drained))
            gevent.spawn_later(REVIEW_SECONDS, self.ref.tell, ReviewCredit())

    @receives(ReviewCredit)
    def on_review_credit(self, _message: ReviewCredit) -> None:
        """See what consumers take while publishers are held back: whether that is of any use."""
        if self._review is None:
            return
        (began, drained), now = self._review, time.monotonic()
        self._review = None
        if float(self._queue.drained - drained) / (now - began) < FAST_CONSUMERS:
            self._lenient_until = now + self._lenience
            self._lenience = min(2 * self._lenience, LENIENT_SECONDS[1])
        self._release_credit()
        if self._held:
            self._begin_review()

    def _release_credit(self) -> None:
        if len(self._queue) < BACKLOG_THAT_HOLDS_CREDIT:
            self._lenient_until, self._lenience = 0.0, LENIENT_SECONDS[0]
        if self._held and not self._holds_credit():
            held, self._held = self._held, deque()
            for publishing in held:
                publishing.channel.tell(Released(publishing))

    # Consuming

    def _dispatch(self) -> None:
        queue = self._queue
        for consumer, entries in queue.dispatch():
            consumer.channel.tell(Deliver(consumer, entries))
            if consumer.no_ack:
                self._forget(entries)
        self._mark_delivered()
        self._release_credit()
        if queue.unfinished and not self._dispatch_is_due:
            self._dispatch_is_due = True
            self.ref.tell(Dispatch())

    def _mark_delivered(self) -> None:
        if self._definition.durable and self._queue.delivered_up_to > self._marked:
            self._marked = self._queue.delivered_up_to
            self._persistence.tell(Mark(self._definition.queue_id, self._marked))

    def _forget(self, entries: list[QueueEntry]) -> None:
        if self._definition.durable:
            for start in range(0, len(entries), ENTRIES_IN_ONE_TURN):
                some = entries[start : start + ENTRIES_IN_ONE_TURN]
                self._persistence.tell(Delete(self._definition.queue_id, some))

    @receives(Dispatch)
    def on_dispatch(self, _message: Dispatch) -> None:
        """There may be room for deliveries again."""
        self._dispatch_is_due = False
        self._dispatch()

    @receives(Settle)
    def on_settle(self, message: Settle) -> None:
        """Let go of what was acknowledged or rejected."""
        self._queue.settle(message.entries)
        self._forget(message.entries)
        self._dispatch()

    @receives(Requeue)
    def on_requeue(self, message: Requeue) -> None:
        """Put back what was not acknowledged."""
        self._queue.requeue(message.entries)
        self._dispatch()

    @receives(Unsubscribe)
    def on_unsubscribe(self, message: Unsubscribe) -> None:
        """A channel closes."""
        self._remove(message.consumer)

    def _remove(self, consumer: Consumer) -> None:
        self._queue.remove_consumer(consumer)
        self._release_credit()
        if self._definition.auto_delete and self._had_consumers and not self._queue.consumers and not self._deleting:
            self._delete(None)

    # Methods

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
                counts = (len(queue), len(queue.consumers))
                self._answer(request, m.QueueDeclareOk(self._definition.name, *counts))
            case _, m.QueuePurge():
                purged = self._queue.purge()
                self._forget(purged)
                self._release_credit()
                self._answer(request, m.QueuePurgeOk(len(purged)))
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
        if queue.has_exclusive_consumer() or (consumer.exclusive and queue.consumers):
            raise AccessRefused(f"{self._resource()} in exclusive use")
        consumer.queue = self.ref
        queue.add_consumer(consumer)
        self._had_consumers = True
        self._answer(request, m.BasicConsumeOk(consumer.tag))
        self._dispatch()

    def _get(self, request: Request, method: m.BasicGet) -> None:
        entry = self._queue.take()
        if entry is not None:
            if method.no_ack:
                entry.is_out = False
                self._forget([entry])
            else:
                self._queue.unacked += 1
            self._mark_delivered()
            self._release_credit()
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
        self._part_with_consumers()
        self._forget(self._queue.shared_entries())
        if message.last_word is not None:
            receiver, last_word = message.last_word
            receiver.tell(last_word)
        self.end()

    def _part_with_consumers(self) -> None:
        consumers, self._queue.consumers = self._queue.consumers, []
        for consumer in consumers:
            consumer.channel.tell(ConsumerCancelled(consumer))
        self._release_credit()

    # Failure

    def restarted(self) -> None:
        """A new order from the entries and consumers of the old one: nothing that the queue held is lost."""
        old = self._queue
        for consumer in old.consumers:
            stranded, consumer.batch = consumer.batch, []
            consumer.give_back(stranded)
            old.requeue(stranded)
        queue = Queue(self.ref, self._definition.durable, old.last_position)
        queue.restore(sorted({id(entry): entry for entry in old.entries()}.values(), key=lambda entry: entry.position))
        queue.adopt(old)
        self._queue = queue
        self._dispatch_is_due = False
        self._review = None
        if self._held:
            self._begin_review()
        self._dispatch()

    def quarantined(self, reason: str) -> None:
        """Consumers are told, and may go elsewhere."""
        self._part_with_consumers()

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
            "state": self.state,
            "messages": len(queue) + queue.unacked,
            "messages_ready": len(queue),
            "messages_unacknowledged": queue.unacked,
            "message_bytes_ready": queue.ready_bytes,
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
            "holds_credit": bool(self._held),
        }
