"""What must hold in a broker that has come to rest, whatever failed in it before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from actors.bookkeeper import Bookkeeper, Place
from actors.harness import World

from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.connection import ConnectionActor
from dispatchd.actors.delayed_exchange import DelayedExchangeActor
from dispatchd.actors.exchange import ExchangeActor
from dispatchd.actors.persistence import PersistenceActor
from dispatchd.actors.queue import QueueActor
from dispatchd.actors.runtime import QUARANTINED, Actor
from dispatchd.actors.vhost import VhostActor
from dispatchd.model.entry import QueueEntry
from dispatchd.model.stored_definitions import binding_row, exchange_row, policy_row, queue_row, user_row, vhost_row


def check_all(world: World, books: Bookkeeper, failed: type[Actor] | None) -> None:
    """Check everything, where one actor of the kind `failed` has failed once, if any."""
    for actor in world.system.actors.values():
        assert actor.state != QUARANTINED, actor.name
    held = check_channels(world)
    check_queues(world, held)
    check_credit(world, books)
    check_catalogues(world)
    check_store(world)
    check_messages(world, books, failed)


def check_channels(world: World) -> Counter[str]:
    """Nobody waits. Returns how many deliveries of each queue are out."""
    held: Counter[str] = Counter()
    for channel in world.actors(ChannelActor):
        assert channel._waiting_for is None, f"{channel.name} waits for {channel._waiting_for!r}"
        assert not channel._backlog
        assert channel._publisher.unaccepted == 0
        assert channel._publisher.unconfirmed == 0
        ledger = channel._subscriber._ledger
        for entry in (*ledger.unacked.values(), *ledger.aside.values()):
            assert entry.is_out, f"{entry.message.body!r} is in a ledger and not out"
            held[entry.queue.name] += 1
        window = channel._subscriber._window
        assert window.reserved == 0, f"{window.reserved} reserved on {channel.name}"
        out = [entry for entry in (*ledger.unacked.values(), *ledger.aside.values()) if entry.consumer is not None]
        assert window.unacked == len(out)
    return held


def check_queues(world: World, held: Counter[str]) -> None:
    """What a queue says of itself is so, and nothing in it waits for an answer that does not come."""
    channels = {channel.ref for channel in world.actors(ChannelActor)}
    for actor in world.actors(QueueActor):
        name, queue = actor.name, actor._queue
        assert queue.unacked == held[name], f"{name}: {queue.unacked} out, {held[name]} in ledgers"
        entries = queue.entries()
        positions = [entry.position for line in queue.lines for entry in line.entries()]
        assert len(set(positions)) == len(positions), f"{name}: a place is taken twice"
        assert not any(entry.is_out for entry in entries)
        ready = world.ready(name)
        assert (len(queue), queue.ready_bytes) == (len(ready), sum(message.size for _, message in ready)), name
        for line in queue.lines:
            assert [entry.position for entry in line.entries()] == sorted(entry.position for entry in line.entries())
        for consumer in queue.consumers:
            assert consumer.channel in channels, f"{name} has a consumer without a channel"
            assert not consumer.batch or consumer.batch[0] not in entries
        assert sum(consumer.unacked for consumer in queue.consumers) <= queue.unacked
        assert not actor._waiting_gets
        assert not actor._purger._unanswered
        assert not actor._purger._leavings
        assert not actor._dead_letterer.on_their_way, f"{name}: dead letters nobody answers for"
        assert not actor._held_credit
        assert not actor._pager.is_deleting()
        assert actor._pager._reading is None
        assert actor._pager._to_be_stored == 0


def check_credit(world: World, books: Bookkeeper) -> None:
    """Whoever is connected has all his credit."""
    books.transport.assert_all_credit_is_back()
    for connection in world.actors(ConnectionActor):
        transport = connection._transport
        assert transport.granted == transport.taken, connection.name  # type: ignore[attr-defined]  # a fake one


def check_catalogues(world: World) -> None:
    """What is declared has an actor, and what has an actor is declared; exchanges match what is bound."""
    declared = set()
    for vhost in world.actors(VhostActor):
        catalogue = vhost.catalogue
        definitions: list[Any] = [*catalogue.queues.values(), *catalogue.exchanges.values()]
        for definition in definitions:
            assert definition.destination.ref is not None, f"{definition.name} has no actor"
            assert definition.destination.ref.is_alive(), f"the actor of {definition.name} is gone"
            declared.add(definition.destination.ref)
        assert not vhost._governor._carried_out
        for exchange in world.actors(ExchangeActor):
            if exchange._catalogue is catalogue and exchange._definition.name:
                table = exchange._router.table
                expected = exchange._make_router().table
                assert _shown(table) == _shown(expected), f"{exchange.name} does not match what is bound"
    for actor in (*world.actors(QueueActor), *world.actors(ExchangeActor)):
        assert actor.ref in declared, f"{actor.kind} {actor.name} is not declared"


def _shown(table: object) -> list[str]:
    """The bindings of a routing table, whatever its type."""
    return sorted(repr(binding) for binding in getattr(table, "bindings", list)())


def check_store(world: World) -> None:
    """What is on disk is what is declared and what lives."""
    rows: dict[bytes, bytes] = {}
    live, paged = set[tuple[int, int]](), set[tuple[int, int]]()
    for vhost in world.actors(VhostActor):
        catalogue, name = vhost.catalogue, vhost.name
        rows.update([vhost_row(vhost._definition)])
        rows.update(queue_row(name, queue) for queue in catalogue.queues.values() if queue.durable)
        rows.update(
            exchange_row(name, exchange)
            for exchange in catalogue.exchanges.values()
            if exchange.durable and exchange.name and not exchange.name.startswith("amq.")
        )
        rows.update(binding_row(name, binding) for binding in catalogue.bindings() if binding.durable)
        policies = vhost._governor._policies
        for is_operator in (False, True):
            rows.update(policy_row(name, policy, is_operator) for policy in policies.of(is_operator).in_order())
    rows.update(user_row(user.to_record()) for user in world.broker._services.users if not user.is_of_file)
    recovered = world.store.recover()
    assert recovered.definitions == rows
    for actor in world.actors(QueueActor):
        queue_id = actor._definition.queue_id
        live.update((queue_id, entry.position) for entry in _stored(world, actor))
        for line in actor._queue.lines:
            paged.update((queue_id, position) for position in line.paged.head(len(line.paged)))
    for exchange in world.actors(DelayedExchangeActor):
        if exchange._definition.durable:
            live.update(
                (exchange._definition.queue_id, entry.position)
                for entry in exchange._delays.entries()
                if entry.message.persistent
            )
    stored = {
        (queue_id, position)
        for queue_id, found in recovered.queues.items()
        for position in found.positions.head(len(found.positions))
    }
    assert stored - live - paged == set(), "stored, and gone"
    assert live - stored == set(), "persistent, and not stored"
    persistence = world.actor(PersistenceActor, f"persistence ({world.store.kind})")
    for each in (persistence, world.actor(PersistenceActor, f"scratch ({world.scratch.kind})")):
        assert not each._committer.waiting
        assert not each._committer.then
        assert each._journal.is_empty()
        assert each._journal.open_transactions() == 0
        assert not each.pressure.held
        assert each._committer.committing is None


def _stored(world: World, actor: QueueActor) -> Iterator[QueueEntry]:
    if not actor._definition.durable:
        return
    for entry in (*actor._queue.entries(), *out_of(world, actor)):
        if entry.message.persistent:
            yield entry


def out_of(world: World, actor: QueueActor) -> list[QueueEntry]:
    """What of a queue is unacknowledged."""
    return [
        entry
        for channel in world.actors(ChannelActor)
        for entry in (*channel._subscriber._ledger.unacked.values(), *channel._subscriber._ledger.aside.values())
        if entry.queue is actor.ref
    ]


def check_messages(world: World, books: Bookkeeper, failed: type[Actor] | None) -> None:
    """Each message is in one place of those where it may be, or was settled there.

    Exchanges may refuse what comes to them, also dead letters. A channel may not get to send what it was given, which
    is the end of it if nobody was to acknowledge it.
    """
    kind = failed or QueueActor
    refuses = not issubclass(kind, QueueActor)
    refuses_letters = issubclass(kind, ExchangeActor)
    drops = issubclass(kind, ChannelActor | ConnectionActor)
    there: Counter[Place] = Counter()
    for actor in world.actors(QueueActor):
        bodies = [message.body for _, message in world.ready(actor.name)]
        there.update((actor.name, body) for body in bodies)
        there.update((actor.name, entry.message.body) for entry in out_of(world, actor))
    delayed = Counter(
        entry.message.body for actor in world.actors(DelayedExchangeActor) for entry in actor._delays.entries()
    )
    for body, sent in books.sent.items():
        for queue in sent.queues:
            places = [(place, body) for place in (queue, *books.chains.get(queue, ()))]
            count = sum(there[place] for place in places) + (delayed[body] > 0)
            settled = any(place in books.settled for place in places)
            uncertain = any(place in books.uncertain for place in places)
            where = f"{body!r} ({sent.fate}) of {queue}"
            assert count + settled <= 1, f"{where} is there {count} times, and was {'' if settled else 'not '}settled"
            may_go = (
                uncertain
                or (refuses_letters and len(places) > 1)
                or (drops and any(place[0] in books.lossy for place in places))
            )
            if not may_go and (sent.fate == "taken" or (sent.fate == "sent" and not refuses)):
                assert count + settled == 1, f"{where} is lost"
    known = {
        (place, body)
        for body, sent in books.sent.items()
        for queue in sent.queues
        for place in (queue, *books.chains.get(queue, ()))
    }
    assert not there.keys() - known, f"nobody knows {there.keys() - known}"
