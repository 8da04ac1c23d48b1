from __future__ import annotations

from typing import Any

import pika
import pytest
from broker.clients import Inbox, channel_error, depth, get, get_all, publish, put, round_trip
from broker.conftest import Connect, Fresh
from pika.adapters.blocking_connection import BlockingChannel


@pytest.fixture
def transaction(connect: Connect) -> BlockingChannel:
    """A transactional channel on a connection of its own."""
    channel = connect().channel()
    channel.tx_select()
    return channel


def test_published_with_the_commit(channel: BlockingChannel, transaction: BlockingChannel, queue: str) -> None:
    publish(transaction, queue, b"1", b"2")
    round_trip(transaction)
    assert depth(channel, queue) == 0
    transaction.tx_commit()
    assert get_all(channel, queue) == [b"1", b"2"]


def test_nothing_is_left_of_a_rollback(channel: BlockingChannel, transaction: BlockingChannel, queue: str) -> None:
    publish(transaction, queue, b"1")
    transaction.tx_rollback()
    publish(transaction, queue, b"2")
    transaction.tx_commit()
    transaction.tx_commit()
    assert get_all(channel, queue) == [b"2"]


def test_a_closed_channel_commits_nothing(channel: BlockingChannel, transaction: BlockingChannel, queue: str) -> None:
    publish(transaction, queue, b"1")
    transaction.close()
    assert depth(channel, queue) == 0


def test_acks_with_the_commit(channel: BlockingChannel, transaction: BlockingChannel, queue: str) -> None:
    put(channel, queue, b"1", b"2", b"3")
    tags = [transaction.basic_get(queue)[0].delivery_tag for _ in range(3)]
    transaction.basic_ack(tags[0])
    transaction.tx_commit()
    transaction.basic_ack(tags[1])
    transaction.tx_rollback()
    transaction.basic_ack(tags[2])
    transaction.close()
    assert get_all(channel, queue) == [b"2", b"3"]


def test_after_a_rollback_it_can_be_acknowledged_again(
    channel: BlockingChannel, transaction: BlockingChannel, queue: str
) -> None:
    put(channel, queue, b"1")
    tag = transaction.basic_get(queue)[0].delivery_tag
    transaction.basic_ack(tag)
    transaction.tx_rollback()
    transaction.basic_ack(tag)
    transaction.tx_commit()
    transaction.close()
    assert depth(channel, queue) == 0


@pytest.mark.parametrize("requeue", [False, True])
def test_rejects_with_the_commit(
    channel: BlockingChannel, transaction: BlockingChannel, queue: str, requeue: bool
) -> None:
    put(channel, queue, b"1", b"2")
    for refuse in (transaction.basic_reject, transaction.basic_nack):
        refuse(transaction.basic_get(queue)[0].delivery_tag, requeue=requeue)
    round_trip(transaction)
    assert depth(channel, queue) == 0
    transaction.tx_commit()
    assert get_all(channel, queue) == ([b"1", b"2"] if requeue else [])


def test_an_unknown_tag(transaction: BlockingChannel) -> None:
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 5"):
        transaction.basic_ack(5)
        transaction.tx_commit()


def test_mandatory_ones_return_with_the_commit(transaction: BlockingChannel, fresh: Fresh) -> None:
    returned: list[Any] = []
    transaction.add_on_return_callback(lambda *arguments: returned.append(arguments[3]))
    transaction.basic_publish("", fresh("missing"), b"x", mandatory=True)
    round_trip(transaction)
    transaction.connection.process_data_events(time_limit=0)
    assert returned == []
    transaction.tx_commit()
    transaction.connection.process_data_events(time_limit=0)
    assert returned == [b"x"]


def test_a_missing_exchange_is_told_at_once(transaction: BlockingChannel, fresh: Fresh) -> None:
    with channel_error(404, f"NOT_FOUND - no exchange '{fresh('x')}' in vhost '/'"):
        transaction.basic_publish(fresh("x"), "", b"x")
        round_trip(transaction)


def test_persistent_ones_in_durable_queues(
    channel: BlockingChannel, transaction: BlockingChannel, fresh: Fresh
) -> None:
    name = fresh("q")
    channel.queue_declare(name, durable=True)
    for number in range(20):
        for part in (b"a", b"b"):
            transaction.basic_publish("", name, part + str(number).encode(), pika.BasicProperties(delivery_mode=2))
        transaction.tx_commit()
    assert depth(channel, name) == 40
    channel.queue_delete(name)


def test_many_queues_and_exchanges_in_one_transaction(
    channel: BlockingChannel, transaction: BlockingChannel, fresh: Fresh
) -> None:
    queues = [channel.queue_declare(fresh(f"q{number}"), exclusive=True).method.queue for number in range(10)]
    for queue in queues:
        channel.queue_bind(queue, "amq.topic", f"{queue}.#")
    for queue in queues:
        transaction.basic_publish("", queue, b"direct")
        transaction.basic_publish("amq.topic", f"{queue}.x", b"topic")
    transaction.tx_commit()
    assert [sorted(get_all(channel, queue)) for queue in queues] == [[b"direct", b"topic"]] * 10


def test_deliveries_are_no_part_of_it(channel: BlockingChannel, transaction: BlockingChannel, queue: str) -> None:
    inbox = Inbox(transaction, queue)
    publish(channel, queue, b"x")
    assert inbox.wait(1)[0].body == b"x"
    transaction.basic_ack(inbox.deliveries[0].tag)
    transaction.tx_commit()
    assert get(channel, queue) is None


@pytest.mark.parametrize("method", ["tx_commit", "tx_rollback"])
def test_without_select(channel: BlockingChannel, method: str) -> None:
    with channel_error(406, "PRECONDITION_FAILED - channel is not transactional"):
        getattr(channel, method)()


def test_a_second_select_changes_nothing(channel: BlockingChannel, transaction: BlockingChannel, queue: str) -> None:
    publish(transaction, queue, b"1")
    transaction.tx_select()
    transaction.tx_commit()
    assert get(channel, queue) == b"1"
