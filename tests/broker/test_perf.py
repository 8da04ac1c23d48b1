"""`dispatchd perf` as its users run it, against a broker."""

from __future__ import annotations

import ast
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from actors.harness import wait_until
from broker.conftest import Fresh
from broker.process import BrokerProcess, Oracle
from pika.adapters.blocking_connection import BlockingChannel

SECONDS = 30


class Perf:
    """Runs the command against a broker; its report is read each time."""

    def __init__(self, broker: BrokerProcess | Oracle, folder: Path) -> None:
        self.uri = f"amqp://{broker.host}:{broker.port}"
        self.report_file = folder / "report.json"
        self.report: dict[str, Any] = {}

    def command(self, *options: str) -> list[str]:
        report = ("--json", str(self.report_file))
        return [sys.executable, "-m", "dispatchd", "perf", "--uri", self.uri, *report, *options]

    def __call__(self, *options: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.command(*options), check=False, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == status, done.stderr
        if status == 0:
            self.read()
        return done

    def read(self) -> None:
        self.report = json.loads(self.report_file.read_text())
        assert self.report["failure"] is None

    @property
    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.report["total"]["counts"]
        return counts


@pytest.fixture
def perf(broker: BrokerProcess | Oracle, tmp_path: Path) -> Perf:
    return Perf(broker, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        "-a",
        "-q 100",
        "-q 100 -A 30",
        "-q 100 -c 50 -f persistent mandatory",
        "-c 1 -C 100 -D 100 -q 1",
        "-a -s 20000",
        "-q 10 -s 300000 -C 50 -D 50",
        "-R 4000 -q 50",
        "-r 4000 -R 8000 -a",
        "-e amq.topic -t topic -k a.b",
        "-e= -qa x-max-length=100000",
    ],
)
def test_every_message_comes(perf: Perf, fresh: Fresh, options: str) -> None:
    perf("-C", "2000", "-D", "2000", "-u", fresh("q"), *options.split())
    wanted = perf.report["parameters"]["pmessages"]
    assert perf.counts == dict.fromkeys(perf.counts, wanted) | {
        name: 0 for name in ("nacked", "returned") if name in perf.counts
    }
    assert perf.report["total"]["latencies"]["consumer"]["min"] > 0


def test_each_consumer_takes_and_each_producer_sends_as_many_as_it_may(perf: Perf, fresh: Fresh) -> None:
    perf("-x", "3", "-y", "2", "-C", "1000", "-D", "1500", "-q", "10", "-u", fresh("q"))
    assert perf.counts == {"sent": 3000, "received": 3000}


def test_without_a_queue_each_consumer_gets_everything(perf: Perf) -> None:
    perf("-x", "1", "-y", "3", "-C", "500", "-D", "500", "-a")
    assert perf.counts == {"sent": 500, "received": 1500}


def test_queues_by_a_pattern_have_a_consumer_each(perf: Perf, fresh: Fresh) -> None:
    pattern = ("-qp", fresh("%d"), "-qpf", "1", "-qpt", "3")
    perf("-x", "6", "-y", "3", "-C", "100", "-D", "200", "-q", "10", *pattern)
    assert perf.counts == {"sent": 600, "received": 600}


def test_one_consumer_may_have_several_queues(perf: Perf, fresh: Fresh) -> None:
    perf("-u", f"{fresh('a')},{fresh('b')}", "-C", "300", "-D", "600", "-q", "10")
    assert perf.counts == {"sent": 300, "received": 600}


def test_what_was_not_taken_stays(perf: Perf, channel: BlockingChannel, queue: str) -> None:
    perf("-p", "-e=", "-u", queue, "-y", "0", "-C", "1000")
    perf("-p", "-e=", "-u", queue, "-x", "0", "-D", "700", "-q", "100", "-A", "100")
    assert perf.counts == {"received": 700}
    assert channel.queue_declare(queue, passive=True).method.message_count == 300


def test_persistent_messages_go_to_durable_queues(perf: Perf, channel: BlockingChannel, fresh: Fresh) -> None:
    queue = fresh("q")
    perf("-f", "persistent", "-ad", "false", "-u", queue, "-y", "0", "-C", "1", "-c", "1")
    channel.queue_declare(queue, durable=True)  # closes the channel if it is anything else
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    assert properties.delivery_mode == 2
    assert len(body) == 12
    channel.queue_delete(queue)


def test_what_finds_no_queue_is_returned(perf: Perf) -> None:
    perf("-y", "0", "-C", "100", "-c", "10", "-f", "mandatory", "-k", "nowhere")
    assert perf.counts == {"sent": 100, "returned": 100, "confirmed": 100, "nacked": 0}


def test_what_a_queue_refuses_is_nacked(perf: Perf, fresh: Fresh) -> None:
    arguments = "x-max-length=10,x-overflow=reject-publish"
    perf("-y", "0", "-C", "100", "-c", "1", "-u", fresh("q"), "-qa", arguments)
    assert perf.counts == {"sent": 100, "confirmed": 10, "nacked": 90}


def test_a_rate_is_kept(perf: Perf, fresh: Fresh) -> None:
    perf("-r", "500", "-z", "2", "-a", "-u", fresh("q"), "-x", "2")
    # Never more than that, whatever the machine is doing; the first of each may leave at once.
    assert 2 <= perf.counts["sent"] <= 2 * 500 * 2 + 2
    assert len(perf.report["intervals"]) == 2


def test_lines_like_perftests_a_plot_and_a_report(perf: Perf, fresh: Fresh, tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    run = perf(
        *("-d", "mine", "-r", "1000", "-z", "1", "-i", "0.5", "-c", "10"),
        *("-q", "10", "-u", fresh("q"), "--plot", str(plot)),
    )
    lines = run.stdout.splitlines()
    latency = r"\d+/\d+/\d+/\d+/\d+ µs"
    rates = ", ".join(rf"{name}: [\d.]+ msg/s" for name in ("sent", "confirmed", "nacked", "received"))
    interval = rf"id: mine, time \d\.\d{{3}} s, {rates}, min/median/75th/95th/99th consumer latency: {latency}"
    assert all(re.fullmatch(rf"{interval}, confirm latency: {latency}", line) for line in lines[:2])
    assert lines[2].startswith("id: mine, sending rate avg: ")
    assert ElementTree.fromstring(plot.read_text()).findall("{*}polyline")
    parameters = perf.report["parameters"]
    assert [parameters[name] for name in ("id", "rate", "confirm", "qos")] == ["mine", 1000, 10, 10]
    assert "password" not in parameters["uri"]


def test_an_interrupt_ends_it_with_a_summary(perf: Perf, fresh: Fresh) -> None:
    command = perf.command("-r", "100", "-i", "0.1", "-a", "-u", fresh("q"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert "sending rate avg" in rest
    perf.read()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("-p -e= -u nowhere", "404 NOT_FOUND - no queue 'nowhere'"),
        ("-p -e nowhere -y 0", "404 NOT_FOUND - no exchange 'nowhere'"),
        ("-t nonsense -e nowhere", "unknown exchange type 'nonsense'"),
        ("-h amqp://guest:wrong@{host}:{port}", "403 ACCESS_REFUSED"),
        ("-h amqp://{host}:{port}/nowhere", "vhost nowhere not found"),
        ("-qa x-max-length=99999999999999999999", "queue.declare: "),
        ("-qp %0300d -qpf 1 -qpt 1", "queue.declare: a short string has at most 255 octets, got 300"),
        ("-h amqp://{host}:1", "cannot connect to {host}:1: Connection refused"),
        ("-c 10 -ct 0.2 -u {queue} -R 1 -q 1 -qa x-max-length=1 -r 1", None),
    ],
)
def test_what_goes_wrong_is_said(
    perf: Perf, broker: BrokerProcess | Oracle, queue: str, options: str, complaint: str | None
) -> None:
    names = {"host": broker.host, "port": broker.port, "queue": queue}
    done = perf(*options.format(**names).split(), status=1)
    assert (complaint or "PRECONDITION_FAILED").format(**names) in done.stderr
    assert json.loads(perf.report_file.read_text())["failure"] in done.stderr


def test_it_needs_nothing_of_the_broker() -> None:
    script = """if True:
        import sys
        from dispatchd.__main__ import main
        sys.argv[1:] = ["perf", "-h", "amqp://127.0.0.1:1"]
        assert main() == 1
        print({name.split(".")[1] for name in sys.modules if name.startswith("dispatchd.")})
        print({"bcrypt", "bottle", "lmdb", "pykka"} & sys.modules.keys())
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=SECONDS)
    ours, libraries = map(ast.literal_eval, done.stdout.replace("set()", "{}").splitlines())
    assert ours == {"__main__", "amqp", "perf"}
    assert not libraries


def test_a_broker_that_blocks_producers_is_said(start_broker: Callable[..., BrokerProcess], tmp_path: Path) -> None:
    broker = start_broker("--memory-high-watermark", "1MiB")
    wait_until(lambda: any("alarm (memory)" in line for line in broker.log))
    done = Perf(broker, tmp_path)("-a", "-z", "0.5", "-i", "0.1")
    assert done.stderr.splitlines()[-1] == "dispatchd perf: the broker blocks producers: low on memory"


def test_a_broker_that_goes_away_is_said_with_the_summary(own_broker: BrokerProcess, tmp_path: Path) -> None:
    perf = Perf(own_broker, tmp_path)
    command = perf.command("-r", "100", "-i", "0.1", "-a")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    own_broker.kill()
    rest, complaint = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "sending rate avg" in rest
    assert re.search(r"(producer|consumer) 0: ", complaint)
    assert "Traceback" not in complaint
