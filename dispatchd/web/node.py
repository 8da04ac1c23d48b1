"""The one node that there is: its name, and what it has and uses, in RabbitMQ's names."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import gevent

from dispatchd.actors.breath import in_turns
from dispatchd.actors.identity import KNOWN_EXCHANGE_TYPES, node_name
from dispatchd.actors.runtime import System
from dispatchd.actors.sasl import MECHANISMS
from dispatchd.web.snapshots import Row, Snapshots

NODE: Final = node_name()
NO_LIMIT: Final = (1 << 53) - 1
"""Where RabbitMQ has a limit and we have none: the largest whole number that every reader of JSON can hold."""
OPEN_FILES: Final = Path("/proc/self/fd")


def is_node(name: str) -> bool:
    """Whether this names our node. Tools make up the part in front of the @, and RabbitMQ's is `rabbit`."""
    return name.partition("@")[2] == NODE.partition("@")[2] or name == NODE


def count_open_files() -> int:
    """Files and sockets that are open. With thousands of them it takes milliseconds: for a native thread."""
    return sum(1 for _ in OPEN_FILES.iterdir())


def monitored(system: System) -> Row:
    """What the monitor tells: memory and disk, in octets; {} if it can't."""
    rows = Snapshots(system).of_kind("monitor")
    return rows[0] if rows and "late" not in rows[0] else {}


def node_row(system: System, facts: dict[str, Any]) -> Row:
    """The row of the node. `facts` are those of the broker: version, uptime_ms, alarms.

    `proc_used` counts actors, of which there may be as many as there is memory for.
    """
    found, causes = monitored(system), {alarm["cause"] for alarm in facts.get("alarms", ())}
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    connections = sum(actor.kind == "connection" for actor in in_turns(list(system.actors.values())))
    disk_free = found.get("disk_free")
    return {
        "name": NODE,
        "type": "ram" if disk_free is None else "disc",
        "running": True,
        "being_drained": False,
        "os_pid": str(os.getpid()),
        "uptime": facts.get("uptime_ms", 0),
        "processors": os.cpu_count() or 1,
        "run_queue": len(system.turns),
        "rates_mode": "basic",
        "mem_used": found.get("memory_used", 0),
        "mem_limit": found.get("memory_high_watermark", 0),
        "mem_alarm": "memory" in causes,
        "disk_free": disk_free or 0,
        "disk_free_limit": found.get("disk_free_limit", 0),
        "disk_free_alarm": bool(causes & {"disk", "store", "scratch"}),
        "fd_used": gevent.get_hub().threadpool.apply(count_open_files),
        "fd_total": most_files,
        "sockets_used": connections,
        "sockets_total": most_files,
        "proc_used": len(system.actors),
        "proc_total": NO_LIMIT,
        "partitions": [],
        "enabled_plugins": [],
        "applications": [
            {"name": "dispatchd", "description": "A durable AMQP 0-9-1 message broker", "version": facts["version"]}
        ],
        "exchange_types": named(KNOWN_EXCHANGE_TYPES),
        "auth_mechanisms": named(MECHANISMS),
    }


def named(names: Iterable[str]) -> list[Row]:
    """What the node can do, as RabbitMQ lists it."""
    return [{"name": name, "description": "", "enabled": True} for name in names]
