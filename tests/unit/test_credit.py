from __future__ import annotations

from dispatchd.net.credit import CREDIT_OF_ALL, LEAST_CREDIT, PUBLISH_CREDIT, Credit, Publishers


def test_it_is_used_up_and_comes_back() -> None:
    credit = Credit(Publishers())
    credit.take(PUBLISH_CREDIT - 1)
    assert credit.is_available
    credit.take(5)
    assert credit.is_exhausted
    assert not credit.is_available
    credit.give(4)
    assert not credit.is_available
    credit.give(1)
    assert credit.is_available


def test_a_blocked_one_is_not_available_whatever_is_given() -> None:
    credit = Credit(Publishers())
    credit.block()
    credit.give(5)
    assert not credit.is_available
    assert not credit.is_exhausted
    credit.unblock()
    assert credit.is_available


def test_what_is_used_up_stays_so_when_it_is_unblocked() -> None:
    credit = Credit(Publishers())
    credit.take(PUBLISH_CREDIT)
    credit.block()
    credit.unblock()
    assert not credit.is_available
    credit.give(1)
    assert credit.is_available


def test_many_get_less_each_but_never_nothing() -> None:
    publishers = Publishers()
    few = CREDIT_OF_ALL // PUBLISH_CREDIT
    assert Credit(publishers).fitting(32_768) == 32_768
    credits = [Credit(publishers) for _ in range(4 * few)]
    for credit in credits[:few]:
        credit.take(PUBLISH_CREDIT - 1)
    assert all(credit.is_available for credit in credits)
    for credit in credits[few:]:
        credit.take(PUBLISH_CREDIT // 4)
    assert all(credit.is_exhausted for credit in credits)
    for credit in credits[few:]:
        credit.end()
    assert all(credit.is_available for credit in credits)
    assert publishers.active == few
    publishers.active = 100 * few
    assert publishers.share == LEAST_CREDIT
    assert Credit(publishers).fitting(32_768) < 32_768
