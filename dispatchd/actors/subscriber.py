"""The consuming half of a channel: its consumers, what they were given, and how that is settled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from dispatchd.actors.ages import Ages
from dispatchd.actors.messages import (
    ActorMessage,
    Deliver,
    Discard,
    Dispatch,
    Requeue,
    Settle,
    Settlement,
    Unsubscribe,
)
from dispatchd.actors.runtime import Told, tell_all
from dispatchd.actors.shown_messages import summary
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import NotAllowed, PreconditionFailed
from dispatchd.model.ack_timeouts import AckTimeouts
from dispatchd.model.consumer import Consumer
from dispatchd.model.flow import ChannelWindow
from dispatchd.model.ledger import ALL_KNOWN, DeliveryLedger
from dispatchd.model.names import CONSUMER_TAG_PREFIX, server_given_name
from dispatchd.model.trace import Party

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.session import Session
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.transaction import Transaction

SHOWN_UNACKED = 200

Outcome = type[Settle | Discard | Requeue]


class Subscriber:
    """Gives deliveries their tags, and tells queues what became of them.

    `in_hand` is what left the ledger, by queue, and what queues are to be told of it.
    """

    def __init__(self, number: int, ref: Ref, session: Session) -> None:
        self._ref = ref
        self._transport = session.transport
        self._catalogue = session.catalogue
        self._party = Party(session.name, number, session.user)
        self._window = ChannelWindow()
        self._ledger = DeliveryLedger(number, session.frame_max, self._window)
        self._consumers: dict[str, Consumer] = {}
        self.ack_timeouts = AckTimeouts()
        self.in_hand: list[tuple[list[tuple[Ref, list[QueueEntry]]], Callable[[list[QueueEntry]], ActorMessage]]] = []
        self.prefetch = 0
        self.acknowledged = 0
        self.delivered_no_ack = 0
        self.got = 0
        self.got_no_ack = 0
        self.got_nothing = 0
        self._ages = Ages()

    # Consumers

    def tag_for(self, method: m.BasicConsume) -> str:
        """The tag of the consumer that a basic.consume asks for. Raises NotAllowed (530) if it is in use."""
        tag = method.consumer_tag
        if tag in self._consumers:
            raise NotAllowed(f"attempt to reuse consumer tag '{tag}'")
        if not tag:
            tag = server_given_name(CONSUMER_TAG_PREFIX, os.urandom)
        return tag

    def new_consumer(self, method: m.BasicConsume) -> Consumer:
        """The consumer that a basic.consume asks for. Raises NotAllowed (530) for a tag that is in use."""
        return Consumer(
            self.tag_for(method),
            self._ref,
            None,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            prefetch=self.prefetch,
            window=self._window,
            outlet=self._transport.outlet,
            arguments=method.arguments,
        )

    def add(self, consumer: Consumer) -> None:
        """A queue has accepted this consumer."""
        self._consumers[consumer.tag] = consumer

    def find(self, tag: str) -> Consumer | None:
        """The consumer with this tag."""
        return self._consumers.get(tag)

    def remove(self, consumer: Consumer) -> bool:
        """Forget a consumer; what it holds stays out. False when it was forgotten before."""
        if self._consumers.get(consumer.tag) is not consumer:
            return False
        del self._consumers[consumer.tag]
        return True

    @property
    def consumer_count(self) -> int:
        """How many consumers there are."""
        return len(self._consumers)

    @property
    def global_prefetch(self) -> int:
        """What basic.qos with global=true allows the whole channel; 0 = no limit."""
        return self._window.limit

    def set_prefetch(self, count: int, *, whole_channel: bool) -> None:
        """basic.qos, with RabbitMQ's meaning of `global`: the whole channel, or each consumer from now on."""
        if whole_channel:
            self._window.limit = count
            self.wake_queues()
        else:
            self.prefetch = count

    # Deliveries

    @property
    def last_tag(self) -> int:
        """The last delivery tag given, which is how many deliveries there were."""
        return self._ledger.last_tag

    def counts(self) -> dict[str, int]:
        """What was delivered, got and acknowledged so far."""
        all_of_them = self._ledger.last_tag
        others = self.delivered_no_ack + self.got + self.got_no_ack
        return {
            "delivered": all_of_them,
            "delivered_ack": all_of_them - others,
            "delivered_no_ack": self.delivered_no_ack,
            "got": self.got,
            "got_no_ack": self.got_no_ack,
            "got_nothing": self.got_nothing,
            "redelivered": self._ledger.redelivered,
            "acknowledged": self.acknowledged,
        }

    @property
    def unacknowledged(self) -> int:
        """How many deliveries are out."""
        return len(self._ledger.unacked) + len(self._ledger.aside)

    def deliver(self, message: Deliver) -> None:
        """Send deliveries to the client."""
        self._transport.send_all(self._ledger.encode_deliveries(message.consumer, message.entries))
        if message.consumer.no_ack:
            self.delivered_no_ack += len(message.entries)
        self._ages.note(self._ledger.last_tag, time.monotonic())
        if self._catalogue.tap is not None:
            self._catalogue.tap.delivered(message.entries, self._party)

    def consumer_rows(self) -> list[dict[str, Any]]:
        """The consumers, for the admin."""
        return [
            {
                "consumer_tag": consumer.tag,
                "queue": consumer.queue.name,
                "ack_required": not consumer.no_ack,
                "prefetch_count": consumer.prefetch,
                "unacked": consumer.unacked,
                "delivered": consumer.delivered,
            }
            for consumer in self._consumers.values()
        ]

    def unacked_rows(self, now: float) -> list[dict[str, Any]]:
        """The oldest deliveries that are out, for the admin: SHOWN_UNACKED of them. `now` is in seconds, monotonic."""
        return [
            self._unacked_row(tag, entry, now) for tag, entry in islice(self._ledger.unacked.items(), SHOWN_UNACKED)
        ]

    def _unacked_row(self, tag: int, entry: QueueEntry, now: float) -> dict[str, Any]:
        age = self._ages.age(tag, now)
        return {
            "delivery_tag": tag,
            "queue": entry.queue.name,
            "channel": self._ref.name,
            "consumer_tag": entry.consumer.tag if entry.consumer is not None else None,
            "age_ms": round(age * 1000) if age is not None else None,
            **summary(entry),
        }

    def overdue(self, now: int) -> int:
        """The timeout in ms that a delivery has exceeded; 0 if none has. `now` is in ms too."""
        return self.ack_timeouts.look(now, self._ledger)

    def answer_get(self, entry: QueueEntry, message_count: int, *, no_ack: bool) -> None:
        """Send a basic.get-ok."""
        self._transport.send_all(self._ledger.encode_get_ok(entry, message_count, no_ack))
        if no_ack:
            self.got_no_ack += 1
        else:
            self.got += 1
        self._ages.note(self._ledger.last_tag, time.monotonic())
        if self._catalogue.tap is not None:
            self._catalogue.tap.delivered([entry], self._party)

    def settle(self, acks: list[Any], outcome: Outcome, method: m.Method) -> None:
        """Settle the deliveries that `acks` (tag * 2 + multiple) name.

        Raises PreconditionFailed (406), on account of `method`, for an unknown tag; what came before it is settled.
        """
        groups, unknown = self._ledger.settle(acks)
        self.in_hand += [(groups, outcome)]
        self._count(groups, outcome)
        self._tell_queues()
        if unknown != ALL_KNOWN:
            raise _unknown_tag(unknown, method)

    def set_aside(self, ack: int, method: m.Method) -> list[int]:
        """Keep what `ack` names for the end of a transaction; returns what names it then.

        Raises PreconditionFailed (406), on account of `method`, for an unknown tag: RabbitMQ checks at once.
        """
        try:
            return self._ledger.set_aside(ack)
        except KeyError as unknown:
            raise _unknown_tag(unknown.args[0], method) from None

    def restore(self) -> None:
        """Put back what was set aside: the transaction is over."""
        self._ledger.restore()

    def settlements_of(self, transaction: Transaction) -> Told:
        """What settles what was set aside, by tag within each run of one outcome, as RabbitMQ does (rabbit_channel).

        Whoever tells it takes it out of `in_hand`. The queues answer: `transaction.unsettled` is how many have to.
        """
        self.restore()
        for acks, outcome in transaction.settled:
            settlement = partial(Settlement, transaction, outcome)
            groups, _ = self._ledger.settle(sorted(acks))
            self.in_hand += [(groups, settlement)]
            self._count(groups, outcome)
            transaction.unsettled += len(groups)
        return self._settling()

    def requeue_all(self) -> None:
        """Give everything back that is out: basic.recover."""
        self.in_hand += [(self._ledger.take_all(), Requeue)]
        self._tell_queues()

    def _tell_queues(self) -> None:
        told = self._settling()
        self.in_hand = []
        tell_all(told)

    def _settling(self) -> Told:
        """What tells queues what became of that which is in hand."""
        told: Told = []
        if self._window.starved:
            self._window.starved = False
            told += self._waking_others({queue for groups, _ in self.in_hand for queue, _ in groups})
        for groups, outcome in self.in_hand:
            told += [(queue, outcome(entries)) for queue, entries in groups]
        return told

    def _count(self, groups: list[tuple[Ref, list[QueueEntry]]], outcome: Outcome) -> None:
        if outcome is Settle:
            for _, entries in groups:
                self.acknowledged += len(entries)

    def _waking_others(self, settling: set[Ref]) -> Told:
        """Before queues that settle help themselves, offer the room to the others, those behind them first.

        So each queue has its turn when all of them want what little room the channel has.
        """
        queues = self._queues()
        last = max((position for position, queue in enumerate(queues) if queue in settling), default=-1)
        in_turn = queues[last + 1 :] + queues[: last + 1]
        return [(queue, Dispatch()) for queue in in_turn if queue not in settling]

    def wake_queues(self) -> None:
        """Tell the queues of our consumers that there is room."""
        for queue in self._queues():
            queue.tell(Dispatch())

    def _queues(self) -> list[Ref]:
        return list(dict.fromkeys(consumer.queue for consumer in self._consumers.values()))

    def release(self) -> None:
        """The channel ends: let go of consumers, then of what they held, so that none of it comes back here."""
        told: Told = [(consumer.queue, Unsubscribe(consumer)) for consumer in self._consumers.values()]
        self._consumers = {}
        tell_all(told)
        self.restore()
        self.in_hand = [(groups, Requeue) for groups, _ in self.in_hand]  # the channel failed before it told of them
        self.requeue_all()


def _unknown_tag(tag: int, method: m.Method) -> PreconditionFailed:
    error = PreconditionFailed(f"unknown delivery tag {tag}")
    error.blame(*m.method_ids(method))
    return error
