"""Random scripts. A failure shrinks to a short script that can be copied into a scenario."""

from __future__ import annotations

import os

import pytest
from compat import script
from compat.conftest import Compare
from compat.script import Step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RANDOM = settings(
    max_examples=int(os.environ.get("COMPAT_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

PLAIN = st.sampled_from(["a", "b"])
QUEUES = st.sampled_from(["a", "b", "short", "urgent"])
EXCHANGES = st.sampled_from(["direct", "fanout", "topic"])
KEYS = st.sampled_from(["a", "b", "k", "a.b", "#", "*.b"])
PLACES = st.sampled_from([1, 2])
TAGS = st.integers(1, 5)
BODIES = st.integers(1, 9).map(str)
FLAGS = st.booleans()

SETUP: tuple[Step, ...] = (
    script.Exchange("direct", "direct"),
    script.Exchange("fanout", "fanout"),
    script.Exchange("topic", "topic"),
    script.Queue("a"),
    script.Queue("b"),
    script.Queue(
        "short", arguments={"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"}
    ),
    script.Queue("urgent", arguments={"x-max-priority": 3}),
)
"""Without these most steps would be about what is not there."""

PROPERTIES = st.fixed_dictionaries(
    {}, optional={"expiration": st.sampled_from(["0", "60000"]), "priority": st.integers(0, 5)}
)

PUBLISHES = st.one_of(
    st.builds(script.Publish, st.just(""), QUEUES, BODIES, PROPERTIES, on=PLACES),
    st.builds(script.Publish, EXCHANGES, KEYS, BODIES, PROPERTIES, mandatory=FLAGS, on=PLACES),
)
STEPS: st.SearchStrategy[Step] = st.one_of(
    PUBLISHES,
    PUBLISHES,
    st.builds(script.Get, QUEUES, no_ack=FLAGS, on=PLACES),
    st.builds(script.Bind, QUEUES, EXCHANGES, KEYS, on=PLACES),
    st.builds(script.Ack, TAGS, multiple=FLAGS, on=PLACES),
    st.builds(script.Nack, TAGS, multiple=FLAGS, requeue=FLAGS, on=PLACES),
    st.builds(script.Reject, TAGS, requeue=FLAGS, on=PLACES),
    st.builds(script.Unbind, QUEUES, EXCHANGES, KEYS, on=PLACES),
    st.builds(script.Purge, QUEUES, on=PLACES),
    st.builds(script.Queue, PLAIN, passive=FLAGS, on=PLACES),
    st.builds(script.Queue, QUEUES, passive=st.just(True), on=PLACES),
    st.builds(script.Delete, QUEUES, if_empty=FLAGS, if_unused=FLAGS, on=PLACES),
    st.builds(script.DeleteExchange, EXCHANGES, if_unused=FLAGS, on=PLACES),
    st.builds(script.Recover, on=PLACES),
    st.builds(script.Close, on=PLACES),
)


@pytest.mark.timeout(1200)
@RANDOM
@given(steps=st.lists(STEPS, max_size=15))
def test_random_scripts(compare: Compare, steps: list[Step]) -> None:
    if difference := compare(*SETUP, *steps):
        pytest.fail(difference, pytrace=False)


CONSUMING = st.sampled_from([2, 3])
CONSUMER_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(script.Publish, st.just(""), st.just("q"), BODIES),
    st.builds(script.Publish, st.just(""), st.just("q"), BODIES),
    st.builds(script.Qos, st.integers(0, 3), on=CONSUMING),
    st.builds(script.Consume, st.just("q"), no_ack=FLAGS, on=CONSUMING),
    st.builds(script.Cancel, on=CONSUMING),
    st.builds(script.Ack, TAGS, multiple=FLAGS, on=CONSUMING),
    st.builds(script.Nack, TAGS, multiple=FLAGS, requeue=FLAGS, on=CONSUMING),
    st.builds(script.Close, on=CONSUMING),
    st.builds(script.Queue, st.just("q"), passive=st.just(True)),
)


@pytest.mark.timeout(1200)
@RANDOM
@given(steps=st.lists(CONSUMER_STEPS, max_size=15))
def test_random_consumers(compare: Compare, steps: list[Step]) -> None:
    if difference := compare(script.Queue("q"), *steps):
        pytest.fail(difference, pytrace=False)
