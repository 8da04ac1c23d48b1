import json
from xml.etree import ElementTree

import pytest

from dispatchd.perf.meter import COUNTS, PERCENTILES, Meter, Sample
from dispatchd.perf.options import Load
from dispatchd.perf.plot import plot
from dispatchd.perf.report import as_json, line, summary

CONFIRMED = Load(id="mine", confirm=100, flag=("persistent", "mandatory"))


def sample(time: float = 1.0, seconds: float = 1.0, count: int = 2000, latency: int = 100) -> Sample:
    waits = {name: latency * number for number, name in enumerate(PERCENTILES, 1)}
    return Sample(time, seconds, dict.fromkeys(COUNTS, count), waits, dict.fromkeys(PERCENTILES, 7))


def test_a_line_is_like_perftests() -> None:
    assert line(Load(id="mine"), sample()) == (
        "id: mine, time 1.000 s, sent: 2000 msg/s, received: 2000 msg/s,"
        " min/median/75th/95th/99th consumer latency: 100/200/300/400/500 µs"
    )


def test_a_line_has_what_was_asked_for() -> None:
    assert line(CONFIRMED, sample(2.5, 0.5)) == (
        "id: mine, time 2.500 s, sent: 4000 msg/s, returned: 4000 msg/s, confirmed: 4000 msg/s, nacked: 4000 msg/s,"
        " received: 4000 msg/s, min/median/75th/95th/99th consumer latency: 100/200/300/400/500 µs,"
        " confirm latency: 7/7/7/7/7 µs"
    )
    assert line(Load(consumers=0), sample()) == "id: test, time 1.000 s, sent: 2000 msg/s"
    assert line(Load(producers=0), sample()).startswith("id: test, time 1.000 s, received: 2000 msg/s, min/median")


@pytest.mark.parametrize(("count", "shown"), [(0, "0"), (1, "0.25"), (4, "1.0"), (39, "9.8"), (43, "10")])
def test_low_rates_have_digits_behind_the_point(count: int, shown: str) -> None:
    assert line(Load(consumers=0), sample(4, 4, count)).endswith(f"sent: {shown} msg/s")


def measured() -> Meter:
    meter = Meter()
    meter.consumer_latency.record(1_500_000, 3)
    meter.sample()
    meter.consumer_latency.record(2_500_000, 1)
    meter.sample()
    return meter


def test_a_meter_has_each_interval_and_everything() -> None:
    meter = measured()
    first, second = meter.samples
    assert (first.consumer_latency["max"], second.consumer_latency["min"]) == (1500, 2500)
    total = meter.total()
    assert total.consumer_latency["75th"] in range(1500, 1512)
    assert total.consumer_latency["max"] == 2500
    assert total.time == second.time


def test_the_summary_has_everything() -> None:
    lines = summary(CONFIRMED, measured())
    assert [each.removeprefix("id: mine, ").split(" ")[0] for each in lines] == [
        *("sending", "receiving", "consumer", "confirm", "sent:")
    ]
    assert "CPU of the load" in lines[-1]


def test_the_report_has_parameters_intervals_and_the_total_and_no_password() -> None:
    report = json.loads(json.dumps(as_json(CONFIRMED, measured(), "it broke")))
    assert report["parameters"]["confirm"] == 100
    assert report["parameters"]["uri"] == {"host": "localhost", "port": 5672, "user": "guest", "vhost": "/"}
    assert len(report["intervals"]) == 2
    assert report["failure"] == "it broke"
    total = report["total"]
    assert set(total["counts"]) == set(total["rates"]) == {"sent", "returned", "confirmed", "nacked", "received"}
    assert set(total["latencies"]) == {"consumer", "confirm"}
    assert set(total["latencies"]["consumer"]) == set(PERCENTILES)


@pytest.mark.parametrize("load", [Load(), CONFIRMED, Load(consumers=0), Load(producers=0, autoack=True)])
@pytest.mark.parametrize("number", [0, 1, 5, 200])
def test_a_plot_is_a_picture_with_a_curve_for_each_series(load: Load, number: int) -> None:
    samples = [sample(at + 1.0, count=at * 1000, latency=at) for at in range(number)]
    picture = ElementTree.fromstring(plot(load, samples))
    curves = picture.findall("{*}polyline")
    assert len(curves) >= 1 or number == 0
    for curve in curves:
        points = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
        assert len(points) == number
        width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
        assert all(0 < x < width and 0 < y < height for x, y in points)
    texts = {text.text for text in picture.findall("{*}text")}
    assert {"seconds", "messages a second"} <= texts


def test_a_plot_has_no_curve_of_nacks_if_there_were_none() -> None:
    good, bad = sample(), sample()
    good.counts["nacked"] = 0
    assert ">confirmed<" in plot(CONFIRMED, [good])
    assert ">nacked<" not in plot(CONFIRMED, [good])
    assert ">nacked<" in plot(CONFIRMED, [good, bad])


def test_a_plot_leaves_out_an_interval_that_is_too_short_to_mean_anything() -> None:
    picture = plot(Load(consumers=0), [sample(1), sample(2), sample(2.01, 0.01)])
    [curve] = ElementTree.fromstring(picture).findall("{*}polyline")
    assert len(curve.attrib["points"].split()) == 2


def test_a_name_may_have_any_characters() -> None:
    assert "<mine & yours>" in {
        (text.text or "").removeprefix("dispatchd perf ")
        for text in ElementTree.fromstring(plot(Load(id="<mine & yours>"), [sample()])).findall("{*}text")
    }
