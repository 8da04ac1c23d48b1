from __future__ import annotations

from typing import Any

import pytest
from broker.clients import channel_error, get_all, publish
from broker.conftest import Connect
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel

# Properties that are checked when a message is published


def test_the_own_user_id_and_a_good_expiration(channel: BlockingChannel, queue: str) -> None:
    channel.basic_publish("", queue, b"x", BasicProperties(user_id="guest", expiration="+3600000"))
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    assert (body, properties.user_id, properties.expiration) == (b"x", "guest", "+3600000")


REFUSED = [
    ({"user_id": "x"}, "user_id property set to 'x' but authenticated user was 'guest'"),
    ({"user_id": ""}, "user_id property set to '' but authenticated user was 'guest'"),
    ({"expiration": ""}, "invalid expiration '': no_integer"),
    ({"expiration": "1.5"}, "invalid expiration '1.5': {leftover_string,\".5\"}"),
    ({"expiration": "-1"}, "invalid expiration '-1': {value_negative,-1}"),
    ({"expiration": "315360000001"}, "invalid expiration '315360000001': {value_too_large,315360000001}"),
    ({"delivery_mode": 3}, "invalid message: {delivery_mode_unknown,3}"),
]


@pytest.mark.parametrize(("properties", "text"), REFUSED)
def test_a_refused_property_closes_the_channel_behind_what_came_before(
    connect: Connect, channel: BlockingChannel, queue: str, properties: dict[str, Any], text: str
) -> None:
    publisher = connect().channel()
    with channel_error(406, f"PRECONDITION_FAILED - {text}"):
        publish(publisher, queue, b"before")
        publisher.basic_publish("", queue, b"refused", BasicProperties(**properties))
        publish(publisher, queue, b"behind")
        publisher.queue_declare(queue, passive=True)
    assert get_all(channel, queue) == [b"before"]
