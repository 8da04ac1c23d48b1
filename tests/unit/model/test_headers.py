from decimal import Decimal
from typing import Any

import pytest
from unit.model.routing import bind, message, names, queue

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.field_table import Timestamp
from dispatchd.amqp.message import Message
from dispatchd.model.exchanges.headers import HeadersTable, check_headers_binding


def matched(arguments: dict[str, Any], headers: dict[str, Any] | None) -> bool:
    table = HeadersTable()
    bind(table, queue("q"), "", arguments)
    return names(table.match(message("any key", headers))) == ["q"]


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({"x-match": "all", "a": 1, "b": "2"}, {"a": 1, "b": "2", "c": 3}, True),
        ({"x-match": "all", "a": 1, "b": "2"}, {"a": 1}, False),
        ({"x-match": "all", "a": 1}, {"a": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),  # all is the default
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({"x-match": "all"}, {}, True),
        ({}, None, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"x-match": "all", "a": 1}, None, False),
        # what begins with x- counts only with-x, and x-match never
        ({"x-match": "all", "x-a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"b": 2}, False),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, {"x-a": 1, "b": 2}, True),
        ({"x-match": "any", "x-a": 1, "b": 2}, {"x-a": 1}, False),
        ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-match": "any-with-x"}, False),
        # no value asks for presence
        ({"x-match": "all", "a": None}, {"a": "anything"}, True),
        ({"x-match": "all", "a": None}, {"b": 1}, False),
        ({"x-match": "any", "a": None, "b": 1}, {"a": None}, True),
    ],
)
def test_what_arguments_match(arguments: dict[str, Any], headers: dict[str, Any] | None, expected: bool) -> None:
    assert matched(arguments, headers) is expected


@pytest.mark.parametrize(
    ("one", "another", "equal"),
    [
        (1, "1", False),
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        (2**40, 2**40, True),
        (5, Timestamp(5), True),
        ("text", b"text", True),
        ("text", "Text", False),
        (Decimal("1.5"), Decimal("1.5"), True),
        (Decimal("1.5"), Decimal("1.50"), False),
        (Decimal(1), 1, False),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ([1], [True], False),
        ("", None, False),
    ],
)
def test_values_are_compared_as_rabbitmq_does(one: Any, another: Any, equal: bool) -> None:
    assert matched({"h": one}, {"h": another}) is equal
    if another is not None:  # as an argument it would ask for presence
        assert matched({"h": another}, {"h": one}) is equal


def test_messages_with_equal_headers_lead_to_one_list_until_bindings_change() -> None:
    table = HeadersTable()
    bound = bind(table, queue("q"), "", {"a": 1})
    found = table.match(message("", {"a": 1}))
    assert table.match(message("another key", {"a": 1})) is found
    assert table.match(message("", {"a": 2})) == []
    bind(table, queue("r"), "", {"a": 2})
    assert names(table.match(message("", {"a": 2}))) == ["r"]
    table.unbind(bound)
    assert table.match(message("", {"a": 1})) == []


def test_a_queue_is_matched_once_and_unbound_at_last() -> None:
    table = HeadersTable()
    q = queue("q")
    first, second = bind(table, q, "", {"a": 1}), bind(table, q, "", {"b": 2})
    sent = message("", {"a": 1, "b": 2})
    assert table.match(sent) == [q]
    table.unbind(first)
    assert table.match(sent) == [q]
    table.unbind(second)
    assert table.match(sent) == []


def test_a_message_with_malformed_properties_has_no_headers() -> None:
    table = HeadersTable()
    bind(table, queue("all"), "", {})
    bind(table, queue("some"), "", {"a": 1})
    assert names(table.match(Message("x", "", b"", b"\0\x3c\0\0 not a header"))) == ["all"]


@pytest.mark.parametrize("arguments", [{}, {"x-match": "all"}, {"x-match": "any"}, {"x-match": "any-with-x"}])
def test_valid_bindings_are_accepted(arguments: dict[str, Any]) -> None:
    check_headers_binding(arguments)


def test_an_invalid_x_match_is_refused_with_rabbitmqs_text() -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_headers_binding({"x-match": "some"})
    assert refused.value.text == (
        'PRECONDITION_FAILED - Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'
    )
    with pytest.raises(PreconditionFailed) as refused:
        check_headers_binding({"x-match": 1})
    assert refused.value.text == (
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr"
    )
