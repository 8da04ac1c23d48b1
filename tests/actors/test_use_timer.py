from __future__ import annotations

import gc
import weakref
from typing import Any

import gevent
from actors.harness import Listener, wait_until

from dispatchd.actors.use_timer import UseReview, UseTimer

HOUR = 3_600_000


def test_it_asks_whether_the_time_is_over_until_it_is() -> None:
    listener: Any = Listener()
    timer = UseTimer(listener)
    timer.begin(20)
    wait_until(lambda: listener.told)
    listener.take(UseReview)
    assert not timer.is_over(has_consumers=True)
    wait_until(lambda: listener.told)
    listener.take(UseReview)
    assert timer.is_over(has_consumers=False)


def test_a_queue_that_goes_is_kept_by_nobody() -> None:
    listener: Any = Listener()
    gone = weakref.ref(listener)
    timer = UseTimer(listener)
    timer.begin(HOUR)
    timer.end()
    del listener, timer
    gevent.sleep(0)
    gc.collect()
    assert gone() is None
