import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.perf.counting.histogram import Histogram

VALUES = st.lists(st.integers(0, 1 << 45), min_size=1, max_size=200)


def recorded(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value, 1)
    return histogram


def test_small_values_are_exact() -> None:
    histogram = recorded(list(range(1, 101)))
    assert [histogram.percentile(percent) for percent in (0.0, 50.0, 99.0, 99.9, 100.0)] == [1, 50, 99, 100, 100]


def test_of_nothing_everything_is_0() -> None:
    histogram = Histogram()
    assert (histogram.percentile(0.0), histogram.percentile(50.0), histogram.percentile(100.0)) == (0, 0, 0)


def test_what_is_negative_counts_as_0_and_no_times_as_nothing() -> None:
    histogram = Histogram()
    histogram.record(-5, 2)
    histogram.record(7, 0)
    assert (histogram.total, histogram.percentile(100.0)) == (2, 0)


@pytest.mark.parametrize("value", [255, 256, 257, 511, 512, 65_535, 65_536, 1 << 40])
def test_one_value_is_all_percentiles(value: int) -> None:
    histogram = Histogram()
    histogram.record(value, 3)
    assert {histogram.percentile(percent) for percent in (0.0, 50.0, 99.0, 100.0)} == {value}


@given(VALUES, st.floats(0, 100))
def test_percentiles_are_less_than_1_percent_too_high(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
    found = recorded(values).percentile(percent)
    assert exact <= found <= exact * (1 + 1 / 128) or found == min(values)


@given(VALUES, VALUES)
def test_what_is_poured_into_another_was_recorded_there(first: list[int], second: list[int]) -> None:
    poured, into, both = recorded(first), recorded(second), recorded(first + second)
    poured.pour_into(into)
    for percent in (0.0, 10.0, 50.0, 90.0, 100.0):
        assert into.percentile(percent) == both.percentile(percent)
    assert into.total == both.total
    assert (poured.total, poured.percentile(100.0)) == (0, 0)
    poured.record(9, 1)
    assert (poured.percentile(0.0), poured.percentile(100.0)) == (9, 9)
