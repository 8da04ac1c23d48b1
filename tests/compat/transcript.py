"""What a broker said to each step of a script, in lines that are equal when two brokers do the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from compat.script import Step
from pamqp.base import Frame

GENERATED = re.compile(r"amq\.(gen|ctag|rabbitmq\.reply-to)[-.][\w.+/=-]+")

Transcript = list[list[str]]
"""For each step, the lines of what came."""


def describe(method: Frame, content: tuple[dict[str, Any], bytes] | None = None) -> str:
    """A method, and the properties and body that came with it, in one line."""
    given = ", ".join(f"{name}={value!r}" for name, value in method)
    line = f"{method.name}({given})"
    if content is None:
        return line
    properties, body = content
    shown = repr(body) if len(body) <= 80 else f"{len(body)} octets"
    return f"{line} {plain(properties)!r} {shown}"


def plain(value: Any, name: str = "") -> Any:
    """A field value with its tables in one order of names, and without the times of x-death."""
    if isinstance(value, dict):
        return {key: "…" if name == "x-death" and key == "time" else plain(value[key], key) for key in sorted(value)}
    if isinstance(value, list):
        return [plain(each, name) for each in value]
    return value


def number_generated_names(transcript: Transcript) -> Transcript:
    """Names that brokers make up become amq.gen-1, amq.gen-2 … as they appear."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return numbers.setdefault(found[0], f"amq.{found[1]}-{len(numbers) + 1}")

    return [[GENERATED.sub(number, line) for line in lines] for lines in transcript]


def differences(steps: Sequence[Step], ours: Transcript, theirs: Transcript) -> str:
    """The script with what both answered up to the first difference, or "" when there is none."""
    told = []
    for number, (step, our, their) in enumerate(zip_longest(steps, ours, theirs, fillvalue=None), 1):
        told.append(f"{number:3} {step!r},")
        if our == their:
            told += [f"        {line}" for line in our or ()]
            continue
        told += [f"    dispatchd  {line}" for line in our or ["nothing"]]
        told += [f"    RabbitMQ   {line}" for line in their or ["nothing"]]
        return "\n".join(told)
    return ""
