import http.client
import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from admin_fakes import (
    ME,
    FakeBroker,
    FakeChannel,
    FakeConnection,
    FakeExchange,
    FakeQueue,
    FakeUser,
    begin,
    queue_facts,
    serving,
)
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.actors.runtime import System
from dispatchd.web import meter as meter_module
from dispatchd.web.fields import consumer_row
from dispatchd.web.history import POINTS, History
from dispatchd.web.meter import Meter
from dispatchd.web.server import AdminServer
from dispatchd.web.sorting import THINGS_PER_TURN, in_order


class FakeVhost(FakeBroker):
    kind = "vhost"


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
def admin(system: System) -> Iterator[AdminServer]:
    with serving(system, authenticate=lambda *_: ME) as server:
        yield server


def get(server: AdminServer, path: str, status: int = 200) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", f"/api/{path}", headers={"Authorization": "Basic bWU6cGFzcw=="})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    assert answer.status == status, body
    return body


def names(page: dict[str, Any]) -> list[str]:
    return [row["name"] for row in page["items"]]


def test_a_page_in_rabbitmqs_shape(system: System, admin: AdminServer) -> None:
    for number in range(12):
        begin(FakeQueue(system, f"q{number:02}", told=queue_facts(number)))
    page = get(admin, "queues?page=2&page_size=5&pagination=false")
    assert {name: value for name, value in page.items() if name != "items"} == {
        "filtered_count": 12, "item_count": 5, "page": 2, "page_count": 3, "page_size": 5, "total_count": 12,
    }  # fmt: skip
    assert names(page) == ["q05", "q06", "q07", "q08", "q09"]
    assert len(get(admin, "queues")) == 12


def test_only_the_rows_of_the_page_are_asked(system: System, admin: AdminServer) -> None:
    asked = []

    class Queue(FakeQueue):
        def figures(self) -> dict[str, Any]:
            return super().snapshot()

        def snapshot(self) -> dict[str, Any]:
            asked.append(self.name)
            return super().snapshot()

    for number in range(20):
        begin(Queue(system, f"q{number:02}", told=queue_facts(number)))
    page = get(admin, "queues?page=1&page_size=3&sort=messages_ready&sort_reverse=true")
    assert asked == names(page) == ["q19", "q18", "q17"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=messages_ready", ["c", "a", "b"]),
        ("sort=messages_ready&sort_reverse=true", ["b", "a", "c"]),
        ("sort=name&sort_reverse=true", ["c", "b", "a"]),
        ("sort_reverse=true", ["c", "b", "a"]),
        ("sort=message_stats.publish", ["c", "a", "b"]),
        ("sort=arguments.x-max-length", ["b", "a", "c"]),
        ("sort=arguments.x-max-length&sort_reverse=true", ["a", "b", "c"]),
        ("sort=nothing.of.that", ["a", "b", "c"]),
        ("sort=", ["a", "b", "c"]),
        ("name=B", ["b"]),
        ("name=^[ab]$&use_regex=true", ["a", "b"]),
        ("name=^[ab]$", []),
    ],
)
def test_orders_and_filters(system: System, admin: AdminServer, query: str, expected: list[str]) -> None:
    for name, ready, arguments in (("a", 2, {"x-max-length": 9}), ("b", 3, {"x-max-length": 8}), ("c", 1, {})):
        begin(FakeQueue(system, name, told=queue_facts(ready, arguments=arguments)))
    assert names(get(admin, f"queues?page=1&{query}")) == expected


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=x", "page=2", "page=1&page_size=501", "page=1&page_size=0", "page=1&page_size=-1",
     "page=1&name=(&use_regex=true", "page=1&name=" + "x" * 1001],
)  # fmt: skip
def test_queries_that_make_no_sense(admin: AdminServer, query: str) -> None:
    assert get(admin, f"queues?{query}", 400)["error"] == "bad_request"


def test_an_expression_that_would_take_long_is_refused(system: System, admin: AdminServer) -> None:
    begin(FakeQueue(system, "a" * 200))
    assert get(admin, "queues?page=1&use_regex=true&name=(a|a|aa)%2B%24b")["items"] == []
    assert "too much" in get(admin, "queues?page=1&use_regex=true&name=a{900}b{900}c{900}", 400)["reason"]


def test_who_sees_little_gets_pages_of_that(system: System) -> None:
    mine, other = begin(FakeVhost(system, "mine")), begin(FakeVhost(system, "other"))
    for number in range(5):
        begin(FakeQueue(system, f"mine {number}", mine.ref, queue_facts(vhost="mine")))
        begin(FakeQueue(system, f"other {number}", other.ref, queue_facts(vhost="other")))
        begin(FakeConnection(system, f"c{number}", told={"user": "them" if number else "you", "vhost": "mine"}))
    you = FakeUser("you", ["management"], ["mine"])
    with serving(system, lambda *_: you) as server:
        page = get(server, "queues?page=1&page_size=2")
        assert (page["total_count"], page["page_count"]) == (5, 3)
        assert names(page) == ["mine 0", "mine 1"]
        assert len(get(server, "queues/mine")) == 5
        get(server, "queues/other", 401)
        assert [row["name"] for row in get(server, "connections")] == ["c0"]


def test_the_queues_of_a_vhost(system: System, admin: AdminServer) -> None:
    slash, other = begin(FakeVhost(system, "/")), begin(FakeVhost(system, "other"))
    begin(FakeQueue(system, "q", slash.ref))
    begin(FakeQueue(system, "r", other.ref))
    begin(FakeExchange(system, "x", other.ref))
    assert [row["name"] for row in get(admin, "queues/%2F")] == ["q"]
    assert names(get(admin, "exchanges/other?page=1")) == ["x"]
    assert "no vhost" in get(admin, "queues/nowhere", 404)["reason"]


# --- Figures over time


def look(meter: Meter, monkeypatch: pytest.MonkeyPatch, at: float) -> None:
    class Clock:
        monotonic = staticmethod(lambda: at)
        time = staticmethod(lambda: at)
        perf_counter = staticmethod(lambda: at)

    monkeypatch.setattr(meter_module, "time", Clock)
    meter.look()


def test_two_looks_make_a_rate(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(system)
    queue = begin(FakeQueue(system, "q", told=queue_facts(published=100, delivered=10)))
    look(meter, monkeypatch, 1000)
    queue.told = queue_facts(published=150, delivered=10)
    look(meter, monkeypatch, 1000.5)
    assert meter.rates_of(queue)["publish"] == 100
    look(meter, monkeypatch, 1002)
    rates = meter.rates_of(queue)
    assert (rates["publish"], rates["publish_details"], rates["deliver_get_details"]) == (
        150,
        {"rate": 25},
        {"rate": 0},
    )
    assert meter.rates()["published"] == 25


def test_sums_go_on_growing_when_who_counted_is_gone(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(system)
    first = begin(FakeQueue(system, "q", told=queue_facts(5, published=100)))
    look(meter, monkeypatch, 1000)
    first.end()
    gevent.sleep(0.01)
    begin(FakeQueue(system, "q", told=queue_facts(1, published=30)))
    look(meter, monkeypatch, 1010)
    totals = meter.totals()
    assert (totals["published"], totals["messages_ready"], totals["queues"]) == (130, 1, 1)
    assert meter.rates()["published"] == 3


def test_history_of_a_queue_and_of_all(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(system)
    queue = begin(FakeQueue(system, "q", told=queue_facts(4, published=10)))
    still = begin(FakeQueue(system, "still", told=queue_facts()))
    for second in range(3):
        queue.told = queue_facts(4 + second, published=10 * (second + 1))
        look(meter, monkeypatch, 6000 + second)
    told = meter.history_of(queue)
    assert told is not None
    assert meter.history_of(still) is None
    columns = dict(zip(["at", *told["names"]], told["minute"], strict=True))
    assert columns["at"] == [6000, 6001, 6002]
    assert columns["published"] == [0, 10, 10]
    assert columns["messages_ready"] == [4, 5, 6]
    assert dict(zip(["at", *told["names"]], told["hour"], strict=True))["messages_ready"] == [5]
    everything = meter.history()
    assert dict(zip(["at", *everything["names"]], everything["minute"], strict=True))["messages_ready"] == [4, 5, 6]


def test_connections_and_channels_have_rates(system: System, admin: AdminServer) -> None:
    begin(FakeConnection(system, "c", told={"recv_oct": 10, "send_oct": 20}))
    begin(FakeChannel(system, "ch", told={"published": 3}))
    assert get(admin, "connections")[0]["recv_oct_details"] == {"rate": 0}
    assert get(admin, "channels")[0]["message_stats"]["publish"] == 3


@pytest.mark.parametrize(
    ("arguments", "definition", "expected"),
    [
        ({}, {}, 0),
        ({"x-consumer-timeout": 60_000}, {}, 60_000),
        ({}, {"consumer-timeout": 30_000}, 30_000),
        ({"x-consumer-timeout": 60_000}, {"consumer-timeout": 30_000}, 30_000),
        ({"x-consumer-timeout": 60_000}, {"consumer-timeout": 90_000}, 60_000),
    ],
)
def test_the_timeout_of_a_consumer_is_that_of_its_queue(
    arguments: dict[str, Any], definition: dict[str, Any], expected: int
) -> None:
    queue = {"name": "q", "vhost": "/", "arguments": arguments, "effective_policy_definition": definition}
    told = {"consumer_tag": "t", "channel": "c (1)", "ack_required": True, "exclusive": False, "prefetch_count": 0}
    assert consumer_row(queue, told, "guest")["consumer_timeout"] == expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=500))
def test_a_history_holds_its_last_points(values: list[float]) -> None:
    history = History(["value"])
    for second, value in enumerate(values):
        history.add(36_000 + second, [value])
    told = history.to_row()
    at, minute = told["minute"]
    assert len(at) == min(len(values), POINTS)
    assert minute == pytest.approx(values[-POINTS:], abs=0.1)
    [_, hour] = told["hour"]
    assert hour[0] == pytest.approx(sum(values[:60]) / len(values[:60]), rel=1e-3, abs=0.1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers())), st.booleans())
def test_sorting_in_turns_is_sorting(things: list[tuple[int, int]], is_reversed: bool) -> None:
    assert in_order(things, lambda thing: thing[0], is_reversed=is_reversed) == sorted(
        things, key=lambda thing: thing[0], reverse=is_reversed
    )


def test_sorting_many_lets_others_run() -> None:
    turns = []
    gevent.spawn(lambda: turns.append("other"))
    things = [(number * 7919) % 5003 for number in range(3 * THINGS_PER_TURN)]
    assert in_order(things, lambda thing: thing) == sorted(things)
    assert in_order(things, lambda thing: thing, is_reversed=True) == sorted(things, reverse=True)
    assert turns == ["other"]
