from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dispatchd.model import places
from dispatchd.model.places import Places

steps = st.lists(st.tuples(st.sampled_from(["add", "drop", "prepend", "look"]), st.integers(0, 20_000)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_places_are_a_list_that_loses_its_beginning(todo: list[tuple[str, int]]) -> None:
    found, expected, last = Places(), list[int](), 0
    for what, count in todo:
        if what == "add":
            added = list(range(last + 1, last + count + 1))
            last += count
            for position in added:
                found.append(position)
            expected += added
        elif what == "prepend":
            for position in range(0, -count, -1):
                found.prepend(position)
            expected = [*range(1 - count, 1), *expected]
        elif what == "drop":
            found.drop(count)
            del expected[:count]
        else:
            assert found.head(count) == expected[:count]
        assert len(found) == len(expected)
        assert not expected or found.first() == expected[0]
        assert found.last() == (expected[-1] if expected else 0)
        assert found.tail(count) == (expected[-count:] if count else [])


def test_chunks_that_were_dropped_are_gone() -> None:
    found = Places(range(100_000))
    found.drop(99_999)
    assert len(found._chunks) == 1
    assert found.head(10) == [99_999]
    assert places._CHUNK < 10_000
