"""What clients and operators send must not show up where it should not, nor hold anybody up."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import quote

import gevent
import pika
import pytest
from actors.harness import wait_until
from broker.admin import api
from broker.process import BrokerProcess
from fuzz.innocent import Innocent
from pika.exceptions import ConnectionClosedByBroker, ProbableAuthenticationError

RIGHT, WRONG = "hunter-right-7391", "hunter-wrong-2846"
STALLED = 70
"""More than the admin serves at a time."""
SHOWN = (
    *("overview", "nodes", "connections", "channels", "exchanges", "queues", "bindings", "vhosts", "users"),
    *("permissions", "policies", "definitions", "log", "flow", "topology", "whoami", "health/checks/alarms"),
    *("actors", "actors/tree", "actors/failures", "actors/slow", "actors/blocks"),
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("secrets"), "--log-level", "debug")
    broker.start()
    yield broker
    broker.kill()


def connect(broker: BrokerProcess, user: str, password: str) -> pika.BlockingConnection:
    credentials = pika.PlainCredentials(user, password)
    return pika.BlockingConnection(pika.ConnectionParameters(broker.host, broker.port, "/", credentials, heartbeat=0))


def everything_shown(broker: BrokerProcess) -> Iterator[str]:
    """All that the admin and the debug port tell."""
    for what in SHOWN:
        yield str(api(broker, "GET", what)[1])
    for row in api(broker, "GET", "actors?limit=500")[1]["items"]:
        for part in ("", "/mailbox", "/stack"):
            yield str(api(broker, "GET", f"actors/{row['id']}{part}")[1])
    for path in ("greenlets", "heap"):
        with closing(urllib.request.urlopen(f"http://{broker.host}:{broker.debug_port}/{path}", timeout=20)) as answer:
            yield answer.read().decode()
    yield "\n".join(broker.log)


def test_passwords_are_shown_nowhere(broker: BrokerProcess) -> None:
    assert api(broker, "PUT", "users/ann", {"password": RIGHT, "tags": "administrator"})[0] == 201
    assert api(broker, "PUT", "permissions/%2F/ann", {"configure": ".*", "write": ".*", "read": ".*"})[0] == 201
    connection = connect(broker, "ann", RIGHT)
    connection.channel().queue_declare("q", exclusive=True)
    assert api(broker, "GET", "whoami", None, "ann", RIGHT)[0] == 200
    with pytest.raises(ProbableAuthenticationError):
        connect(broker, "ann", WRONG)
    assert api(broker, "GET", "whoami", None, "ann", WRONG)[0] == 401
    shown = list(everything_shown(broker))
    connection.close()
    assert any("ann" in text for text in shown)
    assert [text for text in shown if RIGHT in text or WRONG in text] == []


def test_a_reason_is_no_format(broker: BrokerProcess) -> None:
    """CVE-2019-11287."""
    connection = connect(broker, "guest", "guest")
    wait_until(lambda: len(api(broker, "GET", "connections")[1]) == 1)
    [row] = api(broker, "GET", "connections")[1]
    reason = "~s~p%s%n{0}{row} 99999999999999999999d"
    login = urllib.request.HTTPPasswordMgrWithPriorAuth()
    url = f"http://{broker.host}:{broker.admin_port}/"
    login.add_password(None, url, "guest", "guest", is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(login))
    path = f"{url}api/connections/{quote(row['name'], safe='')}"
    with closing(opener.open(urllib.request.Request(path, None, {"X-Reason": reason}, method="DELETE"))) as answer:
        assert answer.status == 204
    with pytest.raises(ConnectionClosedByBroker) as closed:
        connection.channel()
    assert closed.value.reply_text == f"CONNECTION_FORCED - {reason}"


@pytest.mark.parametrize("name", ["lengths", "msg_rates", "data_rates", "node_stats"])
@pytest.mark.parametrize("age", ["1", "1000000000000", "-1", "x", "9" * 400])
def test_what_statistics_are_asked_of_is_bounded(broker: BrokerProcess, name: str, age: str) -> None:
    """CVE-2015-8786."""
    status, answer = api(broker, "GET", f"queues?{name}_age={age}&{name}_incr=1")
    assert status in (200, 400)
    assert len(str(answer)) < 10_000


def test_requests_that_stall_hold_up_no_client(broker: BrokerProcess) -> None:
    innocent = Innocent(broker.host, broker.port)
    stalled = []
    for number in range(STALLED):
        sock = socket.create_connection((broker.host, broker.admin_port), 10)
        sock.sendall([b"", b"GET /api/over", b"PUT /api/users/x HTTP/1.1\r\nContent-Length: 5\r\n\r\n{"][number % 3])
        stalled.append(sock)
    gevent.sleep(0)
    for _ in range(10):
        innocent.expect_progress()
    innocent.stop()
    for sock in stalled:
        sock.close()
    assert api(broker, "GET", "whoami")[0] == 200
