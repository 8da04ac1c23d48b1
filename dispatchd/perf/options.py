"""The options of `dispatchd perf`, named as PerfTest's, and what they may be."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatchd.amqp.constants import SHORTSTR_MAX
from dispatchd.perf.address import Address, parse_address
from dispatchd.perf.counting.scanner import STAMP_END

LONGEST_SIZE = 1 << 30


class OptionError(ValueError):
    """Options that don't go together."""


@dataclass(frozen=True)
class Load:
    """What is to be done; rates are messages a second of each client, 0 = no limit of any kind."""

    id: str = "test"
    uri: Address = field(default_factory=Address)
    producers: int = 1
    consumers: int = 1
    qos: int = 0
    size: int = STAMP_END
    rate: float = 0
    consumer_rate: float = 0
    confirm: int = 0
    confirm_timeout: float = 30
    flag: tuple[str, ...] = ()
    multi_ack_every: int = 0
    autoack: bool = False
    time: float = 0
    pmessages: int = 0
    cmessages: int = 0
    queue: tuple[str, ...] = ()
    queue_pattern: str | None = None
    queue_pattern_from: int | None = None
    queue_pattern_to: int | None = None
    queue_args: dict[str, Any] = field(default_factory=dict)
    auto_delete: bool = True
    exchange: str = "direct"
    type: str = "direct"
    routing_key: str | None = None
    predeclared: bool = False
    interval: float = 1
    json: Path | None = None
    plot: Path | None = None

    @property
    def persistent(self) -> bool:
        """Whether messages are, and queues are durable."""
        return "persistent" in self.flag

    @property
    def mandatory(self) -> bool:
        """Whether what no queue takes is returned."""
        return "mandatory" in self.flag

    @property
    def ack_every(self) -> int:
        """One ack for so many deliveries, 0 = none."""
        return 0 if self.autoack else self.multi_ack_every or 1


def perf_parser() -> argparse.ArgumentParser:
    """The parser of the command's options."""
    parser = argparse.ArgumentParser(
        prog="dispatchd perf",
        description="Publish to and consume from an AMQP 0-9-1 broker, and show rates and latencies, as RabbitMQ's"
        " PerfTest does. Latencies are from the publish to the delivery, on one machine. Ctrl-C ends it.",
        add_help=False,  # -h is the URI
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("-?", "--help", action="help", help="show this help message and exit")
    add("-d", "--id", help="name of the test on each line (default: test- and the time)")
    add("-h", "--uri", type=_explained(parse_address), help="amqp://user:password@host:port/vhost (default: localhost)")
    add("-x", "--producers", type=_count, metavar="N", help="producers (default: 1)")
    add("-y", "--consumers", type=_count, metavar="N", help="consumers (default: 1)")
    add("-s", "--size", type=_size, metavar="BYTES", help=f"size of a message, default and minimum: {STAMP_END}")
    add("-r", "--rate", type=_positive, metavar="N", help="messages a second of each producer (default: no limit)")
    add("-R", "--consumer-rate", type=_positive, metavar="N", help="of each consumer (default: no limit)")
    add("-f", "--flag", nargs="+", action="extend", choices=("persistent", "mandatory"), help="what messages are")
    add("-c", "--confirm", type=_count_from_1, metavar="N", help="most unconfirmed publishes (default: no confirms)")
    add("-ct", "--confirm-timeout", type=_positive, metavar="S", help="seconds to wait for a confirm (default: 30)")
    add("-q", "--qos", type=_prefetch, metavar="N", help="prefetch of each consumer (default: 0, no limit)")
    add("-a", "--autoack", action="store_true", help="consume without acks")
    add("-A", "--multi-ack-every", type=_count, metavar="N", help="ack so many at once (default: each on its own)")
    add("-z", "--time", type=_positive, metavar="S", help="end after so many seconds (default: no limit)")
    add("-C", "--pmessages", type=_count, metavar="N", help="end when each producer has sent so many")
    add("-D", "--cmessages", type=_count, metavar="N", help="end when each consumer has taken so many")
    add(
        "-u",
        "--queue",
        type=_explained(_names),
        metavar="NAMES",
        help="queues, with commas; each consumer takes of all of them"
        " (default: each consumer has a queue of its own, and gets every message)",
    )
    add("-qp", "--queue-pattern", metavar="PATTERN", help="queues in a row, such as perf-%%d: each client has one")
    add("-qpf", "--queue-pattern-from", type=int, metavar="N", help="first number of those")
    add("-qpt", "--queue-pattern-to", type=int, metavar="N", help="last number of those")
    add("-qa", "--queue-args", type=_explained(parse_pairs), metavar="KEY=VALUE,...", help="arguments of the queues")
    add("-ad", "--auto-delete", type=_explained(_boolean), metavar="BOOL", help="of the queues (default: true)")
    add(
        "-e",
        "--exchange",
        type=_explained(_name),
        metavar="NAME",
        help='exchange (default: direct; "" is the default exchange)',
    )
    add(
        "-t",
        "--type",
        type=_explained(_name),
        help="type of the exchange (default: direct), and its name if that is not given",
    )
    add(
        "-k",
        "--routing-key",
        type=_explained(_name),
        metavar="KEY",
        help="routing key (default: a random one, or the queue's name)",
    )
    add("-p", "--predeclared", action="store_true", help="declare nothing: queues and exchange must be there")
    add("-i", "--interval", type=_positive, metavar="S", help="seconds between lines (default: 1)")
    add("--json", type=Path, metavar="FILE", help="write a report of it")
    add("--plot", type=Path, metavar="FILE.svg", help="draw rates and latencies")
    return parser


def load_of(given: argparse.Namespace) -> Load:
    """What the command line asks for. Raises OptionError."""
    values = vars(given)
    values.setdefault("id", time.strftime("test-%H%M%S"))
    values.setdefault("exchange", values.get("type", "direct"))
    if values["exchange"] == "amq.default":
        values["exchange"] = ""
    values["flag"] = tuple(dict.fromkeys(values.get("flag", ())))
    load = Load(**values)
    for wrong, complaint in _complaints(load):
        if wrong:
            raise OptionError(complaint)
    return load


def _complaints(load: Load) -> list[tuple[bool, str]]:
    pattern = (load.queue_pattern, load.queue_pattern_from, load.queue_pattern_to)
    first, last = load.queue_pattern_from or 0, load.queue_pattern_to or 0
    names_queues = bool(load.queue or load.queue_pattern)
    return [
        (load.producers + load.consumers == 0, "expected producers or consumers, got none of either"),
        (
            None in pattern and pattern != (None, None, None),
            "--queue-pattern, --queue-pattern-from and --queue-pattern-to go together: expected all of them or none",
        ),
        (bool(load.queue and load.queue_pattern), "expected --queue or --queue-pattern, got both"),
        (first > last, f"expected --queue-pattern-to to be {first} or more, got {last}"),
        (load.queue_pattern is not None and not _is_pattern(load.queue_pattern), _BAD_PATTERN),
        (load.autoack and load.multi_ack_every > 0, "expected --autoack or --multi-ack-every, got both"),
        (
            0 < load.qos < load.multi_ack_every,
            f"--multi-ack-every {load.multi_ack_every} would wait for ever with --qos {load.qos}",
        ),
        (
            load.predeclared and load.consumers > 0 and not names_queues,
            "--predeclared needs --queue or --queue-pattern for consumers",
        ),
        (
            not load.exchange and load.producers > 0 and load.routing_key is None and len(load.queue) != 1
            and load.queue_pattern is None,
            "the default exchange needs --routing-key, --queue-pattern or one --queue",
        ),
    ]  # fmt: skip


_BAD_PATTERN = "expected a --queue-pattern with one number in it, such as perf-%d"


def _is_pattern(pattern: str) -> bool:
    try:
        return pattern % 1 != pattern % 2
    except (TypeError, ValueError):
        return False


def parse_pairs(text: str) -> dict[str, Any]:
    """`key=value,key=value`: whole numbers, true and false are that, all else are strings. Raises ValueError."""
    pairs = {}
    for pair in filter(None, text.split(",")):
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"expected key=value, got {pair!r}")
        pairs[key] = _value(value)
    return pairs


def _value(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return {"true": True, "false": False}.get(text, text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"expected true or false, got {text!r}")
    return text == "true"


def _names(text: str) -> tuple[str, ...]:
    return tuple(_name(name) for name in text.split(",") if name)


def _name(text: str) -> str:
    if (octets := len(text.encode())) > SHORTSTR_MAX:
        raise ValueError(f"expected a name of at most {SHORTSTR_MAX} octets, got one of {octets}")
    return text


def _explained(parse: Any) -> Any:
    """`parse`, whose ValueError is shown: argparse would say that the value is invalid, and not why."""

    def explained(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return explained


def _number(kind: Any, least: float, most: float, what: str) -> Any:
    def number(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
        return value

    return number


_count = _number(int, 0, 1 << 62, "a whole number")
_count_from_1 = _number(int, 1, 1 << 24, "a whole number from 1")
_prefetch = _number(int, 0, 65535, "a whole number up to 65535")
_size = _number(int, STAMP_END, LONGEST_SIZE, f"{STAMP_END} to {LONGEST_SIZE} octets")
_positive = _number(float, 1e-3, 1e9, "a number from 0.001 to 1e9")
