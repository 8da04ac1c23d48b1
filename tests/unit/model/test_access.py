from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.consuming import message

from dispatchd.amqp import methods as m
from dispatchd.amqp.errors import AccessRefused, AmqpError
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties
from dispatchd.model import access as access_module
from dispatchd.model.access import CONFIGURE, OPERATIONS, READ, WRITE, Access, Rights, TopicRights, unrestricted
from dispatchd.model.binding import EXCHANGE, QUEUE
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.method_access import check_access
from dispatchd.model.publishes import publishable

C, W, R = CONFIGURE, WRITE, READ


@pytest.fixture
def catalogue() -> Catalogue:
    ids = iter(range(1, 100))
    catalogue = Catalogue("/", lambda octets: b"x" * octets, lambda: next(ids))
    catalogue.declare_exchange("there", "topic", False, False, False, {})
    catalogue.declare_queue("there", False, False, False, {}, 1)
    return catalogue


DLX = {"x-dead-letter-exchange": "dead"}
AE = {"alternate-exchange": "else"}

NEEDS: list[tuple[m.Method, list[tuple[str, str, str]]]] = [
    (m.ExchangeDeclare(exchange="x", type="direct"), [(C, EXCHANGE, "x")]),
    (m.ExchangeDeclare(exchange="x", type="direct", passive=True), []),
    (
        m.ExchangeDeclare(exchange="x", type="direct", arguments=AE),
        [(C, EXCHANGE, "x"), (R, EXCHANGE, "x"), (W, EXCHANGE, "else")],
    ),
    (m.ExchangeDeclare(exchange="there", type="direct", arguments=AE), [(C, EXCHANGE, "there")]),
    (m.ExchangeDelete(exchange="x"), [(C, EXCHANGE, "x")]),
    (m.ExchangeBind(destination="d", source="s"), [(W, EXCHANGE, "d"), (R, EXCHANGE, "s")]),
    (m.ExchangeUnbind(destination="d", source="s"), [(W, EXCHANGE, "d"), (R, EXCHANGE, "s")]),
    (m.QueueDeclare(queue="q"), [(C, QUEUE, "q")]),
    (m.QueueDeclare(queue="q", passive=True), []),
    (m.QueueDeclare(queue="q", arguments=DLX), [(C, QUEUE, "q"), (R, QUEUE, "q"), (W, EXCHANGE, "dead")]),
    (m.QueueDeclare(queue="there", arguments=DLX), [(C, QUEUE, "there")]),
    (m.QueueDelete(queue="q"), [(C, QUEUE, "q")]),
    (m.QueueBind(queue="q", exchange="x"), [(W, QUEUE, "q"), (R, EXCHANGE, "x")]),
    (m.QueueUnbind(queue="q", exchange="x"), [(W, QUEUE, "q"), (R, EXCHANGE, "x")]),
    (m.QueuePurge(queue="q"), [(R, QUEUE, "q")]),
    (m.BasicGet(queue="q"), [(R, QUEUE, "q")]),
    (m.BasicConsume(queue="q"), [(R, QUEUE, "q")]),
    (m.BasicQos(), []),
    (m.TxSelect(), []),
]


def keyed(exchange: str, routing_key: str) -> Message:
    return make_message(exchange, routing_key, Properties(), b"")


@pytest.mark.parametrize(("method", "needs"), NEEDS, ids=str)
def test_each_method_needs_what_it_needs_in_rabbitmq(
    catalogue: Catalogue, method: m.Method, needs: list[tuple[str, str, str]]
) -> None:
    permitting = {
        operation: "|".join(["^$", *(f"^{name}$" for asked, _, name in needs if asked == operation)])
        for operation in OPERATIONS
    }
    check_access(given_rights(permitting[C], permitting[W], permitting[R]), method, catalogue)
    for operation, kind, name in needs:
        lacking = "|".join(f"^{other}$" for asked, _, other in needs if asked == operation and other != name)
        fewer = permitting | {operation: lacking}
        access = given_rights(fewer[C], fewer[W], fewer[R])
        with pytest.raises(AccessRefused) as refused:
            check_access(access, method, catalogue)
        assert refused.value.text == f"ACCESS_REFUSED - access to {kind} '{name}' in vhost '/' refused for user 'ann'"


def given_rights(configure: str, write: str, read: str, topics: dict[str, TopicRights] | None = None) -> Access:
    access = Access("ann", "/")
    access.change(Rights(configure, write, read), topics or {}, may_impersonate=False)
    return access


def test_a_queue_without_a_name_needs_configure_for_one_like_it(catalogue: Catalogue) -> None:
    check_access(given_rights(r"^amq\.gen-", "", ""), m.QueueDeclare(), catalogue)
    with pytest.raises(AccessRefused, match=r"access to queue 'amq\.gen-.{22}' in vhost"):
        check_access(given_rights("^q", "", ""), m.QueueDeclare(), catalogue)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (m.ExchangeDeclare(exchange="", type="direct"), "operation not permitted on the default exchange"),
        (m.ExchangeDeclare(exchange="x", type="none"), "COMMAND_INVALID - unknown exchange type 'none'"),
        (m.QueueDeclare(queue="amq.q"), "queue name 'amq.q' contains reserved prefix"),
        (m.QueueBind(queue="q", exchange=""), "access to queue 'q' in vhost '/' refused"),
        (m.ExchangeBind(destination="", source="s"), "access to exchange 'amq.default' in vhost '/' refused"),
    ],
    ids=str,
)
def test_what_is_told_first(catalogue: Catalogue, method: m.Method, text: str) -> None:
    with pytest.raises(AmqpError) as refused:
        check_access(given_rights("", "", ""), method, catalogue)
    assert text in refused.value.text


def test_the_default_exchange_has_a_name_for_permissions(catalogue: Catalogue) -> None:
    direct = message(b"", exchange="")
    assert publishable([direct], given_rights("", r"^amq\.default$", ""), catalogue, "") == ([direct], None)
    _, error = publishable([direct], given_rights("", "^$", ""), catalogue, "")
    assert error is not None
    assert error.text == "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'ann'"


def test_to_publish_needs_write_even_where_there_is_no_exchange(catalogue: Catalogue) -> None:
    access = given_rights("", "^there$", "")
    good, bad = message(b"1", exchange="there"), message(b"2", exchange="nowhere")
    published, error = publishable([good, bad, good], access, catalogue, "")
    assert published == [good]
    assert isinstance(error, AccessRefused)


def test_topic_permissions_are_for_topic_exchanges_alone(catalogue: Catalogue) -> None:
    rights = TopicRights(r"^{username}\.{vhost}$", "^r$")
    access = given_rights(".*", ".*", ".*", {"there": rights, "amq.direct": rights})
    right, wrong = keyed("there", "ann./"), keyed("there", "bob./")
    elsewhere = keyed("amq.direct", "bob./")
    assert publishable([right, elsewhere, right], access, catalogue, "") == ([right, elsewhere, right], None)
    _, error = publishable([right, wrong], access, catalogue, "")
    assert error is not None
    assert error.text == (
        "ACCESS_REFUSED - access to topic 'bob./' in exchange 'there' in vhost '/' refused for user 'ann'"
    )
    check_access(access, m.QueueBind(queue="q", exchange="there", routing_key="r"), catalogue)
    for method in (
        m.QueueBind(queue="q", exchange="there", routing_key="w"),
        m.QueueUnbind(queue="q", exchange="there", routing_key="w"),
        m.ExchangeBind(destination="x", source="there", routing_key="w"),
    ):
        with pytest.raises(AccessRefused, match="access to topic 'w' in exchange 'there'"):
            check_access(access, method, catalogue)
    check_access(access, m.QueueBind(queue="q", exchange="amq.direct", routing_key="w"), catalogue)


def test_variables_stand_for_themselves(catalogue: Catalogue) -> None:
    access = Access("a.c|.*", "/")
    access.change(Rights(".*", ".*", ".*"), {"there": TopicRights("^{username}$", "")}, may_impersonate=False)
    for key, refused in (("a.c|.*", False), ("abc", True), ("", True)):
        _, error = publishable([keyed("there", key)], access, catalogue, "")
        assert (error is not None) is refused


def test_a_change_is_in_force_at_once() -> None:
    access = unrestricted("ann", "/")
    access.check_publish("x")
    access.change(Rights(".*", "", ".*"), {}, may_impersonate=False)
    with pytest.raises(AccessRefused):
        access.check_publish("x")
    access.change(None, {}, may_impersonate=False)
    for operation in OPERATIONS:
        with pytest.raises(AccessRefused):
            access.check(operation, QUEUE, "q")


def test_no_more_names_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    access = unrestricted("ann", "/")
    for number in range(2 * access_module.MOST_REMEMBERED + 5):
        access.check_publish(f"x{number}")
    assert len(access._writable) <= access_module.MOST_REMEMBERED
    assert len(access._permitted[WRITE]) <= access_module.MOST_REMEMBERED


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(["a", "b", "ab", ""]))))
def test_what_is_remembered_changes_nothing(asked: list[tuple[str, str]]) -> None:
    def refuses(access: Access, operation: str, name: str) -> bool:
        try:
            access.check(operation, QUEUE, name)
        except AccessRefused:
            return True
        return False

    remembering = given_rights("^a", "b$", "")
    for operation, name in asked:
        assert refuses(remembering, operation, name) == refuses(given_rights("^a", "b$", ""), operation, name)
