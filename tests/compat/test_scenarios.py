"""Every scenario, played on dispatchd and on RabbitMQ: both do the same."""

from __future__ import annotations

import pytest
from compat.conftest import Compare
from compat.scenarios import SCENARIOS
from compat.script import Scenario


@pytest.mark.filterwarnings("ignore:This command is deprecated:DeprecationWarning")
@pytest.mark.parametrize("scenario", [pytest.param(each, id=name) for name, each in SCENARIOS.items()])
def test_as_rabbitmq(scenario: Scenario, compare: Compare) -> None:
    if difference := compare(*scenario.steps):
        pytest.fail(difference, pytrace=False)
