"""The broker: parent of everything, and the one who begins and ends it in order."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from gevent.event import Event

from dispatchd.actors.authenticator import AuthenticatorActor
from dispatchd.actors.connection import ConnectionActor, Services
from dispatchd.actors.messages import (
    ActorMessage,
    AlarmEnded,
    AlarmRaised,
    Block,
    CloseConnection,
    Connect,
    Connected,
    ConnectionGone,
    Define,
    Retire,
    Shutdown,
    Unblock,
)
from dispatchd.actors.monitor import MonitorActor, Watermarks
from dispatchd.actors.orders import DefineVhost, DeleteVhost, ForgetVhost, Fulfilled, UserGone, VhostGone
from dispatchd.actors.persistence import PersistenceActor, ScratchActor
from dispatchd.actors.resources import measure
from dispatchd.actors.runtime import Actor, Ref, System, Telling, Told, receives, tell_all
from dispatchd.actors.session import Limits, Vhost
from dispatchd.actors.storage import RESIDENT, Storage
from dispatchd.actors.stored_queues import StoredQueues
from dispatchd.actors.vhost import VhostActor
from dispatchd.amqp.errors import NotFound
from dispatchd.model.alarms import Alarms
from dispatchd.model.definitions import VhostDefinition
from dispatchd.model.journal import Journal
from dispatchd.model.message_sizes import BOUNDS
from dispatchd.model.stored_definitions import StoredVhost, read_rows, user_records, vhost_row

if TYPE_CHECKING:
    from dispatchd.actors.credentials import Credentials
    from dispatchd.model.residency import Residency
    from dispatchd.store.interface import Store

logger = logging.getLogger(__name__)

DEFAULT_VHOST = "/"
SHUTDOWN_TEXT = "broker forced connection closure with reason 'shutdown'"


class BrokerActor(Actor):
    """Starts persistence, the authenticator and the vhosts, takes connections, and lets them go at the end."""

    kind = "broker"

    def __init__(
        self,
        system: System,
        store: Store,
        scratch: Store,
        credentials: Credentials,
        limits: Limits,
        coalesce_seconds: float,
        resident: Residency = RESIDENT,
        watermarks: Watermarks | None = None,
        default_vhost: str = DEFAULT_VHOST,
    ) -> None:
        """Recover what `store` holds and start the actors for it; `scratch` is empty.

        `resident` is how much of a queue may be in memory. Without `watermarks` nobody watches memory and disk.
        `default_vhost` is made where there is none at all.

        Raises StoreError if the store can't be read, and ValueError if its definitions make no sense.
        """
        super().__init__(system, "dispatchd", None)
        recovered = store.recover()
        self._next_queue_id = recovered.next_queue_id
        vhosts = read_rows(recovered.definitions)
        for stored in vhosts.values():
            for record in (*stored.exchanges, *stored.queues):
                self._next_queue_id = max(self._next_queue_id, int(record.get("queue_id", 0)) + 1)
        journal = Journal(recovered.next_message_id, recovered.references)
        persistence = PersistenceActor(system, self.ref, store, coalesce_seconds, journal)
        self.persistence = persistence.begin()
        spilled = Journal(shares=False)
        self.scratch = ScratchActor(system, self.ref, scratch, coalesce_seconds, spilled).begin()
        self._storage = Storage(self.persistence, self.scratch, persistence.pressure, resident)
        if watermarks is not None:
            MonitorActor(system, self.ref, watermarks, self._storage, partial(measure, unused=store.unused)).begin()
        self.vhosts = hosts = dict[str, Vhost]()
        self.authenticator = AuthenticatorActor(system, self.ref, credentials, self.persistence, hosts).begin()
        self._services = Services(hosts, credentials.users, self.authenticator, limits)
        self._connections: dict[Ref, None] = {}
        self.alarms = Alarms()
        self._told_reason = ""
        self._is_stopping = False
        self._all_gone = Event()
        self._going: dict[str, DeleteVhost] = {}
        self._behind_going: list[DefineVhost] = []
        self._beginning: list[tuple[VhostActor, Telling | None]] = []

        contents = StoredQueues(store, recovered)
        if not any(stored.definition for stored in vhosts.values()):
            default = VhostDefinition(default_vhost, "Default virtual host")
            vhosts.setdefault(default_vhost, StoredVhost()).definition = default
            self.persistence.tell(Define([vhost_row(default)]))
        names = [name for name, stored in vhosts.items() if stored.definition is not None]
        if changed := credentials.restore(user_records(recovered.definitions), names):
            self.persistence.tell(Define([*changed]))
        for stored in vhosts.values():
            if stored.definition is None:
                self.persistence.tell(Define([(key, None) for key in stored.keys]))
                continue
            vhost = self._make_vhost(stored.definition)
            vhost.restore(stored, contents)
            self._beginning.append((vhost, None))
        self._go_on()
        if left_over := contents.left_over():
            logger.info("removing what is left of %d deleted queues", len(left_over))
            self.persistence.tell(Define([], dropped_queues=left_over))

    def sizes(self) -> tuple[list[int], list[int], int]:
        """How large the messages are that clients have published: bounds in octets, counts, and the octets of all.

        A count is of what is up to its bound and above the one before; the last one is of what is larger than that.
        """
        sizes = self._services.sizes
        return list(BOUNDS), list(sizes.counts), int(sizes.octets)

    def _make_vhost(self, definition: VhostDefinition) -> VhostActor:
        return VhostActor(self.system, definition, self.ref, self._storage, self._new_queue_id)

    def _go_on(self) -> None:
        """Let vhosts in that were made, and tell what follows for each; also after a failure on the way."""
        while self._beginning:
            vhost, then = self._beginning[0]
            host = Vhost(vhost.name, vhost.ref, vhost.catalogue, self.persistence, vhost.limits)
            vhost.begin()
            del self._beginning[0]
            self._services.vhosts[host.name] = host
            tell_all([] if then is None else [then])

    def _new_queue_id(self) -> int:
        self._next_queue_id += 1
        return self._next_queue_id - 1

    @receives(Connect)
    def on_connect(self, message: Connect) -> None:
        """A client has connected: its connection becomes an actor."""
        if self._is_stopping:
            message.transport.close()
            return
        connection = ConnectionActor(self.system, message.transport, self.ref, self._services)
        told: Told = [(connection.ref, Block(self._told_reason))] if self._told_reason else []
        told.append((connection.ref, Connected()))
        message.transport.begin(connection.ref)
        connection.begin()
        self._connections[connection.ref] = None
        self.answered(told)

    @receives(AlarmRaised)
    def on_alarm_raised(self, message: AlarmRaised) -> None:
        """Whoever publishes from now on has to wait."""
        if self.alarms.raise_(message.cause, message.detail):
            logger.warning("alarm (%s): %s; whoever publishes has to wait", message.cause, message.detail)
        self._tell_of_alarms()

    @receives(AlarmEnded)
    def on_alarm_ended(self, message: AlarmEnded) -> None:
        """Unless there is another alarm, publishers may go on."""
        if self.alarms.end(message.cause):
            logger.warning("the alarm (%s) is over", message.cause)
        self._tell_of_alarms()

    def _tell_of_alarms(self) -> None:
        """Let connections know what publishers are blocked for now, if they do not know yet."""
        reason = self.alarms.reason()
        if reason != self._told_reason:
            told = self._telling_connections(Block(reason) if reason else Unblock())
            self._told_reason = reason
            tell_all(told)

    def _telling_connections(self, message: ActorMessage) -> Told:
        return [(connection, message) for connection in self._connections]

    # Virtual hosts

    @receives(DefineVhost)
    def on_define_vhost(self, order: DefineVhost) -> None:
        """Make a vhost, or let the one that there is take note; one that is being deleted has to be gone first."""
        vhost = self._services.vhosts.get(order.name)
        if order.name in self._going:
            self._behind_going.append(order)
        elif vhost is not None:
            vhost.ref.tell(order)
        else:
            definition = VhostDefinition(order.name)
            order.apply_to(definition)
            stored = Define([vhost_row(definition)], then=(self.ref, Fulfilled(order, answer=True)))
            vhost_actor = self._make_vhost(definition)
            self._beginning += [(vhost_actor, (self.persistence, stored))]
            self.answered()
            self._go_on()

    @receives(Fulfilled)
    def on_fulfilled(self, message: Fulfilled) -> None:
        """What an order changed is on disk."""
        message.order.fulfil(message.answer)

    @receives(DeleteVhost)
    def on_delete_vhost(self, order: DeleteVhost) -> None:
        """Let nobody in any more and everybody out, then have everything deleted; its own record goes first."""
        vhost = self._services.vhosts.get(order.name)
        if vhost is None:
            order.deny(NotFound(f"no vhost '{order.name}'"))
            return
        key, _ = vhost_row(VhostDefinition(order.name))
        told: Told = [(self.persistence, Define([(key, None)]))]
        told += self._telling_connections(CloseConnection(f"vhost '{order.name}' is deleted", order.name))
        told += [(self.authenticator, ForgetVhost(order.name)), (vhost.ref, Retire())]
        self._going[order.name] = order
        del self._services.vhosts[order.name]
        self.answered(told)

    @receives(VhostGone)
    def on_vhost_gone(self, message: VhostGone) -> None:
        """A name is free again."""
        told: Told = [(self.ref, order) for order in self._behind_going]
        self._going[message.name].fulfil(None)
        self._behind_going = []
        del self._going[message.name]
        self.answered(told)

    # Connections

    @receives(UserGone)
    def on_user_gone(self, message: UserGone) -> None:
        """A user is deleted, and has to leave (RabbitMQ's text)."""
        text = f"user '{message.name}' is deleted"
        self.answered(self._telling_connections(CloseConnection(text, user=message.name)))

    @receives(ConnectionGone)
    def on_connection_gone(self, message: ConnectionGone) -> None:
        """A connection is closed, and all that was its own is gone."""
        self._connections.pop(message.connection, None)
        self._see_whether_all_are_gone()

    @receives(Shutdown)
    def on_shutdown(self, _message: Shutdown) -> Event:
        """Close all connections with 320; the answer is an event that is set when they are gone."""
        self._is_stopping = True
        tell_all(self._telling_connections(CloseConnection(SHUTDOWN_TEXT)))
        self._see_whether_all_are_gone()
        return self._all_gone

    def _see_whether_all_are_gone(self) -> None:
        if self._is_stopping and not self._connections:
            self._all_gone.set()

    def restarted(self) -> None:
        """Go on with what was under way."""
        self._go_on()
        self._tell_of_alarms()
        self._see_whether_all_are_gone()

    def snapshot(self) -> dict[str, Any]:
        """The broker's row in the admin."""
        return {
            "name": self.name,
            "vhosts": sorted(self._services.vhosts),
            "connections": len(self._connections),
            "blocked": self.alarms.reason() or None,
            "alarms": self.alarms.rows(),
            "stopping": self._is_stopping,
        }
