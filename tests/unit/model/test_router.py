import os
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.model.routing import bind, message, names, queue

from dispatchd.amqp.errors import CommandInvalid
from dispatchd.amqp.message import Message
from dispatchd.model.binding import Destination
from dispatchd.model.direct_replies import ReplyAddresses
from dispatchd.model.exchanges.default import DefaultRoutes
from dispatchd.model.exchanges.table import RoutingTable
from dispatchd.model.exchanges.types import make_routing_table
from dispatchd.model.router import Publishing, Router, unroutable


def test_a_batch_for_one_queue_is_passed_on_as_it_is() -> None:
    q = queue("q")
    batch = [message("q") for _ in range(3)]
    [(destination, messages)] = Router(DefaultRoutes({"q": q}, ReplyAddresses(os.urandom))).route(batch)
    assert destination is q
    assert messages is batch
    assert [message.queues for message in batch] == [1, 1, 1]


def test_each_queue_gets_its_messages_in_order() -> None:
    table = make_routing_table("direct")
    a, b, c = queue("a"), queue("b"), queue("c")
    for destination, key in ((a, "k"), (b, "k"), (b, "l"), (c, "l")):
        bind(table, destination, key)
    batch = [message(key) for key in ("k", "l", "k", "none", "l", "l")]
    routes = Router(table).route(batch)
    assert {destination: [batch.index(m) for m in messages] for destination, messages in routes} == {
        a: [0, 2],
        b: [0, 1, 2, 4, 5],
        c: [1, 4, 5],
    }
    assert [m.queues for m in batch] == [2, 2, 2, 0, 2, 2]
    assert unroutable(batch) == [batch[3]]


def test_an_empty_batch_and_an_empty_table_route_nothing() -> None:
    router = Router(make_routing_table("topic"))
    assert router.route([]) == []
    batch = [message("a"), message("b")]
    assert router.route(batch) == []
    assert unroutable(batch) == batch


def test_the_argument_is_not_changed() -> None:
    table = make_routing_table("direct")
    a, b = queue("a"), queue("b")
    bind(table, a, "a")
    bind(table, b, "b")
    batch = [message("a"), message("b"), message("a")]
    before = list(batch)
    Router(table).route(batch)
    assert batch == before


@settings(max_examples=100)
@given(
    st.sampled_from(["direct", "fanout", "topic", "headers"]),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "#", "*"])), max_size=8),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=12),
    st.booleans(),
)
def test_a_batch_is_routed_as_its_messages_are_one_by_one(
    type_name: str, bound: list[tuple[int, str]], keys: list[str], travelled: bool
) -> None:
    table = make_routing_table(type_name)
    queues = [queue(str(number)) for number in range(4)]
    for number, key in bound:
        bind(table, queues[number], key, {"key": key})
    batch = [message(key, {"key": key}) for key in keys]
    for sent in batch:
        sent.visited = set() if travelled else None
    expected: dict[Destination, list[Message]] = {}
    for sent in batch:
        for destination in table.match(sent):
            expected.setdefault(destination, []).append(sent)
    assert dict(Router(table).route(batch)) == expected
    assert [sent.queues for sent in batch] == [len(table.match(sent)) for sent in batch]


class Exchanges:
    """Exchanges that are bound to each other, and the journey of a batch through all of them."""

    def __init__(self, names: str) -> None:
        self.tables: dict[str, RoutingTable] = {name: make_routing_table("fanout") for name in names}
        self.destinations = {name: Destination("exchange", name) for name in names}
        self.alternates: dict[str, Destination] = {}
        self.hops = 0

    def bind(self, source: str, *destinations: str | Destination) -> None:
        for destination in destinations:
            target = self.destinations[destination] if isinstance(destination, str) else destination
            bind(self.tables[source], target)

    def publish(self, exchange: str, batch: list[Message]) -> dict[str, list[str]]:
        taken: dict[str, list[str]] = {}
        journey = deque([(exchange, batch)])
        while journey:
            name, messages = journey.popleft()
            self.hops += 1
            assert self.hops < 50, "the batch goes round in circles"
            for destination, routed in Router(self.tables[name]).route(messages, self.alternates.get(name)):
                if destination.is_queue:
                    taken.setdefault(destination.name, []).extend(m.routing_key for m in routed)
                else:
                    journey.append((destination.name, routed))
        return taken


def test_a_diamond_delivers_once() -> None:
    exchanges = Exchanges("abcd")
    q = queue("q")
    exchanges.bind("a", "b", "c")
    exchanges.bind("b", "d", q)
    exchanges.bind("c", "d", q)
    exchanges.bind("d", q)
    batch = [message("1"), message("2")]
    assert exchanges.publish("a", batch) == {"q": ["1", "2"]}
    assert [m.queues for m in batch] == [1, 1]


def test_a_loop_delivers_once_and_ends() -> None:
    exchanges = Exchanges("ab")
    p, q = queue("p"), queue("q")
    exchanges.bind("a", "a", "b", p)
    exchanges.bind("b", "a", q)
    batch = [message("1"), message("2")]
    assert exchanges.publish("a", batch) == {"p": ["1", "2"], "q": ["1", "2"]}
    assert unroutable(batch) == []


def test_what_no_binding_matches_goes_to_the_alternate_exchange() -> None:
    table = make_routing_table("direct")
    q, alternate = queue("q"), Destination("exchange", "ae")
    bind(table, q, "k")
    batch = [message(key) for key in ("k", "other", "k", "another")]
    assert Router(table).route(batch, alternate) == [(q, [batch[0], batch[2]]), (alternate, [batch[1], batch[3]])]
    assert unroutable(batch) == [batch[1], batch[3]]
    matched = [message("k")]
    assert Router(table).route(matched, alternate) == [(q, matched)]


@pytest.mark.parametrize("bound_to", ["a queue", "an exchange"])
def test_an_exchange_that_matches_nothing_has_its_own_alternate_whatever_others_match(bound_to: str) -> None:
    exchanges = Exchanges("abcd")
    p, q = queue("p"), queue("q")
    exchanges.bind("a", "b", p)
    exchanges.alternates["a"] = exchanges.destinations["d"]
    exchanges.alternates["b"] = exchanges.destinations["c"]
    if bound_to == "an exchange":
        exchanges.bind("c", "d")
        exchanges.bind("d", q)
    else:
        exchanges.bind("c", q)
    batch = [message("1"), message("2")]
    assert exchanges.publish("a", batch) == {"p": ["1", "2"], "q": ["1", "2"]}
    assert unroutable(batch) == []


def test_a_loop_of_alternates_ends() -> None:
    exchanges = Exchanges("ab")
    exchanges.alternates = {"a": exchanges.destinations["b"], "b": exchanges.destinations["a"]}
    batch = [message("1"), message("2")]
    assert exchanges.publish("a", batch) == {}
    assert unroutable(batch) == batch
    itself = Exchanges("a")
    itself.alternates = {"a": itself.destinations["a"]}
    batch = [message("1")]
    assert itself.publish("a", batch) == {}
    assert unroutable(batch) == batch


def test_exchanges_do_not_count_as_queues() -> None:
    exchanges = Exchanges("ab")
    exchanges.bind("a", "b")
    batch = [message("1")]
    assert exchanges.publish("a", batch) == {}
    assert unroutable(batch) == batch


def test_a_table_knows_whether_it_leads_to_exchanges() -> None:
    table = make_routing_table("direct")
    bind(table, queue("q"), "k")
    assert not table.leads_to_exchanges
    binding = bind(table, Destination("exchange", "y"), "k")
    bind(table, binding.destination, "k")
    assert table.leads_to_exchanges
    table.unbind(binding)
    assert not table.leads_to_exchanges
    assert names(table.match(message("k"))) == ["q"]


def test_an_unknown_exchange_type_is_refused_with_rabbitmqs_text() -> None:
    with pytest.raises(CommandInvalid) as refused:
        make_routing_table("x-nothing")
    assert refused.value.text == "COMMAND_INVALID - unknown exchange type 'x-nothing'"


def test_a_publishing_starts_with_one_exchange_to_go() -> None:
    batch = [message("k")]
    publishing = Publishing("channel", batch, 10, True)
    assert publishing.messages is batch
    assert (publishing.channel, publishing.cost, publishing.confirm) == ("channel", 10, True)
    assert (publishing.hops, publishing.awaiting, publishing.refused) == (1, 0, [])


def test_what_is_mandatory_and_found_no_queue_goes_back_in_its_order() -> None:
    lost, taken = [message("none") for _ in range(4)], message("q")
    lost[0].mandatory = lost[2].mandatory = taken.mandatory = True
    publishing = Publishing("channel", [lost[0], lost[1], taken, lost[2], lost[3]], 10, True)
    Router(DefaultRoutes({"q": queue("q")}, ReplyAddresses(os.urandom))).route(publishing.messages)
    assert publishing.unrouted() == [lost[0], lost[2]]
    assert publishing.dropped == 2
