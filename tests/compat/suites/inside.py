"""Run a suite in a place of its own: start a broker, run the command, stop the broker.

    python -m compat.suites.inside BROKER FOLDER SECONDS COMMAND...

BROKER is "dispatchd", or the path of RabbitMQ's start script; the broker listens on port 5672. What the suite prints is
in FOLDER/suite.log, what dispatchd logged in FOLDER/broker.log. Exits with 0 whatever the tests came to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from broker.process import BrokerProcess
from compat.rabbitmq import RabbitMQ

PORT = 5672
GRACE_SECONDS = 20


def main(broker: str, folder: Path, seconds: float, command: list[str]) -> int:
    started = (
        BrokerProcess(folder / "broker", "--amqp-port", str(PORT), "--max-message-size", "128MiB")
        if broker == "dispatchd"
        else RabbitMQ(Path(broker), folder / "broker", port=PORT)
    )
    (folder / "broker").mkdir()
    started.start()
    try:
        run(command, folder, seconds)
    finally:
        started.stop()
        if isinstance(started, BrokerProcess):
            (folder / "broker.log").write_text("\n".join(started.log))
    return 0


def run(command: list[str], folder: Path, seconds: float) -> None:
    """Run the suite to its end, or for `seconds`: then it is asked to end, and its results are what it has by then."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (folder / "suite.log").open("wb") as log:
        suite = subprocess.Popen(
            ["nice", *command],  # many tests give the broker tenths of a second, however much they do themselves
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            suite.wait(seconds)
        except subprocess.TimeoutExpired:
            log.write(f"\nno end within {seconds} s\n".encode())
            suite.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                suite.wait(GRACE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
