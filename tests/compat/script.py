"""The words of a script: what a client does, one step at a time.

Steps are named after the AMQP methods that they send, and their fields are those of pamqp's method of the same meaning.
`on` says where: 1 is channel 1 of connection 1, (2, 3) is channel 3 of connection 2. Connections and channels that are
not open are opened by the step that uses them. A step's `repr` is its source: a failure prints a script to copy.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

from pamqp import commands as spec
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

FRAME_MAX = 131072
"""Octets of a whole frame, as connections that nobody says more about negotiate it."""

Place = int | tuple[int, int]


def unchecked(method: Any) -> Any:
    """`method` without pamqp's checks of what a client may send: bad input is for the broker to refuse."""
    return type(method.__name__, (method,), {"__slots__": method.__slots__, "validate": lambda self: None})


@dataclass(frozen=True, repr=False)
class Step:
    on: Place = field(default=1, kw_only=True)

    @property
    def connection(self) -> int:
        return 1 if isinstance(self.on, int) else self.on[0]

    @property
    def channel(self) -> int:
        return self.on if isinstance(self.on, int) else self.on[1]

    def __repr__(self) -> str:
        given = []
        positional = True
        for each in fields(self)[1:] + fields(self)[:1]:  # `on` comes last
            value = getattr(self, each.name)
            default = each.default_factory() if each.default_factory is not MISSING else each.default
            if value == default:
                positional = False
            elif positional and not each.kw_only:
                given.append(repr(value))
            else:
                given.append(f"{each.name}={value!r}")
        return f"{type(self).__name__}({', '.join(given)})"


@dataclass(frozen=True, repr=False)
class Method(Step):
    """A step that sends one method: all its fields but `on` are the method's."""

    METHOD: ClassVar[type[Frame]]

    def frames(self) -> bytes:
        method = unchecked(self.METHOD)(**{each.name: getattr(self, each.name) for each in fields(self)[1:]})
        return marshal(method, self.channel)

    def answers(self) -> tuple[str, ...]:
        """Names of the methods that may come back, as pamqp spells them; none if nothing comes."""
        return () if getattr(self, "nowait", False) else tuple(self.METHOD.valid_responses)


@dataclass(frozen=True, repr=False)
class Exchange(Method):
    METHOD = spec.Exchange.Declare
    exchange: str
    exchange_type: str = "direct"
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class DeleteExchange(Method):
    METHOD = spec.Exchange.Delete
    exchange: str
    _: KW_ONLY
    if_unused: bool = False
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class BindExchange(Method):
    METHOD = spec.Exchange.Bind
    destination: str
    source: str
    routing_key: str = ""
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class UnbindExchange(Method):
    METHOD = spec.Exchange.Unbind
    destination: str
    source: str
    routing_key: str = ""
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Queue(Method):
    METHOD = spec.Queue.Declare
    queue: str = ""
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Bind(Method):
    METHOD = spec.Queue.Bind
    queue: str
    exchange: str
    routing_key: str = ""
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Unbind(Method):
    METHOD = spec.Queue.Unbind
    queue: str
    exchange: str
    routing_key: str = ""
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Purge(Method):
    METHOD = spec.Queue.Purge
    queue: str = ""
    _: KW_ONLY
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Delete(Method):
    METHOD = spec.Queue.Delete
    queue: str = ""
    _: KW_ONLY
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Publish(Method):
    """Method, header and body. `properties` are pamqp's names of `basic`'s properties."""

    METHOD = spec.Basic.Publish
    exchange: str
    routing_key: str
    body: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    mandatory: bool = False
    immediate: bool = False

    def frames(self) -> bytes:
        method = unchecked(self.METHOD)(
            exchange=self.exchange,
            routing_key=self.routing_key,
            mandatory=self.mandatory,
            immediate=self.immediate,
        )
        body = self.body.encode()
        sent = marshal(method, self.channel)
        sent += marshal(ContentHeader(0, len(body), properties(self.properties)), self.channel)
        for at in range(0, len(body), FRAME_MAX - 8):
            sent += marshal(ContentBody(body[at : at + FRAME_MAX - 8]), self.channel)
        return sent


def properties(given: dict[str, Any]) -> spec.Basic.Properties:
    """pamqp's properties, unchecked."""
    made = spec.Basic.Properties()
    for name, value in given.items():
        setattr(made, name, value)
    return made


@dataclass(frozen=True, repr=False)
class Get(Method):
    METHOD = spec.Basic.Get
    queue: str = ""
    _: KW_ONLY
    no_ack: bool = False


@dataclass(frozen=True, repr=False)
class Consume(Method):
    METHOD = spec.Basic.Consume
    queue: str
    consumer_tag: str = "c"
    _: KW_ONLY
    arguments: dict[str, Any] = field(default_factory=dict)
    no_ack: bool = False
    exclusive: bool = False
    no_local: bool = False
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Cancel(Method):
    METHOD = spec.Basic.Cancel
    consumer_tag: str = "c"
    _: KW_ONLY
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Qos(Method):
    METHOD = spec.Basic.Qos
    prefetch_count: int
    _: KW_ONLY
    global_: bool = False
    prefetch_size: int = 0


@dataclass(frozen=True, repr=False)
class Ack(Method):
    METHOD = spec.Basic.Ack
    delivery_tag: int
    _: KW_ONLY
    multiple: bool = False


@dataclass(frozen=True, repr=False)
class Nack(Method):
    METHOD = spec.Basic.Nack
    delivery_tag: int
    _: KW_ONLY
    multiple: bool = False
    requeue: bool = True


@dataclass(frozen=True, repr=False)
class Reject(Method):
    METHOD = spec.Basic.Reject
    delivery_tag: int
    _: KW_ONLY
    requeue: bool = False


@dataclass(frozen=True, repr=False)
class Recover(Method):
    METHOD = spec.Basic.Recover
    requeue: bool = True


@dataclass(frozen=True, repr=False)
class RecoverAsync(Method):
    METHOD = spec.Basic.RecoverAsync
    requeue: bool = True

    def answers(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, repr=False)
class Confirm(Method):
    METHOD = spec.Confirm.Select
    _: KW_ONLY
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Select(Method):
    METHOD = spec.Tx.Select


@dataclass(frozen=True, repr=False)
class Commit(Method):
    METHOD = spec.Tx.Commit


@dataclass(frozen=True, repr=False)
class Rollback(Method):
    METHOD = spec.Tx.Rollback


@dataclass(frozen=True, repr=False)
class Flow(Method):
    METHOD = spec.Channel.Flow
    active: bool = True


@dataclass(frozen=True, repr=False)
class Open(Method):
    METHOD = spec.Channel.Open


@dataclass(frozen=True, repr=False)
class Close(Method):
    METHOD = spec.Channel.Close
    reply_code: int = 200
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@dataclass(frozen=True, repr=False)
class UpdateSecret(Method):
    METHOD = spec.Connection.UpdateSecret
    new_secret: str
    reason: str = ""


@dataclass(frozen=True, repr=False)
class Send(Step):
    """Send these octets as they are; the channel is not opened before."""

    octets: bytes


@dataclass(frozen=True, repr=False)
class ConnectionStep(Step):
    """`on` is the number of a connection."""

    on: int = field(default=1, kw_only=True)

    @property
    def connection(self) -> int:
        return self.on


@dataclass(frozen=True, repr=False)
class Connect(ConnectionStep):
    """Connect step by step, with what the broker says to each; the last is `connection.open`."""

    _: KW_ONLY
    mechanism: str = "PLAIN"
    response: str = "\0guest\0guest"
    virtual_host: str = "/"
    channel_max: int = 2047
    frame_max: int = FRAME_MAX
    heartbeat: int = 0
    capabilities: dict[str, Any] = field(default_factory=dict)
    header: bytes = b"AMQP\0\0\x09\x01"
    early: bytes = b""
    """What is sent after `connection.start` instead of going on."""
    shows_server: bool = False
    """Whether what the broker says of itself is part of what is compared."""


@dataclass(frozen=True, repr=False)
class Disconnect(ConnectionStep):
    """Close the connection; abruptly is without a word."""

    _: KW_ONLY
    abruptly: bool = False


@dataclass(frozen=True, repr=False)
class Until(Step):
    """Wait until the queue has this many messages ready, or is gone if that is None."""

    queue: str
    messages: int | None


@dataclass(frozen=True, repr=False)
class Wait(Step):
    """Let time pass: for what must not happen. Where something has to happen, say what with `Until`."""

    seconds: float


@dataclass(frozen=True, repr=False)
class Reply(Step):
    """Publish to the default exchange with the last `reply_to` that came on this connection."""

    body: str
    _: KW_ONLY
    mandatory: bool = False


@dataclass(frozen=True, repr=False)
class OperatorStep(Step):
    """What an operator does through the HTTP API. With `by_operator` policies are operator policies."""


@dataclass(frozen=True, repr=False)
class SetPolicy(OperatorStep):
    """What is None is left out."""

    name: str
    pattern: Any
    definition: Any
    _: KW_ONLY
    priority: Any = None
    apply_to: Any = None
    by_operator: bool = False


@dataclass(frozen=True, repr=False)
class ClearPolicy(OperatorStep):
    name: str
    _: KW_ONLY
    by_operator: bool = False


@dataclass(frozen=True, repr=False)
class ShowPolicies(OperatorStep):
    _: KW_ONLY
    by_operator: bool = False


@dataclass(frozen=True, repr=False)
class PutUser(OperatorStep):
    """Its password is "secret"."""

    name: str
    tags: Any


@dataclass(frozen=True, repr=False)
class Permit(OperatorStep):
    user: str
    configure: str
    write: str
    read: str


@dataclass(frozen=True, repr=False)
class PermitTopics(OperatorStep):
    user: str
    exchange: str
    write: str
    read: str


@dataclass(frozen=True, repr=False)
class Limit(OperatorStep):
    """`kind` is where it is in the API: "vhost-limits" or "user-limits"."""

    kind: str
    name: str
    limit: str
    value: Any


class Scenario(NamedTuple):
    """A script with a name; `reason` is for those in known_differences.py."""

    name: str
    steps: tuple[Step, ...]
    reason: str = ""


def scenario(name: str, *steps: Step) -> Scenario:
    return Scenario(name, steps)
