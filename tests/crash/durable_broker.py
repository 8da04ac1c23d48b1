"""A broker process that is ended in every way there is, and what can be seen of it from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from broker.process import READY, BrokerProcess
from broker.raw import RawClient
from pamqp import commands as spec
from pamqp.header import ContentHeader

END_SECONDS = 10
"""What the broker promises: SIGTERM and SIGINT end it within this time."""


class DurableBroker(BrokerProcess):
    """Started and ended again and again on one folder."""

    def end(self, number: signal.Signals) -> int:
        """Send it a signal; returns its exit status, see `wait`."""
        self.send_signal(number)
        return self.wait()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, within the time that it may take; if that is over, what hangs is told."""
        assert self._process is not None
        assert self._log_reader is not None
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGUSR1)  # the stacks of all greenlets go to the log
            self._log_reader.join(1)
            raise AssertionError("the broker does not end:\n" + "\n".join(self.log)) from None
        self._log_reader.join(5)
        return status

    @property
    def is_alarmed(self) -> bool:
        """Whether publishers have to wait, as the log has it."""
        last = next(line for line in reversed(self.log) if " alarm (" in line or READY.search(line))
        return " WARNING " in last and not last.endswith("is over")

    def restart(self) -> None:
        """End it with SIGKILL and start it on what it left."""
        self.kill()
        self.start()

    def api(self, what: str) -> list[dict[str, Any]]:
        """Rows of the admin."""
        found = self.ask(what)
        return list(found if isinstance(found, list) else found["items"])

    def stored(self) -> int:
        """How many entries are on disk."""
        return int(self.ask("overview")["persistence"]["entries"])

    def ask(self, what: str) -> Any:
        """An answer of the admin."""
        login = b64encode(b"guest:guest").decode()
        request = Request(
            f"http://{self.host}:{self.admin_port}/api/{what}", headers={"Authorization": f"Basic {login}"}
        )
        with urlopen(request, timeout=10) as response:
            return json.load(response)

    def topology(self) -> dict[str, Any]:
        """Durable exchanges with their bindings to what is durable, and durable queues."""
        queues = {row["name"]: row for row in self.api("queues") if row["durable"]}
        exchanges = {row["name"]: row for row in self.api("exchanges") if row["durable"]}
        kept = {"queue": queues, "exchange": exchanges}
        return {
            "queues": {name: (row["auto_delete"], row["arguments"]) for name, row in queues.items()},
            "exchanges": {
                name: (
                    row["type"],
                    row["auto_delete"],
                    row["internal"],
                    row["arguments"],
                    sorted(
                        json.dumps(binding, sort_keys=True)
                        for binding in row["bindings"]
                        if binding["destination"] in kept[binding["destination_type"]]
                    ),
                )
                for name, row in exchanges.items()
            },
        }


def number_of(content: tuple[ContentHeader, list[bytes]]) -> int:
    return int(b"".join(content[1]).rstrip(b"."))


def read(broker: DurableBroker, queue: str) -> list[tuple[int, bool]]:
    """(number, redelivered) of everything in the queue, which is left there."""
    client = RawClient(broker.host, broker.port)
    client.open()
    client.open_channel()
    client.send(spec.Queue.Declare(queue=queue, passive=True), 1)
    count = client.expect(spec.Queue.DeclareOk).message_count
    client.send(spec.Basic.Consume(queue=queue), 1)
    client.expect(spec.Basic.ConsumeOk)
    found = []
    for _ in range(count or 0):
        deliver = client.expect(spec.Basic.Deliver)
        found.append((number_of(client.content()), deliver.redelivered))
    client.send(spec.Connection.Close(200, "", 0, 0))
    client.expect(spec.Connection.CloseOk)
    client.close()
    return found


def refusal(persist_dir: Path, *options: str) -> str:
    """Start a broker that must not start: exit status 1 and one line, which is returned."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "dispatchd", "--bind", "127.0.0.1", "--log-level", "warning"),
            *(
                "--amqp-port",
                "0",
                "--admin-port",
                "0",
                "--debug-port",
                "0",
                "--persist-dir",
                str(persist_dir),
                *options,
            ),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1, ended
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("dispatchd: ")
    return line
