import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.model.binding import Binding, Destination
from dispatchd.model.definitions import ExchangeDefinition, QueueDefinition, exchange_from_record, queue_from_record
from dispatchd.model.policies import Policy
from dispatchd.model.stored_definitions import binding_row, exchange_row, policy_row, queue_row, read_rows

texts = st.text(max_size=20)
arguments = st.dictionaries(texts, st.integers(-(2**40), 2**40) | texts | st.booleans() | st.none(), max_size=3)


def exchange(name: str = "e", **how: Any) -> ExchangeDefinition:
    return ExchangeDefinition(name, "topic", durable=True, **how)


def queue(name: str = "q", queue_id: int = 1, **how: Any) -> QueueDefinition:
    return QueueDefinition(name, queue_id, durable=True, **how)


def binding(source: str = "e", name: str = "q", key: str = "k", arguments: dict[str, Any] | None = None) -> Binding:
    return Binding(source, Destination("queue", name), key, arguments or {})


@given(texts, texts, st.booleans(), st.integers(1, 2**62), arguments)
def test_definitions_come_back_as_they_were(
    vhost: str, name: str, flag: bool, queue_id: int, arguments: dict[str, Any]
) -> None:
    rows = dict(
        [
            exchange_row(vhost, exchange(name, auto_delete=flag, internal=not flag, arguments=arguments)),
            queue_row(vhost, queue(name, queue_id, auto_delete=flag, arguments=arguments)),
            binding_row(vhost, binding(name, name, "k", arguments)),
        ]
    )
    stored = read_rows(rows)[vhost]
    one = exchange_from_record(stored.exchanges[0])
    assert (one.name, one.type, one.durable, one.auto_delete, one.internal) == (name, "topic", True, flag, not flag)
    assert one.arguments == arguments
    other = queue_from_record(stored.queues[0])
    assert (other.name, other.queue_id, other.durable, other.auto_delete) == (name, queue_id, True, flag)
    assert other.arguments == arguments
    assert (stored.bindings[0]["source"], stored.bindings[0]["destination"]) == (name, name)


def test_arguments_that_json_has_no_type_for_come_back() -> None:
    odd = {"octets": b"\xff\0", "decimal": Decimal("1.50"), "nested": {"list": [1, "a", None, b"\xfe"]}}
    [stored] = read_rows(dict([queue_row("/", queue(arguments=odd))])).values()
    assert queue_from_record(stored.queues[0]).arguments == odd


def test_policies_and_operator_policies_of_one_name_are_two() -> None:
    one, other = Policy("p", "^q", "all", 1, {"max-length": 1}), Policy("p", "x", "queues", 0, {"expires": 5})
    rows = dict([policy_row("/", one, is_operator=False), policy_row("/", other, is_operator=True)])
    stored = read_rows(rows)["/"]
    assert stored.policies == [one.to_record()]
    assert stored.operator_policies == [other.to_record()]
    assert set(stored.keys) == set(rows)


def test_each_vhost_has_its_own() -> None:
    rows = dict([queue_row("/", queue()), queue_row("other", queue()), exchange_row("other", exchange())])
    vhosts = read_rows(rows)
    assert {name: (len(vhost.exchanges), len(vhost.queues)) for name, vhost in vhosts.items()} == {
        "/": (0, 1),
        "other": (1, 1),
    }


def test_a_key_stands_for_what_is_defined_and_not_for_how() -> None:
    assert queue_row("/", queue(queue_id=1))[0] == queue_row("/", queue(queue_id=2, auto_delete=True))[0]
    keys = [
        queue_row("/", queue())[0],
        queue_row("/", queue("other"))[0],
        queue_row("other", queue())[0],
        exchange_row("/", exchange("q"))[0],
        binding_row("/", binding())[0],
        binding_row("/", binding(key="other"))[0],
        binding_row("/", binding(arguments={"x-match": "any"}))[0],
        binding_row("/", binding("e\0q", ""))[0],
        binding_row("/", binding("e", "\0q"))[0],
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 20 for key in keys)


ROW = {"vhost": "/", "what": "queue", "record": queue().to_record()}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b'"queue"',
        json.dumps(ROW | {"what": "cheese"}).encode(),
        json.dumps(ROW | {"vhost": 7}).encode(),
        json.dumps(ROW | {"record": None}).encode(),
        json.dumps(ROW | {"record": ["name"]}).encode(),
        json.dumps({"vhost": "/", "what": "queue"}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_row_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="definition"):
        read_rows({b"key": value})


GOOD = queue_row("/", queue())[1]


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_octet_is_refused_or_another_definition(at: int, octet: int) -> None:
    damaged = GOOD[:at] + bytes([octet]) + GOOD[at + 1 :]
    with suppress(ValueError):
        assert len(read_rows({b"key": damaged})) == 1
