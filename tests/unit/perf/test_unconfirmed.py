from hypothesis import given
from hypothesis import strategies as st

from dispatchd.perf.counting.histogram import Histogram
from dispatchd.perf.counting.unconfirmed import Unconfirmed


def test_acks_one_by_one_and_several_at_once() -> None:
    waiting = Unconfirmed(Histogram())
    waiting.add(4, 1000)
    waiting.add(2, 1100)
    waiting.settle(2, False, True, 1150)
    assert (waiting.count, waiting.acked, waiting.latency.percentile(100.0)) == (5, 1, 150)
    waiting.settle(5, True, True, 1200)
    assert (waiting.count, waiting.acked, waiting.latency.smallest) == (1, 5, 100)
    waiting.settle(0, True, True, 1200)
    assert (waiting.count, waiting.acked) == (0, 6)


def test_nacked_ones_have_no_latency() -> None:
    waiting = Unconfirmed(Histogram())
    waiting.add(3, 10)
    waiting.settle(2, True, False, 20)
    assert (waiting.count, waiting.acked, waiting.nacked, waiting.latency.total) == (1, 0, 2, 0)


def test_what_does_not_wait_is_not_settled() -> None:
    waiting = Unconfirmed(Histogram())
    waiting.add(2, 10)
    waiting.settle(1, False, True, 20)
    for tag in (0, 1):
        waiting.settle(tag, False, True, 20)
    waiting.settle(1, True, True, 20)
    assert (waiting.count, waiting.acked) == (1, 1)


@given(st.integers(1, 20), st.data())
def test_every_publish_is_settled_once(limit: int, data: st.DataObject) -> None:
    waiting = Unconfirmed(Histogram())
    sent: dict[int, int] = {}
    tag = now = latencies = acked = 0
    for _ in range(data.draw(st.integers(1, 30))):
        now += 1
        if count := data.draw(st.integers(0, limit - len(sent))):
            waiting.add(count, now)
            sent |= dict.fromkeys(range(tag + 1, tag + count + 1), now)
            tag += count
        if sent:
            settled = data.draw(st.sampled_from(sorted(sent)))
            multiple = data.draw(st.booleans())
            gone = [each for each in sent if each <= settled] if multiple else [settled]
            waiting.settle(settled, multiple, True, now)
            acked += len(gone)
            latencies += sum(now - sent.pop(each) for each in gone)
        assert (waiting.count, waiting.acked, waiting.latency.total) == (len(sent), acked, acked)
    waiting.settle(0, True, True, now)
    assert waiting.count == 0
