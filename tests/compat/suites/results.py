"""What came of each test of a suite, read from what its runner writes, and what differs between two runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

Outcomes = dict[str, str]
"""For each test "passed", "failed" or "skipped"."""


def junit(report: Path) -> Outcomes:
    """JUnit's XML, as pytest, node and PHP write it. What has a name twice gets numbers."""
    outcomes: Outcomes = {}
    if not report.exists() or not report.stat().st_size:
        return outcomes  # it did not get as far
    for case in ElementTree.parse(report).iter("testcase"):
        name = unused("::".join(filter(None, (case.get("classname"), case.get("name")))), outcomes)
        tags = {child.tag for child in case}
        outcomes[name] = "failed" if tags & {"failure", "error"} else "skipped" if "skipped" in tags else "passed"
    return outcomes


def go(report: Path) -> Outcomes:
    """The lines of `go test -json`."""
    words = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    events = [json.loads(line) for line in report.read_text().splitlines() if line.startswith("{")]
    return {each["Test"]: words[each["Action"]] for each in events if "Test" in each and each["Action"] in words}


def lines(report: Path) -> Outcomes:
    """Lines of an outcome and a test's name, as our own listeners write them."""
    pairs = (line.split(" ", 1) for line in report.read_text().splitlines())
    return {name: outcome for outcome, name in pairs}


def unused(name: str, taken: Iterable[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate


def passed(outcomes: Outcomes) -> set[str]:
    return {name for name, outcome in outcomes.items() if outcome == "passed"}


def verdict(ours: Outcomes, theirs: Outcomes, exceptions: Mapping[str, str]) -> list[str]:
    """A line for each test that only RabbitMQ passes and no exception names, and for each exception that is none."""
    worse = passed(theirs) - passed(ours)
    return [
        *(
            f"only RabbitMQ passes ({ours.get(name, 'missing')} here): {name}"
            for name in sorted(worse - exceptions.keys())
        ),
        *(f"no exception any more: {name} ({exceptions[name]})" for name in sorted(exceptions.keys() - worse)),
    ]
