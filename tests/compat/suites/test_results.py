"""What is read from the reports of the suites' runners, and that a test that only RabbitMQ passes is seen."""

from __future__ import annotations

from pathlib import Path

from compat.suites.results import go, junit, lines, verdict

JUNIT = """
<testsuites><testsuite>
  <testcase classname="a" name="good"/>
  <testcase classname="a" name="bad"><failure/></testcase>
  <testcase classname="a" name="broken"><error/></testcase>
  <testcase name="left out"><skipped/></testcase>
  <testcase classname="a" name="good"/>
</testsuite></testsuites>
"""
GO = """
{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"text"}
{"Action":"pass","Test":"TestA"}
{"Action":"fail","Test":"TestB"}
{"Action":"skip","Test":"TestC"}
{"Action":"fail"}
not json
"""


def test_junit(tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert junit(report) == {}
    report.write_text(JUNIT)
    assert junit(report) == {
        "a::good": "passed",
        "a::bad": "failed",
        "a::broken": "failed",
        "left out": "skipped",
        "a::good (2)": "passed",
    }


def test_go(tmp_path: Path) -> None:
    (tmp_path / "report").write_text(GO)
    assert go(tmp_path / "report") == {"TestA": "passed", "TestB": "failed", "TestC": "skipped"}


def test_lines(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("passed one(of.a.Class)\nfailed another test\n")
    assert lines(tmp_path / "report") == {"one(of.a.Class)": "passed", "another test": "failed"}


def test_what_only_rabbitmq_passes_is_named() -> None:
    theirs = {"both": "passed", "broken": "passed", "gone": "passed", "neither": "failed", "ours": "failed"}
    ours = {"both": "passed", "broken": "failed", "neither": "failed", "ours": "passed"}
    assert verdict(ours, theirs, {}) == [
        "only RabbitMQ passes (failed here): broken",
        "only RabbitMQ passes (missing here): gone",
    ]
    assert verdict(ours, theirs, {"broken": "because", "gone": "because"}) == []


def test_an_exception_that_is_none_any_more_is_named() -> None:
    both = {"both": "passed", "neither": "failed"}
    assert verdict(both, both, {"both": "because", "neither": "so"}) == [
        "no exception any more: both (because)",
        "no exception any more: neither (so)",
    ]
