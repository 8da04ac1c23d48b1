from __future__ import annotations

from dispatchd.net.credit import Credit


def test_it_is_used_up_and_comes_back() -> None:
    credit = Credit(10)
    credit.take(9)
    assert credit.is_available
    credit.take(5)
    assert credit.is_exhausted
    assert not credit.is_available
    credit.give(4)
    assert not credit.is_available
    credit.give(1)
    assert credit.is_available


def test_a_blocked_one_is_not_available_whatever_is_given() -> None:
    credit = Credit(10)
    credit.block()
    credit.give(5)
    assert not credit.is_available
    assert not credit.is_exhausted
    credit.unblock()
    assert credit.is_available


def test_what_is_used_up_stays_so_when_it_is_unblocked() -> None:
    credit = Credit(10)
    credit.take(10)
    credit.block()
    credit.unblock()
    assert not credit.is_available
    credit.give(1)
    assert credit.is_available
