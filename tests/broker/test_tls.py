"""AMQP and the admin over TLS: what is let in, client certificates, a certificate that is changed, proxies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import struct
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import amqp
import amqpstorm
import gevent
import pika
import psutil
import pytest
from actors.harness import wait_until
from broker.admin import api
from broker.certificates import Authority
from broker.process import BrokerProcess
from broker.raw import HEADER, RawClient
from pamqp import commands as spec
from pika.adapters.blocking_connection import BlockingConnection
from pika.credentials import ExternalCredentials
from pika.exceptions import AMQPConnectionError, ProbableAuthenticationError

from dispatchd import healthcheck

SECONDS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def files(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server", "/CN=localhost")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, authority: Authority, files: tuple[Path, Path]) -> Any:
    broker = BrokerProcess(
        tmp_path_factory.mktemp("tls"), "--tls-port", "0", "--admin-tls-port", "0", "--tls-cert", str(files[0]),
        "--tls-key", str(files[1]), "--tls-ca", str(authority.certificate), "--tls-client-cert", "optional",
        "--tls-login-from", "common_name",
    )  # fmt: skip
    broker.start()
    yield broker
    broker.kill()


def port_of(broker: BrokerProcess, protocol: str) -> int:
    [port] = [row["port"] for row in api(broker, "GET", "overview")[1]["listeners"] if row["protocol"] == protocol]
    return int(port)


def context(authority: Authority, certificate: tuple[Path, Path] | None = None, **versions: Any) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.certificate)
    if certificate is not None:
        made.load_cert_chain(*certificate)
    for name, version in versions.items():
        setattr(made, name, version)
    return made


def connect(broker: BrokerProcess, tls: ssl.SSLContext, credentials: Any = None) -> BlockingConnection:
    parameters = pika.ConnectionParameters(
        broker.host, port_of(broker, "amqp/ssl"), ssl_options=pika.SSLOptions(tls, "localhost"), heartbeat=0,
        credentials=credentials or pika.PlainCredentials("guest", "guest"),
    )  # fmt: skip
    return BlockingConnection(parameters)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_messages_of_all_sizes_come_and_go(
    shared: BrokerProcess, authority: Authority, version: ssl.TLSVersion
) -> None:
    connection = connect(shared, context(authority, minimum_version=version, maximum_version=version))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", exclusive=True)
    bodies = [b"x" * size for size in (0, 1, 100, 16_000, 16_384, 16_385, 70_000, 131_072, 3_000_000)] * 3
    for body in bodies:
        channel.basic_publish("", "q", body)
    found = [channel.basic_get("q", auto_ack=True)[2] for _ in bodies]
    assert [len(body) for body in found] == [len(body) for body in bodies]
    [row] = [row for row in api(shared, "GET", "connections")[1] if row["ssl"]]
    assert row["ssl_protocol"] == {ssl.TLSVersion.TLSv1_2: "tlsv1.2", ssl.TLSVersion.TLSv1_3: "tlsv1.3"}[version]
    connection.close()
    with gevent.Timeout(SECONDS):
        while any(row["ssl"] for row in api(shared, "GET", "connections")[1]):
            gevent.sleep(0.01)


def test_a_flood_of_messages_arrives_in_order(shared: BrokerProcess, authority: Authority) -> None:
    channel = connect(shared, context(authority)).channel()
    channel.queue_declare("flood", exclusive=True)
    for number in range(20_000):
        channel.basic_publish("", "flood", b"%d" % number)
    seen: list[bytes] = []
    for _, _, body in channel.consume("flood", auto_ack=True, inactivity_timeout=SECONDS):
        seen.append(body)
        if body is None or len(seen) == 20_000:
            break
    assert seen == [b"%d" % number for number in range(20_000)]


def test_a_consumer_that_reads_late_gets_everything(shared: BrokerProcess, authority: Authority) -> None:
    channel = connect(shared, context(authority)).channel()
    channel.queue_declare("late", exclusive=True)
    for number in range(40):
        channel.basic_publish("", "late", bytes([number]) * 500_000)
    seen: list[bytes] = []
    channel.basic_consume("late", lambda *delivery: seen.append(delivery[3]), auto_ack=True)
    time.sleep(0.3)  # meanwhile the socket is full, in the middle of a record
    with gevent.Timeout(SECONDS):
        while len(seen) < 40:
            channel.connection.process_data_events(1)
    assert [(body[0], body.count(body[0])) for body in seen] == [(number, 500_000) for number in range(40)]


def test_a_client_that_sends_octet_by_octet(shared: BrokerProcess, authority: Authority) -> None:
    plain = socket.create_connection((shared.host, port_of(shared, "amqp/ssl")), SECONDS)
    with context(authority).wrap_socket(plain, server_hostname="localhost") as tls:
        for octet in HEADER:
            tls.sendall(bytes([octet]))
        assert tls.recv(1) == b"\x01"  # the method frame of connection.start


@pytest.mark.parametrize("reset", [False, True])
def test_clients_that_vanish_in_the_handshake_leave_nothing(
    shared: BrokerProcess, authority: Authority, reset: bool
) -> None:
    """After each octet count of what a client says first."""
    outgoing = ssl.MemoryBIO()
    talk = context(authority).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        talk.do_handshake()
    hello = outgoing.read()
    process = psutil.Process(shared.pid)
    before, port = process.num_fds(), port_of(shared, "amqp/ssl")
    for size in (0, 1, 5, len(hello) // 2, len(hello) - 1, len(hello)):
        with socket.create_connection((shared.host, port), SECONDS) as plain:
            plain.sendall(hello[:size])
            if reset:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: process.num_fds() <= before)
    assert not shared.trouble_since(0)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(shared: BrokerProcess, authority: Authority, version: str) -> None:
    tls = context(authority)
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version = tls.maximum_version = getattr(ssl.TLSVersion, version)
    with (
        socket.create_connection((shared.host, port_of(shared, "amqp/ssl")), SECONDS) as plain,
        pytest.raises(OSError, match=r"(?i)alert|protocol|reset|closed"),
    ):
        tls.wrap_socket(plain, server_hostname="localhost")


def test_plain_amqp_on_the_port_of_tls_and_the_other_way_round(shared: BrokerProcess, authority: Authority) -> None:
    with socket.create_connection((shared.host, port_of(shared, "amqp/ssl")), SECONDS) as plain:
        plain.sendall(HEADER)
        assert HEADER not in plain.recv(100)
    with (
        socket.create_connection((shared.host, shared.port), SECONDS) as plain,
        pytest.raises(OSError, match=r"(?i)wrong version|reset|closed|record"),
    ):
        context(authority).wrap_socket(plain, server_hostname="localhost")


def test_a_certificate_is_a_login(shared: BrokerProcess, authority: Authority) -> None:
    alice = authority.issue("alice", "/O=Größe/CN=alice", "clientAuth")
    with pytest.raises(ProbableAuthenticationError):
        connect(shared, context(authority, alice), ExternalCredentials())
    assert api(shared, "PUT", "users/alice", {"tags": ""})[0] == 201
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    assert api(shared, "PUT", "permissions/%2F/alice", everything)[0] == 201
    connection = connect(shared, context(authority, alice), ExternalCredentials())
    [row] = [row for row in api(shared, "GET", "connections")[1] if row["user"] == "alice"]
    assert (row["auth_mechanism"], row["peer_cert_subject"]) == ("EXTERNAL", "alice")
    connection.close()
    connect(shared, context(authority, alice)).close()  # with a password all the same


def test_who_has_shown_no_certificate_is_not_offered_external(shared: BrokerProcess, authority: Authority) -> None:
    with pytest.raises(AMQPConnectionError):
        connect(shared, context(authority), ExternalCredentials())
    with closing(RawClient(shared.host, shared.port)) as client:
        client.send_bytes(HEADER)
        assert client.expect(spec.Connection.Start).mechanisms == "PLAIN AMQPLAIN"
        client.send(spec.Connection.StartOk({}, "EXTERNAL", "guest"))
        assert client.expect(spec.Connection.Close).reply_code == 503


def test_a_certificate_of_another_authority_is_refused(
    shared: BrokerProcess, authority: Authority, folder: Path
) -> None:
    stranger = Authority(folder, "stranger").issue("mallory", "/CN=guest", "clientAuth")
    with pytest.raises(AMQPConnectionError):
        connect(shared, context(authority, stranger), ExternalCredentials())


def test_the_admin_over_tls(shared: BrokerProcess, authority: Authority) -> None:
    url = f"https://localhost:{port_of(shared, 'https')}/api/whoami"
    login = {"Authorization": "Basic " + b64encode(b"guest:guest").decode()}
    request = urllib.request.Request(url, headers=login)
    with urllib.request.urlopen(request, timeout=SECONDS, context=context(authority)) as answer:
        assert json.load(answer)["name"] == "guest"
    silent = [socket.create_connection((shared.host, port_of(shared, "https"))) for _ in range(3)]
    with urllib.request.urlopen(request, timeout=SECONDS, context=context(authority)) as answer:
        assert answer.status == 200
    for sock in silent:
        sock.close()


def test_sighup_reads_the_certificate_again(
    start_broker: Callable[..., BrokerProcess], authority: Authority, files: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    shutil.copy(files[0], certificate)
    shutil.copy(files[1], key)
    broker = start_broker(
        "--tls-port", "0", "--admin-tls-port", "0", "--tls-cert", str(certificate), "--tls-key", str(key)
    )
    before = connect(broker, context(authority))

    def serial(protocol: str) -> Any:
        plain = socket.create_connection((broker.host, port_of(broker, protocol)), SECONDS)
        with context(authority).wrap_socket(plain, server_hostname="localhost") as tls:
            return (tls.getpeercert() or {})["serialNumber"]

    def after_sighup(line: str) -> None:
        os.kill(broker.pid, signal.SIGHUP)
        with gevent.Timeout(SECONDS):
            while not any(line in logged for logged in broker.log):
                gevent.sleep(0.01)

    first = serial("amqp/ssl")
    certificate.write_text("no certificate")
    after_sighup("can't be used, the one before stays")
    assert serial("amqp/ssl") == serial("https") == first
    newer = authority.issue("newer", "/CN=localhost")
    shutil.copy(newer[0], certificate)
    shutil.copy(newer[1], key)
    after_sighup("was read again")
    assert serial("amqp/ssl") == serial("https") != first
    before.channel().queue_declare("", exclusive=True)
    connect(broker, context(authority)).close()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--tls-cert", "/none"], "can't be used as the certificate"),
        (["--admin-tls-port", "0"], "TLS needs a certificate: expected --tls-cert"),
        (["--tls-client-cert", "perhaps"], 'found "perhaps", expected one of no, optional, required'),
        (["--proxy-protocol-from", "here"], "expected addresses or networks with commas"),
    ],
)
def test_mistakes_are_told_at_the_start(
    start_broker: Callable[..., BrokerProcess], options: list[str], error: str
) -> None:
    with pytest.raises(AssertionError, match=error):
        start_broker(*options)


def test_a_client_certificate_can_be_required(
    start_broker: Callable[..., BrokerProcess], authority: Authority, files: tuple[Path, Path]
) -> None:
    broker = start_broker(
        "--tls-port", "0", "--tls-cert", str(files[0]), "--tls-key", str(files[1]),
        "--tls-ca", str(authority.certificate), "--tls-client-cert", "required",
    )  # fmt: skip
    with pytest.raises(AMQPConnectionError):
        connect(broker, context(authority))
    bob = authority.issue("bob", "/C=DE/O=a, b/CN=bob", "clientAuth")
    assert api(broker, "PUT", "users/CN=bob,O=a%5C, b,C=DE".replace(" ", "%20"), {"tags": ""})[0] == 201
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):  # known, by all of its name, but outside
        connect(broker, context(authority, bob), ExternalCredentials())


def test_other_clients(shared: BrokerProcess, authority: Authority) -> None:
    port = port_of(shared, "amqp/ssl")
    settings = {"ca_certs": str(authority.certificate), "server_hostname": "localhost"}
    with amqp.Connection(f"localhost:{port}", ssl=settings) as connection:
        channel = connection.channel()
        queue, _, _ = channel.queue_declare("", exclusive=True)
        channel.basic_publish(amqp.Message("x" * 200_000), routing_key=queue)
        assert channel.basic_get(queue).body == "x" * 200_000
    options = {"context": context(authority), "server_hostname": "localhost"}
    with amqpstorm.Connection("localhost", "guest", "guest", port=port, ssl=True, ssl_options=options) as other:
        storm = other.channel()
        queue = str(storm.queue.declare(exclusive=True)["queue"])
        storm.basic.publish(b"y" * 200_000, queue)
        message = storm.basic.get(queue, auto_decode=False)
        assert isinstance(message, amqpstorm.Message)
        assert message.body == b"y" * 200_000
        storm.close()


# --- The PROXY protocol


V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H4s4sHH", 12, b"\xc0\0\2\1", b"\x7f\0\0\1", 4000, 5672)


def test_a_trusted_proxy_says_who_its_client_is(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--proxy-protocol-from", "127.0.0.0/8")
    for header in (b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 5672\r\n", V2):
        for pause in (0.0, 0.05):
            with closing(RawClient(broker.host, broker.port)) as client:
                client.send_bytes(header[:7])
                time.sleep(pause)  # so that it comes in two parts, or most likely does not
                client.send_bytes(header[7:] + HEADER)
                client.expect(spec.Connection.Start)
                rows = api(broker, "GET", "connections")[1]
                assert ("192.0.2.1", 4000) in [(row["peer_host"], row["peer_port"]) for row in rows]
                properties: Any = {"capabilities": {"authentication_failure_close": True}}
                client.send(spec.Connection.StartOk(properties, "PLAIN", "\0guest\0guest"))
                assert client.expect(spec.Connection.Close).reply_code == 403  # guest is no more on this machine
    with closing(RawClient(broker.host, broker.port)) as client:
        client.send_bytes(HEADER)
        with pytest.raises(EOFError):
            client.receive()


def test_a_proxy_speaks_before_tls(
    start_broker: Callable[..., BrokerProcess], authority: Authority, files: tuple[Path, Path]
) -> None:
    broker = start_broker(
        "--proxy-protocol-from", "127.0.0.1", "--tls-port", "0", "--tls-cert", str(files[0]), "--tls-key", str(files[1])
    )
    plain = socket.create_connection((broker.host, port_of(broker, "amqp/ssl")), SECONDS)
    plain.sendall(V2)
    with context(authority).wrap_socket(plain, server_hostname="localhost") as tls:
        tls.sendall(HEADER)
        assert tls.recv(1) == b"\x01"
        [row] = api(broker, "GET", "connections")[1]
        assert (row["peer_host"], row["peer_port"], row["ssl"]) == ("192.0.2.1", 4000, True)


def test_nobody_else_is_believed(start_broker: Callable[..., BrokerProcess]) -> None:
    broker = start_broker("--proxy-protocol-from", "192.0.2.0/24")
    with closing(RawClient(broker.host, broker.port)) as client:
        client.send_bytes(b"PROXY TCP4 192.0.2.1 127.0.0.1 4000 5672\r\n" + HEADER)
        assert client.read_to_end() == HEADER
    with closing(RawClient(broker.host, broker.port)) as client:
        client.open()


def test_a_health_check_may_ask_over_tls(shared: BrokerProcess) -> None:
    assert healthcheck.ask(f"https://localhost:{port_of(shared, 'https')}", "/livez") == (200, "ok")
