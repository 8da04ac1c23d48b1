"""The runner itself, on dispatchd alone: that it sees what happens, and would see a difference."""

from __future__ import annotations

import datetime as datetime_module
from datetime import datetime
from importlib import import_module

import pytest
from broker.process import BrokerProcess
from compat import script
from compat.known_differences import KNOWN_DIFFERENCES
from compat.player import play
from compat.scenarios import SCENARIOS
from compat.script import (
    Ack,
    Bind,
    Confirm,
    Connect,
    Consume,
    Disconnect,
    Get,
    Nack,
    Publish,
    Queue,
    Send,
    Step,
    Until,
)
from compat.transcript import describe, differences, number_generated_names, plain
from pamqp import commands as spec

DELIVER = "Basic.Deliver(consumer_tag='c', delivery_tag={}, redelivered={}, exchange='', routing_key='q')"


def test_scripts_print_as_their_source() -> None:
    words = {**vars(script), "datetime": datetime_module}
    steps = [step for scenario in SCENARIOS.values() for step in scenario.steps]
    assert [eval(repr(step), words) for step in steps] == steps


def test_subjects_name_their_scenarios_once() -> None:
    modules = [import_module(f"compat.scenarios.{name}") for name in {name.split(":")[0] for name in SCENARIOS}]
    assert sum(len(module.SCENARIOS) for module in modules) == len(SCENARIOS)


def test_on_names_a_channel_or_a_connection_and_a_channel() -> None:
    assert (Get("q", on=3).connection, Get("q", on=3).channel) == (1, 3)
    assert (Get("q", on=(2, 5)).connection, Get("q", on=(2, 5)).channel) == (2, 5)
    assert Disconnect(on=2).connection == 2


def test_only_the_time_of_x_death_is_left_out() -> None:
    death = {"time": datetime(2020, 1, 1), "count": 2, "queue": "q"}
    assert plain({"x-death": [death], "time": 5, "a": 1}) == {
        "a": 1,
        "time": 5,
        "x-death": [{"count": 2, "queue": "q", "time": "…"}],
    }


def test_made_up_names_are_numbered_as_they_appear() -> None:
    transcript = [["amq.gen-xYz", "amq.ctag-1.2"], ["amq.gen-other", "amq.gen-xYz"], ["amq.direct"]]
    assert number_generated_names(transcript) == [
        ["amq.gen-1", "amq.ctag-2"],
        ["amq.gen-3", "amq.gen-1"],
        ["amq.direct"],
    ]


def test_contents_are_shown_with_their_method() -> None:
    line = describe(spec.Basic.Return(312, "NO_ROUTE", "e", "k"), ({"b": 1, "a": 2}, b"body"))
    assert line == (
        "Basic.Return(reply_code=312, reply_text='NO_ROUTE', exchange='e', routing_key='k') {'a': 2, 'b': 1} b'body'"
    )


def test_the_first_difference_is_shown_with_the_script_up_to_it() -> None:
    steps = [Queue("q"), Get("q"), Get("q")]
    assert differences(steps, [["a"], ["b"], []], [["a"], ["b"], []]) == ""
    assert differences(steps, [["a"], ["b"], []], [["a"], [], ["c"]]).splitlines() == [
        "  1 Queue('q'),",
        "        a",
        "  2 Get('q'),",
        "    dispatchd  b",
        "    RabbitMQ   nothing",
    ]


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        pytest.param(
            (Queue("q"), Consume("q", on=2), Publish("", "q", "1", {"priority": 3})),
            ["1/2 " + DELIVER.format(1, False) + " {'priority': 3} b'1'"],
            id="deliveries on other channels",
        ),
        pytest.param(
            (Queue("q"), Publish("", "q", "1"), Get("q"), Consume("q", on=(2, 1)), Nack(1)),
            ["2/1 " + DELIVER.format(1, True) + " {} b'1'"],
            id="redeliveries on other connections",
        ),
        pytest.param(
            (Confirm(), Publish("", "q", "1", mandatory=True)),
            [
                "1/1 Basic.Return(reply_code=312, reply_text='NO_ROUTE', exchange='', routing_key='q') {} b'1'",
                "1/1 confirmed [1]",
            ],
            id="returns and confirms",
        ),
        pytest.param(
            (Queue("q"), Ack(5)),
            [
                "1/1 Channel.Close(reply_code=406, reply_text='PRECONDITION_FAILED - unknown delivery tag 5', class_",
            ],
            id="closed channels",
        ),
        pytest.param(
            (Ack(5), Queue("q")),
            ["1/1 Queue.DeclareOk(queue='q', message_count=0, consumer_count=0)"],
            id="channels are opened again",
        ),
        pytest.param(
            (Queue("q", exclusive=True, on=(2, 1)), Disconnect(on=2), Until("q", None)), [], id="queues that go"
        ),
        pytest.param(
            (Connect(), Send(b"\x08\0\0\0\0\0\0\xff")),
            ["1/0 Connection.Close(reply_code=501, reply_text='FRAME_ERROR - "],
            id="closed connections",
        ),
        pytest.param((Connect(header=b"AMQP\0\1\0\0"),), ["1/0 b'AMQP\\x00\\x00\\t\\x01'"], id="other protocols"),
        pytest.param((Queue("q"), Bind("q", "amq.fanout", nowait=True)), [], id="methods without an answer"),
    ],
)
def test_what_comes_is_noted(dispatchd: BrokerProcess, steps: tuple[Step, ...], last: list[str]) -> None:
    lines = play(dispatchd, steps)[-1]
    assert len(lines) == len(last)
    assert all(line.startswith(start) for line, start in zip(lines, last, strict=True)), lines


def test_nothing_is_left_of_a_script(dispatchd: BrokerProcess) -> None:
    play(dispatchd, (Queue("left"), Queue("owned", exclusive=True, on=(2, 1)), script.Exchange("left")))
    for step in (Queue("left", passive=True), Queue("owned", passive=True), script.Exchange("left", passive=True)):
        assert "reply_code=404" in play(dispatchd, (step,))[0][0]


def test_each_known_difference_has_a_reason() -> None:
    assert all(each.reason for each in KNOWN_DIFFERENCES)
