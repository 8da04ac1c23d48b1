import math
from xml.etree import ElementTree

import pytest
from chart import chart
from loads import Figures, Load, LoadError, parse
from results import Cell, Results, absolute_tables, ratio, ratio_table

LINE = "send 26/s recv {}/s latency_ms p50 1.50 p95 2.00 p99 3.25 max 9.00 broker_cpu_us/msg 12.50 rss_mb 40{}\n"
NAMES = ["dispatchd", "Peer & Co", "Other"]


def figures(received: float, cpu: float = 2.0) -> Figures:
    return Figures(received=received, cpu=cpu, memory=40, p50=1.5, p99=3.25)


@pytest.fixture
def results() -> Results:
    first = Cell([figures(3000), figures(1000), figures(2000)])
    return {
        Load("plain", "-P 1"): {NAMES[0]: first, NAMES[1]: Cell([figures(200, 50)]), NAMES[2]: Cell(failure="stalls")},
        Load("paced", "-r 9", is_paced=True): {name: Cell([figures(9)]) for name in NAMES},
    }


def test_the_line_of_a_load() -> None:
    assert parse(LINE.format(25, "")) == Figures(received=25, cpu=12.5, memory=40, p50=1.5, p99=3.25)


def test_a_line_without_latencies() -> None:
    found = parse("send 26/s recv 25/s broker_cpu_us/msg 12.50 rss_mb 40\n")
    assert found.received == 25
    assert math.isnan(found.p50)


def test_a_load_that_stalls() -> None:
    with pytest.raises(LoadError, match="stalls"):
        parse(LINE.format(25, " stalled"))


def test_another_line() -> None:
    with pytest.raises(ValueError, match="amqpload printed 'what"):
        parse("what")


def test_medians_and_ratios(results: Results) -> None:
    row = next(iter(results.values()))
    assert row[NAMES[0]].median("received") == 2000
    assert ratio(row[NAMES[0]], row[NAMES[1]], "received") == 10
    assert math.isnan(ratio(row[NAMES[0]], row[NAMES[2]], "received"))
    assert math.isnan(Cell([figures(1)], failure="stalls").median("received"))


def test_tables(results: Results) -> None:
    assert ratio_table(results, NAMES).splitlines() == [
        "| load | Peer & Co | Other |",
        "|---|---|---|",
        "| plain (`-P 1`) | 10, 0.040 | stalls |",
        "| paced (`-r 9`) | 1.00, 1.00 | 1.00, 1.00 |",
    ]
    assert "| plain (`-P 1`) | 2,000 | 200 | stalls |" in absolute_tables(results, NAMES).splitlines()


def test_the_chart_has_a_bar_for_each_figure(results: Results) -> None:
    drawn = ElementTree.fromstring(chart(results, NAMES))
    elements = [(element.tag.rpartition("}")[2], element) for element in drawn.iter()]
    bars = [element.get("class") for tag, element in elements if tag == "rect" and element.get("class") != "paper"]
    assert (bars.count("first"), bars.count("other")) == (4, 6)
    texts = [element.text for tag, element in elements if tag == "text"]
    assert {"2,000", "200", "stalls", "3.25", "Peer & Co"} <= set(texts)


def test_a_chart_without_figures() -> None:
    assert "fails" in chart({Load("plain", "-P 1"): {"dispatchd": Cell(failure="fails")}}, ["dispatchd"])
