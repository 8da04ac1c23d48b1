from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from broker.clients import Inbox, channel_error, depth, get, get_all, persistent, publish, wait_until
from broker.conftest import Connect, Fresh
from broker.process import BrokerProcess
from pika import BasicProperties
from pika.adapters.blocking_connection import BlockingChannel


class Returns:
    """What comes back because no queue took it."""

    def __init__(self, channel: BlockingChannel) -> None:
        self.deliveries: list[tuple[bytes, BasicProperties]] = []
        self._channel = channel
        channel.add_on_return_callback(lambda _channel, _method, properties, body: self._take(properties, body))

    def _take(self, properties: BasicProperties, body: bytes) -> None:
        self.deliveries.append((body, properties))

    def all(self) -> list[bytes]:
        """The bodies of all that came back of what was published so far."""
        self._channel.exchange_delete("there is none of this name")  # its answer comes behind them
        self._channel.connection.process_data_events(time_limit=0)
        return [body for body, _ in self.deliveries]


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
    ({"headers": {"CC": "x"}}, 'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
    ({"headers": {"BCC": 1}}, 'invalid message: {unacceptable_type_in_header,"BCC",signedint}'),
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


# Alternate exchange


def declare(channel: BlockingChannel, name: str, kind: str = "fanout", *, alternate: str | None = None) -> str:
    arguments = {} if alternate is None else {"alternate-exchange": alternate}
    channel.exchange_declare(name, kind, arguments=arguments)
    return name


def bound_queue(channel: BlockingChannel, name: str, exchange: str, key: str = "") -> str:
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, exchange, key)
    return name


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
def test_what_nothing_matches_goes_to_the_alternate_exchange(channel: BlockingChannel, fresh: Fresh, kind: str) -> None:
    ae = declare(channel, fresh("ae"))
    caught = bound_queue(channel, fresh("caught"), ae)
    x = declare(channel, fresh("x"), kind, alternate=ae)
    channel.basic_publish(x, "k", b"caught")
    taken = bound_queue(channel, fresh("taken"), x, "k")
    channel.basic_publish(x, "k", b"taken")
    assert (get_all(channel, caught), get_all(channel, taken)) == ([b"caught"], [b"taken"])


def test_a_chain_of_alternates_one_of_which_loops(channel: BlockingChannel, fresh: Fresh) -> None:
    x, y, z = fresh("x"), fresh("y"), fresh("z")
    for name, alternate in ((x, y), (y, z), (z, x)):
        declare(channel, name, "direct", alternate=alternate)
    q = bound_queue(channel, fresh("q"), z, "k")
    returns = Returns(channel)
    channel.basic_publish(x, "k", b"taken", mandatory=True)
    channel.basic_publish(x, "other", b"returned", mandatory=True)
    assert returns.all() == [b"returned"]
    assert get_all(channel, q) == [b"taken"]


@pytest.mark.parametrize("alternate", ["missing", ""])
def test_an_alternate_that_leads_nowhere(channel: BlockingChannel, queue: str, fresh: Fresh, alternate: str) -> None:
    x = declare(channel, fresh("x"), alternate=fresh(alternate) if alternate else "")
    returns = Returns(channel)
    channel.basic_publish(x, queue, b"returned", mandatory=True)
    assert returns.all() == [b"returned"]
    channel.confirm_delivery()
    channel.basic_publish(x, queue, b"confirmed")
    assert get(channel, queue) is None


def test_an_exchange_behind_another_has_its_own_alternate(channel: BlockingChannel, fresh: Fresh) -> None:
    ae = declare(channel, fresh("ae"))
    y = declare(channel, fresh("y"), "direct", alternate=ae)
    x = declare(channel, fresh("x"))
    channel.exchange_bind(y, x)
    by_x, by_ae = bound_queue(channel, fresh("by-x"), x), bound_queue(channel, fresh("by-ae"), ae)
    channel.basic_publish(x, "k", b"both")
    assert (get_all(channel, by_x), get_all(channel, by_ae)) == ([b"both"], [b"both"])


def test_an_alternate_is_deleted_and_declared_again(channel: BlockingChannel, fresh: Fresh) -> None:
    ae = declare(channel, fresh("ae"))
    x = declare(channel, fresh("x"), alternate=ae)
    q = bound_queue(channel, fresh("q"), ae)
    channel.basic_publish(x, "", b"1")
    channel.exchange_delete(ae)
    channel.basic_publish(x, "", b"2")
    assert depth(channel, q) == 1
    declare(channel, ae)
    channel.queue_bind(q, ae)
    channel.basic_publish(x, "", b"3")
    assert get_all(channel, q) == [b"1", b"3"]


# CC and BCC: sender-selected distribution


def test_copies_go_to_the_queues_that_cc_and_bcc_name(channel: BlockingChannel, fresh: Fresh) -> None:
    names = [fresh(name) for name in ("to", "cc", "bcc", "other")]
    for name in names:
        channel.queue_declare(name, exclusive=True)
    to, cc, bcc, other = names
    properties = BasicProperties(
        headers={"CC": [cc, to, cc, fresh("missing"), 1], "BCC": [bcc, cc], "kept": "yes"}, delivery_mode=2
    )
    channel.basic_publish("", to, b"x", properties)
    assert get_all(channel, other) == []
    for name in (to, cc, bcc):
        method, received, body = channel.basic_get(name, auto_ack=True)
        assert (body, method.routing_key, method.message_count) == (b"x", to, 0)
        assert received.headers == {"CC": [cc, to, cc, fresh("missing"), 1], "kept": "yes"}
        assert received.delivery_mode == 2


def test_copies_alone_keep_a_message_from_coming_back(channel: BlockingChannel, queue: str) -> None:
    returns = Returns(channel)
    channel.basic_publish("", "", b"taken", BasicProperties(headers={"BCC": [queue]}), mandatory=True)
    hidden: dict[str, Any] = {"BCC": ["missing"], "CC": ["missing"]}
    channel.basic_publish("amq.direct", "", b"returned", BasicProperties(headers=hidden), mandatory=True)
    assert returns.all() == [b"returned"]
    assert returns.deliveries[0][1].headers == {"CC": ["missing"]}
    assert get_all(channel, queue) == [b"taken"]


def test_copies_go_through_exchanges_too(channel: BlockingChannel, fresh: Fresh) -> None:
    x, y = declare(channel, fresh("x"), "topic"), declare(channel, fresh("y"), "direct")
    channel.exchange_bind(y, x, "a.*")
    by_topic, by_both = bound_queue(channel, fresh("by-topic"), x, "a.b"), bound_queue(channel, fresh("q"), y, "a.b")
    channel.queue_bind(by_both, x, "#")
    channel.basic_publish(x, "c", b"1", BasicProperties(headers={"CC": ["a.b", "a.c"]}))
    channel.basic_publish(x, "c", b"2")
    assert (get_all(channel, by_topic), get_all(channel, by_both)) == ([b"1"], [b"1", b"2"])


def test_copies_of_a_transaction(channel: BlockingChannel, connect: Connect, queue: str, fresh: Fresh) -> None:
    transaction = connect().channel()
    transaction.tx_select()
    transaction.basic_publish("", fresh("missing"), b"x", BasicProperties(headers={"BCC": [queue]}))
    transaction.tx_commit()
    assert get_all(channel, queue) == [b"x"]


def test_copies_die_to_the_same_keys(channel: BlockingChannel, fresh: Fresh) -> None:
    dlx = declare(channel, fresh("dlx"), "direct")
    takers = [bound_queue(channel, fresh(key), dlx, fresh(f"to {key}")) for key in ("key", "cc", "bcc")]
    x, key, cc, bcc = declare(channel, fresh("x")), *(fresh(f"to {key}") for key in ("key", "cc", "bcc"))
    dying: Any = {"x-dead-letter-exchange": dlx, "x-message-ttl": 0}
    channel.queue_declare(fresh("dying"), exclusive=True, arguments=dying)
    channel.queue_bind(fresh("dying"), x)
    channel.basic_publish(x, key, b"dead", BasicProperties(headers={"CC": [cc, key], "BCC": [bcc]}))
    for taker in takers:
        wait_until(channel, lambda taker=taker: depth(channel, taker) == 1)
        _, properties, _ = channel.basic_get(taker, auto_ack=True)
        assert properties.headers["CC"] == [cc, key]
        assert properties.headers["x-death"][0]["routing-keys"] == [key, cc, key]


# x-consistent-hash

HASH = "x-consistent-hash"


def hash_queues(channel: BlockingChannel, fresh: Fresh, exchange: str, *weights: str) -> list[str]:
    return [bound_queue(channel, fresh(f"q{number}"), exchange, weight) for number, weight in enumerate(weights)]


def taken_by(channel: BlockingChannel, queues: Iterable[str]) -> list[int]:
    """How many messages each of them had."""
    return [len(get_all(channel, each)) for each in queues]


def test_each_message_goes_to_one_queue_by_weight_and_equal_keys_stay_together(
    channel: BlockingChannel, fresh: Fresh
) -> None:
    x = declare(channel, fresh("x"), HASH)
    light, heavy = hash_queues(channel, fresh, x, "1", "3")
    for _ in range(2):
        for number in range(500):
            channel.basic_publish(x, f"key {number}", str(number).encode())
    taken = [get_all(channel, light), get_all(channel, heavy)]
    assert len(taken[0]) + len(taken[1]) == 1000
    assert len(taken[0]) == pytest.approx(250, rel=0.4)
    for bodies in taken:
        assert bodies[: len(bodies) // 2] == bodies[len(bodies) // 2 :]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"hash-header": "h"}, "headers"),
        ({"hash-property": "message_id"}, "message_id"),
        ({"hash-property": "correlation_id"}, "correlation_id"),
        ({"hash-property": "timestamp"}, "timestamp"),
    ],
)
def test_what_is_hashed_instead_of_the_key(
    channel: BlockingChannel, fresh: Fresh, arguments: dict[str, str], name: str
) -> None:
    x = fresh("x")
    channel.exchange_declare(x, HASH, arguments=arguments)
    queues = hash_queues(channel, fresh, x, *("1" * 4))
    sent: dict[str, Any] = {"headers": {"h": "same"}, "timestamp": 1_700_000_000}
    for number in range(20):
        channel.basic_publish(x, str(number), b"", BasicProperties(**{name: sent.get(name, "same")}))
    assert sorted(taken_by(channel, queues)) == [0, 0, 0, 20]
    for number in range(40):
        each: dict[str, Any] = {"headers": {"h": str(number)}, "timestamp": number}
        channel.basic_publish(x, "same", b"", BasicProperties(**{name: each.get(name, str(number))}))
    counts = taken_by(channel, queues)
    assert sum(counts) == 40
    assert max(counts) < 40


def test_a_queue_less_and_a_queue_more(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"), HASH, alternate=fresh("ae"))
    caught = bound_queue(channel, fresh("caught"), declare(channel, fresh("ae")))
    channel.basic_publish(x, "k", b"nobody")
    a, b = hash_queues(channel, fresh, x, "1", "1")
    channel.queue_delete(a)
    channel.basic_publish(x, "k", b"only b")
    channel.queue_unbind(b, x, "1")
    channel.basic_publish(x, "k", b"nobody again")
    assert (get_all(channel, caught), get_all(channel, b)) == ([b"nobody", b"nobody again"], [b"only b"])


def test_copies_do_not_make_a_hash_exchange_send_twice(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"), HASH)
    queues = hash_queues(channel, fresh, x, *("1" * 4))
    for number in range(10):
        keys: Any = {"CC": [str(copy) for copy in range(20)]}
        channel.basic_publish(x, str(number), b"", BasicProperties(headers=keys))
    assert sum(taken_by(channel, queues)) == 10


@pytest.mark.parametrize(
    ("weight", "text"),
    [
        ("", "The binding key must be an integer: <<>>"),
        ("1.5", 'The binding key must be an integer: <<"1.5">>'),
        ("0", "The binding key must be greater than 0"),
    ],
)
def test_a_bad_weight(channel: BlockingChannel, queue: str, fresh: Fresh, weight: str, text: str) -> None:
    x = declare(channel, fresh("x"), HASH)
    with channel_error(406, f"PRECONDITION_FAILED - {text}"):
        channel.queue_bind(queue, x, weight)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"hash-property": "app_id"}, "Unsupported property: app_id"),
        (
            {"hash-header": "h", "hash-property": "message_id"},
            "hash-header and hash-property are mutually exclusive",
        ),
    ],
)
def test_bad_arguments(channel: BlockingChannel, fresh: Fresh, arguments: dict[str, str], text: str) -> None:
    with channel_error(406, f"PRECONDITION_FAILED - {text}"):
        channel.exchange_declare(fresh("x"), HASH, arguments=arguments)


def test_a_hash_exchange_outlives_a_restart(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    channel.exchange_declare("x", HASH, durable=True, arguments={"hash-header": "h"})
    for name in "abcd":
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "x", "1")
    channel.connection.close()
    own_broker.stop()
    own_broker.start()
    channel = connect(own_broker).channel()
    for number in range(20):
        channel.basic_publish("x", str(number), b"", BasicProperties(headers={"h": "same"}))
    assert sorted(taken_by(channel, "abcd")) == [0, 0, 0, 20]


# x-random, x-modulus-hash


def test_each_message_goes_to_any_queue(channel: BlockingChannel, fresh: Fresh) -> None:
    x = declare(channel, fresh("x"), "x-random")
    queues = [bound_queue(channel, fresh(name), x) for name in "abc"]
    for _ in range(600):
        channel.basic_publish(x, "same", b"")
    counts = taken_by(channel, queues)
    assert sum(counts) == 600
    assert min(counts) > 100


def test_the_keys_hash_chooses_among_the_bindings(own_broker: BrokerProcess, connect: Connect) -> None:
    def taken() -> list[list[bytes]]:
        for number in range(200):
            channel.basic_publish("x", f"key {number}", str(number).encode(), persistent())
        return [get_all(channel, name) for name in names]

    names = ["b", "c", "a"]
    channel = connect(own_broker).channel()
    channel.exchange_declare("x", "x-modulus-hash", durable=True)
    for name in names:
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "x", "ignored")
    before = taken()
    assert sum(len(bodies) for bodies in before) == 200
    assert min(len(bodies) for bodies in before) > 30
    channel.connection.close()
    own_broker.stop()
    own_broker.start()
    channel = connect(own_broker).channel()
    assert taken() == before


# x-recent-history


def test_who_binds_later_gets_the_last_messages(channel: BlockingChannel, fresh: Fresh) -> None:
    x = fresh("x")
    channel.exchange_declare(x, "x-recent-history", arguments={"x-recent-history-length": 3})
    early = bound_queue(channel, fresh("early"), x)
    for number in range(5):
        channel.basic_publish(x, f"key {number}", str(number).encode(), BasicProperties(message_id=str(number)))
    channel.basic_publish(x, "k", b"secret", BasicProperties(headers={"x-recent-history-no-store": True}))
    inbox = Inbox(channel, bound_queue(channel, fresh("late"), x), auto_ack=True)
    channel.basic_publish(x, "k", b"new")
    history = inbox.wait(4)
    assert inbox.all() == [b"2", b"3", b"4", b"new"]
    assert [(each.exchange, each.routing_key, each.properties.message_id) for each in history[:3]] == [
        (x, f"key {number}", str(number)) for number in (2, 3, 4)
    ]
    assert get_all(channel, early) == [b"0", b"1", b"2", b"3", b"4", b"secret", b"new"]


def test_persistent_history_is_stored_for_each_queue(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    channel.confirm_delivery()
    channel.exchange_declare("x", "x-recent-history", durable=True)
    channel.basic_publish("x", "k", b"1", persistent())
    for name in "ab":
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, "x")
        wait_until(channel, lambda name=name: depth(channel, name) == 1)
    channel.basic_publish("x", "k", b"2", persistent())
    own_broker.kill()
    own_broker.start()
    channel = connect(own_broker).channel()
    assert [get_all(channel, name) for name in "ab"] == [[b"1", b"2"]] * 2
    channel.queue_declare("c")
    channel.queue_bind("c", "x")
    channel.basic_publish("x", "k", b"3")
    assert get_all(channel, "c") == [b"3"]


# Declared again

DECLARED = [
    ("x-consistent-hash", None, "'type'", "received ''x-consistent-hash'' but current is 'direct'"),
    (
        "direct",
        {"alternate-exchange": "ae"},
        "'alternate-exchange'",
        "received the value 'ae' of type 'longstr' but current is none",
    ),
    (
        "direct",
        {"alternate-exchange": None},
        "'alternate-exchange'",
        "received the value 'undefined' of type 'void' but current is none",
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "name", "text"), DECLARED)
def test_declare_otherwise(
    channel: BlockingChannel, fresh: Fresh, kind: str, arguments: dict[str, Any] | None, name: str, text: str
) -> None:
    x = declare(channel, fresh("x"), "direct")
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg {name} for exchange '{x}' in vhost '/': {text}"):
        channel.exchange_declare(x, kind, arguments=arguments)
