"""The suites, each with where it comes from, how it is run, and what may differ between the two brokers.

Not here, because no registry's package carries its tests: pika, RabbitMQ's C client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compat.suites.packages import Debian, Npm, Packages, PyPI
from compat.suites.results import Outcomes, go, junit, lines

PLUGINS = Path(__file__).with_name("plugins")


@dataclass(frozen=True)
class Suite:
    """In `command`, {here} is the folder with the packages, {out} one for what this run writes.

    `results` is the file in {out} that `read` reads. Fewer than `at_least` tests that pass on RabbitMQ mean that the
    suite did not run as it should. `exceptions` are tests that only RabbitMQ passes, each with the reason.
    """

    name: str
    packages: Packages
    command: tuple[str, ...]
    at_least: int
    results: str = "junit.xml"
    read: Callable[[Path], Outcomes] = junit
    seconds: float = 120
    exceptions: Mapping[str, str] = field(default_factory=dict)

    def filled_in(self, here: Path, out: Path) -> list[str]:
        return [word.replace("{here}", str(here)).replace("{out}", str(out)) for word in self.command]


def pytest(*options: str, **environment: str) -> tuple[str, ...]:
    """pytest of a suite's own environment, in its source."""
    variables = [f"PYTHONPATH={PLUGINS}", *(f"{name}={value}" for name, value in environment.items())]
    runner = ("{here}/env/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml={out}/junit.xml")
    return ("env", "--chdir={here}/source", "PYTHONDONTWRITEBYTECODE=1", *variables, *runner, *options)


NO_DOCKER = ("-p", "no_docker")

SUITES = [
    Suite(
        "py-amqp",
        PyPI("amqp", "5.4.2", more=("pytest==8.0.0", "pytest-rerunfailures==14.0")),
        pytest("t/integration", "-k", "not tls"),
        at_least=40,
    ),
    Suite(
        "kombu",
        PyPI("kombu", "5.7.0", more=("amqp==5.4.2", "pytest==9.1.1", "pytest-rerunfailures==16.7")),
        pytest("t/integration/test_py_amqp.py"),
        at_least=40,
    ),
    Suite(
        "amqpstorm",
        PyPI("amqpstorm", "3.1.4", more=("pytest==9.1.1", "requests==2.34.2")),
        pytest(
            *("-c", "/dev/null", "--rootdir=.", "amqpstorm/tests/functional"),
            "--ignore=amqpstorm/tests/functional/management",
            "--ignore=amqpstorm/tests/functional/ssl",
            "--ignore=amqpstorm/tests/functional/test_web_based.py",
            AMQP_HOST="127.0.0.1",
            AMQP_USERNAME="guest",
            AMQP_PASSWORD="guest",
            AMQP_URI="amqp://guest:guest@127.0.0.1:5672/%2F",
        ),
        at_least=80,
    ),
    Suite(
        "aiormq",
        PyPI("aiormq", "7.2.4", more=("pamqp==4.0.1", "aiomisc-pytest==2.0.0", "pytest==9.1.1")),
        pytest("tests", *NO_DOCKER, "-k", "not amqps"),
        at_least=100,
    ),
    Suite(
        "aio-pika",
        PyPI(
            "aio-pika",
            "10.2.1",
            more=("aiormq==7.2.4", "pamqp==4.0.1", "aiomisc-pytest==2.0.0", "pytest==9.1.1", "shortuuid==1.0.13"),
        ),
        pytest("tests", *NO_DOCKER, "--ignore=tests/test_amqps.py"),
        at_least=500,
        seconds=240,
    ),
    Suite(
        "amqplib",
        Npm("amqplib", "2.2.0", more=("claire@0.4.1",)),
        (
            *("env", "--chdir={here}/source", "node", "--test", "--test-timeout=10000"),
            *("--test-reporter=junit", "--test-reporter-destination={out}/junit.xml"),
        ),
        at_least=300,
    ),
]
