from typing import Any

import pytest
from unit.model.routing import bind, message, queue

from dispatchd.amqp.errors import PreconditionFailed
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties, decode_properties
from dispatchd.model.binding import Destination
from dispatchd.model.copies import address_copies, routing_keys
from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.exchanges.types import make_routing_table
from dispatchd.model.router import Router, unroutable


@pytest.mark.parametrize("headers", [None, {}, {"cc": ["a"], "CCC": ["a"], "x": "CC"}, {"CC": []}, {"CC": [1, None]}])
def test_no_copies(headers: dict[str, Any] | None) -> None:
    sent = message("k", headers)
    header = sent.header
    address_copies(sent)
    assert sent.header is header
    assert (sent.copy_keys, sent.visited) == (None, None)


def test_both_headers_name_keys_and_bcc_is_removed_alone() -> None:
    properties = Properties(
        content_type="text/plain",
        headers={"BCC": ["c", 1], "first": 1, "CC": ["a", b"\xff", "b"], "last": 2},
        delivery_mode=2,
        user_id="guest",
    )
    sent = make_message("x", "k", properties, b"body")
    address_copies(sent)
    assert sent.copy_keys == ["a", "b", "c"]
    headers = {"first": 1, "CC": ["a", b"\xff", "b"], "last": 2}
    expected = make_message(
        "x", "k", Properties(content_type="text/plain", headers=headers, delivery_mode=2, user_id="guest"), b"body"
    )
    assert sent.header == expected.header


def test_all_keys_are_known_and_of_a_stored_message_those_that_cc_names() -> None:
    headers = {"BCC": ["c"], "CC": ["a", 1, "b"]}
    sent = message("k", headers)
    address_copies(sent)
    assert routing_keys(sent) == ["k", "a", "b", "c"]
    stored = make_message("x", "k", decode_properties(sent.header), b"")
    assert routing_keys(stored) == ["k", "a", "b"]


@pytest.mark.parametrize("header", [b"", b"CC", make_message("", "", Properties(type="CC"), b"").header])
def test_what_has_no_headers_names_no_further_keys(header: bytes) -> None:
    assert routing_keys(Message("x", "k", b"", header)) == ["k"]


def test_an_empty_bcc_is_removed_too() -> None:
    sent = message("k", {"BCC": []})
    address_copies(sent)
    assert sent.copy_keys is None
    assert decode_properties(sent.header).headers == {}


@pytest.mark.parametrize("name", ["CC", "BCC"])
@pytest.mark.parametrize(
    ("value", "kind"), [("a", "longstr"), (1, "signedint"), (None, "void"), ({}, "table"), (True, "bool")]
)
def test_no_array_is_refused_with_rabbitmqs_text(name: str, value: Any, kind: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        address_copies(message("k", {name: value}))
    text = f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{name}",{kind}}}'
    assert refused.value.text == text


def copied(routing_key: str, *keys: str) -> Any:
    made = message(routing_key, {"CC": list(keys)})
    address_copies(made)
    return made


@pytest.mark.parametrize(
    ("kind", "taken_by"),
    [("direct", "a b"), ("topic", "a b word"), ("fanout", "a b c word"), ("headers", "a b c word")],
)
def test_each_queue_takes_a_message_once_whatever_keys_lead_there(kind: str, taken_by: str) -> None:
    table: RoutingTable = make_routing_table(kind)
    a, b, c, word = queue("a"), queue("b"), queue("c"), queue("word")
    for destination, key in ((a, "1"), (a, "2"), (b, "2"), (c, "3"), (word, "*")):
        bind(table, destination, key)
    with_copies, without = copied("1", "2", "2", "none"), message("3")
    routes = dict(Router(table).route([with_copies, without]))
    assert " ".join(sorted(taker.name for taker in routes if with_copies in routes[taker])) == taken_by
    assert with_copies.queues == len(taken_by.split())
    assert without in routes[c]


def test_copies_alone_make_a_message_routable_and_keep_it_from_the_alternate_exchange() -> None:
    table = make_routing_table("direct")
    q, alternate = queue("q"), Destination("exchange", "ae")
    bind(table, q, "k")
    routed, lost = copied("none", "k"), copied("none", "nowhere")
    assert Router(table).route([routed, lost], alternate) == [(q, [routed]), (alternate, [lost])]
    assert unroutable([routed, lost]) == [lost]
