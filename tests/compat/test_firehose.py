"""The firehose, played on dispatchd and on RabbitMQ: both copy the same, but for the names of node and connections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from broker.admin import api
from broker.process import BrokerProcess
from broker.raw import RawClient
from compat.player import play
from compat.rabbitmq import RabbitMQ
from compat.scenarios.reply_to import ASKED, LISTEN
from compat.script import (
    Ack,
    Bind,
    BindExchange,
    Confirm,
    Consume,
    Delete,
    Exchange,
    Get,
    Nack,
    Publish,
    Qos,
    Queue,
    Reject,
    Reply,
    Rollback,
    Select,
    Step,
    Until,
    unchecked,
)
from compat.transcript import Transcript, differences
from pamqp import commands as spec
from pamqp.frame import marshal
from pamqp.header import ContentHeader

TRACE = "amq.rabbitmq.trace"
NAMES = re.compile(r"'connection': '127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+'|'node': '\w[\w-]*@[\w-]+'")
HEADER_FRAME, FRAME_OVERHEAD, HEADER_FIXED_SIZE = 2, 8, 14

WATCH = (Queue("fire", on=(2, 1)), Bind("fire", TRACE, "#", on=(2, 1)), Consume("fire", "w", no_ack=True, on=(2, 1)))
"""Copies come to a connection of their own."""

PROPERTIES = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "headers": {
        "CC": ["a"],
        "n": {"a": [1, 2**40, True, None, Decimal("1.5"), -1.5, "é", bytearray(b"\xff")]},
    },
    "delivery_mode": 2,
    "priority": 255,
    "correlation_id": "c",
    "reply_to": "r",
    "expiration": "60000",
    "message_id": "m",
    "timestamp": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    "message_type": "t",
    "user_id": "guest",
    "app_id": "ap",
    "cluster_id": "cl",
}

TWO_QUEUES = (Queue("q"), Queue("r"))
DEAD_LETTERS = {"x-dead-letter-exchange": "amq.fanout"}

SAME: dict[str, tuple[Step, ...]] = {
    "the default exchange": (Queue("q"), Publish("", "q", "1"), Publish("", "none", "2")),
    "a direct exchange": (
        *TWO_QUEUES,
        *(Bind(queue, "amq.direct", "k") for queue in "rq"),
        Publish("amq.direct", "k", "1"),
        Publish("amq.direct", "none", "2", mandatory=True),
    ),
    "a fanout": (*TWO_QUEUES, *(Bind(queue, "amq.fanout") for queue in "qr"), Publish("amq.fanout", "a.b", "1")),
    "a topic": (
        *TWO_QUEUES,
        Bind("q", "amq.topic", "a.#"),
        Bind("q", "amq.topic", "*.b"),
        Bind("r", "amq.topic", "c"),
        Publish("amq.topic", "a.b", "1"),
        Publish("amq.topic", "x", "2"),
    ),
    "headers": (
        *TWO_QUEUES,
        Bind("q", "amq.headers", arguments={"a": 1}),
        Publish("amq.headers", "", "1", {"headers": {"a": 1}}),
        Publish("amq.headers", "", "2", {"headers": {"a": 2}}),
    ),
    "an exchange with a name of many words": (
        Exchange("orders.new.é", "fanout"),
        Queue("q.a.b"),
        Bind("q.a.b", "orders.new.é"),
        Publish("orders.new.é", "k", "1"),
        Get("q.a.b", no_ack=True),
    ),
    "exchanges behind exchanges": (
        *TWO_QUEUES,
        Exchange("e", "fanout"),
        Exchange("f", "topic"),
        BindExchange("f", "e"),
        BindExchange("e", "f", "#"),
        Bind("r", "e"),
        Bind("q", "f", "k"),
        Bind("r", "f", "#"),
        Publish("e", "k", "1"),
        Publish("f", "x", "2"),
    ),
    "an alternate exchange": (
        *TWO_QUEUES,
        Exchange("ae", "fanout"),
        Exchange("e", "direct", arguments={"alternate-exchange": "ae"}),
        Bind("q", "ae"),
        Bind("r", "e", "k"),
        Publish("e", "k", "1"),
        Publish("e", "x", "2"),
    ),
    "copies by CC and BCC": (
        *TWO_QUEUES,
        *(Bind(queue, "amq.direct", queue) for queue in "qr"),
        Publish("amq.direct", "x", "1", {"headers": {"CC": ["r", "y", "r"], "BCC": ["q"]}}),
        Publish("", "q", "2", {"headers": {"CC": ["none", "q"], "BCC": ["r", 1]}}),
        Get("q", no_ack=True),
        Get("q", no_ack=True),
        Get("r", no_ack=True),
    ),
    "all properties": (Queue("q"), Publish("", "q", "1", PROPERTIES), Get("q")),
    "no properties and no body": (Queue("q"), Publish("", "q", ""), Get("q")),
    "empty headers and texts": (
        Queue("q"),
        Publish("", "q", "1", {"headers": {}, "content_type": "", "priority": 0}),
        Get("q"),
    ),
    "a large body": (Queue("q"), Publish("", "q", "x" * 300_000), Get("q", no_ack=True)),
    "deliveries with acks": (
        Queue("q"),
        Qos(2),
        Consume("q", "c", on=3),
        *(Publish("", "q", body) for body in "123"),
        Ack(1, on=3),
        Ack(2, on=3),
    ),
    "deliveries without acks": (Queue("q"), Consume("q", "c", no_ack=True), *(Publish("", "q", body) for body in "12")),
    "redeliveries": (
        Queue("q"),
        Publish("", "q", "1"),
        Get("q"),
        Nack(1),
        Get("q"),
        Reject(2, requeue=True),
        Consume("q", "c"),
    ),
    "gets": (Queue("q"), Get("q"), Publish("", "q", "1"), Publish("", "q", "2"), Get("q"), Get("q", no_ack=True)),
    "expired letters": (
        *TWO_QUEUES,
        Bind("q", "amq.fanout"),
        Queue("short", arguments={**DEAD_LETTERS, "x-message-ttl": 0}),
        Publish("", "short", "1"),
        Until("q", 1),
        Get("q"),
    ),
    "rejected letters": (
        *TWO_QUEUES,
        Bind("q", "amq.fanout"),
        Queue("rejecting", arguments={**DEAD_LETTERS, "x-dead-letter-routing-key": "dead"}),
        Publish("", "rejecting", "1", {"headers": {"CC": ["r"]}}),
        Get("rejecting"),
        Nack(1, requeue=False),
        Until("q", 1),
        Get("q"),
    ),
    "more than a queue takes": (
        Queue("q", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}),
        Confirm(),
        Publish("", "q", "1"),
        Publish("", "q", "2"),
    ),
    "what is refused": (
        Publish("none", "k", "1"),
        Publish(TRACE, "k", "2"),
        Publish("", "q", "3", {"expiration": "x"}),
    ),
    "direct replies": (
        Queue("q"),
        LISTEN,
        Publish("", "q", "ask", ASKED),
        Get("q", no_ack=True),
        Reply("answer"),
    ),
    "copies that die are delivered as letters": (
        Queue("dead"),
        Bind("dead", "amq.fanout"),
        Queue("copies", arguments={**DEAD_LETTERS, "x-message-ttl": 0}),
        Bind("copies", TRACE, "publish.#"),
        Publish("", "none", "1"),
        Until("dead", 1),
        Get("dead", no_ack=True),
    ),
    "copies through another exchange": (
        Exchange("e", "fanout"),
        BindExchange("e", TRACE, "publish.amq.*"),
        Queue("q"),
        Bind("q", "e"),
        Publish("amq.direct", "k", "1"),
        Publish("", "none", "2"),
        Get("q", no_ack=True),
        Get("q", no_ack=True),
    ),
    "the last of a channel and of a queue": (
        Queue("q"),
        Publish("", "q", "1", on=4),
        Delete("q"),
        Publish("", "q", "2"),
    ),
}

DIFFERENT: dict[str, tuple[Step, ...]] = {
    # Copied when they are committed; RabbitMQ copies them at once.
    "a transaction": (Queue("q"), Select(), Publish("", "q", "1"), Rollback()),
    # Kept; RabbitMQ has 32 bits for it.
    "a time after 2038": (Publish("", "q", "1", {"timestamp": datetime(2040, 1, 1, tzinfo=UTC)}),),
}


def set_tracing(rabbitmq: RabbitMQ, dispatchd: BrokerProcess, *, tracing: bool) -> None:
    rabbitmq.control("trace_on" if tracing else "trace_off")
    assert api(dispatchd, "PUT", "vhosts/%2F", {"tracing": tracing})[0] == 204


@pytest.fixture(scope="module", autouse=True)
def _tracing(rabbitmq: RabbitMQ, dispatchd: BrokerProcess) -> Iterator[None]:
    """On for this module only."""
    rabbitmq.control("await_startup")
    set_tracing(rabbitmq, dispatchd, tracing=True)
    yield
    set_tracing(rabbitmq, dispatchd, tracing=False)


def without_names(transcript: Transcript) -> Transcript:
    return [[NAMES.sub(lambda found: f"{found[0].split(':')[0]}: '…'", line) for line in lines] for lines in transcript]


def difference(rabbitmq: RabbitMQ, dispatchd: BrokerProcess, steps: tuple[Step, ...]) -> str:
    steps = (*WATCH, *steps)
    ours, theirs = (without_names(play(broker, steps)) for broker in (dispatchd, rabbitmq))
    return differences(steps, ours, theirs)


@pytest.mark.parametrize("steps", [pytest.param(steps, id=name) for name, steps in SAME.items()])
def test_copies_as_rabbitmq(rabbitmq: RabbitMQ, dispatchd: BrokerProcess, steps: tuple[Step, ...]) -> None:
    if found := difference(rabbitmq, dispatchd, steps):
        pytest.fail(found, pytrace=False)


@pytest.mark.parametrize("steps", [pytest.param(steps, id=name) for name, steps in DIFFERENT.items()])
def test_copies_otherwise(rabbitmq: RabbitMQ, dispatchd: BrokerProcess, steps: tuple[Step, ...]) -> None:
    assert difference(rabbitmq, dispatchd, steps)


def test_copies_are_seen_at_all(dispatchd: BrokerProcess) -> None:
    """Else all of this would compare nothing."""
    said = str(play(dispatchd, (*WATCH, *SAME["all properties"])))
    assert all(f"exchange='{TRACE}', routing_key='{key}'" in said for key in ("publish.", "deliver.q"))


def test_copies_are_the_same_to_the_octet(rabbitmq: RabbitMQ, dispatchd: BrokerProcess) -> None:
    ours, theirs = (copied_headers(broker) for broker in (dispatchd, rabbitmq))
    assert len(ours) == 2
    assert ours == theirs


def copied_headers(broker: RabbitMQ | BrokerProcess) -> list[bytes]:
    """The flags and headers of the copies of one message, with the values of node and connection left out."""
    client = RawClient(broker.host, broker.port)
    client.open()
    client.open_channel()
    ask(client, spec.Queue.Declare(queue="copies", exclusive=True))
    ask(client, spec.Queue.Bind(queue="copies", exchange=TRACE, routing_key="#"))
    ask(client, spec.Queue.Declare(queue="q", exclusive=True))
    client.send(spec.Basic.Publish(routing_key="q"), 1)
    header: Any = ContentHeader(0, 1, unchecked(spec.Basic.Properties)(**PROPERTIES))
    client.send_bytes(marshal(header, 1) + b"\x03\0\x01\0\0\0\x01x\xce")
    get_header(client, "q")
    found = [get_header(client, "copies") for _ in range(2)]
    client.close()
    return [without(without(octets, b"\x04nodeS"), b"\x0aconnectionS") for octets in found]


def without(octets: bytes, name: bytes) -> bytes:
    """Without the value, a text, of the field that begins so."""
    before, after = octets.split(name)
    return before + name + after[4 + int.from_bytes(after[:4], "big") :]


def ask(client: RawClient, method: Any) -> None:
    client.send(method, 1)
    client.receive()


def get_header(client: RawClient, queue: str) -> bytes:
    """Of the next message in a queue, as soon as there is one: its property flags and what follows the table's size."""
    while True:
        client.send(spec.Basic.Get(queue=queue, no_ack=True), 1)
        received = b""
        while True:
            received += client.socket.recv(65536)
            frames = list(whole_frames(received))
            if frames and frames[0][1][:4] == b"\0\x3c\0\x48":  # get-empty
                break
            if len(frames) == 3:
                payload = frames[1][1]
                return payload[12:14] + payload[HEADER_FIXED_SIZE + 4 :]


def whole_frames(received: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while len(received) >= at + FRAME_OVERHEAD:
        size = int.from_bytes(received[at + 3 : at + 7], "big")
        if len(received) < at + FRAME_OVERHEAD + size:
            return
        yield received[at], received[at + 7 : at + 7 + size]
        at += FRAME_OVERHEAD + size
