"""What the channels of one connection have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dispatchd.model.message_sizes import MessageSizes

if TYPE_CHECKING:
    from dispatchd.actors.runtime import Ref
    from dispatchd.actors.transport import Transport
    from dispatchd.model.access import Access
    from dispatchd.model.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Limits:
    """What connection.tune offers: highest channel number, octets of a frame, seconds between heartbeats.

    And how many consumers a channel may have (0 = no limit), and how many connections may be open (None = no limit).
    """

    channel_max: int
    frame_max: int
    heartbeat: int
    consumers: int = 0
    connections: int | None = None


@dataclass(frozen=True, slots=True)
class Vhost:
    """A virtual host as connections know it: its actor, its store, and what only that actor changes."""

    name: str
    ref: Ref
    catalogue: Catalogue
    persistence: Ref
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection: who it is, what that user may do, and what was negotiated.

    Its exclusive queues know it by `owner`.
    """

    name: str
    owner: int
    access: Access
    transport: Transport
    frame_max: int
    client_properties: dict[str, Any]
    host: Vhost
    most_consumers: int = 0
    sizes: MessageSizes = field(default_factory=MessageSizes)

    @property
    def user(self) -> str:
        """The name of whoever logged in."""
        return self.access.user

    @property
    def vhost(self) -> Ref:
        """The actor of the virtual host."""
        return self.host.ref

    @property
    def vhost_name(self) -> str:
        """The name of the virtual host."""
        return self.host.name

    @property
    def catalogue(self) -> Catalogue:
        """The definitions of the virtual host."""
        return self.host.catalogue

    @property
    def persistence(self) -> Ref:
        """Who stores what the queues of the virtual host keep."""
        return self.host.persistence

    def client_can(self, capability: str) -> bool:
        """Whether the client announced a capability, such as `consumer_cancel_notify`."""
        capabilities = self.client_properties.get("capabilities")
        return isinstance(capabilities, dict) and capabilities.get(capability) is True
