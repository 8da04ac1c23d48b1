"""Copies for the firehose. What is expected is what RabbitMQ 3.10.8 has shown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.message import Message, make_message, split_address
from dispatchd.amqp.properties import Properties, decode_properties, delivery_mode
from dispatchd.model.copies import address_copies
from dispatchd.model.trace import Firehose, Party, Trace

PARTY = Party("127.0.0.1:4 -> 127.0.0.1:5672", 3, "guest")
FIREHOSE = Firehose("dispatchd@host", "/")


def sent(exchange: str = "x", routing_key: str = "k", **properties: Any) -> Message:
    message = make_message(exchange, routing_key, Properties(**properties), b"body")
    address_copies(message)
    return message


def trace(*routes: tuple[str, list[Message]]) -> Trace:
    made = Trace(None, PARTY)
    for queue, messages in routes:
        made.note(queue, messages)
    return made


def headers(copy: Message) -> dict[str, Any]:
    found = decode_properties(copy.header)
    assert found == Properties(headers=found.headers)
    assert found.headers is not None
    return found.headers


def in_order(table: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(table.items())


def test_what_is_published_is_copied_with_all_that_is_known_of_it() -> None:
    message = sent("x", "k", content_type="text/plain", headers={"CC": ["a"], "BCC": ["b"], "n": 1}, priority=3)
    (copy,) = FIREHOSE.published([message], trace(("q2", [message]), ("q1", [message])))
    assert (copy.exchange, copy.routing_key, copy.body) == ("amq.rabbitmq.trace", "publish.x", b"body")
    assert split_address(copy.address) == ("amq.rabbitmq.trace", "publish.x")
    assert not copy.persistent
    assert in_order(headers(copy)) == in_order(
        {
            "exchange_name": "x",
            "routing_keys": ["k", "a", "b"],
            "properties": {"priority": 3, "headers": {"CC": ["a"], "n": 1}, "content_type": "text/plain"},
            "node": "dispatchd@host",
            "vhost": "/",
            "connection": "127.0.0.1:4 -> 127.0.0.1:5672",
            "channel": 3,
            "user": "guest",
            "routed_queues": ["q1", "q2"],
        }
    )


def test_what_is_delivered_is_copied_with_its_queue() -> None:
    message = sent()
    first, again = FIREHOSE.delivered("q", [(message, False), (message, True)], PARTY)
    assert (first.routing_key, first.body, again.routing_key) == ("deliver.q", b"body", "deliver.q")
    assert in_order(headers(first)) == in_order(
        {
            "exchange_name": "x",
            "routing_keys": ["k"],
            "properties": {},
            "node": "dispatchd@host",
            "redelivered": 0,
            "vhost": "/",
            "connection": "127.0.0.1:4 -> 127.0.0.1:5672",
            "channel": 3,
            "user": "guest",
        }
    )
    assert headers(again)["redelivered"] == 1


def test_each_message_of_a_batch_has_its_own_queues() -> None:
    both, one, none = sent(), sent(), sent()
    noted = trace(("b", [both, one]), ("a", [both]))
    assert [headers(copy)["routed_queues"] for copy in FIREHOSE.published([both, one, none], noted)] == [
        ["a", "b"],
        ["b"],
        [],
    ]


def test_the_default_exchange_names_what_was_named_whether_it_is_there_or_not() -> None:
    message = sent("", "q", headers={"CC": ["nope", "q"], "BCC": ["hidden"]})
    assert trace(("q", [message])).routed_queues(message) == ["hidden", "nope", "q"]


def test_a_reply_address_is_no_queue() -> None:
    message = sent("", "amq.rabbitmq.reply-to.abc")
    assert trace((message.routing_key, [message])).routed_queues(message) == []
    assert trace().routed_queues(sent("", "amq.rabbitmq.reply-to")) == ["amq.rabbitmq.reply-to"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_keys_of_long_names_are_cut_to_fit(name: str) -> None:
    message = sent(name)
    (published,) = FIREHOSE.published([message], trace())
    assert 254 <= len(published.routing_key.encode()) <= 255
    assert f"publish.{name}".startswith(published.routing_key)
    assert headers(published)["exchange_name"] == name


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_nothing_that_is_let_in_is_too_odd_to_be_copied(text: bytes, table: bytes) -> None:
    values = bytes([len(text)]) + text + len(table).to_bytes(4, "big") + table
    header = b"\0\x3c" + bytes(10) + b"\xa0\0" + values  # content_type and headers
    assert delivery_mode(header) == 0
    message = Message("x", "k", b"", header)
    try:
        address_copies(message)
    except AmqpError:
        return  # it is refused
    (copy,) = FIREHOSE.delivered("q", [(message, False)], PARTY)
    for octets in (text, table):
        assert len(octets).to_bytes(4, "big") + octets in copy.header
