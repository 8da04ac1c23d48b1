"""x-message-deduplication of queues and exchanges."""

from __future__ import annotations

import time
from typing import Any

import pytest
from broker.clients import channel_error, get_all, wait_until
from broker.conftest import Connect, Fresh, rabbitmq_differs
from broker.process import BrokerProcess
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError, UnroutableError

pytestmark = rabbitmq_differs(reason="RabbitMQ has it as a plugin, which is different")

ON: dict[str, Any] = {"x-message-deduplication": True}


def send(
    channel: BlockingChannel, exchange: str, key: str, body: bytes, *, mandatory: bool = False, **headers: Any
) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    properties = BasicProperties(headers=named, delivery_mode=2)
    channel.basic_publish(exchange, key, body, properties, mandatory=mandatory)


def test_a_queue_takes_a_message_once(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("q")
    channel.queue_declare(name, arguments=ON)
    channel.confirm_delivery()
    for number, value in enumerate(("a", "b", "a", 1, "1", 1, None, None)):
        send(channel, "", name, str(number).encode(), mandatory=True, x_deduplication_header=value)
    channel.basic_publish("", name, b"without")
    assert get_all(channel, name) == [b"0", b"1", b"3", b"4", b"6", b"7", b"without"]
    send(channel, "", name, b"late", x_deduplication_header="a")
    assert get_all(channel, name) == []


def test_an_exchange_takes_a_message_once(channel: BlockingChannel, fresh: Fresh) -> None:
    x, queues = fresh("x"), [fresh("q"), fresh("r")]
    channel.exchange_declare(x, "topic", arguments={**ON, "x-deduplication-header": "id"})
    for name in queues:
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, x, "#")
    channel.confirm_delivery()
    for number, value in enumerate(("a", "b", "a")):
        send(channel, x, f"key.{number}", str(number).encode(), id=value)
    with pytest.raises(UnroutableError):
        send(channel, x, "key", b"returned", mandatory=True, id="a")
    assert [get_all(channel, name) for name in queues] == [[b"0", b"1"]] * 2


def test_a_duplicate_does_not_go_to_the_alternate_exchange(channel: BlockingChannel, fresh: Fresh) -> None:
    x, name = fresh("x"), fresh("q")
    channel.exchange_declare(x, "direct", arguments={**ON, "alternate-exchange": "amq.fanout"})
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, "amq.fanout")
    for body in (b"1", b"2"):
        send(channel, x, "nobody's", body, x_deduplication_header="a")
    channel.confirm_delivery()
    send(channel, x, "nobody's", b"3", x_deduplication_header="b")
    assert get_all(channel, name) == [b"1", b"3"]


def test_the_oldest_is_forgotten_first(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("q")
    channel.queue_declare(name, arguments={**ON, "x-cache-size": 2})
    for number, value in enumerate("abacab"):
        send(channel, "", name, str(number).encode(), x_deduplication_header=value)
    assert get_all(channel, name) == [b"0", b"1", b"3", b"4", b"5"]


@pytest.mark.parametrize("own", [False, True])
def test_after_a_time_it_may_come_again(channel: BlockingChannel, fresh: Fresh, own: bool) -> None:
    name = fresh("q")
    channel.queue_declare(name, arguments=ON if own else {**ON, "x-cache-ttl": 100})
    ttl: dict[str, Any] = {"x_cache_ttl": 100} if own else {}
    bodies: list[bytes] = []

    def comes_again() -> bool:
        send(channel, "", name, b"x", x_deduplication_header="a", **ttl)
        bodies.extend(get_all(channel, name))
        return len(bodies) == 2

    began = time.monotonic()
    wait_until(channel, comes_again)
    assert time.monotonic() - began >= 0.1


def test_what_was_refused_may_come_again(channel: BlockingChannel, fresh: Fresh) -> None:
    x, name = fresh("x"), fresh("q")
    channel.exchange_declare(x, "fanout", arguments=ON)
    channel.queue_declare(name, arguments={**ON, "x-max-length": 1, "x-overflow": "reject-publish"})
    channel.queue_bind(name, x)
    channel.confirm_delivery()
    send(channel, x, "", b"1", x_deduplication_header="a")
    for _ in range(2):
        with pytest.raises(NackError):
            send(channel, x, "", b"2", x_deduplication_header="b")
    assert get_all(channel, name) == [b"1"]
    for body in (b"3", b"4"):
        send(channel, x, "", body, x_deduplication_header="b")
    assert get_all(channel, name) == [b"3"]


def test_a_restart(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    channel.queue_declare("q", durable=True, arguments=ON)
    channel.confirm_delivery()
    send(channel, "", "q", b"before", x_deduplication_header="a")
    own_broker.kill()
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.confirm_delivery()
    for value in "ab":
        send(channel, "", "q", b"after", x_deduplication_header=value)
    assert get_all(channel, "q") == [b"before", b"after"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"x-message-deduplication": "yes"}, "'x-message-deduplication' for {}: {{unacceptable_type,longstr}}"),
        ({"x-cache-size": -1}, "'x-cache-size' for {}: {{value_negative,-1}}"),
        ({"x-cache-ttl": "1"}, "'x-cache-ttl' for {}: \"expected integer, got longstr\""),
        ({"x-deduplication-header": 1}, "'x-deduplication-header' for {}: {{unacceptable_type,signedint}}"),
    ],
)
@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_arguments_that_make_no_sense(
    channel: BlockingChannel, fresh: Fresh, kind: str, arguments: dict[str, Any], problem: str
) -> None:
    name = fresh("name")
    text = problem.format(f"{kind} '{name}' in vhost '/'")
    with channel_error(406, f"PRECONDITION_FAILED - invalid arg {text}"):
        if kind == "queue":
            channel.queue_declare(name, arguments=arguments)
        else:
            channel.exchange_declare(name, arguments=arguments)


@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_it_is_declared_again_as_it_was(channel: BlockingChannel, fresh: Fresh, kind: str) -> None:
    name = fresh("name")
    declare = channel.queue_declare if kind == "queue" else channel.exchange_declare
    for _ in range(2):
        declare(name, arguments=ON)
    text = f"inequivalent arg 'x-message-deduplication' for {kind} '{name}' in vhost '/': received none but current is"
    with channel_error(406, f"PRECONDITION_FAILED - {text} the value 'true' of type 'bool'"):
        declare(name)
