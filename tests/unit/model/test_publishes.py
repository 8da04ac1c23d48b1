import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.consuming import message

from dispatchd.amqp.errors import AmqpError
from dispatchd.amqp.message import Message, make_message
from dispatchd.amqp.properties import Properties, decode_properties
from dispatchd.model.access import unrestricted
from dispatchd.model.catalogue import Catalogue
from dispatchd.model.direct_replies import REPLY_TO
from dispatchd.model.publishes import by_exchange, publishable

GUEST = unrestricted("guest", "/")


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue("/", bytes, lambda: 1)


def published(exchange: str = "", properties: Properties | None = None) -> Message:
    return make_message(exchange, "key", properties or Properties(), b"")


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([0, 1, 1023, 1024, 5000]))))
def test_each_exchange_gets_its_messages_in_order_and_their_cost(published: list[tuple[str, int]]) -> None:
    messages = [message(b"x" * size, exchange=exchange) for exchange, size in published]
    groups = by_exchange(messages)
    assert [name for name, _, _ in groups] == list(dict.fromkeys(exchange for exchange, _ in published))
    for name, group, cost in groups:
        expected = [one for one in messages if one.exchange == name]
        assert [id(one) for one in group] == [id(one) for one in expected]
        assert cost == sum(1 + len(one.body) // 1024 for one in expected)


def test_nothing_published_is_no_group(catalogue: Catalogue) -> None:
    assert by_exchange([]) == []
    assert publishable([], GUEST, catalogue, "") == ([], None)


def test_what_is_right_may_be_published(catalogue: Catalogue) -> None:
    messages = [
        published(),
        published("amq.fanout", Properties(user_id="guest", expiration="0", delivery_mode=1)),
        published("", Properties(user_id="guest", delivery_mode=2)),
    ]
    assert publishable(messages, GUEST, catalogue, "") == (messages, None)


def immediate() -> Message:
    message = published()
    message.immediate = True
    return message


def test_copies_are_addressed(catalogue: Catalogue) -> None:
    message = published("", Properties(headers={"CC": ["other"]}))
    assert publishable([message], GUEST, catalogue, "") == ([message], None)
    assert message.copy_keys == ["other"]


def test_those_that_share_a_header_are_all_addressed(catalogue: Catalogue) -> None:
    asking = Properties(reply_to=REPLY_TO, headers={"CC": ["other"]})
    messages = [published("", asking), published("", asking), published()]
    messages[1].header = messages[0].header
    assert publishable(messages, GUEST, catalogue, "address") == (messages, None)
    assert [one.copy_keys for one in messages] == [["other"], ["other"], None]
    assert [decode_properties(one.header).reply_to for one in messages] == ["address", "address", None]


REFUSED = [
    (immediate(), "NOT_IMPLEMENTED - immediate=true"),
    (published("none"), "NOT_FOUND - no exchange 'none' in vhost '/'"),
    (published("none", Properties(user_id="x")), "NOT_FOUND - no exchange 'none' in vhost '/'"),
    (
        published("amq.rabbitmq.trace"),
        "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
    ),
    (
        published("", Properties(user_id="x", expiration="y")),
        "PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'",
    ),
    (
        published("", Properties(user_id="guest", expiration="y", delivery_mode=3)),
        "PRECONDITION_FAILED - invalid expiration 'y': no_integer",
    ),
    (
        published("", Properties(delivery_mode=3)),
        "PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,3}",
    ),
    (
        published("", Properties(headers={"BCC": "other"})),
        'PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"BCC",longstr}',
    ),
]


@pytest.mark.parametrize(("refused", "text"), REFUSED)
def test_what_comes_before_a_message_that_is_refused_is_published(
    catalogue: Catalogue, refused: Message, text: str
) -> None:
    before = [published(), published("amq.fanout")]
    messages, error = publishable([*before, refused, published(), published("none")], GUEST, catalogue, "")
    assert messages == before
    assert isinstance(error, AmqpError)
    assert error.text == text
