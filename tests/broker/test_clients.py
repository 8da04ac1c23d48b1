"""The patterns of RabbitMQ's tutorials, through every client library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kombu
import kombu.pools
import pytest
from broker.conftest import Fresh
from broker.libraries import LIBRARIES, Library
from broker.process import BrokerProcess, Oracle
from kombu.simple import SimpleQueue

Open = Callable[..., Library]

PERSISTENT = {"delivery_mode": 2}


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.__name__)
def open_client(request: pytest.FixtureRequest, broker: BrokerProcess | Oracle) -> Iterator[Open]:
    """Connect with the library; closed when the test ends."""
    opened: list[Library] = []

    def open_one(**options: Any) -> Library:
        client: Library = request.param(broker.host, broker.port, **options)
        opened.append(client)
        return client

    yield open_one
    for client in opened:
        client.close()


def test_hello_world(open_client: Open, fresh: Fresh) -> None:
    sender, receiver = open_client(), open_client()
    queue = sender.declare_queue(fresh("hello"))
    sender.publish("", queue, b"Hello World!")
    receiver.consume(queue, no_ack=True)
    received = receiver.next()
    assert (received.body, received.routing_key) == (b"Hello World!", queue)


def test_work_queue(open_client: Open, fresh: Fresh) -> None:
    """Tasks go to whoever is free, and those of a worker that is gone to another."""
    boss, diligent, mortal = open_client(), open_client(), open_client()
    queue = boss.declare_queue(fresh("tasks"), durable=True)
    for worker in (diligent, mortal):
        worker.prefetch(1)
        worker.consume(queue)
    tasks = [f"task {number}".encode() for number in range(30)]
    for task in tasks:
        boss.publish("", queue, task, **PERSISTENT)
    unfinished = mortal.next()
    done = []
    for _ in range(len(tasks) - 1):
        received = diligent.next()
        done.append(received.body)
        diligent.ack(received)
    assert sorted([*done, unfinished.body]) == sorted(tasks)
    mortal.close()
    received = diligent.next()
    assert received.body == unfinished.body
    diligent.ack(received)


def test_publish_and_subscribe(open_client: Open, fresh: Fresh) -> None:
    publisher, *subscribers = (open_client() for _ in range(3))
    logs = fresh("logs")
    publisher.declare_exchange(logs, "fanout")
    for subscriber in subscribers:
        subscriber.declare_exchange(logs, "fanout")
        queue = subscriber.declare_queue(exclusive=True)
        subscriber.bind(queue, logs)
        subscriber.consume(queue, no_ack=True)
    for number in range(20):
        publisher.publish(logs, "", str(number).encode())
    for subscriber in subscribers:
        assert [subscriber.next().body for _ in range(20)] == [str(number).encode() for number in range(20)]


def test_routing(open_client: Open, fresh: Fresh) -> None:
    publisher, errors, everything = (open_client() for _ in range(3))
    logs = fresh("logs")
    publisher.declare_exchange(logs, "direct")
    for subscriber, severities in ((errors, ["error"]), (everything, ["info", "warning", "error"])):
        subscriber.declare_exchange(logs, "direct")
        queue = subscriber.declare_queue(exclusive=True)
        for severity in severities:
            subscriber.bind(queue, logs, severity)
        subscriber.consume(queue, no_ack=True)
    for severity in ("info", "error", "debug", "warning", "error"):
        publisher.publish(logs, severity, severity.encode())
    assert [errors.next().body for _ in range(2)] == [b"error", b"error"]
    assert [everything.next().routing_key for _ in range(4)] == ["info", "error", "warning", "error"]


def test_topics(open_client: Open, fresh: Fresh) -> None:
    publisher, kernel, critical = (open_client() for _ in range(3))
    logs = fresh("logs")
    publisher.declare_exchange(logs, "topic")
    for subscriber, pattern in ((kernel, "kern.#"), (critical, "*.critical")):
        subscriber.declare_exchange(logs, "topic")
        queue = subscriber.declare_queue(exclusive=True)
        subscriber.bind(queue, logs, pattern)
        subscriber.consume(queue, no_ack=True)
    for key in ("kern.info", "cron.critical", "kern", "cron.info", "kern.critical"):
        publisher.publish(logs, key, b"x")
    assert [kernel.next().routing_key for _ in range(3)] == ["kern.info", "kern", "kern.critical"]
    assert [critical.next().routing_key for _ in range(2)] == ["cron.critical", "kern.critical"]


def test_remote_procedure_call(open_client: Open, fresh: Fresh) -> None:
    server, client = open_client(), open_client()
    calls = server.declare_queue(fresh("squares"))
    server.prefetch(1)
    server.consume(calls)
    answers = client.declare_queue(exclusive=True)
    client.consume(answers, no_ack=True)
    for number in range(20):
        client.publish("", calls, str(number).encode(), reply_to=answers, correlation_id=f"call {number}")
        call = server.next()
        assert call.reply_to == answers
        assert call.correlation_id is not None
        server.publish("", call.reply_to, str(int(call.body) ** 2).encode(), correlation_id=call.correlation_id)
        server.ack(call)
        answer = client.next()
        assert (answer.body, answer.correlation_id) == (str(number**2).encode(), f"call {number}")


@pytest.mark.parametrize("durable", [False, True])
def test_publisher_confirms(open_client: Open, fresh: Fresh, durable: bool) -> None:
    publisher, receiver = open_client(confirms=True), open_client()
    queue = publisher.declare_queue(fresh("confirmed"), durable=durable)
    for number in range(50):
        publisher.publish("", queue, str(number).encode(), **PERSISTENT)
    receiver.consume(queue, no_ack=True)
    assert [receiver.next().body for _ in range(50)] == [str(number).encode() for number in range(50)]


def test_large_bodies(open_client: Open, fresh: Fresh) -> None:
    sender, receiver = open_client(), open_client()
    queue = sender.declare_queue(fresh("large"))
    receiver.consume(queue, no_ack=True)
    body = bytes(range(256)) * 4096 * 3
    sender.publish("", queue, body)
    assert receiver.next().body == body
    sender.publish("", queue, b"")
    assert receiver.next().body == b""


# kombu's own


@pytest.fixture
def kombu_connection(broker: BrokerProcess | Oracle) -> Iterator[kombu.Connection]:
    with kombu.Connection(f"amqp://guest:guest@{broker.host}:{broker.port}//") as connection:
        yield connection


def test_simple_queue(kombu_connection: kombu.Connection, fresh: Fresh) -> None:
    queue = kombu_connection.SimpleQueue(fresh("simple"))
    for number in range(10):
        queue.put({"number": number}, serializer="json", compression="zlib")
    assert queue.qsize() == 10
    for number in range(10):
        message = queue.get(block=True, timeout=10)
        assert message.payload == {"number": number}
        message.ack()
    with pytest.raises(SimpleQueue.Empty):
        queue.get(block=False)
    queue.close()


def test_simple_buffer(kombu_connection: kombu.Connection, fresh: Fresh) -> None:
    buffer = kombu_connection.SimpleBuffer(fresh("buffer"))
    buffer.put("x")
    assert buffer.get(timeout=10).payload == "x"
    buffer.close()


def test_consumer_and_producer(kombu_connection: kombu.Connection, fresh: Fresh) -> None:
    media = kombu.Exchange(fresh("media"), "direct", durable=True)
    video = kombu.Queue(fresh("video"), exchange=media, routing_key="video")
    got: list[Any] = []

    def take(body: Any, message: kombu.Message) -> None:
        got.append(body)
        if len(got) == 1:
            message.requeue()
        else:
            message.ack()

    with kombu.pools.producers[kombu_connection].acquire(block=True) as producer:
        producer.publish({"name": "lolcat"}, exchange=media, routing_key="video", declare=[video], retry=True)
    with kombu_connection.Consumer(video, callbacks=[take], prefetch_count=1):
        while len(got) < 2:
            kombu_connection.drain_events(timeout=10)
    assert got == [{"name": "lolcat"}] * 2
    kombu.pools.reset()


def test_qos_of_a_channel_is_taken_as_rabbitmq_means_it(kombu_connection: kombu.Connection) -> None:
    """kombu looks at product and version, and Celery does with it what they mean."""
    kombu_connection.connect()
    assert kombu_connection.transport.qos_semantics_matches_spec(kombu_connection.connection) is False
