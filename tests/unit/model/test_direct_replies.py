import os
from dataclasses import replace
from typing import Any

import pytest
from pamqp.frame import unmarshal

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import make_message
from dispatchd.amqp.properties import Properties, decode_properties
from dispatchd.model.direct_replies import (
    ADDRESS_PREFIX,
    REPLY_TO,
    ReplyAddresses,
    ReplyConsumer,
    address_request,
    in_no_queue,
)

ALL = Properties("type", "encoding", {"a": [1, {"b": None}]}, 2, 3, "id", REPLY_TO, "5", "m", 7, "t", "guest", "a", "c")


def test_each_address_is_another_and_leads_to_its_channel() -> None:
    addresses = ReplyAddresses(os.urandom)
    first, second = addresses.open("one"), addresses.open("two")
    assert first != second
    assert first.startswith(ADDRESS_PREFIX)
    assert len(first) <= 255
    found = addresses.find(second)
    assert found is not None
    assert found.ref == "two"
    addresses.close(second)
    assert addresses.find(second) is None
    assert addresses.find(first) is not None


def test_what_can_be_declared() -> None:
    addresses = ReplyAddresses(os.urandom)
    address = addresses.open("channel")
    assert addresses.can_be_declared(REPLY_TO)
    assert addresses.can_be_declared(address)
    assert not addresses.can_be_declared(address + "x")
    assert not addresses.can_be_declared(ADDRESS_PREFIX)


def test_a_request_gets_the_address_and_keeps_everything_else() -> None:
    request = make_message("", "q", ALL, b"body")
    address_request(request, "amq.rabbitmq.reply-to.x")
    assert decode_properties(request.header) == replace(ALL, reply_to="amq.rabbitmq.reply-to.x")
    assert request.persistent


@pytest.mark.parametrize("reply_to", [None, "", "q", REPLY_TO + ".x", REPLY_TO[:-1], REPLY_TO.upper()])
def test_other_messages_stay_as_they_are(reply_to: str | None) -> None:
    message = make_message("", "q", replace(ALL, reply_to=reply_to), b"body")
    header = message.header
    for address in ("", "amq.rabbitmq.reply-to.y"):
        address_request(message, address)
        assert message.header is header


def test_a_request_of_a_channel_without_an_address() -> None:
    with pytest.raises(PreconditionFailed, match="PRECONDITION_FAILED - fast reply consumer does not exist"):
        address_request(make_message("", "q", ALL, b""), "")


def test_answers_are_deliveries_that_all_have_the_tag_of_the_next_one() -> None:
    consumer = ReplyConsumer("mine", "address")
    answers = [make_message("", "address", Properties(correlation_id=str(number)), b"x") for number in range(2)]
    data = b"".join(consumer.encode(answers, 3, 8, 4096))
    for number in range(2):
        frames: list[Any] = []
        for _ in range(3):
            size, channel, frame = unmarshal(data)
            assert channel == 3
            frames.append(frame)
            data = data[size:]
        deliver, header, body = frames
        assert dict(deliver) == {
            "consumer_tag": "mine",
            "delivery_tag": 8,
            "redelivered": False,
            "exchange": "",
            "routing_key": "address",
        }
        assert header.properties.correlation_id == str(number)
        assert body.value == b"x"
    assert data == b""


def test_returned_is_what_is_mandatory_and_went_nowhere_else() -> None:
    messages = [make_message("", "address", Properties(), b"") for _ in range(4)]
    for message, mandatory, queues in zip(messages, (True, True, False, False), (1, 2, 1, 2), strict=True):
        message.mandatory, message.queues = mandatory, queues
    assert in_no_queue(messages) == messages[:1]
