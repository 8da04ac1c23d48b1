"""Definitions in one file, out of RabbitMQ and out of this broker: all that is in it is there afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pika
import pytest
from broker.admin import api, dispatchd
from broker.process import BrokerProcess
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ProbableAuthenticationError

StartBroker = Callable[..., BrokerProcess]

OF_RABBITMQ: dict[str, Any] = {
    "rabbit_version": "3.10.8",
    "rabbitmq_version": "3.10.8",
    "product_name": "RabbitMQ",
    "product_version": "3.10.8",
    "users": [
        {
            "name": "ann",  # with the password "guest"
            "password_hash": "CnN0qnRiYXCpWrYWHXlvHI/TdSyjJHtjknxnZHpmaAgP/GA2",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["administrator"],
            "limits": {"max-channels": 9},
        }
    ],
    "vhosts": [{"name": "/"}, {"name": "v"}],
    "permissions": [
        {"user": "ann", "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"} for vhost in ("/", "v")
    ],
    "topic_permissions": [{"user": "ann", "vhost": "/", "exchange": "x", "write": "^a", "read": ".*"}],
    "parameters": [
        {"component": "vhost-limits", "name": "limits", "value": {"max-queues": 100}, "vhost": "v"},
        {
            "component": "operator_policy",
            "name": "opol",
            "value": {"apply-to": "all", "definition": {"max-length": 50}, "pattern": "^a", "priority": 0},
            "vhost": "/",
        },
    ],
    "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-X32ojbJdir5V4Ofwoyg3Ng"}],
    "policies": [
        {
            "vhost": "/", "name": "pol", "pattern": "^q", "apply-to": "queues", "definition": {"max-length": 2},
            "priority": 0,
        }
    ],
    "queues": [
        {"name": "q1", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-max-priority": 3}},
        {"name": "q2", "vhost": "v", "durable": False, "auto_delete": False, "arguments": {}},
        {"name": "amq.gen-x", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}},
    ],
    "exchanges": [
        {
            "name": "x", "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "internal": False,
            "arguments": {"alternate-exchange": "amq.fanout"},
        }
    ],
    "bindings": [
        {
            "source": "x", "vhost": "/", "destination": "q1", "destination_type": "queue", "routing_key": "a.b",
            "arguments": {},
        },
        {
            "source": "amq.headers", "vhost": "/", "destination": "q1", "destination_type": "queue", "routing_key": "",
            "arguments": {"x-match": "all", "n": 1},
        },
        {
            "source": "amq.fanout", "vhost": "/", "destination": "x", "destination_type": "exchange",
            "routing_key": "", "arguments": {},
        },
    ],
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "definitions.json"
    path.write_text(json.dumps(OF_RABBITMQ))
    return path


def connect(broker: BrokerProcess, user: str = "ann", vhost: str = "/") -> BlockingChannel:
    credentials = pika.PlainCredentials(user, "guest")
    parameters = pika.ConnectionParameters(broker.host, broker.port, vhost, credentials, heartbeat=0)
    return pika.BlockingConnection(parameters).channel()


def in_order(definitions: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same after export and import."""
    kept = {key: value for key, value in definitions.items() if isinstance(value, list) and key != "global_parameters"}
    return {key: sorted(json.dumps(row, sort_keys=True) for row in rows) for key, rows in kept.items()}


def check(broker: BrokerProcess) -> None:
    channel = connect(broker)
    channel.confirm_delivery()
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("x", "a.b", body, mandatory=True)
    assert channel.queue_declare("q1", passive=True).method.message_count == 2  # as the policy has it
    channel.queue_declare("q1", durable=True, arguments={"x-max-priority": 3})
    channel.basic_publish("amq.headers", "", b"", pika.BasicProperties(headers={"n": 1}), mandatory=True)
    channel.queue_purge("q1")
    channel.queue_declare("amq.gen-x", passive=True)
    channel.connection.close()
    connect(broker, vhost="v").connection.close()
    assert api(broker, "GET", "vhost-limits", user="ann") == (200, [{"vhost": "v", "value": {"max-queues": 100}}])
    assert api(broker, "GET", "users/ann", user="ann")[1]["limits"] == {"max-channels": 9}
    assert [row["name"] for row in api(broker, "GET", "operator-policies", user="ann")[1]] == ["opol"]
    assert api(broker, "GET", "topic-permissions", user="ann")[1] == OF_RABBITMQ["topic_permissions"]


def test_one_moves_over_from_rabbitmq_with_one_file(start_broker: StartBroker, file: Path) -> None:
    broker = start_broker("--load-definitions", str(file))
    check(broker)
    with pytest.raises(ProbableAuthenticationError):  # the file names users
        connect(broker, "guest")
    status, exported = api(broker, "GET", "definitions", user="ann")
    assert status == 200
    found, expected = in_order(exported), in_order(OF_RABBITMQ)
    for kind in ("users", "permissions", "topic_permissions", "parameters", "policies", "exchanges", "bindings"):
        assert found[kind] == expected[kind], kind
    assert found["queues"] == expected["queues"]
    assert {row["name"] for row in exported["vhosts"]} == {"/", "v"}
    broker.stop()
    broker.start()  # and it is taken in once more
    assert in_order(api(broker, "GET", "definitions", user="ann")[1]) == found


def test_what_is_exported_makes_the_same_elsewhere(
    start_broker: StartBroker, file: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    first = start_broker("--load-definitions", str(file))
    connect(first).queue_declare("mine alone", exclusive=True)
    exported = tmp_path / "exported.json"
    login = ("--user", "ann", "--password", "guest")
    assert dispatchd(first, "definitions", "export", str(exported), *login).returncode == 0
    second = BrokerProcess(tmp_path_factory.mktemp("second"))
    second.start()
    try:
        assert api(second, "PUT", "vhosts/v")[0] == 201
        before = in_order(api(second, "GET", "definitions")[1])
        result = dispatchd(second, "definitions", "import", str(exported))
        assert (result.returncode, result.stderr) == (0, "")
        check(second)
        found = in_order(api(second, "GET", "definitions", user="ann")[1])
        expected = in_order(json.loads(exported.read_text()))
        for kind, rows in expected.items():
            assert set(rows) | (set(before[kind]) if kind in ("users", "permissions") else set()) == set(found[kind]), (
                kind
            )
        assert api(second, "POST", "definitions", json.loads(exported.read_text()), "ann") == (204, None)
        assert in_order(api(second, "GET", "definitions", user="ann")[1]) == found
        of_v = api(second, "GET", "definitions/v", user="ann")[1]
        assert [row["name"] for row in of_v["queues"]] == ["q2"]
        assert "users" not in of_v
        assert "vhost" not in of_v["queues"][0]
        assert api(second, "PUT", "vhosts/w")[0] == 201
        assert api(second, "POST", "definitions/w", of_v) == (204, None)
        assert api(second, "GET", "definitions/w")[1] == of_v
    finally:
        second.kill()


def test_many_definitions_hold_nobody_up(start_broker: StartBroker) -> None:
    broker = start_broker()
    queues = [
        {"name": f"q{number}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}
        for number in range(1_000)
    ]
    bindings = [
        {
            "source": "amq.direct", "vhost": "/", "destination": row["name"], "destination_type": "queue",
            "routing_key": row["name"], "arguments": {},
        }
        for row in queues
    ]  # fmt: skip
    assert api(broker, "POST", "definitions", {"queues": queues, "bindings": bindings}) == (204, None)
    broker.kill()
    broker.start()
    exported = api(broker, "GET", "definitions")[1]
    assert sorted(row["name"] for row in exported["queues"]) == sorted(str(row["name"]) for row in queues)
    assert len(exported["bindings"]) == 1_000


BAD: list[tuple[Any, str]] = [
    ([], "definitions are a JSON object"),
    ({"cats": []}, "cats is not known, expected some of users, vhosts"),
    ({"queues": "x"}, "queues is no list of objects"),
    ({"queues": [{"vhost": "/"}]}, "queues: name is missing"),
    ({"queues": [{"name": 5, "vhost": "/"}]}, "queues: name is 5, expected a string of at most 255 octets"),
    ({"queues": [{"name": "q", "vhost": "/", "durable": "yes"}]}, "queues: durable is 'yes', expected true or false"),
    ({"queues": [{"name": "q", "vhost": "/", "arguments": {"n": 2**70}}]}, "can't be sent by AMQP"),
    (
        {"queues": [{"name": "q", "vhost": "/", "arguments": {"x-queue-type": "quorum"}}]},
        "invalid arg 'x-queue-type' for queue 'q'",
    ),
    ({"exchanges": [{"name": "x", "vhost": "/", "type": "nope"}]}, "unknown exchange type 'nope'"),
    ({"users": [{"name": "x"}]}, "users: tags_not_present"),
    ({"users": [{"name": "x", "tags": "", "password_hash": "!"}]}, "users: password_hash is not base64"),
    ({"permissions": [{"user": "x", "vhost": "/"}]}, "permissions: [{key_missing,configure}"),
    ({"policies": [{"name": "p", "vhost": "/", "pattern": "("}]}, "policies: definition is missing"),
    (
        {"policies": [{"name": "p", "vhost": "/", "pattern": "(", "definition": {"max-length": 1}}]},
        "pattern should be regular expression but is invalid",
    ),
    (
        {"parameters": [{"component": "shovel", "name": "s", "vhost": "/", "value": {}}]},
        "parameters: shovel is not known, expected vhost-limits or operator_policy",
    ),
    (
        {"bindings": [{"source": "x", "vhost": "/", "destination": "q", "destination_type": "cat", "routing_key": ""}]},
        "bindings: destination_type is 'cat', expected 'queue' or 'exchange'",
    ),
]


def test_bad_definitions_are_told_what_was_wrong(start_broker: StartBroker) -> None:
    broker = start_broker()
    for body, reason in BAD:
        status, answer = api(broker, "POST", "definitions", body)
        assert status == 400, body
        assert reason in answer["reason"]
    for body, reason in (
        ({"queues": [{"name": "q", "vhost": "nowhere"}]}, "no vhost 'nowhere'"),
        (
            {
                "bindings": [
                    {"source": "no", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": ""}
                ]
            },
            "no exchange 'no' in vhost '/'",
        ),
    ):
        status, answer = api(broker, "POST", "definitions", body)
        assert (status, answer["reason"]) == (404, reason)
    assert api(broker, "POST", "definitions/none", {})[0] == 404
    assert api(broker, "GET", "definitions/none")[0] == 404
    assert api(broker, "GET", "definitions")[1]["queues"] == []
    assert api(broker, "PUT", "users/m", {"password": "p", "tags": "monitoring"})[0] == 201
    assert api(broker, "GET", "definitions", None, "m", "p")[0] == 401


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "found no JSON"),
        ('{"queues": [{"vhost": "/"}]}', "queues: name is missing"),
        ('{"queues": [{"name": "q", "vhost": "v"}]}', "no vhost 'v'"),
        (None, "can't be read: No such file or directory"),
    ],
)
def test_a_bad_file_is_told_at_the_start(
    start_broker: StartBroker, tmp_path: Path, text: str | None, error: str
) -> None:
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AssertionError, match=error):
        start_broker("--load-definitions", str(path))
