"""Where dispatchd means to differ it does; one that is gone has to leave the list."""

from __future__ import annotations

import pytest
from compat.conftest import Compare
from compat.known_differences import KNOWN_DIFFERENCES
from compat.script import Scenario


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in KNOWN_DIFFERENCES])
def test_still_differs(scenario: Scenario, compare: Compare) -> None:
    assert compare(*scenario.steps), f"no difference any more: {scenario.reason}"
