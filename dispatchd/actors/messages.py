"""The vocabulary of the actors: whoever reads this file knows the whole conversation.

Messages of the data path are plural: one carries everything that one read of a socket brought for its receiver. Each
message that somebody waits for knows how to be refused, so that a receiver that failed, stopped or is quarantined never
leaves a channel waiting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dispatchd.amqp.errors import AmqpError, ConnectionException, Unavailable

if TYPE_CHECKING:
    from dispatchd.actors.native_thread import Call
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.tap import Tap
    from dispatchd.actors.transport import Transport
    from dispatchd.amqp.frame_parser import ChannelInput
    from dispatchd.amqp.message import Message
    from dispatchd.amqp.methods import Method
    from dispatchd.model.access import Access
    from dispatchd.model.binding import Binding
    from dispatchd.model.consumer import Consumer
    from dispatchd.model.entry import QueueEntry
    from dispatchd.model.router import Publishing
    from dispatchd.model.stored_entries import StoredEntry
    from dispatchd.model.trace import Party, Trace
    from dispatchd.model.transaction import Transaction


class ActorMessage:
    """What actors send one another.

    `reaches_quarantined`: it is handled, not refused, by an actor in quarantine. `is_repeatable`: an actor that failed
    on it tries once more with its new state, because what lets go of something must not get lost; a handler that was
    through with a part of it does no harm by doing that again.
    """

    __slots__ = ()

    reaches_quarantined: ClassVar[bool] = False
    is_repeatable: ClassVar[bool] = False

    def refuse(self, reason: str) -> None:
        """Tell whoever waits for an answer that there will be none. By default nobody waits."""

    def replayed(self) -> ActorMessage | None:
        """What an operator tells the actor again after this was refused to whoever waited for it; None: nothing.

        By default the message itself if nobody waited: who was told may have done something about it meanwhile.
        """
        return self if type(self).refuse is ActorMessage.refuse else None


class Nobody:
    """Stands in for the reference of an actor that waits for an answer: nothing depends on it any more."""

    name = "nobody"
    number = 0

    def tell(self, message: ActorMessage) -> None:
        """Take no notice."""

    def is_alive(self) -> bool:
        """Whether it is there."""
        return False


def _told_by_nobody(publishing: Publishing) -> Publishing:
    """The same publishing, in a replay: whoever published it was told that it was refused."""
    again = type(publishing)(Nobody(), publishing.messages, 0, confirm=False)
    again.death = publishing.death
    return again


# --- Everybody


@dataclass(frozen=True, slots=True)
class Snapshot(ActorMessage):
    """Asked by the admin: the answer is a dictionary, ready for JSON."""

    reaches_quarantined: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Inspect(Snapshot):
    """Likewise, of what somebody looks at alone: with what takes longer to tell."""


@dataclass(frozen=True, slots=True)
class Restart(ActorMessage):
    """An operator wants a new state, and an end of quarantine."""

    reaches_quarantined: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Quarantine(ActorMessage):
    """An operator wants the actor to take no more messages than one that failed too often, and gives a reason."""

    reason: str
    reaches_quarantined: ClassVar[bool] = True


# --- The way of a message: socket, channel, exchange, queue, channel, socket. What is on it, or on the way to the disk,
# is not frozen only because to make one that is takes 0.6 µs, and else 0.15: a message that comes alone needs 13.


@dataclass(slots=True)
class Arrived(ActorMessage):
    """Reader to connection, connection to channel: what one read brought, and the violation that ended it.

    A reader tells it without any inputs when the first part of a content has come.
    """

    inputs: list[ChannelInput]
    failure: ConnectionException | None = None
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Route(ActorMessage):
    """Channel to exchange, exchange to exchange: find the queues for these messages."""

    publishing: Publishing
    messages: list[Message]

    def refuse(self, reason: str) -> None:
        publishing = self.publishing
        publishing.hops -= 1
        if publishing.hops == 0 and publishing.trace is not None:
            publishing.trace.tap.published(publishing.messages, publishing.trace)
        publishing.channel.tell(Routed(publishing, refused=self.messages))

    def replayed(self) -> Route:
        return Route(_told_by_nobody(self.publishing), self.messages)


@dataclass(slots=True)
class Routed(ActorMessage):
    """Exchange to channel: every exchange on the way is done; `returned` were mandatory and no queue took them."""

    publishing: Publishing
    returned: list[Message] = field(default_factory=list)
    refused: list[Message] = field(default_factory=list)
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Enqueue(ActorMessage):
    """Exchange to queue, default exchange to a channel with this reply address."""

    publishing: Publishing
    messages: list[Message]
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.publishing.channel.tell(Accepted(self.publishing, refused=self.messages))

    def replayed(self) -> Enqueue:
        return Enqueue(_told_by_nobody(self.publishing), self.messages)


@dataclass(slots=True)
class Accepted(ActorMessage):
    """Queue to channel: what was published is in the queue, so what the channel does next will see it.

    Of several queues the last one says so for all, and who has something to add (see `Publishing.waits_for_one`).
    `stored`: a `Committed` for it follows. `held`: the queue keeps the publish credit until a `Released`.
    """

    publishing: Publishing
    stored: bool = False
    held: bool = False
    refused: list[Message] = field(default_factory=list)
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Forget(ActorMessage):
    """Channel to an exchange that drops duplicates: these were refused, and are none when they come again."""

    messages: list[Message]
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Released(ActorMessage):
    """Queue to channel: the publish credit that an `Accepted` held back."""

    publishing: Publishing
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Deliver(ActorMessage):
    """Queue to channel."""

    consumer: Consumer
    entries: list[QueueEntry]

    def refuse(self, reason: str) -> None:
        """The channel is of no use any more: the entries go back, and not to this consumer again."""
        self.consumer.give_back(self.entries)
        self.consumer.queue.tell(Unsubscribe(self.consumer))
        if not self.consumer.no_ack:
            self.consumer.queue.tell(Requeue(self.entries))


@dataclass(slots=True)
class Settle(ActorMessage):
    """Channel to queue: these were acknowledged."""

    entries: list[QueueEntry]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Discard(ActorMessage):
    """Channel to queue: these were rejected for good: they are dead-lettered, or gone."""

    entries: list[QueueEntry]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Requeue(ActorMessage):
    """Channel to queue: these go back to where they were."""

    entries: list[QueueEntry]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Settlement(ActorMessage):
    """Channel to queue: settle these as a part of a transaction. The answer is `Settled`."""

    transaction: Transaction
    outcome: type[Settle | Discard | Requeue]
    entries: list[QueueEntry]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        """What was delivered by a queue that is gone went with it; one that failed may still have it."""
        if self.entries[0].queue.is_alive():
            self.transaction.is_partial = True
        self.transaction.channel.tell(Settled(self.transaction))


@dataclass(slots=True)
class Settled(ActorMessage):
    """Queue to channel: one settlement of this transaction was carried out."""

    transaction: Transaction
    is_repeatable: ClassVar[bool] = True


@dataclass(slots=True)
class Dispatch(ActorMessage):
    """To a queue, also from itself: a consumer has room again, or there was more to deliver than fits one turn."""


@dataclass(slots=True)
class ReviewCredit(ActorMessage):
    """A queue's timer to itself: see whether its consumers keep up with what it holds back."""


@dataclass(slots=True)
class LookForOverdue(ActorMessage):
    """A channel's timer to itself: see whether it has had a delivery for too long."""


# --- AMQP methods that another actor carries out for a channel


@dataclass(frozen=True, slots=True)
class Request(ActorMessage):
    """Channel to vhost or queue: carry out this method. The answer is `Done`, `Got` or `Denied`.

    `owner` is the number of the connection, which owns exclusive queues; `access` is what its user may do.
    """

    reply_to: Ref
    method: Method
    owner: int
    access: Access

    def refuse(self, reason: str) -> None:
        self.reply_to.tell(Denied(self, Unavailable(reason)))

    def replayed(self) -> Request:
        return self


@dataclass(frozen=True, slots=True)
class Subscribe(Request):
    """Channel to queue: a basic.consume with the consumer that is to be added."""

    consumer: Consumer


@dataclass(frozen=True, slots=True)
class Cancel(Request):
    """Channel to queue: a basic.cancel with the consumer that is to go."""

    consumer: Consumer
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Done(ActorMessage):
    """The method was carried out; `reply` is the method to answer with."""

    request: Request
    reply: Method

    def refuse(self, reason: str) -> None:
        if isinstance(self.request, Subscribe):
            self.request.consumer.queue.tell(Unsubscribe(self.request.consumer))
        self.request.refuse(reason)


@dataclass(frozen=True, slots=True)
class Got(ActorMessage):
    """Queue to channel: the answer to a basic.get; None when the queue is empty."""

    request: Request
    entry: QueueEntry | None
    message_count: int

    def refuse(self, reason: str) -> None:
        if self.entry is not None:
            self.entry.queue.tell(Requeue([self.entry]))


@dataclass(frozen=True, slots=True)
class Denied(ActorMessage):
    """The method could not be carried out; the error closes the channel or the connection."""

    request: Request
    error: AmqpError


@dataclass(frozen=True, slots=True)
class Unsubscribe(ActorMessage):
    """Channel to queue: the channel is closing, its consumer goes. Nobody waits for an answer."""

    consumer: Consumer
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ConsumerCancelled(ActorMessage):
    """Queue to channel: the queue is gone or quarantined (RabbitMQ's consumer_cancel_notify)."""

    consumer: Consumer


# --- Vhost, its exchanges and its queues


@dataclass(frozen=True, slots=True)
class Bind(ActorMessage):
    """Vhost to exchange: match this binding too. What is published after the vhost's answer comes after this."""

    binding: Binding
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Unbind(ActorMessage):
    """Vhost to exchange: match this binding no more."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class Govern(ActorMessage):
    """Vhost to queue or exchange: other policies govern it; its definition, which both have, says which."""

    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DeleteQueue(ActorMessage):
    """Queue to vhost: its conditions are met, remove it. Without a request it deletes itself (auto-delete)."""

    queue: Ref
    name: str
    message_count: int
    request: Request | None = None
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        if self.request is not None:
            self.request.refuse(reason)


@dataclass(frozen=True, slots=True)
class Retire(ActorMessage):
    """Broker to vhost, vhost to queue or exchange, connection to channel: it is deleted; let go of everything and stop.

    `last_word` is for a queue to pass on to its receiver, after which it says nothing more.
    """

    last_word: tuple[Ref, ActorMessage] | None = None
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        if self.last_word is not None:
            self.last_word[0].tell(self.last_word[1])


@dataclass(frozen=True, slots=True)
class ReleaseOwner(ActorMessage):
    """Connection to vhost: the connection closes, its exclusive queues go. Answered with `OwnerReleased`."""

    owner: int
    reply_to: Ref
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.reply_to.tell(OwnerReleased())


@dataclass(frozen=True, slots=True)
class OwnerReleased(ActorMessage):
    """Vhost to connection."""


# --- Broker, connections and their channels


@dataclass(frozen=True, slots=True)
class Connect(ActorMessage):
    """Listener to broker: a client has connected and sent the protocol header."""

    transport: Transport

    def refuse(self, reason: str) -> None:
        self.transport.close()


@dataclass(frozen=True, slots=True)
class Connected(ActorMessage):
    """Broker to connection: begin the handshake."""


@dataclass(frozen=True, slots=True)
class Shutdown(ActorMessage):
    """Asked of the broker: close every connection. Answered with an event that is set when all are gone."""

    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Authenticate(ActorMessage):
    """Connection to authenticator. `peer` is the address of the other end of the socket.

    A `password` of None stands for a certificate that was verified.
    """

    reply_to: Ref
    user: str
    password: bytes | None = field(repr=False)
    peer: str
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.reply_to.tell(Authenticated(self.user, accepted=False))


@dataclass(frozen=True, slots=True)
class Authenticated(ActorMessage):
    """Authenticator to connection."""

    user: str
    accepted: bool


@dataclass(frozen=True, slots=True)
class Disconnected(ActorMessage):
    """Reader to connection: nothing comes any more. Connection to channel: let go of everything."""

    reason: str
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Drained(ActorMessage):
    """Writer to connection, connection to channel: deliveries had to wait for the socket, which has room again."""


@dataclass(frozen=True, slots=True)
class ChannelFailed(ActorMessage):
    """Channel to connection: something that closes the connection happened on this channel."""

    error: AmqpError


@dataclass(frozen=True, slots=True)
class ChannelGone(ActorMessage):
    """Channel to connection: the channel is closed on both sides, its number is free."""

    number: int
    channel: Ref
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.channel.tell(Retire())


@dataclass(frozen=True, slots=True)
class CloseChannel(ActorMessage):
    """Admin to channel: close it with 541 and this text."""

    text: str


@dataclass(frozen=True, slots=True)
class CloseConnection(ActorMessage):
    """Broker or admin to connection: close it with 320 CONNECTION_FORCED and this text.

    Only if it is in this vhost, or of this user, where one is named.
    """

    text: str
    vhost: str | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class AlarmRaised(ActorMessage):
    """Monitor or persistence to broker: something runs short (a cause of `model.alarms`), or still does."""

    cause: str
    detail: str
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class AlarmEnded(ActorMessage):
    """Monitor or persistence to broker: there is enough of it again."""

    cause: str
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Block(ActorMessage):
    """Broker to connections, during an alarm: who publishes is not read any further.

    `reason` is for the clients, such as "low on memory".
    """

    reason: str
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Unblock(ActorMessage):
    """Broker to connections: no alarm any more."""

    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ConnectionGone(ActorMessage):
    """Connection to broker."""

    connection: Ref
    is_repeatable: ClassVar[bool] = True


# --- The firehose: nobody waits for a tracer, but what it has yet to take is counted


@dataclass(frozen=True, slots=True)
class Published(ActorMessage):
    """The last exchange to the tracer: these were published; `trace` says by whom, and where they went."""

    messages: list[Message]
    trace: Trace
    cost: int

    def refuse(self, reason: str) -> None:
        self.trace.tap.taken(self.cost)


@dataclass(frozen=True, slots=True)
class Delivered(ActorMessage):
    """Channel to the tracer: it got these from this queue: (message, whether it is redelivered)."""

    deliveries: list[tuple[Message, bool]]
    queue: str
    party: Party
    tap: Tap
    cost: int

    def refuse(self, reason: str) -> None:
        self.tap.taken(self.cost)


# --- Persistence: even in quarantine it notes what has to change, and commits it when it is revived


@dataclass(slots=True)
class Add(ActorMessage):
    """Queue to persistence: store these; `publishing` is told when they are on disk."""

    queue_id: int
    entries: list[QueueEntry]
    publishing: Publishing | None = None
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        if self.publishing is not None:
            refused = [entry.message for entry in self.entries]
            self.publishing.channel.tell(Committed([self.publishing], refused))

    def replayed(self) -> Add:
        return Add(self.queue_id, self.entries)


@dataclass(slots=True)
class Delete(ActorMessage):
    """Queue to persistence: these need not be kept any more."""

    queue_id: int
    entries: list[QueueEntry]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class OnDisk(ActorMessage):
    """Persistence to queue: what the queue had told it before is on disk, or `has_failed` to get there for now.

    `generation` is for the queue, to know which question this answers.
    """

    queue: Ref
    generation: int
    has_failed: bool = False

    def refuse(self, reason: str) -> None:
        if not self.has_failed:
            self.queue.tell(OnDisk(self.queue, self.generation, has_failed=True))


@dataclass(frozen=True, slots=True)
class Fetch(ActorMessage):
    """Queue to persistence: read these entries, which the queue has on disk only, for the line of this priority."""

    queue: Ref
    queue_id: int
    priority: int
    positions: list[int]
    reaches_quarantined: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.queue.tell(Fetched(self, None))


@dataclass(frozen=True, slots=True)
class Fetched(ActorMessage):
    """Persistence to queue: what there is of the entries; None if they could not be read."""

    request: Fetch
    entries: list[StoredEntry] | None


@dataclass(frozen=True, slots=True)
class DeletePlaces(ActorMessage):
    """Queue to persistence: entries that the queue had on disk only need not be kept. The answer is `PlacesDeleted`."""

    queue: Ref
    queue_id: int
    positions: list[int]
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.queue.tell(PlacesDeleted(self, has_failed=True))


@dataclass(frozen=True, slots=True)
class PlacesDeleted(ActorMessage):
    """Persistence to queue: it is ready for more of this, or has to be asked again if it `has_failed`."""

    request: DeletePlaces
    has_failed: bool = False
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Stage(ActorMessage):
    """Queue to persistence: add and delete these when the transaction is committed, all of it at once."""

    transaction: Transaction
    queue_id: int
    added: list[QueueEntry] = field(default_factory=list)
    deleted: list[QueueEntry] = field(default_factory=list)
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.transaction.is_partial = True


@dataclass(frozen=True, slots=True)
class CommitTransaction(ActorMessage):
    """Channel to persistence: every queue has staged its part, or nobody waits for that any longer.

    The answer is `TransactionCommitted`, when all of it is on disk.
    """

    transaction: Transaction
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        self.transaction.is_partial = True
        self.transaction.channel.tell(TransactionCommitted(self.transaction))


@dataclass(frozen=True, slots=True)
class TransactionCommitted(ActorMessage):
    """Persistence to channel."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Mark(ActorMessage):
    """Queue to persistence: everything up to this position was delivered once, and is redelivered after a crash."""

    queue_id: int
    position: int
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Define(ActorMessage):
    """Vhost to persistence: store (or with None remove) these records; then `then` goes to its receiver.

    `dropped_queues` are the ids of queues whose entries go with their definition.
    """

    records: list[tuple[bytes, bytes | None]]
    dropped_queues: list[int] = field(default_factory=list)
    then: tuple[Ref, ActorMessage] | None = None
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True

    def refuse(self, reason: str) -> None:
        if self.then is not None:
            self.then[1].refuse(reason)

    def replayed(self) -> Define:
        return Define(self.records, self.dropped_queues)


@dataclass(frozen=True, slots=True)
class CommitDue(ActorMessage):
    """Persistence to itself: the interval is over, or somebody waits."""


@dataclass(slots=True)
class CommitEnded(ActorMessage):
    """The thread that writes to persistence."""

    call: Call


@dataclass(slots=True)
class Committed(ActorMessage):
    """Persistence to channel: these publishings are on disk, or were settled before they had to be."""

    publishings: list[Publishing]
    refused: list[Message] = field(default_factory=list)
    reaches_quarantined: ClassVar[bool] = True
    is_repeatable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Flush(ActorMessage):
    """Asked at shutdown: answered when everything that was told before is on disk."""

    is_repeatable: ClassVar[bool] = True
