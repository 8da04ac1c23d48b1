"""What RabbitMQ's management tells of the node, of the cluster of one, and of what there is nothing of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import bottle

from dispatchd.actors.runtime import System
from dispatchd.web.answers import Answer, answer_json
from dispatchd.web.node import NODE, is_node, node_row
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
