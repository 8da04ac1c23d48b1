import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.model.consuming import message

from dispatchd.amqp.errors import NotImplementedByServer
from dispatchd.model.publishes import by_exchange, mandatory


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([0, 1, 1023, 1024, 5000]))))
def test_each_exchange_gets_its_messages_in_order_and_their_cost(published: list[tuple[str, int]]) -> None:
    messages = [message(b"x" * size, exchange=exchange) for exchange, size in published]
    groups = by_exchange(messages)
    assert [name for name, _, _ in groups] == list(dict.fromkeys(exchange for exchange, _ in published))
    for name, group, cost in groups:
        expected = [one for one in messages if one.exchange == name]
        assert [id(one) for one in group] == [id(one) for one in expected]
        assert cost == sum(1 + len(one.body) // 1024 for one in expected)


def test_nothing_published_is_no_group() -> None:
    assert by_exchange([]) == []


def test_immediate_is_not_implemented() -> None:
    immediate = message()
    immediate.immediate = True
    with pytest.raises(NotImplementedByServer, match="immediate=true"):
        by_exchange([message(), immediate])


def test_mandatory_messages_are_picked_in_order() -> None:
    messages = [message(b"1", mandatory=True), message(b"2"), message(b"3", mandatory=True)]
    assert [one.body for one in mandatory(messages)] == [b"1", b"3"]
