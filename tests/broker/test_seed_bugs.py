"""Each bug of the broker that this one follows (dispatchd in Go), by its effect: a test that would have caught it."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from broker.clients import (
    Inbox,
    channel_error,
    depth,
    exists,
    get,
    get_all,
    persistent,
    publish,
    round_trip,
    wait_until,
)
from broker.conftest import Connect, Fresh, OpenRaw
from broker.process import BrokerProcess
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingChannel

StartBroker = Callable[..., BrokerProcess]


def restarted(broker: BrokerProcess, connect: Connect, channel: BlockingChannel) -> BlockingChannel:
    """A channel like this one, of the broker after it was stopped and started again."""
    channel.connection.close()
    assert broker.stop() == 0
    broker.start()
    return connect(broker).channel()


def store(channel: BlockingChannel, queue: str, *bodies: bytes, exchange: str = "") -> None:
    """Publish persistent messages, and wait until they are on disk."""
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish(exchange, queue, body, persistent())


def test_01_a_publish_to_the_default_exchange_ends_the_process(
    own_broker: BrokerProcess, connect: Connect, fresh: Fresh
) -> None:
    channel = connect(own_broker).channel()
    channel.queue_declare(fresh("q"))
    publish(channel, fresh("q"), b"x")
    publish(channel, fresh("no such queue"), b"x")
    assert get_all(channel, fresh("q")) == [b"x"]
    assert own_broker.is_running


def test_02_direct_delivers_to_the_first_matching_queue_only(channel: BlockingChannel, fresh: Fresh) -> None:
    queues = [fresh(f"q{number}") for number in range(3)]
    for queue in queues:
        channel.queue_declare(queue, exclusive=True)
        channel.queue_bind(queue, "amq.direct", fresh("key"))
    channel.basic_publish("amq.direct", fresh("key"), b"x")
    assert [get_all(channel, queue) for queue in queues] == [[b"x"]] * 3


def test_03_a_hash_does_not_match_zero_words_and_keys_are_refused(channel: BlockingChannel, queue: str) -> None:
    channel.queue_bind(queue, "amq.topic", f"{queue}.#")
    keys = [queue, f"{queue}.a-b", f"{queue}.c:d", f"{queue}.e@f.g h"]
    for key in keys:
        channel.basic_publish("amq.topic", key, key.encode())
    assert get_all(channel, queue) == [key.encode() for key in keys]


def test_04_empty_bodies_are_lost(channel: BlockingChannel, queue: str) -> None:
    publish(channel, queue, b"", b"1", b"", b"", b"2")
    assert get_all(channel, queue) == [b"", b"1", b"", b"", b"2"]


@pytest.mark.parametrize("how", ["cancel", "close the channel", "close the connection", "drop the connection"])
def test_05_consumers_are_never_removed(
    connect: Connect, raw: OpenRaw, channel: BlockingChannel, queue: str, fresh: Fresh, how: str
) -> None:
    channel.queue_declare(fresh("auto"), auto_delete=True)
    client = raw()
    client.open()
    client.open_channel()
    for name in (queue, fresh("auto")):
        client.send(spec.Basic.Consume(queue=name, consumer_tag=name), 1)
        client.expect(spec.Basic.ConsumeOk)
    assert channel.queue_declare(queue, passive=True).method.consumer_count == 1
    if how == "cancel":
        for name in (queue, fresh("auto")):
            client.send(spec.Basic.Cancel(name), 1)
    elif how == "close the channel":
        client.send(spec.Channel.Close(200, "", 0, 0), 1)
    elif how == "close the connection":
        client.send(spec.Connection.Close(200, "", 0, 0))
    else:
        client.close()
    wait_until(channel, lambda: channel.queue_declare(queue, passive=True).method.consumer_count == 0)
    publish(channel, queue, b"for nobody")
    assert get(channel, queue) == b"for nobody"
    wait_until(channel, lambda: not exists(channel, fresh("auto")))
    channel.queue_delete(queue, if_unused=True)


def test_06_a_refused_exclusive_consumer_locks_the_queue(
    connect: Connect, channel: BlockingChannel, queue: str
) -> None:
    refused = channel_error(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use")
    inbox = Inbox(channel, queue, auto_ack=True)
    with refused:
        connect().channel().basic_consume(queue, print, exclusive=True)
    publish(channel, queue, b"still works")
    assert inbox.wait(1)[0].body == b"still works"
    channel.basic_cancel(inbox.tag)
    exclusive = Inbox(channel, queue, auto_ack=True, exclusive=True)
    with channel_error(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"):
        connect().channel().basic_consume(queue, print)
    publish(channel, queue, b"mine")
    assert exclusive.wait(1)[0].body == b"mine"


def test_07_a_refused_delete_forgets_the_queue(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    channel.queue_declare("q", durable=True)
    store(channel, "q", b"kept")
    consumer = channel.connection.channel()
    consumer.basic_qos(prefetch_count=1)
    inbox = Inbox(consumer, "q")
    inbox.wait(1)
    store(channel, "q", b"kept too")
    for condition, why in (({"if_unused": True}, "in use"), ({"if_empty": True}, "not empty")):
        with channel_error(406, f"PRECONDITION_FAILED - queue 'q' in vhost '/' {why}"):
            channel.connection.channel().queue_delete("q", **condition)
    assert depth(channel, "q") == 1
    consumer.basic_ack(inbox.deliveries[0].tag)
    inbox.wait(2)
    channel = restarted(own_broker, connect, channel)
    assert get_all(channel, "q") == [b"kept too"]


def test_08_purged_messages_are_back_after_a_restart(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    for name in ("purged", "deleted"):
        channel.queue_declare(name, durable=True)
        store(channel, name, b"1", b"2", b"3")
    assert channel.queue_purge("purged").method.message_count == 3
    assert channel.queue_delete("deleted").method.message_count == 3
    channel.queue_declare("deleted", durable=True)
    store(channel, "purged", b"after")
    channel = restarted(own_broker, connect, channel)
    assert get_all(channel, "purged") == [b"after"]
    assert get_all(channel, "deleted") == []


def test_09_of_many_acknowledged_messages_most_are_back_after_a_restart(
    own_broker: BrokerProcess, connect: Connect
) -> None:
    channel = connect(own_broker).channel()
    queues = ["q1", "q2"]
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "amq.fanout")
    bodies = [str(number).encode() for number in range(100)]
    store(channel, "", *bodies, exchange="amq.fanout")
    channel = restarted(own_broker, connect, channel)
    for queue in queues:
        inbox = Inbox(channel, queue)
        inbox.wait(100)
        assert inbox.bodies == bodies
        channel.basic_cancel(inbox.tag)
        for delivery in inbox.deliveries[:40] + inbox.deliveries[50:]:
            channel.basic_ack(delivery.tag)
    channel = restarted(own_broker, connect, channel)
    for queue in queues:
        assert get_all(channel, queue) == bodies[40:50]


def test_10_order_is_lost_in_a_restart_and_pairs_of_add_and_delete_never_go(
    own_broker: BrokerProcess, connect: Connect
) -> None:
    channel = connect(own_broker).channel()
    for queue in ("quick", "slow"):
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "amq.fanout")
    inbox = Inbox(channel, "quick", auto_ack=True)
    bodies = [str(number).encode() for number in range(300)]
    for body in bodies:
        channel.basic_publish("amq.fanout", "", body, persistent())
    inbox.wait(300)
    channel = restarted(own_broker, connect, channel)
    assert depth(channel, "quick") == 0
    assert get_all(channel, "slow") == bodies
    channel = restarted(own_broker, connect, channel)
    assert depth(channel, "slow") == 0


def test_11_get_always_acknowledges_and_its_tag_is_unknown(
    connect: Connect, channel: BlockingChannel, queue: str
) -> None:
    channel.basic_qos(prefetch_count=1, global_qos=True)
    publish(channel, queue, b"1", b"2", b"3")
    method, _, _ = channel.basic_get(queue)
    assert method.message_count == 2
    channel.basic_ack(method.delivery_tag)
    other = connect().channel()
    method, _, _ = other.basic_get(queue)
    assert method.message_count == 1
    other.close()
    assert get(channel, queue, auto_ack=True) == b"2"
    inbox = Inbox(channel, queue)
    assert inbox.wait(1)[0].body == b"3"
    publish(channel, queue, b"4")
    assert inbox.all() == [b"3"]
    channel.basic_ack(inbox.deliveries[0].tag)
    inbox.wait(2)


def test_12_declaring_again_tells_nothing_and_replaces(own_broker: BrokerProcess, connect: Connect) -> None:
    channel = connect(own_broker).channel()
    channel.queue_declare("q", durable=True)
    publish(channel, "q", b"1", b"2")
    Inbox(channel.connection.channel(), "q", auto_ack=True).wait(2)
    publish(channel, "q", b"3")
    channel.queue_declare("other")
    publish(channel, "other", b"1", b"2")
    answer = channel.queue_declare("other").method
    assert (answer.message_count, answer.consumer_count) == (2, 0)
    assert channel.queue_declare("q", durable=True).method.consumer_count == 1
    channel.exchange_declare("transient", "fanout")
    channel.queue_bind("other", "transient")
    with channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'transient' in vhost '/': "
        "received 'true' but current is 'false'",
    ):
        channel.connection.channel().exchange_declare("transient", "fanout", durable=True)
    with channel_error(406, "PRECONDITION_FAILED - exchange 'transient' in vhost '/' in use"):
        channel.connection.channel().exchange_delete("transient", if_unused=True)
    channel.basic_publish("transient", "", b"bound")
    assert get_all(channel, "other") == [b"1", b"2", b"bound"]
    channel = restarted(own_broker, connect, channel)
    with channel_error(404, "NOT_FOUND - no exchange 'transient' in vhost '/'"):
        channel.exchange_declare("transient", passive=True)


def test_13_a_fanout_sends_frames_to_wrong_channels(raw: OpenRaw, channel: BlockingChannel, fresh: Fresh) -> None:
    channel.exchange_declare(fresh("x"), "fanout", auto_delete=True)
    clients = []
    for frame_max in (4096, 131072):
        client = raw()
        client.open(frame_max=frame_max)
        clients.append(client)
        for number in range(1, 6):
            client.open_channel(number)
            client.send(spec.Queue.Declare(exclusive=True), number)
            queue = client.expect(spec.Queue.DeclareOk).queue
            client.send(spec.Queue.Bind(queue=queue, exchange=fresh("x")), number)
            client.expect(spec.Queue.BindOk)
            client.send(spec.Basic.Consume(queue=queue, no_ack=True), number)
            client.expect(spec.Basic.ConsumeOk)
    bodies = [bytes([number]) * 10_000 for number in range(20)]
    for body in bodies:
        channel.basic_publish(fresh("x"), "", body)
    for client in clients:
        received: dict[int, bytes] = dict.fromkeys(range(1, 6), b"")
        while any(len(data) < 200_000 for data in received.values()):
            number, frame = client.receive()
            received[number] += getattr(frame, "value", b"")
        assert list(received.values()) == [b"".join(bodies)] * 5


def test_14_what_many_do_at_once_ends_the_process_or_stays_behind(own_broker: BrokerProcess, connect: Connect) -> None:
    def live(number: int) -> None:
        for _ in range(10):
            connection = connect(own_broker)
            channel = connection.channel()
            channel.exchange_declare(f"x{number % 3}", "fanout")
            queue = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queue, f"x{number % 3}")
            inbox = Inbox(channel, queue, auto_ack=True)
            for body in (b"1", b"2", b"3"):
                channel.basic_publish(f"x{number % 3}", "", body)
            inbox.wait(3)  # of those that all publish
            connection.close()

    clients = [gevent.spawn(live, number) for number in range(8)]
    gevent.joinall(clients, raise_error=True)
    assert own_broker.is_running
    assert own_broker.trouble_since(0) == []
    deadline = time.monotonic() + 10
    while leftovers := api(own_broker, "/api/connections") + api(own_broker, "/api/channels"):
        assert time.monotonic() < deadline, leftovers
    assert [queue["name"] for queue in api(own_broker, "/api/queues")] == []
    assert api(own_broker, "/api/actors")["kinds"].keys().isdisjoint({"connection", "channel", "queue"})


def api(broker: BrokerProcess, path: str) -> Any:
    """What the admin has."""
    request = urllib.request.Request(f"http://{broker.host}:{broker.admin_port}{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_15_transactions_forget_mandatory_and_make_everything_persistent(
    own_broker: BrokerProcess, connect: Connect
) -> None:
    channel = connect(own_broker).channel()
    channel.queue_declare("q", durable=True)
    channel.tx_select()
    returned: list[bytes] = []
    channel.add_on_return_callback(lambda *arguments: returned.append(arguments[3]))
    channel.basic_publish("", "q", b"transient")
    channel.basic_publish("", "q", b"persistent", persistent())
    channel.basic_publish("", "nowhere", b"returned", mandatory=True)
    channel.tx_commit()
    channel.connection.process_data_events(time_limit=0)
    assert returned == [b"returned"]
    channel.basic_publish("", "q", b"never committed", persistent())
    round_trip(channel)
    own_broker.kill()
    own_broker.start()
    channel = connect(own_broker).channel()
    assert get_all(channel, "q") == [b"persistent"]
