"""The order of one queue: what is ready, what came back, who takes it, and what has to go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import i64

from dispatchd.amqp.field_table import Long
from dispatchd.amqp.message import with_header
from dispatchd.amqp.properties import FLAG_EXPIRATION, FLAG_PRIORITY, decode_properties, property_flags
from dispatchd.model.entry import NEVER, QueueEntry
from dispatchd.model.expiration import expiration_of
from dispatchd.model.line import Leavings, Line
from dispatchd.model.places import Places
from dispatchd.model.queue_rules import NO_LIMIT, QueueRules
from dispatchd.model.stock import Stock

if TYPE_CHECKING:
    from dispatchd.amqp.message import Message
    from dispatchd.model.consumer import Consumer

DISPATCH_LIMIT: Final = 1000
DEAD_LETTER_LIMIT: Final = 50
"""How many expire in one call where each becomes a dead letter, which takes 10 to 20 µs."""
DELIVERY_COUNT: Final = "x-delivery-count"


def _priority(consumer: Consumer) -> int:
    return consumer.priority


def _position(entry: QueueEntry) -> int:
    return entry.position


def priority_of(header: bytes) -> int:
    """The priority in a content header; without one it is 0."""
    if not property_flags(header) & FLAG_PRIORITY:
        return 0
    return decode_properties(header).priority or 0


class _Turns:
    """Consumers of one priority, who are served in turn."""

    def __init__(self, priority: i64) -> None:
        self.priority: i64 = priority
        self.consumers: list[Consumer] = []
        self.next: i64 = 0


class Queue:
    """Ready entries and consumers. `ref` is the actor that owns it; it is what ledgers send settlements to.

    `delivered_up_to`: everything up to this position was delivered once, up to `delivered_before` by an earlier run of
    the broker. `accepted_up_to`: what is behind it came with a message whose sender has no answer yet, and comes again
    if the actor fails. `drained` counts what left, in publish credit. `held_ms` is for how long there was something
    ready that no consumer had room for, but for the time since `held_since` (0: there is nothing). `waiting` is what is
    ready, on disk too, `out` what is delivered and not settled.
    """

    def __init__(self, ref: Any, durable: bool, last_position: i64 = 0, rules: QueueRules | None = None) -> None:
        self.ref: Any = ref
        self.durable: bool = durable
        self.rules: QueueRules = rules or QueueRules({})
        self.line: Line = Line()
        self.lines: list[Line] = [self.line]  # by priority; only queues with priorities have more than one
        for _ in range(self.rules.max_priority):
            self.lines.append(Line())
        self.consumers: list[Consumer] = []
        self.unacked: i64 = 0
        self.waiting: Stock = Stock()
        self.out: Stock = Stock()
        self.last_position: i64 = last_position
        self.accepted_up_to: i64 = last_position
        self.delivered_up_to: i64 = 0
        self.delivered_before: i64 = 0
        self.published: i64 = 0
        self.delivered: i64 = 0
        self.redelivered: i64 = 0
        self.acknowledged: i64 = 0
        self.drained: i64 = 0
        self.held_ms: i64 = 0
        self.held_since: i64 = 0
        self.unfinished: bool = False
        self._active: Consumer | None = None
        self._turns: list[_Turns] = []
        self._expired: list[QueueEntry] = []
        self._deliveries: list[tuple[Consumer, list[QueueEntry]]] = []

    def __len__(self) -> int:
        if len(self.lines) == 1:
            return len(self.line)
        return sum(len(line) for line in self.lines)

    @property
    def ready_bytes(self) -> i64:
        """Octets of the bodies that are ready."""
        return self.waiting.octets

    def enqueue(self, messages: list[Message], now: i64 = 0) -> list[QueueEntry]:
        """Take messages in at the tail, at the time `now` (ms); returns the entries that have to be stored."""
        has_priorities = len(self.lines) > 1
        has_ttl = self.rules.message_ttl != NO_LIMIT
        may_expire = has_ttl
        header: bytes | None = None
        ref = self.ref
        position = self.last_position
        size: i64 = 0
        persistent: i64 = 0
        persistent_size: i64 = 0
        durable = self.durable
        entries: list[QueueEntry] = []
        stored: list[QueueEntry] = []
        for message in messages:
            position += 1
            entry = QueueEntry(message, ref, position)
            entries.append(entry)
            if message.header is not header:  # equal ones that follow one another are one object
                header = message.header
                may_expire = has_ttl or property_flags(header) & FLAG_EXPIRATION != 0
            if may_expire:
                entry.expires_at = self._expiry(message, now)
            if has_priorities:
                self._line_of(message).tail.append(entry)
            size += message.size
            if message.persistent:
                persistent += 1
                persistent_size += message.size
                if durable:
                    stored.append(entry)
        if not has_priorities:
            self.line.tail.extend(entries)
        self.last_position = position
        self.waiting.octets += size
        self.waiting.persistent += persistent
        self.waiting.persistent_octets += persistent_size
        self.published += len(messages)
        return stored

    def _expiry(self, message: Message, now: i64) -> i64:
        """When a message that comes now expires: the shorter of the queue's time to live and its own."""
        ttl = self.rules.message_ttl
        own = expiration_of(message.header)
        if own >= 0 and (ttl == NO_LIMIT or own < ttl):
            ttl = own
        return NEVER if ttl == NO_LIMIT else now + ttl

    def _line_of(self, message: Message) -> Line:
        """The line of a message's priority; without one it has the lowest, above the queue's highest it has that."""
        return self.lines[min(priority_of(message.header), len(self.lines) - 1)]

    def _keep_paged(self, old: Queue) -> None:
        for line, old_line in zip(self.lines, old.lines, strict=True):
            line.restore(old_line.paged, old_line.away)
            self.waiting.add_all(old_line.away)

    def restore_paged(self, priority: int, paged: Places, paged_bytes: i64) -> None:
        """Take in what a store kept, in a queue that is still empty; without priorities `priority` is 0."""
        away = Stock(paged_bytes, len(paged), paged_bytes)
        self.lines[priority].restore(paged, away)
        self.waiting.add_all(away)
        self.last_position = self.accepted_up_to = max(self.last_position, paged.last())

    def restore(self, entries: list[QueueEntry]) -> None:
        """Take in entries that have their place already, in order: the queue of an actor that failed."""
        has_priorities = len(self.lines) > 1
        for entry in entries:
            line = self._line_of(entry.message) if has_priorities else self.line
            in_front = line.tail is line.ready or entry.position < line.paged.first()
            (line.ready if in_front else line.tail).append(entry)
            self.waiting.add(entry.message)
            self.last_position = self.accepted_up_to = max(self.last_position, entry.position)

    def recall(self, consumer: Consumer | None, entries: list[QueueEntry]) -> None:
        """Put back what was taken for a consumer, or for a basic.get, that has not been told of it."""
        for entry in entries:
            self._end_delivery(entry)
            self.delivered -= 1
            if entry.redelivered:
                self.redelivered -= 1
            self.waiting.add(entry.message)
            if len(self.lines) > 1:
                self._line_of(entry.message).put_back([entry])
        if len(self.lines) == 1:
            self.line.put_back(entries)
        if consumer is not None:
            consumer.give_back(entries)
            consumer.delivered -= len(entries)

    def rebuilt(self) -> Queue:
        """A new order from the entries, consumers and figures of this one, whatever a failure has made of it.

        What was not accepted is left out. Entries that are out still come back, among those that came back before.
        """
        queue = Queue(self.ref, self.durable, self.accepted_up_to, self.rules)
        queue._keep_paged(self)
        distinct = {id(entry): entry for entry in self.entries() if entry.position <= self.accepted_up_to}
        queue.restore(sorted(distinct.values(), key=_position))
        queue._adopt(self)
        return queue

    def _adopt(self, old: Queue) -> None:
        """Go on with the consumers and the figures of a queue whose entries were restored.

        Entries of it that are out still come back, among those that came back before.
        """
        for line in self.lines:
            while line.ready and (line.ready[0].redelivered or line.ready[0].position <= old.delivered_up_to):
                line.returned.append(line.ready.popleft())
            line.returned.reverse()
        self.consumers = old.consumers
        self._active = old._active
        self._set_turns()
        self._expired = [entry for entry in old._expired if entry.position <= old.accepted_up_to]
        self.unacked = old.unacked
        self.out = old.out
        self.delivered_up_to = old.delivered_up_to
        self.delivered_before = old.delivered_before
        self.published = old.published - (old.last_position - old.accepted_up_to)
        self.delivered = old.delivered
        self.redelivered = old.redelivered
        self.acknowledged = old.acknowledged
        self.drained = old.drained
        self.held_ms = old.held_ms
        self.held_since = old.held_since

    def take(self, no_ack: bool = False) -> QueueEntry | None:
        """Remove the head for a basic.get; None when nothing is ready."""
        entry = self._pop()
        if entry is not None:
            self._count_delivery(entry)
            if no_ack:
                entry.is_out = False
            else:
                self.unacked += 1
                self.out.add(entry.message)
        return entry

    def _count_delivery(self, entry: QueueEntry) -> None:
        if len(self.lines) > 1:
            self.delivered_up_to = self._end_of_delivered()
        elif entry.position > self.delivered_up_to:  # not so for what was restored
            self.delivered_up_to = entry.position
        entry.is_out = True
        self.delivered += 1
        self.drained += 1 + (entry.message.size >> 10)
        if entry.redelivered:
            self.redelivered += 1

    def _pop(self) -> QueueEntry | None:
        """Remove the head of the line with the highest priority."""
        entry: QueueEntry | None = None
        if len(self.lines) == 1:
            entry = self.line.pop()
        else:
            for line in reversed(self.lines):
                entry = line.pop()
                if entry is not None or line.is_starved():
                    break
        if entry is not None:
            self.waiting.remove(entry.message)
        return entry

    def _end_of_delivered(self) -> i64:
        """With priorities, what was delivered ends before the first entry of any line that never was."""
        up_to = self.last_position
        for line in self.lines:
            first: i64 = line.first_fresh()
            if first:
                up_to = min(up_to, first - 1)
        return max(up_to, self.delivered_up_to)

    # What has to go

    def drop_expired(self, now: i64) -> list[QueueEntry]:
        """Remove the heads whose time is over, at most DISPATCH_LIMIT or DEAD_LETTER_LIMIT in one call.

        What expires behind one that doesn't stays, as in RabbitMQ. What `dispatch` came upon is among the returned.
        """
        dropped, self._expired = self._expired, []
        limit = self._expiry_limit()
        for line in self.lines:
            head = line.head()
            while head is not None and head.expires_at <= now and len(dropped) < limit:
                line.pop()
                self.waiting.remove(head.message)
                dropped.append(head)
                head = line.head()
        return dropped

    def _expiry_limit(self) -> i64:
        return DISPATCH_LIMIT if self.rules.dead_letter_exchange is None else DEAD_LETTER_LIMIT

    def is_calm(self) -> bool:
        """Whether no head expires, whenever that may be, and nothing is on disk only: mostly it is so."""
        if self._expired:
            return False
        for line in self.lines:
            head = line.head()
            if len(line.paged) or (head is not None and head.expires_at != NEVER):
                return False
        return True

    def next_expiry(self) -> int:
        """When the next head expires, in ms; NEVER if none does."""
        next_at: i64 = NEVER
        for line in self.lines:
            head = line.head()
            if head is not None and head.expires_at < next_at:
                next_at = head.expires_at
        return next_at

    def is_full_for(self, message: Message) -> bool:
        """Whether the queue would be longer than allowed with this message ready as well."""
        rules = self.rules
        if rules.max_length != NO_LIMIT and len(self) + 1 > rules.max_length:
            return True
        return rules.max_bytes != NO_LIMIT and self.waiting.octets + message.size > rules.max_bytes

    def is_too_long(self) -> bool:
        """Whether more is ready than allowed."""
        rules = self.rules
        if rules.max_length != NO_LIMIT and len(self) > rules.max_length:
            return True
        return rules.max_bytes != NO_LIMIT and self.waiting.octets > rules.max_bytes

    def drop_overflow(self, at_most: i64, even_if_rejecting: bool = False) -> list[QueueEntry]:
        """Remove heads until what is ready is within the limits, but not more than `at_most`.

        It removes nothing if it is new messages that have to go, or else only `even_if_rejecting`.
        """
        dropped: list[QueueEntry] = []
        if self.rules.rejects_publishes and not even_if_rejecting:
            return dropped
        while len(dropped) < at_most and self.is_too_long():
            head = self._pop()
            if head is None:
                break
            dropped.append(head)
        return dropped

    # Deliveries

    def dispatch(self, now: i64 = 0) -> list[tuple[Consumer, list[QueueEntry]]]:
        """Hand ready entries to consumers with room: the highest priority first, in turn among equals.

        What expired up to `now` (ms) goes to nobody: `drop_expired` is to be called afterwards. At most DISPATCH_LIMIT
        go in one call, and no more than `drop_expired` takes away expire; `unfinished` says afterwards whether that,
        and nothing else, ended it.
        """
        self.unfinished = False
        if not self._turns or len(self) == 0:
            self._note_held(False, now)
            return []
        given: i64 = 0
        for turns in self._turns:
            if len(self._expired) < self._expiry_limit():
                given = self._serve(turns, now, given)
        self.unfinished = given == DISPATCH_LIMIT or len(self._expired) >= self._expiry_limit()
        self._note_held(not self.unfinished and len(self) > 0, now)
        return self.take_deliveries()

    def _note_held(self, is_held: bool, now: i64) -> None:
        if not self.held_since:
            self.held_since = now if is_held else 0
        elif not is_held:
            self.held_ms += now - self.held_since
            self.held_since = 0

    def take_deliveries(self) -> list[tuple[Consumer, list[QueueEntry]]]:
        """What consumers were given and were not told of yet: `dispatch` returns it, unless it failed."""
        deliveries, self._deliveries = self._deliveries, []
        for consumer, _ in deliveries:
            consumer.batch = []
            consumer.window.last_served = None
        return deliveries

    def _serve(self, turns: _Turns, now: i64, given: i64) -> i64:
        """Hand entries to consumers of one priority until none has room; returns `given` and what was added to it.

        Consumers of one channel get runs by turns: what passes one queue and one channel keeps its order (AMQP 4.7).
        """
        consumers = turns.consumers
        total: i64 = len(consumers)
        without_room: i64 = 0
        turn = turns.next
        while without_room < total and given < DISPATCH_LIMIT:
            if turn >= total:
                turn = 0
            consumer = consumers[turn]
            turn += 1
            if not consumer.has_room():
                without_room += 1
                continue
            entry = self._pop()
            if entry is None:
                turn -= 1  # the next message is for this consumer
                break
            without_room = 0
            given += 1
            if entry.expires_at <= now:
                turn -= 1
                self._expired.append(entry)
                if len(self._expired) < self._expiry_limit():
                    continue
                break
            self._count_delivery(entry)
            window = consumer.window
            if window.last_served is not consumer:
                window.last_served = consumer
                consumer.batch = []
                self._deliveries.append((consumer, consumer.batch))
            consumer.take(entry)
            if consumer.no_ack:
                entry.is_out = False
            else:
                self.unacked += 1
                self.out.add(entry.message)
        turns.next = turn
        return given

    def settle(self, entries: list[QueueEntry]) -> None:
        """Let go of acknowledged entries; those that aren't out are passed over."""
        for entry in entries:
            if self._end_delivery(entry):
                self.acknowledged += 1

    def discard(self, entries: list[QueueEntry]) -> None:
        """Let go of rejected entries, likewise."""
        for entry in entries:
            self._end_delivery(entry)

    def requeue(self, entries: list[QueueEntry]) -> list[QueueEntry]:
        """Put entries back where they were, marked as redelivered; those that aren't out are passed over.

        Returns those that came back more often than `x-delivery-limit` allows: they are not put back.
        """
        has_priorities = len(self.lines) > 1
        back: list[QueueEntry] = []
        exhausted: list[QueueEntry] = []
        for entry in entries:
            if self._end_delivery(entry):
                entry.redelivered = True
                if self.rules.delivery_limit != NO_LIMIT:
                    entry.returns += 1
                    if entry.returns > self.rules.delivery_limit:
                        exhausted.append(entry)
                        continue
                    entry.shown = with_header(entry.message, DELIVERY_COUNT, Long(int(entry.returns)))
                self.waiting.add(entry.message)
                if has_priorities:
                    self._line_of(entry.message).put_back([entry])
                else:
                    back.append(entry)
        if back:
            self.line.put_back(back)
        return exhausted

    def _end_delivery(self, entry: QueueEntry) -> bool:
        if not entry.is_out:
            return False
        entry.is_out = False
        self.unacked -= 1
        self.out.remove(entry.message)
        consumer = entry.consumer
        if consumer is not None:
            consumer.unacked -= 1
            entry.consumer = None
        return True

    def purge(self) -> tuple[Leavings, list[Places]]:
        """Remove everything that is ready: entries in memory, and places on disk. What is unacknowledged stays out."""
        paged = [line.give_up_places() for line in self.lines]
        purged = Leavings(self.lines)
        self.line = Line()
        self.lines = [self.line]
        for _ in paged[1:]:
            self.lines.append(Line())
        self.waiting = Stock()
        return purged, paged

    def entries(self) -> list[QueueEntry]:
        """What is ready and in memory, in the order in which it would be delivered."""
        return [entry for line in reversed(self.lines) for entry in line.entries()]

    def add_consumer(self, consumer: Consumer) -> None:
        """Let a consumer take part; among equals it is served after those that were there before."""
        self.consumers.append(consumer)
        self._set_turns()

    def remove_consumer(self, consumer: Consumer) -> bool:
        """Take a consumer out; what it holds stays with its channel. False when it isn't here."""
        if consumer not in self.consumers:
            return False
        self.consumers.remove(consumer)
        self._set_turns()
        return True

    def remove_all_consumers(self) -> list[Consumer]:
        """Take all consumers out; returns them."""
        removed, self.consumers = self.consumers, []
        self._set_turns()
        return removed

    def _set_turns(self) -> None:
        """Who is served, by priority; with a single active consumer only that one, as long as it is here."""
        known = {turns.priority: turns for turns in self._turns}
        for turns in self._turns:
            turns.consumers = []
        eligible = self._single_active_consumer() if self.rules.single_active_consumer else self.consumers
        served: dict[i64, _Turns] = {}
        for consumer in eligible:
            priority = consumer.priority
            if priority not in served:
                served[priority] = known.get(priority) or _Turns(priority)
            served[priority].consumers.append(consumer)
        self._turns = [served[priority] for priority in sorted(served, reverse=True)]

    def _single_active_consumer(self) -> list[Consumer]:
        """The first that came, and after it has gone the first of those with the highest priority."""
        if self._active not in self.consumers:
            self._active = max(self.consumers, key=_priority) if self.consumers else None
        return [] if self._active is None else [self._active]

    def has_exclusive_consumer(self) -> bool:
        """Whether a consumer has this queue to itself."""
        return any(consumer.exclusive for consumer in self.consumers)
