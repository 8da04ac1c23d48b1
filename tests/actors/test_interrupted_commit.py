"""The persistence actor is killed, paused or restarted before, during and after a commit, which succeeds or fails.

No answer is given before what it promises is on disk, none is lost, and nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors.bookkeeper import Bookkeeper, Channel
from actors.gated_store import GatedStore
from actors.harness import World, make_fail, wait_until
from actors.invariants import check_all
from pamqp import commands as spec
from unit.store.batches import contents_of

from dispatchd.actors import committer
from dispatchd.actors.messages import Restart
from dispatchd.actors.persistence import PersistenceActor
from dispatchd.actors.vhost import VhostActor
from dispatchd.model.stored_definitions import queue_row
from dispatchd.store.interface import StoreError, StoreFull

TO_BOTH: dict[str, Any] = {"exchange": "amq.fanout", "key": "", "persistent": True}


class Watcher(Bookkeeper):
    """Looks at the disk whenever an answer comes that says that something is there."""

    def _take(self, number: int, channel: Channel, frame: Any, frames: Iterator[tuple[int, Any]]) -> None:
        unconfirmed = dict(channel.unconfirmed)
        super()._take(number, channel, frame, frames)
        if isinstance(frame, spec.Basic.Ack):
            self._are_on_disk(body for tag, body in unconfirmed.items() if tag not in channel.unconfirmed)
        elif isinstance(frame, spec.Tx.CommitOk):
            self._are_on_disk(channel.in_transaction)
        elif isinstance(frame, spec.Queue.DeclareOk):
            definition = self.world.actor(VhostActor).catalogue.queues[str(frame.queue)]
            assert queue_row("/", definition)[0] in self.world.store.recover().definitions

    def _are_on_disk(self, bodies: Any) -> None:
        store: Any = self.world.store
        stored = {body for rows in contents_of(store).values() for _, body in rows}
        assert set(bodies) <= stored


class Rig:
    """Queues q and r with messages in them, and clients that wait for a confirm, a transaction and a declaration."""

    def __init__(self) -> None:
        self.store = GatedStore()
        self.world = World(self.store, coalesce_seconds=60)
        self.actor = self.world.persistence
        self.client = Watcher(self.world)
        for number, mode in ((1, "confirm"), (2, "tx"), (3, "plain")):
            self.client.open(number, mode)
        for queue in ("q", "r"):
            self.client.queue(queue)
            self.client.bind(queue, "amq.fanout")
        self.client.publish("q", "r", count=3, **TO_BOTH)
        self.client.confirmed()
        self.client.get("q", number=2)
        self.client.get("r", count=2)

    def work(self) -> None:
        client = self.client
        for channel in client.channels.values():
            channel.answers.clear()
        client.ack(count=1)
        client.publish("q", "r", count=2, **TO_BOTH)
        client.publish("q", persistent=True)
        client.publish("r", number=2, persistent=True)
        client.ack(number=2)
        client.send(2, spec.Tx.Commit())
        client.send(3, spec.Queue.Declare(queue="new", durable=True))
        self.world.settle()

    def is_answered(self) -> bool:
        channels = self.client.channels
        return not channels[1].unconfirmed and bool(channels[2].answers) and bool(channels[3].answers)

    def end(self) -> None:
        client, channel = self.client, self.client.channels[2]
        self.actor.actor_inbox.resume()
        client.wait(self.is_answered, "all answers")
        assert [type(answer) for answer in channel.answers] == [spec.Tx.CommitOk]
        for body in channel.in_transaction:
            client.sent[body].fate = "taken"
        client.settled.update(channel.settling)
        for _ in range(2):
            client.settle()
            self.world.flush()
        check_all(self.world, client, None)
        assert client.closings == 0


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(committer, "RETRY_SECONDS", 0.002)
    rig = Rig()
    yield rig
    rig.world.end()
    rig.store.close()


# When


def before(rig: Rig) -> None:
    """All that asks for a commit is still in the mailbox."""
    rig.actor.actor_inbox.pause()
    rig.work()
    assert not rig.is_answered()


def during(rig: Rig) -> None:
    """The thread is at it, and the next batch grows."""
    begun = rig.store.begun
    rig.store.close_gate()
    rig.client.publish("q", "r", **TO_BOTH)
    wait_until(lambda: rig.store.begun > begun)
    rig.work()
    assert not rig.is_answered()


def after(rig: Rig) -> None:
    """The thread is done, of which the actor knows nothing yet."""
    during(rig)
    rig.actor.actor_inbox.pause()
    rig.store.open_gate()
    running = rig.actor._committer.running
    assert running is not None
    wait_until(lambda: running.is_over)


# How


def kill(actor: PersistenceActor) -> None:
    make_fail(actor)


def pause(actor: PersistenceActor) -> None:
    actor.actor_inbox.pause()


def step(actor: PersistenceActor) -> None:
    actor.actor_inbox.pause()
    actor.actor_inbox.step()


def restart(actor: PersistenceActor) -> None:
    actor.ref.tell(Restart())


def restart_twice(actor: PersistenceActor) -> None:
    actor.ref.tell(Restart())
    actor.actor_inbox.step(2)
    actor.ref.tell(Restart())


@pytest.mark.parametrize(
    "errors",
    [[], [StoreError("EIO")], [StoreFull("full")], [StoreError("EIO"), StoreFull("full")]],
    ids=["succeeds", "fails", "finds no room", "fails twice"],
)
@pytest.mark.parametrize("interrupt", [kill, pause, step, restart, restart_twice])
@pytest.mark.parametrize("when", [before, during, after])
def test_nothing_is_lost_and_nothing_promised_too_early(
    rig: Rig,
    when: Callable[[Rig], None],
    interrupt: Callable[[PersistenceActor], None],
    errors: list[Exception],
) -> None:
    rig.store.errors = list(errors)
    when(rig)
    for _ in range(2):
        interrupt(rig.actor)
        rig.client.settle()
    if when is during:
        rig.store.open_gate()
    rig.end()
