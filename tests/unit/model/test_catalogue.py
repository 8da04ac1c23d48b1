import json
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.field_table import Timestamp
from dispatchd.model.binding import Binding, Kind
from dispatchd.model.catalogue import PREDECLARED, Catalogue, Removed, in_use, not_empty
from dispatchd.model.definitions import (
    ExchangeDefinition,
    QueueDefinition,
    binding_to_record,
    exchange_from_record,
    queue_from_record,
)

ME = "my connection"
YOU = "your connection"


def new_catalogue() -> Catalogue:
    ids = count(1)
    return Catalogue("/", lambda size: bytes(range(size)), lambda: next(ids))


@pytest.fixture
def catalogue() -> Catalogue:
    return new_catalogue()


def exchange(
    catalogue: Catalogue,
    name: str,
    type_name: str = "direct",
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    arguments: dict[str, Any] | None = None,
) -> tuple[ExchangeDefinition, bool]:
    return catalogue.declare_exchange(name, type_name, durable, auto_delete, internal, arguments or {})


def queue(
    catalogue: Catalogue,
    name: str,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    arguments: dict[str, Any] | None = None,
    connection: str = ME,
) -> tuple[QueueDefinition, bool]:
    return catalogue.declare_queue(name, durable, exclusive, auto_delete, arguments or {}, connection)


def bind(catalogue: Catalogue, source: str, kind: Kind, name: str, key: str = "k", **arguments: Any) -> Binding | None:
    return catalogue.bind(source, kind, name, key, arguments, ME)


def unbind(catalogue: Catalogue, source: str, kind: Kind, name: str, key: str = "k") -> Removed | None:
    return catalogue.unbind(source, kind, name, key, {}, ME)


def refusal(operation: Callable[[], object]) -> str:
    with pytest.raises(AmqpError) as refused:
        operation()
    return f"{refused.value.code} {refused.value.text}"


def names(definitions: list[Any]) -> list[str]:
    return [definition.name for definition in definitions]


# Exchanges


def test_the_predeclared_exchanges_are_there_and_can_be_declared_again(catalogue: Catalogue) -> None:
    assert {e.name: (e.type, e.durable, e.internal) for e in catalogue.exchanges.values()} == {
        "": ("direct", True, False),
        "amq.direct": ("direct", True, False),
        "amq.fanout": ("fanout", True, False),
        "amq.headers": ("headers", True, False),
        "amq.match": ("headers", True, False),
        "amq.rabbitmq.trace": ("topic", True, True),
        "amq.topic": ("topic", True, False),
    }
    assert exchange(catalogue, "amq.topic", "topic", durable=True) == (catalogue.exchanges["amq.topic"], False)


def test_an_exchange_is_declared_once(catalogue: Catalogue) -> None:
    first, new = exchange(catalogue, "x", "topic", True, True, True, {"alternate-exchange": "ae", "other": 1})
    assert new
    assert (first.name, first.type, first.durable, first.auto_delete, first.internal) == (
        "x",
        "topic",
        True,
        True,
        True,
    )
    assert first.destination.kind == "exchange"
    again = exchange(catalogue, "x", "topic", True, True, True, {"alternate-exchange": "ae", "other": 2})
    assert again == (first, False)
    assert catalogue.passive_exchange("x") is first
    assert catalogue.existing_exchange("x") is first


def test_names_lose_carriage_returns_and_line_feeds(catalogue: Catalogue) -> None:
    assert exchange(catalogue, "x\r\n")[0].name == "x"
    assert queue(catalogue, "q\n\r")[0].name == "q"
    assert bind(catalogue, "x\n", "queue", "q\r") is not None
    assert catalogue.existing_queue("\nq", ME).name == "q"
    assert unbind(catalogue, "\rx", "queue", "q\n") is not None
    assert catalogue.delete_queue("q\n") is not None
    assert catalogue.delete_exchange("x\n", False) is not None


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"type_name": "topic"}, "'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'"),
        (
            {"type_name": "x-consistent-hash"},
            "'type' for exchange 'x' in vhost '/': received ''x-consistent-hash'' but current is 'direct'",
        ),
        (
            {"arguments": {"alternate-exchange": None}},
            "'alternate-exchange' for exchange 'x' in vhost '/': received none but current is 'ae'",
        ),
        ({"durable": False}, "'durable' for exchange 'x' in vhost '/': received 'false' but current is 'true'"),
        ({"auto_delete": True}, "'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'"),
        ({"internal": True}, "'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'"),
        (
            {"arguments": {}},
            (
                "'alternate-exchange' for exchange 'x' in vhost '/': received none "
                "but current is the value 'ae' of type 'longstr'"
            ),
        ),
        (
            {"arguments": {"alternate-exchange": "other"}},
            "'alternate-exchange' for exchange 'x' in vhost '/': received 'other' but current is 'ae'",
        ),
    ],
)
def test_an_exchange_declared_differently_is_refused(catalogue: Catalogue, changed: dict[str, Any], text: str) -> None:
    same: dict[str, Any] = {"durable": True, "arguments": {"alternate-exchange": "ae"}}
    exchange(catalogue, "x", **same)
    refused = refusal(lambda: exchange(catalogue, "x", **{**same, **changed}))
    assert refused == f"406 PRECONDITION_FAILED - inequivalent arg {text}"


def test_what_declaring_an_exchange_refuses(catalogue: Catalogue) -> None:
    assert refusal(lambda: exchange(catalogue, "", "direct")) == (
        "403 ACCESS_REFUSED - operation not permitted on the default exchange"
    )
    assert refusal(lambda: catalogue.passive_exchange("")) == (
        "403 ACCESS_REFUSED - operation not permitted on the default exchange"
    )
    assert refusal(lambda: exchange(catalogue, "amq.x")) == (
        "403 ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*'"
    )
    assert refusal(lambda: exchange(catalogue, "", "nonsense")) == (
        "503 COMMAND_INVALID - unknown exchange type 'nonsense'"
    )
    assert refusal(lambda: catalogue.passive_exchange("x")) == "404 NOT_FOUND - no exchange 'x' in vhost '/'"
    assert refusal(lambda: exchange(catalogue, "x", arguments={"alternate-exchange": 1})) == (
        "406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    )
    assert len(catalogue.exchanges) == len(PREDECLARED)


def delayed(catalogue: Catalogue, **arguments: Any) -> tuple[ExchangeDefinition, bool]:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return exchange(catalogue, "x", "x-delayed-message", arguments=named)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "406 PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"),
        (
            {"x_delayed_type": 1},
            "406 PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type",
        ),
        (
            {"x_delayed_type": "x-delayed-message"},
            "406 PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'",
        ),
        ({"x_delayed_type": "x-not-valid-type"}, "503 COMMAND_INVALID - unknown exchange type 'x-not-valid-type'"),
        (
            {"x_delayed_type": "x-consistent-hash", "hash_property": "app_id"},
            "406 PRECONDITION_FAILED - Unsupported property: app_id",
        ),
    ],
)
def test_what_declaring_a_delayed_exchange_refuses(catalogue: Catalogue, arguments: dict[str, Any], text: str) -> None:
    assert refusal(lambda: delayed(catalogue, **arguments)) == text
    assert "x" not in catalogue.exchanges


def test_a_delayed_exchange_declared_with_another_type_to_route_by(catalogue: Catalogue) -> None:
    assert delayed(catalogue, x_delayed_type="topic")[1]
    assert not delayed(catalogue, x_delayed_type="topic", other=1)[1]
    text = "406 PRECONDITION_FAILED - inequivalent arg 'x-delayed-type' for exchange 'x' in vhost '/': received"
    assert refusal(lambda: delayed(catalogue, x_delayed_type="direct")) == f"{text} 'direct' but current is 'topic'"
    missing = f"{text} none but current is the value 'topic' of type 'longstr'"
    assert refusal(lambda: delayed(catalogue)) == missing
    exchange(catalogue, "y", "direct", arguments={"x-delayed-type": "topic"})
    exchange(catalogue, "y", "direct")


def test_a_delayed_exchange_takes_the_bindings_that_its_routing_type_takes(catalogue: Catalogue) -> None:
    queue(catalogue, "q")
    delayed(catalogue, x_delayed_type=b"x-consistent-hash")
    assert bind(catalogue, "x", "queue", "q", "2") is not None
    assert refusal(lambda: bind(catalogue, "x", "queue", "q", "0")) == (
        "406 PRECONDITION_FAILED - The binding key must be greater than 0"
    )


def test_exchanges_and_queues_that_keep_messages_have_ids_of_their_own(catalogue: Catalogue) -> None:
    one, _ = delayed(catalogue, x_delayed_type="fanout")
    other, _ = queue(catalogue, "q")
    assert 0 < one.queue_id < other.queue_id
    restored = exchange_from_record(json.loads(json.dumps(one.to_record())))
    assert (restored.queue_id, restored.type, restored.routing_type) == (one.queue_id, "x-delayed-message", "fanout")
    plain, _ = exchange(catalogue, "y")
    assert plain.queue_id == 0
    assert "queue_id" not in plain.to_record()


def test_publishing_to_an_internal_or_missing_exchange_is_refused(catalogue: Catalogue) -> None:
    assert catalogue.exchange_to_publish_to("").type == "direct"
    assert refusal(lambda: catalogue.exchange_to_publish_to("x")) == "404 NOT_FOUND - no exchange 'x' in vhost '/'"
    exchange(catalogue, "x", internal=True)
    assert refusal(lambda: catalogue.exchange_to_publish_to("x")) == (
        "403 ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/'"
    )


def test_deleting_an_exchange_removes_its_bindings_on_both_sides(catalogue: Catalogue) -> None:
    queue(catalogue, "q")
    for name in "xyz":
        exchange(catalogue, name)
    kept = bind(catalogue, "x", "queue", "q")
    gone = [
        bind(catalogue, "x", "exchange", "y"),
        bind(catalogue, "y", "exchange", "z"),
        bind(catalogue, "y", "queue", "q"),
    ]
    removed = catalogue.delete_exchange("y", False)
    assert removed is not None
    assert names(removed.exchanges) == ["y"]
    assert removed.queues == []
    assert set(removed.bindings) == set(gone)
    assert catalogue.bindings() == [kept]
    assert catalogue.bindings_to("queue", "q") == [kept]
    assert catalogue.bindings_to("exchange", "z") == []


def test_deleting_a_missing_exchange_or_queue_is_no_error(catalogue: Catalogue) -> None:
    assert catalogue.delete_exchange("x", True) is None
    assert catalogue.delete_queue("q") is None


def test_what_deleting_an_exchange_refuses(catalogue: Catalogue) -> None:
    exchange(catalogue, "x")
    exchange(catalogue, "y")
    bind(catalogue, "x", "exchange", "y")
    assert refusal(lambda: catalogue.delete_exchange("", False)) == (
        "403 ACCESS_REFUSED - operation not permitted on the default exchange"
    )
    assert refusal(lambda: catalogue.delete_exchange("amq.direct", False)) == (
        "403 ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    )
    assert refusal(lambda: catalogue.delete_exchange("x", True)) == (
        "406 PRECONDITION_FAILED - exchange 'x' in vhost '/' in use"
    )
    assert catalogue.delete_exchange("y", True) is not None  # only its own bindings would be in use


# Queues


def test_a_queue_is_declared_once(catalogue: Catalogue) -> None:
    first, new = queue(catalogue, "q", durable=True, arguments={"x-unknown": 1, "x-max-length": 5})
    assert new
    assert (first.name, first.durable, first.exclusive, first.auto_delete, first.owner) == (
        "q",
        True,
        False,
        False,
        None,
    )
    assert first.arguments == {"x-unknown": 1, "x-max-length": 5}
    assert catalogue.queue_destinations == {"q": first.destination}
    again = queue(
        catalogue, "q", durable=True, arguments={"x-unknown": 2, "x-max-length": 5, "x-queue-type": "classic"}
    )
    assert again == (first, False)
    assert catalogue.existing_queue("q", YOU) is first
    assert queue(catalogue, "r")[0].queue_id != first.queue_id


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"durable": False}, "'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"),
        ({"auto_delete": True}, "'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"),
        (
            {"arguments": {}},
            "'x-max-length' for queue 'q' in vhost '/': received none but current is the value '5' of type 'signedint'",
        ),
        (
            {"arguments": {"x-max-length": 6}},
            "'x-max-length' for queue 'q' in vhost '/': received '6' but current is '5'",
        ),
        (
            {"arguments": {"x-max-length": 5, "x-message-ttl": 2**40}},
            (
                "'x-message-ttl' for queue 'q' in vhost '/': received the value '1099511627776' of type 'long' "
                "but current is none"
            ),
        ),
        (
            {"arguments": {"x-max-length": 5, "x-single-active-consumer": True}},
            (
                "'x-single-active-consumer' for queue 'q' in vhost '/': received the value 'true' of type 'bool' "
                "but current is none"
            ),
        ),
        (
            {"arguments": {"x-max-length": 5, "x-queue-type": "quorum"}},
            (
                "'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of type 'longstr' "
                "but current is none"
            ),
        ),
    ],
)
def test_a_queue_declared_differently_is_refused(catalogue: Catalogue, changed: dict[str, Any], text: str) -> None:
    same: dict[str, Any] = {"durable": True, "arguments": {"x-max-length": 5}}
    queue(catalogue, "q", **same)
    refused = refusal(lambda: queue(catalogue, "q", **{**same, **changed}))
    assert refused == f"406 PRECONDITION_FAILED - inequivalent arg {text}"


def test_what_declaring_a_queue_refuses(catalogue: Catalogue) -> None:
    assert refusal(lambda: queue(catalogue, "amq.q")) == (
        "403 ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'"
    )
    assert refusal(lambda: queue(catalogue, "q", arguments={"x-queue-type": "quorum"})) == (
        "406 PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q' in vhost '/': "
        "\"unsupported queue type 'quorum'\""
    )
    assert refusal(lambda: queue(catalogue, "q", arguments={"x-queue-type": 1})) == (
        "406 PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q' in vhost '/': {unacceptable_type,signedint}"
    )
    assert refusal(lambda: catalogue.existing_queue("q", ME)) == "404 NOT_FOUND - no queue 'q' in vhost '/'"
    assert catalogue.queues == {}


def test_an_empty_name_asks_for_one_of_ours(catalogue: Catalogue) -> None:
    created, new = queue(catalogue, "")
    assert new
    assert created.name == "amq.gen-AAECAwQFBgcICQoLDA0ODw"
    assert len(created.name) == len("amq.gen-") + 22
    assert catalogue.existing_queue(created.name, ME) is created


def test_an_exclusive_queue_is_its_connections_alone(catalogue: Catalogue) -> None:
    mine, _ = queue(catalogue, "q", durable=True, exclusive=True)
    assert mine.exclusive
    assert not mine.durable
    assert queue(catalogue, "q", durable=True, exclusive=True) == (mine, False)
    locked = (
        "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. "
        "It could be originally declared on another connection or the exclusive property value does not match "
        "that of the original declaration."
    )
    assert refusal(lambda: queue(catalogue, "q", exclusive=True, connection=YOU)) == locked
    assert refusal(lambda: queue(catalogue, "q")) == locked
    assert refusal(lambda: catalogue.existing_queue("q", YOU)) == locked
    assert refusal(lambda: catalogue.bind("amq.direct", "queue", "q", "k", {}, YOU)) == locked
    bind(catalogue, "amq.direct", "queue", "q")
    assert refusal(lambda: catalogue.unbind("amq.direct", "queue", "q", "k", {}, YOU)) == locked
    assert catalogue.unbind("amq.direct", "queue", "q", "not bound", {}, YOU) is None
    assert catalogue.existing_queue("q", ME) is mine


def test_a_shared_queue_does_not_become_exclusive(catalogue: Catalogue) -> None:
    queue(catalogue, "q")
    assert refusal(lambda: queue(catalogue, "q", exclusive=True)).startswith("405 RESOURCE_LOCKED")


def test_a_connections_exclusive_queues_are_known(catalogue: Catalogue) -> None:
    queue(catalogue, "a", exclusive=True)
    queue(catalogue, "b", exclusive=True, connection=YOU)
    queue(catalogue, "c")
    assert names(catalogue.queues_of(ME)) == ["a"]
    assert names(catalogue.queues_of(YOU)) == ["b"]
    catalogue.delete_queue("a")
    assert names(catalogue.queues_of(ME)) == []


def test_the_answers_to_a_conditional_delete(catalogue: Catalogue) -> None:
    resource = catalogue.resource("queue", "q")
    assert in_use(resource).text == "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"
    assert not_empty(resource).text == "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty"


# Bindings


def test_a_binding_is_known_from_both_ends(catalogue: Catalogue) -> None:
    q, _ = queue(catalogue, "q")
    binding = bind(catalogue, "amq.topic", "queue", "q", "a.#")
    assert binding is not None
    assert binding.destination is q.destination
    assert bind(catalogue, "amq.topic", "queue", "q", "a.#") is None
    assert catalogue.bindings_from("amq.topic") == [binding]
    assert catalogue.bindings_to("queue", "q") == [binding]
    assert catalogue.bindings_from("amq.direct") == []
    assert bind(catalogue, "amq.topic", "queue", "q", "a.#", extra=1) is not None
    assert len(catalogue.bindings()) == 2
    assert catalogue.count_bindings() == 2


def test_what_binding_refuses(catalogue: Catalogue) -> None:
    queue(catalogue, "q")
    default = "403 ACCESS_REFUSED - operation not permitted on the default exchange"
    assert refusal(lambda: bind(catalogue, "", "queue", "q")) == default
    assert refusal(lambda: bind(catalogue, "amq.direct", "exchange", "")) == default
    assert refusal(lambda: unbind(catalogue, "", "queue", "q")) == default
    assert refusal(lambda: unbind(catalogue, "amq.direct", "exchange", "")) == default
    assert refusal(lambda: bind(catalogue, "x", "queue", "none")) == "404 NOT_FOUND - no exchange 'x' in vhost '/'"
    assert refusal(lambda: bind(catalogue, "amq.direct", "queue", "none")) == (
        "404 NOT_FOUND - no queue 'none' in vhost '/'"
    )
    assert refusal(lambda: bind(catalogue, "amq.direct", "exchange", "none")) == (
        "404 NOT_FOUND - no exchange 'none' in vhost '/'"
    )
    exchange(catalogue, "hash", "x-consistent-hash")
    assert refusal(lambda: bind(catalogue, "hash", "queue", "q")) == (
        '406 PRECONDITION_FAILED - The binding key must be an integer: <<"k">>'
    )
    assert refusal(lambda: bind(catalogue, "amq.headers", "queue", "q", **{"x-match": "none"})).startswith(
        "406 PRECONDITION_FAILED - Invalid x-match field value"
    )
    assert catalogue.bindings() == []


def test_unbinding_what_is_missing_is_no_error(catalogue: Catalogue) -> None:
    queue(catalogue, "q")
    assert unbind(catalogue, "amq.direct", "queue", "q") is None
    assert unbind(catalogue, "x", "queue", "q") is None
    assert unbind(catalogue, "amq.direct", "queue", "none") is None


def test_unbinding_takes_an_auto_delete_exchange_with_its_last_binding(catalogue: Catalogue) -> None:
    exchange(catalogue, "x", auto_delete=True)
    queue(catalogue, "q")
    bind(catalogue, "x", "queue", "q", "a")
    bind(catalogue, "x", "queue", "q", "b")
    removed = unbind(catalogue, "x", "queue", "q", "a")
    assert removed is not None
    assert removed.exchanges == []
    removed = unbind(catalogue, "x", "queue", "q", "b")
    assert removed is not None
    assert names(removed.exchanges) == ["x"]
    assert len(removed.bindings) == 1
    assert "x" not in catalogue.exchanges


def test_deleting_a_queue_takes_the_exchanges_that_only_led_there(catalogue: Catalogue) -> None:
    queue(catalogue, "q")
    for name in "abc":
        exchange(catalogue, name, auto_delete=True)
    exchange(catalogue, "unbound", auto_delete=True)
    bind(catalogue, "a", "exchange", "b")
    bind(catalogue, "b", "exchange", "c")
    bind(catalogue, "c", "queue", "q", "1")
    bind(catalogue, "c", "queue", "q", "2")
    bind(catalogue, "amq.direct", "queue", "q")
    removed = catalogue.delete_queue("q")
    assert removed is not None
    assert names(removed.queues) == ["q"]
    assert names(removed.exchanges) == ["c", "b", "a"]
    assert len(removed.bindings) == 5
    assert catalogue.bindings() == []
    assert catalogue.queue_destinations == {}
    assert set(catalogue.exchanges) == {name for name, _, _ in PREDECLARED} | {"unbound"}


def test_exchanges_bound_in_a_circle_can_be_deleted(catalogue: Catalogue) -> None:
    for name in "ab":
        exchange(catalogue, name, auto_delete=True)
    bind(catalogue, "a", "exchange", "b")
    bind(catalogue, "b", "exchange", "a")
    bind(catalogue, "a", "exchange", "a")
    removed = catalogue.delete_exchange("a", False)
    assert removed is not None
    assert names(removed.exchanges) == ["a", "b"]
    assert len(removed.bindings) == 3


# The store

ARGUMENTS = {"x-max-length": 5, "bytes": b"\xff\0", "time": Timestamp(2**40), "price": Decimal("1.50"), "none": None}


def test_definitions_survive_their_records(catalogue: Catalogue) -> None:
    exchange(catalogue, "x", "headers", True, True, True, ARGUMENTS)
    queue(catalogue, "qü", durable=True, auto_delete=True, arguments=ARGUMENTS)
    binding = bind(catalogue, "x", "queue", "qü", "k", **ARGUMENTS)
    assert binding is not None
    stored = json.dumps(
        [
            catalogue.exchanges["x"].to_record(),
            catalogue.queues["qü"].to_record(),
            binding_to_record(binding),
        ]
    )

    restarted = new_catalogue()
    exchange_record, queue_record, binding_record = json.loads(stored)
    restarted.restore_exchange(exchange_from_record(exchange_record))
    restarted.restore_queue(queue_from_record(queue_record))
    assert restarted.restore_binding(binding_record) == binding
    assert restarted.restore_binding(binding_record) is None
    assert restarted.exchanges["x"].to_record() == exchange_record
    assert restarted.exchanges["x"].arguments == ARGUMENTS
    assert restarted.queues["qü"].to_record() == queue_record
    assert restarted.queues["qü"].queue_id == catalogue.queues["qü"].queue_id
    assert restarted.bindings_to("queue", "qü")[0].destination is restarted.queue_destinations["qü"]


def test_a_predeclared_exchange_is_restored_as_it_was(catalogue: Catalogue) -> None:
    before = catalogue.exchanges["amq.topic"]
    catalogue.restore_exchange(exchange_from_record(before.to_record()))
    assert catalogue.exchanges["amq.topic"] is before


def test_records_that_do_not_fit_are_refused(catalogue: Catalogue) -> None:
    record = queue(catalogue, "q", durable=True)[0].to_record()
    with pytest.raises(ValueError, match="queue 'q' in vhost '/' is recorded twice"):
        catalogue.restore_queue(queue_from_record(record))
    binding = bind(catalogue, "amq.direct", "queue", "q")
    assert binding is not None
    assert refusal(lambda: new_catalogue().restore_binding(binding_to_record(binding))) == (
        "404 NOT_FOUND - no queue 'q' in vhost '/'"
    )
    with pytest.raises(ValueError, match="base64"):
        queue_from_record({**record, "arguments": "?"})


@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_a_binding_is_durable_if_both_its_ends_are(catalogue: Catalogue, kind: Kind) -> None:
    exchange(catalogue, "durable", durable=True)
    exchange(catalogue, "transient")
    queue(catalogue, "durable", durable=True)
    queue(catalogue, "transient")
    durable = {
        (source, name)
        for source in ("durable", "transient")
        for name in ("durable", "transient")
        if (binding := bind(catalogue, source, kind, name)) is not None and binding.durable
    }
    assert durable == {("durable", "durable")}


# Whatever happens


NAMES = st.sampled_from(["a", "b", "c"])
KINDS = st.sampled_from(["queue", "exchange"])


class AnyOrder(RuleBasedStateMachine):
    """Operations in any order, against a plain set of bindings and the rule of auto-delete."""

    def __init__(self) -> None:
        super().__init__()
        self.catalogue = new_catalogue()
        self.bound: set[Binding] = set()

    @rule(name=NAMES, auto_delete=st.booleans())
    def declare_exchange(self, name: str, auto_delete: bool) -> None:
        if name not in self.catalogue.exchanges:
            assert exchange(self.catalogue, name, auto_delete=auto_delete)[1]

    @rule(name=NAMES)
    def declare_queue(self, name: str) -> None:
        new = name not in self.catalogue.queues
        assert queue(self.catalogue, name)[1] is new

    @rule(source=NAMES, kind=KINDS, name=NAMES, key=NAMES)
    def bind(self, source: str, kind: Kind, name: str, key: str) -> None:
        try:
            binding = bind(self.catalogue, source, kind, name, key)
        except AmqpError:
            there = self.catalogue.exchanges if kind == "exchange" else self.catalogue.queues
            assert source not in self.catalogue.exchanges or name not in there
            return
        if binding is not None:
            assert binding not in self.bound
            self.bound.add(binding)

    @rule(source=NAMES, kind=KINDS, name=NAMES, key=NAMES)
    def unbind(self, source: str, kind: Kind, name: str, key: str) -> None:
        self.check(unbind(self.catalogue, source, kind, name, key))

    @rule(name=NAMES, if_unused=st.booleans())
    def delete_exchange(self, name: str, if_unused: bool) -> None:
        used = any(binding.source == name for binding in self.bound)
        try:
            removed = self.catalogue.delete_exchange(name, if_unused)
        except AmqpError:
            assert used
            assert if_unused
            return
        assert not (used and if_unused)
        self.check(removed)

    @rule(name=NAMES)
    def delete_queue(self, name: str) -> None:
        self.check(self.catalogue.delete_queue(name))

    def check(self, removed: Removed | None) -> None:
        if removed is None:
            return
        assert set(removed.bindings) <= self.bound
        assert len(set(removed.bindings)) == len(removed.bindings)
        self.bound -= set(removed.bindings)
        for gone in removed.exchanges:
            assert gone.name not in self.catalogue.exchanges
        for binding in removed.bindings:
            source = self.catalogue.exchanges.get(binding.source)
            if source is not None and source.auto_delete:
                assert any(other.source == source.name for other in self.bound)

    @invariant()
    def both_indexes_have_the_same_bindings(self) -> None:
        catalogue = self.catalogue
        assert set(catalogue.bindings()) == self.bound
        by_destination = [b for name in catalogue.queues for b in catalogue.bindings_to("queue", name)]
        by_destination += [b for name in catalogue.exchanges for b in catalogue.bindings_to("exchange", name)]
        assert len(by_destination) == len(self.bound)
        assert set(by_destination) == self.bound
        assert set(catalogue.queue_destinations) == set(catalogue.queues)

    @invariant()
    def both_ends_of_every_binding_exist(self) -> None:
        for binding in self.bound:
            there: dict[str, Any] = {"queue": self.catalogue.queues, "exchange": self.catalogue.exchanges}
            assert binding.source in self.catalogue.exchanges
            assert there[binding.destination.kind][binding.destination.name].destination is binding.destination


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
