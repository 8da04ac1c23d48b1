import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.perf import pace as module
from dispatchd.perf.pace import MOST_BEHIND, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(gevent, "sleep", clock.sleep)
    return clock


def test_without_a_rate_nobody_waits(clock: Clock) -> None:
    assert Pace(0).take(7) == 7
    assert clock.now == 1000


def test_low_rates_are_message_by_message(clock: Clock) -> None:
    pace = Pace(0.5)
    taken = [(pace.take(100), clock.now) for _ in range(3)]
    assert taken == [(1, 1000), (1, 1002), (1, 1004)]


def test_who_was_held_back_catches_up_a_little(clock: Clock) -> None:
    pace = Pace(100)
    pace.take(1)
    clock.now += 0.5
    assert pace.take(1000) == 50
    clock.now += 60
    assert pace.take(1000) == MOST_BEHIND * 100 + 1


@given(st.data(), st.floats(0.01, 1e6))
def test_the_rate_is_never_exceeded_and_kept_by_who_is_in_time(data: st.DataObject, rate: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(module, "time", clock)
        patch.setattr(gevent, "sleep", clock.sleep)
        pace, total, most = Pace(rate), 0, data.draw(st.integers(1, 1000))
        for _ in range(30):
            taken = pace.take(most)
            assert 1 <= taken <= most
            total += taken
            assert total <= (clock.now - 1000) * rate * (1 + 1e-6) + 1.001
            clock.now += data.draw(st.floats(0, 0.9 * MOST_BEHIND)) * min(1.0, most / rate)
        assert total >= (clock.now - 1000) * rate * (1 - 1e-6) - most - 1
