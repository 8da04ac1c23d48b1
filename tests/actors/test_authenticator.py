import base64
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from unittest.mock import Mock

import bcrypt
import gevent
import pytest
from actors.harness import Listener, settle
from gevent.event import Event

from dispatchd.actors import authenticator, failed_logins
from dispatchd.actors.authenticator import AuthenticatorActor, CheckPassword, may_log_in
from dispatchd.actors.credentials import Credentials, is_loopback, users_of_file
from dispatchd.actors.failed_logins import FailedLogins
from dispatchd.actors.hashing import hash_password, is_bcrypt_hash
from dispatchd.actors.messages import Authenticate, Authenticated
from dispatchd.actors.runtime import Ref, System
from dispatchd.model.users import Users

HERE = "127.0.0.1"
AWAY = "192.0.2.1"
# No new salts: hashes are in names of tests, which all processes that run some of them have to agree on.
ALICE = bcrypt.hashpw(b"secret", b"$2b$04$WY95aVjuXN4.fFmsOzXrY.")
BOB = bcrypt.hashpw(b"dear", b"$2b$06$rvIWt166U8GRYHWFNqvcd.")

Start = Callable[[Credentials], AuthenticatorActor]


def credentials_of(users: dict[str, bytes], guest_from_anywhere: bool = False) -> Credentials:
    """As a broker has them whose file names these users."""
    credentials = Credentials(Users(users_of_file(users)), guest_from_anywhere)
    credentials.restore([], [])
    return credentials


def authenticator_of(system: System, credentials: Credentials) -> AuthenticatorActor:
    nobody: Any = Listener("nobody")
    return AuthenticatorActor(system, nobody, credentials, nobody, ["/"])


class Asker:
    """Stands in for the reference of a connection."""

    def __init__(self) -> None:
        self.answers: list[Authenticated] = []
        self._answered = Event()

    def tell(self, message: Authenticated) -> None:
        self.answers.append(message)
        self._answered.set()

    def answer(self) -> Authenticated:
        assert self._answered.wait(10)
        (answer,) = self.answers
        return answer


class Gate(Credentials):
    """Credentials whose checks wait, on their native thread, until they are let through."""

    def __init__(self) -> None:
        super().__init__(Users(users_of_file({"alice": ALICE})), guest_from_anywhere=False)
        self.checked: list[bytes] = []
        self.threads: set[int] = set()
        self._wait, self._go = os.pipe()

    def check(self, user: str, password: bytes) -> bool:
        self.checked.append(password)
        self.threads.add(threading.get_native_id())
        os.read(self._wait, 1)
        if password == b"raise":
            raise MemoryError
        return super().check(user, password)

    def permits_peer(self, user: str, peer: str) -> bool:
        if user == "broken":
            raise ValueError
        return super().permits_peer(user, peer)

    def let_through(self, count: int) -> None:
        os.write(self._go, b"x" * count)

    def close(self) -> None:
        os.close(self._wait)
        os.close(self._go)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


@pytest.fixture
def start(gate: Gate) -> Iterator[Start]:
    """Starts authenticators; named after `gate`, which outlives them."""
    system = System()

    def begin(credentials: Credentials) -> AuthenticatorActor:
        actor = authenticator_of(system, credentials)
        actor.begin()
        return actor

    yield begin
    for actor in list(system.actors.values()):
        gate.let_through(10)
        actor.end()
    until(lambda: not system.actors)


def ask(ref: Ref, user: str, password: bytes, peer: str = HERE) -> Asker:
    asker = Asker()
    ref.tell(Authenticate(cast("Ref", asker), user, password, peer))
    return asker


def until(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.001)


# --- Credentials


def test_without_users_there_is_guest() -> None:
    credentials = credentials_of({})
    assert credentials.check("guest", b"guest")
    assert not credentials.check("guest", b"other")
    assert not credentials.check("other", b"guest")


def test_with_users_there_are_only_those() -> None:
    credentials = credentials_of({"alice": ALICE, "bob": BOB}, guest_from_anywhere=True)
    assert credentials.check("alice", b"secret")
    assert credentials.check("bob", b"dear")
    assert not credentials.check("alice", b"dear")
    assert not credentials.check("guest", b"guest")


@pytest.mark.parametrize("password", [b"", b"\0", b"secret\0", b"x" * 73, b"secret" * 100_000, b"\xff\xfe", b"Secret"])
def test_any_other_password_is_refused(password: bytes) -> None:
    credentials = credentials_of({"alice": ALICE})
    assert not credentials.check("alice", password)
    assert not credentials.check("nobody \ud800", password)


def test_a_password_of_72_bytes_is_told_from_a_longer_one() -> None:
    credentials = credentials_of({"alice": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))})
    assert credentials.check("alice", b"x" * 72)
    assert not credentials.check("alice", b"x" * 73)


def test_only_a_password_that_was_right_is_cached_and_for_its_user_alone() -> None:
    credentials = credentials_of({"alice": ALICE, "bob": ALICE})
    assert not credentials.is_cached("alice", b"secret")
    credentials.check("alice", b"wrong")
    credentials.check("alice", b"secret")
    assert credentials.is_cached("alice", b"secret")
    assert not credentials.is_cached("alice", b"wrong")
    assert not credentials.is_cached("bob", b"secret")


def test_a_cached_password_needs_no_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = credentials_of({"alice": ALICE})
    assert credentials.check("alice", b"secret")
    monkeypatch.delattr(bcrypt, "checkpw")
    assert credentials.check("alice", b"secret")


def test_the_cache_holds_no_password() -> None:
    credentials = credentials_of({"alice": ALICE})
    credentials.check("alice", b"secret")
    assert "secret" not in repr(vars(credentials))


@pytest.mark.parametrize("user", ["alice", "bob", "nobody"])
def test_each_refusal_takes_the_work_of_the_costliest_hash(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    credentials = credentials_of({"alice": ALICE, "bob": BOB})
    work = 0
    checkpw = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        nonlocal work
        work += 2 ** int(hashed.split(b"$")[2])
        return checkpw(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    assert not credentials.check(user, b"wrong")
    assert work == 2**6


def test_a_look_for_a_known_password_takes_the_same_work_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who had logged in before was told from who is nobody, by 20 µs."""
    credentials = credentials_of({"alice": ALICE})
    assert credentials.check("alice", b"secret")
    digests = Mock(wraps=credentials._digest)
    monkeypatch.setattr(credentials, "_digest", digests)
    for user in ("alice", "nobody"):
        assert not credentials.is_cached(user, b"wrong")
    assert digests.call_count == 2


@pytest.mark.parametrize(
    ("peer", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.0.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("128.0.0.1", False),
        ("::ffff:192.0.2.1", False),
        ("::", False),
        ("2001:db8::1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_guest_comes_from_loopback_peers_only(peer: str, loopback: bool) -> None:
    assert is_loopback(peer) is loopback
    assert credentials_of({}).permits_peer("guest", peer) is loopback
    assert credentials_of({}, guest_from_anywhere=True).permits_peer("guest", peer)
    assert credentials_of({"guest": ALICE}).permits_peer("guest", peer)


@pytest.mark.parametrize("version", [b"2a", b"2b", b"2x", b"2y"])
def test_each_version_of_bcrypt_is_known(version: bytes) -> None:
    hashed = b"$" + version + ALICE[3:]
    assert is_bcrypt_hash(hashed)
    assert credentials_of({"alice": hashed}).check("alice", b"secret")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"secret",
        ALICE[:-1],
        ALICE + b".",
        ALICE + b"\n",
        b"$2c" + ALICE[3:],
        b"$2b$03" + ALICE[6:],
        b"$2b$32" + ALICE[6:],
        b"$2b$4$." + ALICE[7:],
        ALICE[:28] + b"Z" + ALICE[29:],
        ALICE[:40] + b"*" + ALICE[41:],
        ALICE[:-1] + b"z",
    ],
)
def test_what_bcrypt_could_never_match_is_no_hash(value: bytes) -> None:
    assert not is_bcrypt_hash(value)


def test_a_new_hash_is_one() -> None:
    assert is_bcrypt_hash(hash_password(b"x" * 72, 4))
    with pytest.raises(ValueError, match="73 bytes"):
        hash_password(b"x" * 73, 4)
    with pytest.raises(ValueError, match="empty"):
        hash_password(b"", 4)


# --- AuthenticatorActor


def test_a_connection_is_answered(start: Start) -> None:
    ref = start(credentials_of({"alice": ALICE})).ref
    assert ask(ref, "alice", b"secret").answer() == Authenticated("alice", accepted=True)
    assert ask(ref, "alice", b"wrong").answer() == Authenticated("alice", accepted=False)
    assert ask(ref, "nobody", b"secret").answer() == Authenticated("nobody", accepted=False)


def test_guest_is_refused_from_elsewhere_without_a_check(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    actor = start(credentials_of({}))
    assert not ask(actor.ref, "guest", b"guest", AWAY).answer().accepted
    assert "user 'guest' is refused from 192.0.2.1: it may come from loopback addresses only" in caplog.text
    assert ask(actor.ref, "guest", b"guest", HERE).answer().accepted
    assert not ask(actor.ref, "guest", b"guest", AWAY).answer().accepted  # though the password is cached


def test_the_admin_asks_without_an_actor_of_its_own(start: Start) -> None:
    actor = start(credentials_of({"alice": ALICE}))
    assert may_log_in(actor.ref, "alice", b"secret", HERE, timeout=10)
    assert not may_log_in(actor.ref, "alice", b"wrong", HERE, timeout=10)
    assert actor.ref.ask(CheckPassword("alice", b"secret", HERE), timeout=10).get(timeout=10) is True
    assert actor.ref.ask(CheckPassword("alice", b"wrong", HERE), timeout=10).get(timeout=10) is False


def test_the_admin_waits_no_longer_than_it_wants(start: Start, gate: Gate) -> None:
    actor = start(gate)
    begun = time.monotonic()
    assert not may_log_in(actor.ref, "alice", b"secret", HERE, timeout=0.05)
    assert time.monotonic() - begun < 5


def test_checks_run_on_native_threads_while_the_actor_goes_on(start: Start, gate: Gate) -> None:
    actor = start(gate)
    gate.let_through(1)
    assert ask(actor.ref, "alice", b"secret").answer().accepted
    slow = ask(actor.ref, "alice", b"wrong")
    until(lambda: b"wrong" in gate.checked)
    assert ask(actor.ref, "alice", b"secret").answer().accepted
    assert actor.snapshot() == {
        "name": "authenticator", "users": 1, "waiting": 1, "delayed_peers": 0, "refused": 0,
        "attempts": {"amqp091": [2, 0], "http": [0, 0]},
    }  # fmt: skip
    assert slow.answers == []
    gate.let_through(1)
    assert not slow.answer().accepted
    assert threading.get_native_id() not in gate.threads


def test_clients_that_come_together_share_one_check(start: Start, gate: Gate) -> None:
    actor = start(gate)
    askers = [ask(actor.ref, "alice", b"secret") for _ in range(authenticator.MOST_WAITING + 10)]
    until(lambda: len(gate.checked) == 1)
    gate.let_through(1)
    assert all(asker.answer().accepted for asker in askers)
    assert gate.checked == [b"secret"]


def test_more_checks_than_may_wait_are_refused(
    start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authenticator, "MOST_WAITING", 3)
    actor = start(gate)
    waiting = [ask(actor.ref, "alice", password) for password in (b"1", b"2", b"secret")]
    assert not ask(actor.ref, "alice", b"4").answer().accepted
    assert "user 'alice' is refused from 127.0.0.1: 3 passwords wait to be checked" in caplog.text
    assert [asker.answers for asker in waiting] == [[], [], []]
    gate.let_through(3)
    assert [asker.answer().accepted for asker in waiting] == [False, False, True]
    assert actor.snapshot()["waiting"] == 0


def test_a_check_that_fails_is_a_refusal_and_no_more(
    start: Start, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    actor = start(gate)
    gate.let_through(2)
    assert not ask(actor.ref, "alice", b"raise").answer().accepted
    assert "the password of user 'alice' could not be checked" in caplog.text
    assert ask(actor.ref, "alice", b"secret").answer().accepted
    assert actor.failures.total == 0


def test_who_waits_when_it_stops_is_refused(start: Start, gate: Gate) -> None:
    actor = start(gate)
    running = [ask(actor.ref, "alice", password) for password in (b"1", b"2", b"3", b"4")]
    until(lambda: len(gate.checked) == 2)
    actor.end()
    too_late = ask(actor.ref, "alice", b"5")
    assert [asker.answer().accepted for asker in (*running, too_late)] == [False] * 5
    until(lambda: actor.number not in actor.system.actors)
    assert not ask(actor.ref, "alice", b"secret").answer().accepted
    assert not may_log_in(actor.ref, "alice", b"secret", HERE, timeout=10)


def test_a_check_that_has_not_even_begun_when_it_stops_is_refused() -> None:
    actor = authenticator_of(System(), credentials_of({"alice": ALICE}))
    asker = Asker()
    actor.on_authenticate(Authenticate(cast("Ref", asker), "alice", b"secret", HERE))
    actor.on_stop()
    assert not asker.answer().accepted


def test_no_log_and_no_failure_shows_a_password(
    start: Start, gate: Gate, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    actor = start(gate)
    gate.let_through(2)
    assert not ask(actor.ref, "alice", b"raise").answer().accepted
    assert not ask(actor.ref, "alice", b"hunter2").answer().accepted

    assert not ask(actor.ref, "broken", b"hunter3").answer().accepted
    shown = caplog.text + "".join(capfd.readouterr()) + repr([failure.summary() for failure in actor.failures.kept])
    shown += repr([Authenticate(cast("Ref", None), "alice", b"hunter5", HERE), CheckPassword("a", b"hunter6", HERE)])
    assert actor.failures.total == 2
    assert "hunter" not in shown


# --- Who fails again and again


def test_a_failed_login_from_elsewhere_waits_longer_each_time() -> None:
    failed = FailedLogins()
    assert [failed.seconds(AWAY, 0.0) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    assert failed.seconds("192.0.2.2", 0.0) == 0.25
    assert failed.seconds(AWAY, 61.0) == 0.25
    assert failed.seconds(AWAY, 62.0) == 0.5
    failed.forget(AWAY)
    assert failed.seconds(AWAY, 62.0) == 0.25
    assert failed.seconds(HERE, 0.0) == 0.0


def test_no_more_peers_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_logins, "MOST_PEERS", 3)
    failed = FailedLogins()
    for number in range(10):
        failed.seconds(f"192.0.2.{number}", 0.0)
    assert len(failed) == 3
    assert failed.seconds("192.0.2.9", 0.0) == 0.5
    assert failed.seconds("192.0.2.0", 0.0) == 0.25


def test_who_fails_waits_and_who_is_right_does_not(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_logins, "FIRST_SECONDS", 0.5)
    actor = start(credentials_of({"alice": ALICE}))
    begun = time.monotonic()
    assert not ask(actor.ref, "alice", b"wrong", AWAY).answer().accepted
    assert time.monotonic() - begun >= 0.5
    begun = time.monotonic()
    assert ask(actor.ref, "alice", b"secret", AWAY).answer().accepted
    assert ask(actor.ref, "alice", b"secret", AWAY).answer().accepted
    assert not ask(actor.ref, "alice", b"wrong", HERE).answer().accepted
    assert time.monotonic() - begun < 0.5
    assert actor.snapshot()["delayed_peers"] == 0


def test_a_peer_that_tries_many_passwords_holds_nobody_else_up(
    start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_logins, "LONGEST_SECONDS", 0.0)
    actor = start(gate)
    flood = [ask(actor.ref, "alice", b"%d" % number, AWAY) for number in range(20)]
    until(lambda: len(gate.checked) == authenticator.THREADS)
    other = ask(actor.ref, "alice", b"secret", HERE)
    settle(actor.system)
    gate.let_through(21)
    assert other.answer().accepted
    assert gate.checked.index(b"secret") <= authenticator.THREADS + 1
    assert not any(asker.answer().accepted for asker in flood)


def test_one_peer_has_no_more_than_its_part_of_those_who_wait(
    start: Start, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "MOST_WAITING_OF_PEER", 3)
    actor = start(gate)
    waiting = [ask(actor.ref, "alice", b"%d" % number) for number in range(authenticator.THREADS + 3)]
    assert not ask(actor.ref, "alice", b"one too many").answer().accepted
    assert ask(actor.ref, "alice", b"secret", AWAY).answers == []
    gate.let_through(10)
    assert not any(asker.answer().accepted for asker in waiting)


def test_a_refusal_takes_as_long_as_the_costliest_hash_that_there_is_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = credentials_of({"alice": ALICE})
    spent: list[int] = []
    checkpw = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        spent.append(2 ** int(hashed.split(b"$")[2]))
        return checkpw(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    for change, work in (
        (lambda: None, 2**4),
        (lambda: credentials.users.put("bob", base64.b64encode(BOB).decode(), "bcrypt", []), 2**6),
        (lambda: credentials.users.delete("bob"), 2**4),
    ):
        change()
        spent.clear()
        assert not credentials.check("nobody", b"wrong")
        assert sum(spent) == work


def test_guest_is_made_where_there_is_nobody() -> None:
    credentials = Credentials(Users(), guest_from_anywhere=False)
    [(_, row)] = credentials.restore([], ["/", "v"])
    assert row is not None
    assert credentials.check("guest", b"guest")
    record = json.loads(row)["record"]
    assert list(record["permissions"]) == ["/", "v"]
    again = Credentials(Users(), guest_from_anywhere=False)
    assert again.restore([record], ["/"]) != []  # v is gone
    assert list(again.users.get("guest").rights) == ["/"]
    assert Credentials(Users(), guest_from_anywhere=False, first=None).restore([], ["/"]) == []


def test_guest_with_its_first_password_is_nobody_while_the_file_names_users() -> None:
    [(_, row)] = Credentials(Users(), guest_from_anywhere=False).restore([], ["/"])
    record = json.loads(row or b"")["record"]
    credentials = Credentials(Users(users_of_file({"alice": ALICE})), guest_from_anywhere=False)
    assert credentials.restore([record], ["/"]) == []
    assert credentials.users.find("guest") is None
    changed = record | {"password_hash": base64.b64encode(BOB).decode()}
    other = Credentials(Users(users_of_file({"alice": ALICE})), guest_from_anywhere=False)
    other.restore([changed], ["/"])
    assert other.check("guest", b"dear")
    assert not other.permits_peer("guest", AWAY)
