"""A connection: the handshake, the channels that it carries, and an orderly end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import gevent

from dispatchd.actors.channel import ChannelActor
from dispatchd.actors.identity import server_properties
from dispatchd.actors.inspection import Inspectable
from dispatchd.actors.messages import (
    ActorMessage,
    Arrived,
    Authenticate,
    Authenticated,
    Block,
    ChannelFailed,
    ChannelGone,
    CloseConnection,
    Connected,
    ConnectionGone,
    Disconnected,
    Drained,
    OwnerReleased,
    ReleaseOwner,
    Retire,
    Unblock,
)
from dispatchd.actors.runtime import Ref, System, Told, receives
from dispatchd.actors.sasl import mechanisms, read_credentials
from dispatchd.actors.session import Limits, Session, Vhost
from dispatchd.amqp import methods as m
from dispatchd.amqp.constants import FRAME_MIN_SIZE
from dispatchd.amqp.errors import (
    AmqpError,
    ChannelError,
    CommandInvalid,
    ConnectionForced,
    InternalError,
    LoginRefused,
    NotAllowed,
)
from dispatchd.amqp.method_codec import encode_method
from dispatchd.model.limits import Tally
from dispatchd.model.message_sizes import MessageSizes

if TYPE_CHECKING:
    from dispatchd.actors.transport import Transport
    from dispatchd.amqp.frame_parser import ChannelInput
    from dispatchd.model.users import Users

logger = logging.getLogger(__name__)

STARTING = "starting"
AUTHENTICATING = "authenticating"
TUNING = "tuning"
OPENING = "opening"
OPEN = "running"
BLOCKING = "blocking"
"""Not a state of its own, but shown as one: the next publish blocks."""
BLOCKED = "blocked"
"""Likewise: something was published, and nothing more is read."""
CLOSING = "closing"
LEAVING = "leaving"

SHOWN_CHARACTERS = 100
"""What the log shows of a text that a client chose."""

LEAVE_SECONDS = 2.0
REFUSED_LOGIN_SECONDS = 3.0
"""How long a client that can't be told why waits before its socket is closed (RabbitMQ's silent close delay)."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every connection needs of the broker.

    `vhosts` is filled and changed by the broker alone, `users` by the authenticator; `sizes` by every channel.
    """

    vhosts: dict[str, Vhost]
    users: Users
    authenticator: Ref
    limits: Limits
    tally: Tally = field(default_factory=Tally)
    sizes: MessageSizes = field(default_factory=MessageSizes)


@dataclass(frozen=True, slots=True)
class LeaveDeadline(ActorMessage):
    """To itself: whoever has not answered by now is not waited for."""

    reaches_quarantined: ClassVar[bool] = True


class ConnectionActor(Inspectable):
    """One client's connection. Its number stands for it as the owner of exclusive queues."""

    kind = "connection"

    def __init__(self, system: System, transport: Transport, broker: Ref, services: Services) -> None:
        name = f"{_address(transport.peer)} -> {_address(transport.local)}"
        super().__init__(system, name, broker)
        self._transport = transport
        self._broker = broker
        self._services = services
        self._state = STARTING
        self._client_properties: dict[str, Any] = {}
        self._mechanism = ""
        self._user = ""
        self._frame_max = FRAME_MIN_SIZE
        self._channel_max = services.limits.channel_max
        self._heartbeat = 0
        self._session: Session | None = None
        self._channels: dict[int, Ref] = {}
        self._reason_to_block = ""
        self._is_blocked = False
        self._farewell: m.Method | None = None
        self._why = ""
        self._deadline: gevent.Greenlet[..., None] | None = None
        self._connected_at = time.time()

    # What arrives

    @receives(Connected)
    def on_connected(self, _message: Connected) -> None:
        """The client has sent the protocol header."""
        offered = " ".join(mechanisms(self._transport.certified_name)).encode()
        self._send(m.ConnectionStart(0, 9, server_properties(), offered, b"en_US"))

    @receives(Arrived)
    def on_arrived(self, message: Arrived) -> None:
        """Hand what came to the channels that it is for, and act on what is for the connection."""
        self.answered()
        inputs = message.inputs
        if len(inputs) == 1 and inputs[0].channel:
            self._hand_over(inputs[0].channel, inputs)
        else:
            self._sort(inputs)
        if self._reason_to_block and (self._transport.unfinished or any(each.published for each in inputs)):
            self._block()
        if message.failure is not None:
            self._close_with(message.failure)

    def _sort(self, inputs: list[ChannelInput]) -> None:
        """What is for the connection keeps its place among what is for channels."""
        batches: dict[int, list[ChannelInput]] = {}
        for arrived in inputs:
            if arrived.channel:
                batches.setdefault(arrived.channel, []).append(arrived)
            else:
                self._hand_out(batches)
                self._take(arrived)
        self._hand_out(batches)

    def _hand_out(self, batches: dict[int, list[ChannelInput]]) -> None:
        for number, inputs in batches.items():
            self._hand_over(number, inputs)
        batches.clear()

    def _hand_over(self, number: int, inputs: list[ChannelInput]) -> None:
        try:
            channel = self._channels.get(number) if self._state is OPEN else None
            (channel or self._open_channel(number, inputs[0])).tell(Arrived(inputs))
        except AmqpError as error:
            error.blame(*inputs[0].first_method_ids())
            self._transport.grant(sum(arrived.cost for arrived in inputs))
            self._close_with(error)

    def _open_channel(self, number: int, first: ChannelInput) -> Ref:
        if self._session is None or self._state is not OPEN:
            raise CommandInvalid(f"a frame for channel {number} before connection.open")
        if not isinstance(first.method, m.ChannelOpen):
            raise ChannelError("expected 'channel.open'")
        count = len(self._channels)
        if count >= self._channel_max:
            raise NotAllowed(
                f"number of channels opened ({count}) has reached the negotiated channel_max ({self._channel_max})"
            )
        user = self._services.users.find(self._user)
        if user is not None:
            self._services.tally.check_channel(self._user, user.limits)
        channel = ChannelActor(self.system, number, self.ref, self._session).begin()
        self._channels[number] = channel
        self._services.tally.count_channels(self._user, 1)
        return channel

    def _take(self, arrived: ChannelInput) -> None:
        method = arrived.method
        if method is None:
            self._close_with(arrived.error or CommandInvalid("content on channel 0"))
            return
        perform = self._methods.get((self._state, type(method))) or self._methods.get(("", type(method)))
        try:
            if perform is not None:
                perform(self, method)
            elif self._state is not CLOSING and self._state is not LEAVING:
                raise ChannelError(f"unexpected method in connection state {self._state}")
        except AmqpError as error:
            error.blame(*m.method_ids(method))
            self._close_with(error)

    # The handshake

    def _on_start_ok(self, method: m.ConnectionStartOk) -> None:
        self._client_properties = method.client_properties
        self._mechanism = method.mechanism
        user, password = read_credentials(method.mechanism, method.response, self._transport.certified_name)
        self._state = AUTHENTICATING
        self._services.authenticator.tell(Authenticate(self.ref, user, password, self._transport.peer[0]))

    @receives(Authenticated)
    def on_authenticated(self, message: Authenticated) -> None:
        """The authenticator has decided."""
        if self._state is not AUTHENTICATING:
            return
        limits = self._services.limits
        if message.accepted:
            self._user = message.user
            self._state = TUNING
            self._send(m.ConnectionTune(limits.channel_max, limits.frame_max, limits.heartbeat))
            return
        capabilities = self._client_properties.get("capabilities")
        if isinstance(capabilities, dict) and capabilities.get("authentication_failure_close") is True:
            self._close_with(
                LoginRefused(
                    f"Login was refused using authentication mechanism {self._mechanism}. "
                    "For details see the broker logfile."
                )
            )
        else:
            self._state = CLOSING
            self._transport.end_channels()
            self._set_deadline(REFUSED_LOGIN_SECONDS)

    def _on_tune_ok(self, method: m.ConnectionTuneOk) -> None:
        limits = self._services.limits
        _check_negotiated("channel_max", method.channel_max, 1, limits.channel_max)
        _check_negotiated("frame_max", method.frame_max, FRAME_MIN_SIZE, limits.frame_max)
        self._channel_max, self._frame_max = method.channel_max, method.frame_max
        self._heartbeat = method.heartbeat
        self._transport.tuned(method.frame_max, method.heartbeat)
        self._state = OPENING

    def _on_open(self, method: m.ConnectionOpen) -> None:
        vhost = self._services.vhosts.get(method.virtual_host)
        if vhost is None:
            raise NotAllowed(f"vhost {method.virtual_host} not found")
        self._check_limits(vhost)
        access = self._services.users.access(self._user, vhost.name)
        if access is None:
            raise NotAllowed(f"access to vhost '{vhost.name}' refused for user '{self._user}'")
        self._session = Session(
            self.name, self.number, access, self._transport, self._frame_max, self._client_properties, vhost,
            self._services.limits.consumers, self._services.sizes,
        )  # fmt: skip
        self._state = OPEN
        self._services.tally.enter(vhost.name, self._user)
        self._transport.opened()
        name = self._user_provided_name()
        client = "" if name is None else f" by {name[:SHOWN_CHARACTERS]!r}"
        logger.info("%s of user %r: opened in vhost %r%s", self.name, self._user, vhost.name, client)
        self._send(m.ConnectionOpenOk())  # the last step: who has had it may rely on it

    def _check_limits(self, vhost: Vhost) -> None:
        """In RabbitMQ's order (rabbit_reader): before access is checked."""
        self._services.tally.check_broker(self._services.limits.connections)
        self._services.tally.check_vhost(vhost.name, self._user, vhost.limits)
        user = self._services.users.find(self._user)
        if user is not None:
            self._services.tally.check_user(self._user, user.limits)

    def _on_update_secret(self, _method: m.ConnectionUpdateSecret) -> None:
        self._send(m.ConnectionUpdateSecretOk())

    # Alarms

    @receives(Block)
    def on_block(self, message: Block) -> None:
        """Something runs short. Who only consumes is no part of that, and helps; who is publishing is in the middle."""
        self._reason_to_block = message.reason
        if self._transport.unfinished:
            self._block()

    def _block(self) -> None:
        """The client publishes nevertheless: that was the last of it for now."""
        if self._state is not OPEN or self._is_blocked:
            return
        self._is_blocked = True
        self._transport.block()
        if self._wants_to_know_of_blocks():
            self._send(m.ConnectionBlocked(self._reason_to_block))

    @receives(Unblock)
    def on_unblock(self, _message: Unblock) -> None:
        """All is well again."""
        self._reason_to_block = ""
        if self._read_on() and self._wants_to_know_of_blocks():
            self._send(m.ConnectionUnblocked())

    def _read_on(self) -> bool:
        was_blocked, self._is_blocked = self._is_blocked, False
        if was_blocked:
            self._transport.unblock()
        return was_blocked

    def _wants_to_know_of_blocks(self) -> bool:
        return self._session is not None and self._session.client_can("connection.blocked")

    # The end

    def _on_close(self, method: m.ConnectionClose) -> None:
        self._why = f"by its client ({method.reply_code} {method.reply_text[:SHOWN_CHARACTERS]!r})"
        self._leave(m.ConnectionCloseOk())

    def _on_close_while_closing(self, _method: m.ConnectionClose) -> None:
        self._send(m.ConnectionCloseOk())

    def _on_close_ok(self, _method: m.ConnectionCloseOk) -> None:
        self._leave(None)

    def _ignore(self, method: m.Method) -> None:
        """What comes after the end was begun means nothing any more."""

    _methods: ClassVar[dict[tuple[str, type], Callable[[Any, Any], None]]] = {
        (STARTING, m.ConnectionStartOk): _on_start_ok,
        (TUNING, m.ConnectionTuneOk): _on_tune_ok,
        (OPENING, m.ConnectionOpen): _on_open,
        (OPEN, m.ConnectionUpdateSecret): _on_update_secret,
        (CLOSING, m.ConnectionClose): _on_close_while_closing,
        (CLOSING, m.ConnectionCloseOk): _on_close_ok,
        (LEAVING, m.ConnectionClose): _ignore,
        ("", m.ConnectionClose): _on_close,
    }

    @receives(ChannelFailed)
    def on_channel_failed(self, message: ChannelFailed) -> None:
        """Something on a channel closes the whole connection."""
        self._close_with(message.error)

    @receives(CloseConnection)
    def on_close_connection(self, message: CloseConnection) -> None:
        """An operator, or the end of the broker or of the vhost."""
        if message.vhost is not None and (self._session is None or self._session.vhost_name != message.vhost):
            return
        if message.user is not None and self._user != message.user:
            return
        self._close_with(ConnectionForced(message.text))

    def _close_with(self, error: AmqpError) -> None:
        """Tell the client why, let go of everything, and wait a little for its close-ok."""
        if self._state is CLOSING or self._state is LEAVING:
            return
        self._send(m.ConnectionClose(error.code, error.text, error.class_id, error.method_id))
        self._why = f"{error.code} {error.text!r}"
        self._state = CLOSING
        self._let_go()

    def _let_go(self) -> None:
        """Have the channels let go of everything, and wait a little for that or for the client."""
        self._read_on()
        self._transport.end_channels()
        for channel in self._channels.values():
            channel.tell(Disconnected("the connection is closed"))
        self._set_deadline(LEAVE_SECONDS)
        self._release_owner_when_alone()

    @receives(Disconnected)
    def on_disconnected(self, message: Disconnected) -> None:
        """The socket is closed."""
        self._why = self._why or message.reason
        self._leave(None)

    def _leave(self, farewell: m.Method | None) -> None:
        """Go as soon as the channels have let go of everything and exclusive queues are deleted."""
        if self._state is not LEAVING:
            self._state, self._farewell = LEAVING, farewell
            self._let_go()

    def _release_owner_when_alone(self) -> None:
        if self._state is not LEAVING or self._channels:
            return
        self._release_owner()
        if self._session is None:
            self._go()

    def _release_owner(self) -> None:
        if self._session is not None:
            self._session.vhost.tell(ReleaseOwner(self.number, self.ref))

    @receives(ChannelGone)
    def on_channel_gone(self, message: ChannelGone) -> None:
        """A channel is closed on both sides."""
        if self._channels.get(message.number) is message.channel:
            del self._channels[message.number]
            self._services.tally.count_channels(self._user, -1)
        message.channel.tell(Retire())
        self._release_owner_when_alone()

    @receives(OwnerReleased)
    def on_owner_released(self, _message: OwnerReleased) -> None:
        """The exclusive queues are gone."""
        self._go()

    def _set_deadline(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.kill(block=False)
        self._deadline = gevent.spawn_later(seconds, self.ref.tell, LeaveDeadline())

    @receives(LeaveDeadline)
    def on_leave_deadline(self, _message: LeaveDeadline) -> None:
        """Nobody is waited for any longer."""
        if self._state is LEAVING:
            self._release_owner()
            self._go()
        else:
            self._leave(None)

    def _go(self) -> None:
        told: Told = [(self._broker, ConnectionGone(self.ref))]
        if self._deadline is not None:
            self._deadline.kill(block=False)
        if self._farewell is not None:
            self._send(self._farewell)
        # As RabbitMQ: who gets a close-ok closes the socket. A client still at it would take our end for an error.
        self._transport.close(after_peer=self._farewell is not None)
        self.answered(told)
        self.end()

    def restarted(self) -> None:
        """A failure of ours closes the connection for its client; if it is being closed, that goes on."""
        if self._state is CLOSING or self._state is LEAVING:
            self._let_go()
        last = self.failures.last
        self._close_with(InternalError(last.error if last else "restarted"))

    def quarantined(self, reason: str) -> None:
        """As a failure, but nothing is waited for."""
        self._close_with(InternalError(reason))
        self._release_owner()
        self._go()

    def on_stop(self) -> None:
        """It counts no more, and the log says why."""
        session, why = self._session, self._why or "stopped"
        if session is None:
            logger.info("%s: closed before it was open: %s", self.name, why)
            return
        self._services.tally.leave(session.vhost_name, self._user)
        self._services.tally.count_channels(self._user, -len(self._channels))
        self._session, self._channels = None, {}
        logger.info("%s of user %r: closed in vhost %r: %s", self.name, self._user, session.vhost_name, why)

    # The rest

    @receives(Drained)
    def on_drained(self, message: Drained) -> None:
        """The socket takes more deliveries."""
        for channel in self._channels.values():
            channel.tell(message)

    def _send(self, method: m.Method) -> None:
        self._transport.send(encode_method(0, method))

    def _shown_state(self) -> str:
        if self._is_blocked:
            return BLOCKED
        return BLOCKING if self._state is OPEN and self._reason_to_block else self._state

    def _user_provided_name(self) -> str | None:
        name = self._client_properties.get("connection_name")
        return name if isinstance(name, str) else None

    def farewell(self, reason: str) -> CloseConnection:
        """Its client gets a connection.close."""
        return CloseConnection(reason)

    def waits_for(self) -> str | None:
        """Who has to say something before it goes on."""
        if self._state is AUTHENTICATING:
            return "the authenticator"
        if self._state is LEAVING:
            return f"its {len(self._channels)} channels to let go" if self._channels else "its exclusive queues to go"
        if self._state is CLOSING:
            return "its client's close-ok"
        return "queues to take what it published" if self._transport.waits_for_credit else None

    def figures(self) -> dict[str, Any]:
        """What lists of many connections are made of, seen from outside."""
        transport = self._transport
        return {
            "user": self._user,
            "vhost": self._session.vhost_name if self._session else None,
            "state": self._shown_state(),
            "user_provided_name": self._user_provided_name(),
            "channels": len(self._channels),
            "recv_oct": transport.received_bytes,
            "recv_cnt": transport.reads,
            "send_oct": transport.sent_bytes,
            "send_cnt": transport.writes,
            "send_pend": int(transport.outlet.unsent),
            "auth_mechanism": self._mechanism,
            **transport.facts,
            "blocked_by_credit": transport.waits_for_credit,
        }

    def snapshot(self) -> dict[str, Any]:
        """The connection's row in the admin."""
        transport = self._transport
        return {
            "name": self.name,
            "peer_host": transport.peer[0],
            "peer_port": transport.peer[1],
            "host": transport.local[0],
            "port": transport.local[1],
            **self.figures(),
            "protocol": "AMQP 0-9-1",
            "client_properties": self._client_properties,
            "channel_max": self._channel_max,
            "frame_max": self._frame_max,
            "timeout": self._heartbeat,
            "connected_at": round(self._connected_at * 1000),
        }

    def details(self) -> dict[str, Any]:
        """What the page of the connection shows beyond its row."""
        return {
            "reason_to_block": self._reason_to_block or None,
            "unsent_bytes": int(self._transport.outlet.unsent),
            "unfinished_bytes": self._transport.unfinished,
            "channel_names": [channel.name for channel in self._channels.values()],
        }


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_negotiated(what: str, value: int, lowest: int, highest: int) -> None:
    """Refuse what a client answers to connection.tune with RabbitMQ's texts; 0 would be no limit."""
    if value != 0 and value < lowest:
        raise NotAllowed(f"negotiated {what} = {value} is lower than the minimum allowed value ({lowest})")
    if value == 0 or value > highest:
        shown = value or "no limit"
        raise NotAllowed(f"negotiated {what} = {shown} is higher than the maximum allowed value ({highest})")
