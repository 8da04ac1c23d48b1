from __future__ import annotations

from typing import Any

import pytest
from broker.clients import NOT_FOUND, Inbox, channel_error, connection_error, get, get_all, publish, refusal
from broker.conftest import Connect, Fresh, OpenRaw
from pamqp import commands as spec
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel

PREDECLARED = [
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.topic", "topic"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
]


def exists(channel: BlockingChannel, exchange: str) -> bool:
    return refusal(channel.connection, lambda probe: probe.exchange_declare(exchange, passive=True)) != NOT_FOUND


def bound_queue(channel: BlockingChannel, name: str, exchange: str, key: str = "", arguments: Any = None) -> str:
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, exchange, key, arguments)
    return name


# Declare


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
@pytest.mark.parametrize("durable", [False, True])
def test_declare(channel: BlockingChannel, fresh: Fresh, kind: str, durable: bool) -> None:
    name = fresh("x")
    channel.exchange_declare(name, kind, durable=durable)
    channel.exchange_declare(name, kind, durable=durable)
    channel.exchange_declare(name, passive=True)
    channel.exchange_delete(name)
    assert not exists(channel, name)


def test_passive_declare_does_not_mind_what_kind(channel: BlockingChannel) -> None:
    channel.exchange_declare("amq.topic", "fanout", passive=True)


def test_passive_declare_of_a_missing_one(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.exchange_declare(name, passive=True)


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (
            {"exchange_type": "fanout"},
            "'type' for exchange '{}' in vhost '/': received 'fanout' but current is 'direct'",
        ),
        ({"durable": True}, "'durable' for exchange '{}' in vhost '/': received 'true' but current is 'false'"),
        ({"auto_delete": True}, "'auto_delete' for exchange '{}' in vhost '/': received 'true' but current is 'false'"),
        ({"internal": True}, "'internal' for exchange '{}' in vhost '/': received 'true' but current is 'false'"),
    ],
)
def test_declare_otherwise(channel: BlockingChannel, fresh: Fresh, declared: dict[str, Any], text: str) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "direct")
    with channel_error(406, "PRECONDITION_FAILED - inequivalent arg " + text.format(name)):
        channel.exchange_declare(name, **{"exchange_type": "direct"} | declared)


def test_an_unknown_type(channel: BlockingChannel, fresh: Fresh) -> None:
    with connection_error(503, "COMMAND_INVALID - unknown exchange type 'x-nothing'"):
        channel.exchange_declare(fresh("x"), "x-nothing")


@pytest.mark.parametrize(("name", "kind"), PREDECLARED)
def test_predeclared(channel: BlockingChannel, name: str, kind: str) -> None:
    channel.exchange_declare(name, passive=True)
    channel.exchange_declare(name, kind, durable=True)


def test_the_reserved_prefix(channel: BlockingChannel) -> None:
    with channel_error(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"):
        channel.exchange_declare("amq.mine", "direct")


def test_deleting_a_predeclared_one(channel: BlockingChannel) -> None:
    with channel_error(403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"):
        channel.exchange_delete("amq.direct")


@pytest.mark.parametrize("what", ["declare", "passive", "delete", "bind", "unbind"])
def test_the_default_exchange_is_not_to_be_touched(channel: BlockingChannel, queue: str, what: str) -> None:
    with channel_error(403, "ACCESS_REFUSED - operation not permitted on the default exchange"):
        if what == "declare":
            channel.exchange_declare("", "direct")
        elif what == "passive":
            channel.exchange_declare("", passive=True)
        elif what == "delete":
            channel.exchange_delete("")
        elif what == "bind":
            channel.queue_bind(queue, "", "key")
        else:
            channel.queue_unbind(queue, "", "key")


def test_names_may_hold_anything(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("celery@host é-世界 /#*")
    channel.exchange_declare(name, "fanout")
    queue = bound_queue(channel, fresh("q"), name)
    channel.basic_publish(name, "", b"x")
    assert get(channel, queue) == b"x"


# Delete


def test_delete_of_a_missing_one(channel: BlockingChannel, fresh: Fresh) -> None:
    channel.exchange_delete(fresh("x"))


def test_delete_if_unused(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "direct")
    queue = bound_queue(channel, fresh("q"), name, "key")
    with channel_error(406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use"):
        channel.exchange_delete(name, if_unused=True)
    channel = channel.connection.channel()
    channel.basic_publish(name, "key", b"still there")
    assert get(channel, queue) == b"still there"
    channel.queue_unbind(queue, name, "key")
    channel.exchange_delete(name, if_unused=True)
    assert not exists(channel, name)


def test_a_deleted_and_declared_one_has_no_bindings(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "fanout")
    queue = bound_queue(channel, fresh("q"), name)
    channel.exchange_delete(name)
    channel.exchange_declare(name, "fanout")
    channel.basic_publish(name, "", b"x")
    assert get(channel, queue) is None


def test_auto_delete_goes_with_its_last_binding(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "direct", auto_delete=True)
    assert exists(channel, name)
    first, second = (bound_queue(channel, fresh(q), name, "key") for q in ("q1", "q2"))
    channel.queue_unbind(first, name, "key")
    assert exists(channel, name)
    channel.queue_delete(second)
    assert not exists(channel, name)


def test_auto_delete_goes_on_through_exchanges(channel: BlockingChannel, fresh: Fresh) -> None:
    upper, lower = fresh("upper"), fresh("lower")
    channel.exchange_declare(upper, "fanout", auto_delete=True)
    channel.exchange_declare(lower, "fanout", auto_delete=True)
    channel.exchange_bind(lower, upper)
    queue = bound_queue(channel, fresh("q"), lower)
    channel.queue_delete(queue)
    assert not exists(channel, lower)
    assert not exists(channel, upper)


# Publish


def test_publish_to_a_missing_one(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.basic_publish(name, "", b"x")
        channel.basic_qos(prefetch_count=1)


def test_publish_to_an_internal_one(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "fanout", internal=True)
    with channel_error(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"):
        channel.basic_publish(name, "", b"x")
        channel.basic_qos(prefetch_count=1)


def test_an_internal_one_takes_what_other_exchanges_send(channel: BlockingChannel, fresh: Fresh) -> None:
    inner, outer = fresh("inner"), fresh("outer")
    channel.exchange_declare(inner, "fanout", internal=True)
    channel.exchange_declare(outer, "fanout")
    channel.exchange_bind(inner, outer)
    queue = bound_queue(channel, fresh("q"), inner)
    channel.basic_publish(outer, "", b"x")
    assert get(channel, queue) == b"x"


def test_the_default_exchange_routes_by_queue_name(channel: BlockingChannel, fresh: Fresh) -> None:
    names = [fresh(f"q{number}") for number in range(5)]
    for name in names:
        channel.queue_declare(name, exclusive=True)
    for name in names:
        publish(channel, name, name.encode())
    assert [get_all(channel, name) for name in names] == [[name.encode()] for name in names]


def test_direct(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "direct")
    red, both = bound_queue(channel, fresh("red"), name, "red"), bound_queue(channel, fresh("both"), name, "red")
    channel.queue_bind(both, name, "green")
    for key in ("red", "green", "blue", ""):
        channel.basic_publish(name, key, key.encode())
    assert get_all(channel, red) == [b"red"]
    assert get_all(channel, both) == [b"red", b"green"]


def test_fanout_to_many_queues(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "fanout")
    queues = [bound_queue(channel, fresh(f"q{number}"), name, str(number)) for number in range(50)]
    bodies = [f"{number}".encode() for number in range(20)]
    for body in bodies:
        channel.basic_publish(name, "whatever", body)
    for queue in queues:
        assert get_all(channel, queue) == bodies


def test_a_queue_that_several_bindings_name_gets_a_message_once(channel: BlockingChannel, fresh: Fresh) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "topic")
    queue = bound_queue(channel, fresh("q"), name, "a.#")
    for pattern in ("a.*", "#", "a.b", "*.b"):
        channel.queue_bind(queue, name, pattern)
    channel.basic_publish(name, "a.b", b"once")
    assert get_all(channel, queue) == [b"once"]


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("#", ["", "a", "a.b.c", "."], []),
        ("a.#", ["a", "a.b", "a.b.c", "a."], ["", "b", "b.a", "ab"]),
        ("#.z", ["z", "a.z", "a.b.z"], ["", "z.a"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.zz"]),
        ("a.*.z", ["a.b.z", "a..z"], ["a.z", "a.b.c.z"]),
        ("*", ["a", "-:@"], ["", "a.b"]),
        ("*.*", ["a.b", "."], ["a", "a.b.c"]),
        ("stock.usd-eur:1", ["stock.usd-eur:1"], ["stock.usd"]),
        ("", [""], ["a"]),
    ],
)
def test_topic(channel: BlockingChannel, fresh: Fresh, pattern: str, matching: list[str], others: list[str]) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "topic")
    channel.queue_declare(fresh("q"), exclusive=True)
    channel.queue_bind(fresh("q"), name, pattern or "#")
    if not pattern:  # pika would bind by the name of the queue
        channel.queue_unbind(fresh("q"), name, "#")
        channel.queue_bind(fresh("q"), name, "")
    for key in matching + others:
        channel.basic_publish(name, key, key.encode())
    assert get_all(channel, fresh("q")) == [key.encode() for key in matching]


@pytest.mark.parametrize(
    ("arguments", "matching"),
    [
        ({"x-match": "all", "a": "1", "b": 2}, ["ab", "abx"]),
        ({"a": "1", "b": 2}, ["ab", "abx"]),
        ({"x-match": "any", "a": "1", "b": 2}, ["a", "b", "ab", "abx"]),
        ({"x-match": "all-with-x", "a": "1", "x-c": True}, ["abx"]),
        ({"x-match": "any-with-x", "x-c": True}, ["abx", "x"]),
        ({"x-match": "all", "a": None}, ["a", "ab", "abx"]),
        ({"x-match": "all"}, ["none", "a", "b", "ab", "abx", "x", "wrong"]),
        ({"x-match": "any"}, []),
    ],
)
def test_headers(channel: BlockingChannel, fresh: Fresh, arguments: dict[str, Any], matching: list[str]) -> None:
    name = fresh("x")
    channel.exchange_declare(name, "headers")
    queue = bound_queue(channel, fresh("q"), name, "", arguments)
    cases: list[tuple[str, dict[str, Any] | None]] = [
        ("none", None),
        ("a", {"a": "1"}),
        ("b", {"b": 2}),
        ("ab", {"a": "1", "b": 2}),
        ("abx", {"a": "1", "b": 2, "x-c": True}),
        ("x", {"x-c": True}),
        ("wrong", {"a": "2", "b": "2"}),
    ]
    for body, headers in cases:
        if body == "a" and "a" in arguments and arguments["a"] is None:
            headers = {"a": ["anything"]}
        channel.basic_publish(name, "", body.encode(), BasicProperties(headers=headers))
    expected = [body for body, headers in cases if body in matching]
    if arguments.get("a", "") is None:
        expected.append("wrong")  # void asks only whether the header is there
    assert [body.decode() for body in get_all(channel, queue)] == expected


def test_headers_with_a_bad_x_match(channel: BlockingChannel, queue: str) -> None:
    with channel_error(
        406,
        'PRECONDITION_FAILED - Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x',
    ):
        channel.queue_bind(queue, "amq.headers", "", {"x-match": "some"})


# Exchange to exchange


def test_bind_and_unbind(channel: BlockingChannel, fresh: Fresh) -> None:
    source, destination = fresh("source"), fresh("destination")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(destination, "direct")
    queue = bound_queue(channel, fresh("q"), destination, "a.b")
    channel.exchange_bind(destination, source, "a.*")
    channel.exchange_bind(destination, source, "a.*")
    for key in ("a.b", "a.c", "b.b"):
        channel.basic_publish(source, key, key.encode())
    assert get_all(channel, queue) == [b"a.b"]
    channel.exchange_unbind(destination, source, "a.*")
    channel.exchange_unbind(destination, source, "a.*")
    channel.basic_publish(source, "a.b", b"x")
    assert get(channel, queue) is None


def test_a_ring_of_exchanges_ends(channel: BlockingChannel, fresh: Fresh) -> None:
    ring = [fresh(f"x{number}") for number in range(4)]
    for name in ring:
        channel.exchange_declare(name, "fanout")
    for name, following in zip(ring, [*ring[1:], ring[0]], strict=True):
        channel.exchange_bind(following, name)
    queues = [bound_queue(channel, fresh(f"q{number}"), name) for number, name in enumerate(ring)]
    channel.basic_publish(ring[0], "", b"x")
    assert [get_all(channel, queue) for queue in queues] == [[b"x"]] * 4


def test_two_ways_to_one_queue_deliver_once(channel: BlockingChannel, fresh: Fresh) -> None:
    top, left, right = fresh("top"), fresh("left"), fresh("right")
    for name in (top, left, right):
        channel.exchange_declare(name, "fanout")
    channel.exchange_bind(left, top)
    channel.exchange_bind(right, top)
    queue = bound_queue(channel, fresh("q"), left)
    channel.queue_bind(queue, right)
    channel.basic_publish(top, "", b"x")
    assert get_all(channel, queue) == [b"x"]


@pytest.mark.parametrize("missing", ["source", "destination"])
def test_bind_with_a_missing_end(channel: BlockingChannel, fresh: Fresh, missing: str) -> None:
    name = fresh("x")
    ends = {"source": "amq.direct", "destination": "amq.fanout"} | {missing: name}
    with channel_error(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'"):
        channel.exchange_bind(ends["destination"], ends["source"])


def test_unbind_with_a_missing_end(channel: BlockingChannel, fresh: Fresh) -> None:
    channel.exchange_unbind("amq.direct", fresh("x"))


# nowait


def test_nowait_is_not_answered(raw: OpenRaw, fresh: Fresh) -> None:
    client = raw()
    client.open()
    client.open_channel()
    a, b = fresh("a"), fresh("b")
    client.send(spec.Exchange.Declare(exchange=a, exchange_type="fanout", nowait=True), 1)
    client.send(spec.Exchange.Declare(exchange=b, exchange_type="fanout", nowait=True), 1)
    client.send(spec.Exchange.Bind(destination=b, source=a, nowait=True), 1)
    client.send(spec.Exchange.Unbind(destination=b, source=a, nowait=True), 1)
    client.send(spec.Exchange.Delete(exchange=a, nowait=True), 1)
    client.send(spec.Exchange.Declare(exchange=b, passive=True), 1)
    client.expect(spec.Exchange.DeclareOk)
    client.send(spec.Exchange.Declare(exchange=a, passive=True), 1)
    assert client.expect(spec.Channel.Close).reply_code == 404


def test_a_binding_is_in_force_when_it_is_answered(connect: Connect, channel: BlockingChannel, fresh: Fresh) -> None:
    """Also for what another connection publishes."""
    other = connect().channel()
    queue, name = fresh("q"), fresh("x")
    channel.queue_declare(queue, exclusive=True)
    channel.exchange_declare(name, "topic")
    inbox = Inbox(channel, queue, auto_ack=True)
    for number in range(100):
        channel.queue_bind(queue, name, f"key.{number}")
        other.basic_publish(name, f"key.{number}", str(number).encode())
        inbox.wait(number + 1)
