from typing import Any

import pytest

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.field_table import Timestamp
from dispatchd.model.consumer_arguments import check_consumer_arguments

QUEUE = "queue 'q' in vhost '/'"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"x-priority": 0},
        {"x-priority": -(2**63)},
        {"x-priority": 2**63 - 1, "x-cancel-on-ha-failover": False},
        {"x-cancel-on-ha-failover": True, "x-credit": {}, "anything": "else"},
    ],
)
def test_what_is_right(arguments: dict[str, Any]) -> None:
    check_consumer_arguments(QUEUE, arguments)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("5", "longstr"),
        (b"5", "binary"),
        (True, "bool"),
        (5.0, "double"),
        (None, "void"),
        ([5], "array"),
        ({}, "table"),
        (Timestamp(5), "timestamp"),
    ],
)
def test_a_priority_is_an_integer(value: Any, shown: str) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        check_consumer_arguments(QUEUE, {"x-priority": value})
    expected = f"invalid arg 'x-priority' for {QUEUE}: \"expected integer, got {shown}\""
    assert caught.value.text == f"PRECONDITION_FAILED - {expected}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"x-cancel-on-ha-failover": 1},
            f"invalid arg 'x-cancel-on-ha-failover' for {QUEUE}: {{unacceptable_type,signedint}}",
        ),
        ({"x-stream-offset": "first"}, f"invalid arg 'x-stream-offset' for {QUEUE} of queue type rabbit_classic_queue"),
        (
            {"x-stream-offset": "first", "x-priority": "p"},
            f"invalid arg 'x-priority' for {QUEUE}: \"expected integer, got longstr\"",
        ),
    ],
)
def test_other_arguments(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        check_consumer_arguments(QUEUE, arguments)
    assert caught.value.text == f"PRECONDITION_FAILED - {text}"
