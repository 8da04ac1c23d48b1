"""Measure how long another client waits while the largest messages come and go.

.venv/bin/python bench/large.py
.venv/bin/python bench/large.py --megabytes 4 --messages 100
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from brokers import DISPATCHD, broker
from expiry import IDLE_SECONDS, Client, Probe
from pamqp import commands as spec
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

FRAME = 131_072 - 8


def publish(client: Client, body: bytes, messages: int, *, persistent: bool) -> None:
    """Publish with confirms, one after the other."""
    client.call(spec.Confirm.Select(), spec.Confirm.SelectOk)
    properties = spec.Basic.Properties(delivery_mode=2 if persistent else 1)
    head = marshal(spec.Basic.Publish(routing_key="q"), 1) + marshal(ContentHeader(0, len(body), properties), 1)
    frames = [marshal(ContentBody(body[start : start + FRAME]), 1) for start in range(0, len(body), FRAME)]
    block = head + b"".join(frames)
    for _ in range(messages):
        client.socket.sendall(block)
        client.expect(spec.Basic.Ack)


def consume(client: Client, size: int, messages: int) -> None:
    """Take all, with acknowledgements; frames are counted by their octets."""
    client.call(spec.Basic.Qos(prefetch_count=2), spec.Basic.QosOk)
    client.call(spec.Basic.Consume(queue="q"), spec.Basic.ConsumeOk)
    for number in range(1, messages + 1):
        client.expect(spec.Basic.Deliver)
        client.expect(ContentHeader)
        client.skip(size + 8 * -(-size // FRAME))
        client.socket.sendall(marshal(spec.Basic.Ack(number), 1))


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=40, help="of each kind (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=16, help="size of a body, in MiB (default: %(default)s)")
    given = parser.parse_args()
    size = given.megabytes << 20
    print("| bodies | MiB/s | longest wait, ms | CPU in one wait, ms | idle, ms |")
    print("|---|---|---|---|---|")
    for persistent in (False, True):
        with (
            tempfile.TemporaryDirectory(prefix="dispatchd-bench-") as directory,
            broker(DISPATCHD, Path(directory)) as (port, pid),
        ):
            Client(port).declare("q", durable=persistent)
            idle = Probe(port, pid)
            idle.start()
            time.sleep(IDLE_SECONDS)
            idle_waits = idle.end()
            for name in ("published", "consumed"):
                client, probe = Client(port), Probe(port, pid)
                probe.start()
                began = time.monotonic()
                if name == "published":
                    publish(client, b"x" * size, given.messages, persistent=persistent)
                else:
                    consume(client, size, given.messages)
                seconds = time.monotonic() - began
                waits = probe.end()
                kind = "persistent, " if persistent else ""
                print(
                    f"| {given.messages} of {given.megabytes} MiB, {kind}{name} "
                    f"| {given.messages * given.megabytes / seconds:,.0f} | {waits.longest():.1f} "
                    f"| {max(waits.used):.1f} | {idle_waits.longest():.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
