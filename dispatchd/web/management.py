"""What RabbitMQ's management tells of the node, and of the cluster of one; logins that there were, and hashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import bottle

from dispatchd.actors.hashing import DEFAULT_SALTED, salted_hash
from dispatchd.actors.runtime import System
from dispatchd.web.answers import Answer, answer_json
from dispatchd.web.node import NODE, is_node, monitored, node_row
from dispatchd.web.snapshots import Row, Snapshots
from dispatchd.web.tables import answer_table

ALL_OF_IT: Final = "other_system"
MEMORY_OF: Final = (
    "allocated_unused", "atom", "binary", "code", "connection_channels", "connection_other", "connection_readers",
    "connection_writers", "metadata_store", "metadata_store_ets", "metrics", "mgmt_db", "mnesia", "msg_index",
    "other_ets", "other_proc", "plugins", "queue_procs", "queue_slave_procs", "quorum_ets", "quorum_queue_dlx_procs",
    "quorum_queue_procs", "reserved_unallocated", "stream_queue_coordinator_procs", "stream_queue_procs",
    "stream_queue_replica_reader_procs",
)  # fmt: skip
"""What RabbitMQ divides the memory into, without all that is ours: tools want each of these to be there."""


class Management:
    """The handlers. `facts` are those of the broker."""

    def __init__(self, system: System, facts: Callable[[], dict[str, Any]]) -> None:
        self._system = system
        self._facts = facts
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/nodes", callback=self.nodes)
        app.get("/api/nodes/<name:name>", callback=self.node)
        app.get("/api/nodes/<name:name>/memory", callback=self.memory)
        app.get("/api/cluster-name", callback=lambda: answer_json(json.dumps({"name": NODE})))
        app.get("/api/auth", callback=lambda: answer_json(json.dumps({"oauth_enabled": False})))
        app.get("/api/auth/attempts/<name:name>", callback=self.attempts)
        app.get("/api/auth/hash_password/<password:name>", callback=self.hash_password)

    def nodes(self) -> Answer:
        """The node, alone."""
        return answer_table([node_row(self._system, self._facts())])

    def node(self, name: str) -> str:
        """The node, under whatever name its tools give it. Raises 404 for one of another host."""
        _require_node(name)
        return answer_json(json.dumps(node_row(self._system, self._facts())))

    def memory(self, name: str) -> str:
        """What memory the process has: in one piece, as nobody knows what of it is for what. Raises 404."""
        _require_node(name)
        used = monitored(self._system).get("memory_used", 0)
        total = dict.fromkeys(("rss", "allocated", "erlang"), used)
        memory: Row = {**dict.fromkeys(MEMORY_OF, 0), ALL_OF_IT: used, "strategy": "rss", "total": total}
        return answer_json(json.dumps({"memory": memory}))

    def attempts(self, name: str) -> Answer:
        """How many logins there were, by protocol. Raises 404."""
        _require_node(name)
        [told] = self._snapshots.of_kind("authenticator")
        return answer_table(
            [
                {
                    "protocol": protocol,
                    "auth_attempts": succeeded + failed,
                    "auth_attempts_succeeded": succeeded,
                    "auth_attempts_failed": failed,
                }
                for protocol, (succeeded, failed) in told.get("attempts", {}).items()
            ]
        )

    def hash_password(self, password: str) -> str:
        """A hash that can be put into definitions. RabbitMQ's kind: whoever asks for it may give it to RabbitMQ."""
        return answer_json(json.dumps({"ok": salted_hash(password.encode(), DEFAULT_SALTED)}))


def _require_node(name: str) -> None:
    if not is_node(name):
        raise bottle.HTTPError(404, f"no node '{name}'")
