from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.amqp.errors import NotAllowed, PreconditionFailed
from dispatchd.model.limits import OF_VHOSTS, Tally, check_limit, check_new_binding, check_new_queue, reached


@pytest.mark.parametrize(("limit", "is_reached"), [(-1, False), (0, True), (1, True), (2, True), (3, False)])
def test_when_a_limit_is_reached(limit: int, is_reached: bool) -> None:
    assert reached({"max-queues": limit}, "max-queues", 2) is is_reached
    assert not reached({}, "max-queues", 2)


def test_the_texts_are_rabbitmqs() -> None:
    with pytest.raises(PreconditionFailed, match=r"declare queue 'q': queue limit in vhost '/' \(2\) is reached"):
        check_new_queue({"max-queues": 2}, "/", "q", 2)
    with pytest.raises(PreconditionFailed, match=r"bind to queue 'q': binding limit in vhost '/' \(2\) is reached"):
        check_new_binding({"max-bindings": 2}, "/", "queue 'q'", 2)
    tally = Tally()
    tally.enter("/", "ann")
    tally.count_channels("ann", 2)
    with pytest.raises(NotAllowed, match=r"vhost '/' refused for user 'ann': connection limit \(1\) is reached"):
        tally.check_vhost("/", "ann", {"max-connections": 1})
    with pytest.raises(NotAllowed, match=r"refused for user 'ann': user connection limit \(1\) is reached"):
        tally.check_user("ann", {"max-connections": 1})
    with pytest.raises(NotAllowed, match=r"user 'ann' has reached the maximum allowed user limit of \(2\)"):
        tally.check_channel("ann", {"max-channels": 2})
    tally.check_channel("ann", {"max-channels": 3})


@given(st.lists(st.tuples(st.sampled_from(["/", "v"]), st.sampled_from(["ann", "bob"]))))
def test_who_has_left_counts_no_more(entered: list[tuple[str, str]]) -> None:
    tally = Tally()
    for vhost, user in entered:
        tally.enter(vhost, user)
        tally.count_channels(user, 3)
    for vhost, user in entered:
        tally.leave(vhost, user)
        tally.count_channels(user, -3)
    for vhost, user in entered:
        tally.check_vhost(vhost, user, {"max-connections": 1})
        tally.check_user(user, {"max-connections": 1})
        tally.check_channel(user, {"max-channels": 1})
    assert len(tally) == 0


def test_what_can_be_a_limit() -> None:
    assert check_limit(OF_VHOSTS, "limits", "max-queues", 5) == 5
    assert check_limit(OF_VHOSTS, "limits", "max-queues", "-1") == -1
    with pytest.raises(PreconditionFailed, match='max-queues should be a number, actually was <<"x">>'):
        check_limit(OF_VHOSTS, "limits", "max-queues", "x")
    with pytest.raises(PreconditionFailed, match=r'Unrecognised terms \[{<<"max-cats">>,1}\] in limits'):
        check_limit(OF_VHOSTS, "limits", "max-cats", 1)
