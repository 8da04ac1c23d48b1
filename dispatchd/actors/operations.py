"""What operators do to queues and exchanges: each a short conversation, in the greenlet of whoever wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dispatchd.actors.desk import Desk, desk
from dispatchd.actors.messages import ActorMessage, Discard, Requeue, Route, Settle
from dispatchd.actors.shown_messages import shown
from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import bare_copy, make_address, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model.binding import QUEUE

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.amqp.message import Message
    from dispatchd.amqp.methods import Method
    from dispatchd.model.access import Access
    from dispatchd.model.entry import QueueEntry

OPERATION_SECONDS: Final = 10.0
MOVED_AT_ONCE: Final = 200
ACK_MODES: Final[dict[str, type[ActorMessage]]] = {
    "ack_requeue_true": Requeue,
    "ack_requeue_false": Settle,
    "reject_requeue_true": Requeue,
    "reject_requeue_false": Discard,
}

BindingArguments = tuple[str, str, str, str, dict[str, Any]]
"""Of a binding: its source, the kind of its destination, the name of that, the routing key and the arguments."""


def purge(queue: Ref, name: str) -> int:
    """Remove all that is ready in a queue; returns how many messages that were."""
    with desk(OPERATION_SECONDS) as at:
        answer = at.order(queue, m.QueuePurge(queue=name))
        assert isinstance(answer, m.QueuePurgeOk)
        return answer.message_count


def delete_queue(queue: Ref, name: str, *, if_unused: bool, if_empty: bool) -> int:
    """Delete a queue, exclusive ones too; returns how many messages were ready in it.

    Raises PreconditionFailed (406) if it is in use, or not empty, and must not be.
    """
    with desk(OPERATION_SECONDS) as at:
        answer = at.order(queue, m.QueueDelete(queue=name, if_unused=if_unused, if_empty=if_empty))
        assert isinstance(answer, m.QueueDeleteOk)
        return answer.message_count


def delete_exchange(vhost: Ref, name: str, *, if_unused: bool) -> None:
    """Delete an exchange. Raises PreconditionFailed (406) if it is in use and must not be, AccessRefused for ours."""
    with desk(OPERATION_SECONDS) as at:
        at.order(vhost, m.ExchangeDelete(exchange=name, if_unused=if_unused))


def declare(vhost: Ref, method: m.QueueDeclare | m.ExchangeDeclare, access: Access | None) -> None:
    """Declare a queue or an exchange, as far as `access` lets one; None is everything.

    Raises the AmqpError that a client would get, such as PreconditionFailed (406) if it is there and differs.
    """
    with desk(OPERATION_SECONDS, access) as at:
        at.order(vhost, method)


def bind(vhost: Ref, binding: BindingArguments, access: Access | None, *, undo: bool = False) -> None:
    """Make a binding, or take it away; as `declare`."""
    source, kind, destination, routing_key, arguments = binding
    method: Method
    if kind == QUEUE:
        of_queue = m.QueueUnbind if undo else m.QueueBind
        method = of_queue(queue=destination, exchange=source, routing_key=routing_key, arguments=arguments)
    else:
        of_exchange = m.ExchangeUnbind if undo else m.ExchangeBind
        method = of_exchange(destination=destination, source=source, routing_key=routing_key, arguments=arguments)
    with desk(OPERATION_SECONDS, access) as at:
        at.order(vhost, method)


def get(
    queue: Ref, name: str, count: int, ack_mode: str, encoding: str = "auto", truncate: int | None = None
) -> list[dict[str, Any]]:
    """Take messages from the head of a queue, and settle them as `ack_mode`, one of ACK_MODES, says."""
    with desk(OPERATION_SECONDS) as at:
        found = at.get(queue, m.BasicGet(queue=name), count)
        rows = [
            {**shown(got.entry, encoding, truncate), "message_count": got.message_count}
            for got in found
            if got.entry is not None
        ]
        at.settle([got.entry for got in found if got.entry is not None], ACK_MODES[ack_mode])
        return rows


def publish(exchange: Ref, name: str, routing_key: str, properties: dict[str, Any], body: bytes) -> bool:
    """Publish a message, with a confirm; returns whether a queue took it.

    Raises PreconditionFailed (406) for properties that make no message.
    """
    try:
        message = make_message(name, routing_key, Properties(**properties), body)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise PreconditionFailed(f"the properties make no message: {error}") from None
    with desk(OPERATION_SECONDS) as at:
        _send(at, exchange, [message], [])
        return not at.wait_for_publishings() and message.queues > 0


def move(queue: Ref, name: str, default_exchange: Ref, target: str, count: int) -> tuple[int, int]:
    """Move messages from the head of a queue to another queue; returns how many were moved, and how many refused.

    Each is in the target, and on disk if it has to be, before it leaves its queue: whatever happens on the way none is
    lost, and some may be in both. What the target refuses stays where it was.
    """
    moved = refused = 0
    with desk(OPERATION_SECONDS) as at:
        while moved + refused < count:
            entries = [
                got.entry
                for got in at.get(queue, m.BasicGet(queue=name), min(MOVED_AT_ONCE, count - moved - refused))
                if got.entry is not None
            ]
            if not entries:
                break
            done, kept = _move(at, default_exchange, entries, target)
            moved += done
            refused += kept
            if kept:
                break
    return moved, refused


def _move(at: Desk, default_exchange: Ref, entries: list[QueueEntry], target: str) -> tuple[int, int]:
    copies = [_addressed(entry, target) for entry in entries]
    _send(at, default_exchange, copies, entries)
    refused = {id(message) for message in at.wait_for_publishings()}
    gone: list[QueueEntry] = []
    kept: list[QueueEntry] = []
    for copy, entry in zip(copies, entries, strict=True):
        (kept if id(copy) in refused or not copy.queues else gone).append(entry)
    at.settle(gone, Settle)
    at.settle(kept, Requeue)
    return len(gone), len(kept)


def _addressed(entry: QueueEntry, queue: str) -> Message:
    copy = bare_copy(entry.message)
    copy.exchange, copy.routing_key, copy.address = "", queue, make_address("", queue)
    return copy


def _send(at: Desk, exchange: Ref, messages: list[Message], entries: list[QueueEntry]) -> None:
    publishing = at.publisher.publishing(messages)
    at.publisher.on_their_way[publishing] = entries
    exchange.tell(Route(publishing, messages))
