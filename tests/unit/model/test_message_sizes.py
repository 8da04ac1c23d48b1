from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st
from unit.model.consuming import message

from dispatchd.model.message_sizes import BOUNDS, MessageSizes

sizes = st.sampled_from((0, 1, 99, 100, 101, 999, 1000, 1001, 10_000, 10_001))


@given(st.lists(st.lists(sizes, max_size=12), max_size=4))
def test_each_message_is_in_the_class_of_its_size(batches: list[list[int]]) -> None:
    histogram, expected = MessageSizes(), [0] * (len(BOUNDS) + 1)
    for batch in batches:
        histogram.note([message(b"x" * size) for size in batch])
        for size in batch:
            expected[bisect_left(BOUNDS, size)] += 1
    assert list(histogram.counts) == expected
    assert histogram.octets == sum(map(sum, batches))
