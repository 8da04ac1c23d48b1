# ruff: noqa: D101 - what each method does is in the specification
"""All methods of AMQP 0-9-1 with RabbitMQ's additions, as the specification lists them.

One immutable class per method, its fields named as in the specification, and `METHODS`, the table from which
`method_codec` reads how they look on the wire. Strings of type longstr are bytes: they carry binary (SASL) as well.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any, Final


class Method:
    """What a method frame carries."""


@dataclass(frozen=True)
class ConnectionStart(Method):
    version_major: int = 0
    version_minor: int = 9
    server_properties: dict[str, Any] = field(default_factory=dict)
    mechanisms: bytes = b"PLAIN"
    locales: bytes = b"en_US"


@dataclass(frozen=True)
class ConnectionStartOk(Method):
    client_properties: dict[str, Any] = field(default_factory=dict)
    mechanism: str = "PLAIN"
    response: bytes = b""
    locale: str = "en_US"


@dataclass(frozen=True)
class ConnectionSecure(Method):
    challenge: bytes


@dataclass(frozen=True)
class ConnectionSecureOk(Method):
    response: bytes


@dataclass(frozen=True)
class ConnectionTune(Method):
    channel_max: int
    frame_max: int
    heartbeat: int


@dataclass(frozen=True)
class ConnectionTuneOk(Method):
    channel_max: int
    frame_max: int
    heartbeat: int


@dataclass(frozen=True)
class ConnectionOpen(Method):
    virtual_host: str = "/"


@dataclass(frozen=True)
class ConnectionOpenOk(Method):
    pass


@dataclass(frozen=True)
class ConnectionClose(Method):
    reply_code: int
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@dataclass(frozen=True)
class ConnectionCloseOk(Method):
    pass


@dataclass(frozen=True)
class ConnectionBlocked(Method):
    reason: str


@dataclass(frozen=True)
class ConnectionUnblocked(Method):
    pass


@dataclass(frozen=True)
class ConnectionUpdateSecret(Method):
    new_secret: bytes
    reason: str = ""


@dataclass(frozen=True)
class ConnectionUpdateSecretOk(Method):
    pass


@dataclass(frozen=True)
class ChannelOpen(Method):
    pass


@dataclass(frozen=True)
class ChannelOpenOk(Method):
    pass


@dataclass(frozen=True)
class ChannelFlow(Method):
    active: bool


@dataclass(frozen=True)
class ChannelFlowOk(Method):
    active: bool


@dataclass(frozen=True)
class ChannelClose(Method):
    reply_code: int
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@dataclass(frozen=True)
class ChannelCloseOk(Method):
    pass


@dataclass(frozen=True)
class AccessRequest(Method):
    realm: str = "/data"
    exclusive: bool = False
    passive: bool = True
    active: bool = True
    write: bool = True
    read: bool = True


@dataclass(frozen=True)
class AccessRequestOk(Method):
    ticket: int = 1


@dataclass(frozen=True)
class ExchangeDeclare(Method):
    exchange: str
    type: str = "direct"
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExchangeDeclareOk(Method):
    pass


@dataclass(frozen=True)
class ExchangeDelete(Method):
    exchange: str
    if_unused: bool = False
    nowait: bool = False


@dataclass(frozen=True)
class ExchangeDeleteOk(Method):
    pass


@dataclass(frozen=True)
class ExchangeBind(Method):
    destination: str
    source: str
    routing_key: str = ""
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExchangeBindOk(Method):
    pass


@dataclass(frozen=True)
class ExchangeUnbind(Method):
    destination: str
    source: str
    routing_key: str = ""
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExchangeUnbindOk(Method):
    pass


@dataclass(frozen=True)
class QueueDeclare(Method):
    queue: str = ""
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueDeclareOk(Method):
    queue: str
    message_count: int = 0
    consumer_count: int = 0


@dataclass(frozen=True)
class QueueBind(Method):
    queue: str
    exchange: str
    routing_key: str = ""
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueBindOk(Method):
    pass


@dataclass(frozen=True)
class QueuePurge(Method):
    queue: str = ""
    nowait: bool = False


@dataclass(frozen=True)
class QueuePurgeOk(Method):
    message_count: int


@dataclass(frozen=True)
class QueueDelete(Method):
    queue: str = ""
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False


@dataclass(frozen=True)
class QueueDeleteOk(Method):
    message_count: int


@dataclass(frozen=True)
class QueueUnbind(Method):
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QueueUnbindOk(Method):
    pass


@dataclass(frozen=True)
class BasicQos(Method):
    prefetch_size: int = 0
    prefetch_count: int = 0
    global_: bool = False


@dataclass(frozen=True)
class BasicQosOk(Method):
    pass


@dataclass(frozen=True)
class BasicConsume(Method):
    queue: str = ""
    consumer_tag: str = ""
    no_local: bool = False
    no_ack: bool = False
    exclusive: bool = False
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BasicConsumeOk(Method):
    consumer_tag: str


@dataclass(frozen=True)
class BasicCancel(Method):
    consumer_tag: str
    nowait: bool = False


@dataclass(frozen=True)
class BasicCancelOk(Method):
    consumer_tag: str


@dataclass(frozen=True)
class BasicPublish(Method):
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool = False
    immediate: bool = False


@dataclass(frozen=True)
class BasicReturn(Method):
    reply_code: int
    reply_text: str
    exchange: str
    routing_key: str


@dataclass(frozen=True)
class BasicDeliver(Method):
    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str


@dataclass(frozen=True)
class BasicGet(Method):
    queue: str = ""
    no_ack: bool = False


@dataclass(frozen=True)
class BasicGetOk(Method):
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    message_count: int


@dataclass(frozen=True)
class BasicGetEmpty(Method):
    pass


@dataclass(frozen=True)
class BasicAck(Method):
    delivery_tag: int = 0
    multiple: bool = False


@dataclass(frozen=True)
class BasicReject(Method):
    delivery_tag: int
    requeue: bool = True


@dataclass(frozen=True)
class BasicRecoverAsync(Method):
    requeue: bool = False


@dataclass(frozen=True)
class BasicRecover(Method):
    requeue: bool = False


@dataclass(frozen=True)
class BasicRecoverOk(Method):
    pass


@dataclass(frozen=True)
class BasicNack(Method):
    delivery_tag: int = 0
    multiple: bool = False
    requeue: bool = True


@dataclass(frozen=True)
class ConfirmSelect(Method):
    nowait: bool = False


@dataclass(frozen=True)
class ConfirmSelectOk(Method):
    pass


@dataclass(frozen=True)
class TxSelect(Method):
    pass


@dataclass(frozen=True)
class TxSelectOk(Method):
    pass


@dataclass(frozen=True)
class TxCommit(Method):
    pass


@dataclass(frozen=True)
class TxCommitOk(Method):
    pass


@dataclass(frozen=True)
class TxRollback(Method):
    pass


@dataclass(frozen=True)
class TxRollbackOk(Method):
    pass


# Class id, method id, class, wire types of the arguments in order. A type that begins with "-" is reserved: it has no
# field, is sent as zero and ignored when received.
METHODS: Final[list[tuple[int, int, type[Method], str]]] = [
    (10, 10, ConnectionStart, "octet octet table longstr longstr"),
    (10, 11, ConnectionStartOk, "table shortstr longstr shortstr"),
    (10, 20, ConnectionSecure, "longstr"),
    (10, 21, ConnectionSecureOk, "longstr"),
    (10, 30, ConnectionTune, "short long short"),
    (10, 31, ConnectionTuneOk, "short long short"),
    (10, 40, ConnectionOpen, "shortstr -shortstr -bit"),
    (10, 41, ConnectionOpenOk, "-shortstr"),
    (10, 50, ConnectionClose, "short shortstr short short"),
    (10, 51, ConnectionCloseOk, ""),
    (10, 60, ConnectionBlocked, "shortstr"),
    (10, 61, ConnectionUnblocked, ""),
    (10, 70, ConnectionUpdateSecret, "longstr shortstr"),
    (10, 71, ConnectionUpdateSecretOk, ""),
    (20, 10, ChannelOpen, "-shortstr"),
    (20, 11, ChannelOpenOk, "-longstr"),
    (20, 20, ChannelFlow, "bit"),
    (20, 21, ChannelFlowOk, "bit"),
    (20, 40, ChannelClose, "short shortstr short short"),
    (20, 41, ChannelCloseOk, ""),
    (30, 10, AccessRequest, "shortstr bit bit bit bit bit"),
    (30, 11, AccessRequestOk, "short"),
    (40, 10, ExchangeDeclare, "-short shortstr shortstr bit bit bit bit bit table"),
    (40, 11, ExchangeDeclareOk, ""),
    (40, 20, ExchangeDelete, "-short shortstr bit bit"),
    (40, 21, ExchangeDeleteOk, ""),
    (40, 30, ExchangeBind, "-short shortstr shortstr shortstr bit table"),
    (40, 31, ExchangeBindOk, ""),
    (40, 40, ExchangeUnbind, "-short shortstr shortstr shortstr bit table"),
    (40, 51, ExchangeUnbindOk, ""),
    (50, 10, QueueDeclare, "-short shortstr bit bit bit bit bit table"),
    (50, 11, QueueDeclareOk, "shortstr long long"),
    (50, 20, QueueBind, "-short shortstr shortstr shortstr bit table"),
    (50, 21, QueueBindOk, ""),
    (50, 30, QueuePurge, "-short shortstr bit"),
    (50, 31, QueuePurgeOk, "long"),
    (50, 40, QueueDelete, "-short shortstr bit bit bit"),
    (50, 41, QueueDeleteOk, "long"),
    (50, 50, QueueUnbind, "-short shortstr shortstr shortstr table"),
    (50, 51, QueueUnbindOk, ""),
    (60, 10, BasicQos, "long short bit"),
    (60, 11, BasicQosOk, ""),
    (60, 20, BasicConsume, "-short shortstr shortstr bit bit bit bit table"),
    (60, 21, BasicConsumeOk, "shortstr"),
    (60, 30, BasicCancel, "shortstr bit"),
    (60, 31, BasicCancelOk, "shortstr"),
    (60, 40, BasicPublish, "-short shortstr shortstr bit bit"),
    (60, 50, BasicReturn, "short shortstr shortstr shortstr"),
    (60, 60, BasicDeliver, "shortstr longlong bit shortstr shortstr"),
    (60, 70, BasicGet, "-short shortstr bit"),
    (60, 71, BasicGetOk, "longlong bit shortstr shortstr long"),
    (60, 72, BasicGetEmpty, "-shortstr"),
    (60, 80, BasicAck, "longlong bit"),
    (60, 90, BasicReject, "longlong bit"),
    (60, 100, BasicRecoverAsync, "bit"),
    (60, 110, BasicRecover, "bit"),
    (60, 111, BasicRecoverOk, ""),
    (60, 120, BasicNack, "longlong bit bit"),
    (85, 10, ConfirmSelect, "bit"),
    (85, 11, ConfirmSelectOk, ""),
    (90, 10, TxSelect, ""),
    (90, 11, TxSelectOk, ""),
    (90, 20, TxCommit, ""),
    (90, 21, TxCommitOk, ""),
    (90, 30, TxRollback, ""),
    (90, 31, TxRollbackOk, ""),
]

_IDS: Final = {method: (class_id, method_id) for class_id, method_id, method, _ in METHODS}
_CLASS_NAMES: Final = {
    10: "connection",
    20: "channel",
    30: "access",
    40: "exchange",
    50: "queue",
    60: "basic",
    85: "confirm",
    90: "tx",
}


def field_names(method: type[Any]) -> list[str]:
    """The method's fields in the order of the wire."""
    return [each.name for each in fields(method)]


def method_ids(method: Method) -> tuple[int, int]:
    """(class id, method id), as close methods name the method that failed."""
    return _IDS[type(method)]


def method_name(method: Method) -> str:
    """The specification's name: `"queue.declare-ok"` for a `QueueDeclareOk`."""
    class_name = _CLASS_NAMES[_IDS[type(method)][0]]
    words = re.findall("[A-Z][a-z]*", type(method).__name__[len(class_name) :])
    return class_name + "." + "-".join(words).lower()
