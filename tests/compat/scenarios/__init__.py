"""What is compared, by subject: each module here has a list named SCENARIOS."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from compat.script import Scenario

SCENARIOS: dict[str, Scenario] = {
    f"{module.name}: {scenario.name}": scenario
    for module in iter_modules(__path__)
    for scenario in import_module(f"{__name__}.{module.name}").SCENARIOS
}
