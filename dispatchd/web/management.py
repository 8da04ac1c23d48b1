"""What RabbitMQ's management tells of the whole broker: the overview, the node, the cluster of one."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from typing import Any, Final

import bottle

from dispatchd.actors.identity import COMPATIBLE_VERSION, KNOWN_EXCHANGE_TYPES
from dispatchd.actors.runtime import System
from dispatchd.web.answers import Answer, answer_json
from dispatchd.web.meter import Meter
from dispatchd.web.node import NODE, is_node, named, node_row
from dispatchd.web.snapshots import Row
from dispatchd.web.tables import answer_table

NOTHING_OF: Final = (
    "deprecated-features", "extensions", "feature-flags", "federation-links", "global-parameters", "parameters",
    "shovels",
)  # fmt: skip
"""Lists of what this broker does not have."""


class Management:
    """The handlers. `facts` are those of the broker."""

    def __init__(self, system: System, facts: Callable[[], dict[str, Any]]) -> None:
        self._system = system
        self._facts = facts

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/nodes", callback=self.nodes)
        app.get("/api/nodes/<name:name>", callback=self.node)
        app.get("/api/cluster-name", callback=lambda: answer_json(json.dumps({"name": NODE})))
        app.get("/api/auth", callback=lambda: answer_json(json.dumps({"oauth_enabled": False})))
        for path in NOTHING_OF:
            app.get(f"/api/{path}", callback=lambda: answer_table([]))

    def nodes(self) -> Answer:
        """The node, alone."""
        return answer_table([node_row(self._system, self._facts())])

    def node(self, name: str) -> str:
        """The node, under whatever name its tools give it. Raises 404 for one of another host."""
        if not is_node(name):
            raise bottle.HTTPError(404, f"no node '{name}'")
        return answer_json(json.dumps(node_row(self._system, self._facts())))


def overview_row(facts: Row, meter: Meter) -> Row:
    """What RabbitMQ's overview has beside our facts.

    Its `erlang_version` is that of what the broker runs on, for tools that need one.
    """
    queues, channels = meter.sums_of("queue"), meter.sums_of("channel")
    levels = queues.levels()
    totals = {name: levels[name] for name in levels if name.startswith("messages_")}
    ready, unacknowledged = "messages_ready", "messages_unacknowledged"
    return {
        "product_name": "dispatchd",
        "product_version": facts["version"],
        "rabbitmq_version": COMPATIBLE_VERSION,
        "management_version": COMPATIBLE_VERSION,
        "erlang_version": platform.python_version(),
        "erlang_full_version": f"Python {platform.python_version()} ({platform.python_implementation()})",
        "node": NODE,
        "cluster_name": NODE,
        "rates_mode": "basic",
        "statistics_db_event_queue": 0,
        "disable_stats": False,
        "enable_queue_totals": False,
        "exchange_types": named(KNOWN_EXCHANGE_TYPES),
        "uptime": facts.get("uptime_ms", 0),
        "object_totals": {
            "connections": meter.sums_of("connection").count,
            "channels": channels.count,
            "exchanges": meter.sums_of("exchange").count,
            "queues": queues.count,
            "consumers": levels["consumers"],
        },
        "queue_totals": {
            **totals,
            "messages": totals[ready] + totals[unacknowledged],
            "messages_details": {
                "rate": round(totals[f"{ready}_details"]["rate"] + totals[f"{unacknowledged}_details"]["rate"], 2)
            },
        },
        "message_stats": {**queues.stats(), **channels.stats()},
        "churn_rates": meter.churn(),
        "listeners": [
            {**listener, "node": NODE, "ip_address": listener.get("address", listener.get("host"))}
            for listener in facts.get("listeners", ())
        ],
    }
