from gevent import monkey

monkey.patch_all()  # the broker's actors run inside the test process

import os
from pathlib import Path
from typing import Any

import pytest
from broker.process import BrokerProcess
from hypothesis import settings

import dispatchd

PACKAGE_FOLDER = Path(dispatchd.__file__).parent

# A broker that a test starts as a process of its own is the same dispatchd as the one that the test imports.
os.environ["PYTHONPATH"] = str(PACKAGE_FOLDER.parent)
os.environ["PYTHONSAFEPATH"] = "1"

settings.register_profile("dispatchd", deadline=None, print_blob=True)
settings.load_profile("dispatchd")


def pytest_report_header() -> str:
    return f"dispatchd: {'compiled' if dispatchd.is_compiled() else 'pure'}, from {PACKAGE_FOLDER}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A test that fails shows what its brokers logged last."""
    report = yield
    if report.failed:
        for name, found in getattr(item, "funcargs", {}).items():
            if isinstance(found, BrokerProcess):
                report.sections.append((f"log of {name}", "\n".join(found.log[-60:])))
    return report
