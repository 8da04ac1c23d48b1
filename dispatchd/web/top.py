"""The busiest actors, as RabbitMQ's plugin `top` lists Erlang's processes."""

from __future__ import annotations

import json
from typing import Any, Final

import bottle

from dispatchd.web.actors import Actors
from dispatchd.web.answers import answer_json
from dispatchd.web.node import NODE, is_node
from dispatchd.web.requests import number_of_query
from dispatchd.web.snapshots import Row

SHOWN: Final = 20
MOST_SHOWN: Final = 1000
SORTS: Final = {"message_queue_len": "mailbox_depth", "reductions": "handled"}
"""RabbitMQ's names; everything else is by what was handled lately, as `reduction_delta` is."""


class Top:
    """The handler. `actors` list the actors."""

    def __init__(self, actors: Actors) -> None:
        self._actors = actors

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is."""
        app.get("/api/top/<node:name>", callback=self.show)

    def show(self, node: str) -> str:
        """`row_count` of them; what RabbitMQ counts in reductions are messages that an actor handled. Raises 404."""
        if not is_node(node):
            raise bottle.HTTPError(404, f"no node '{node}'")
        count = number_of_query("row_count", SHOWN, MOST_SHOWN)
        found = self._actors.page(SORTS.get(bottle.request.query.get("sort"), "handled_per_second"), count)
        rows = [_process(row) for row in found["items"]]
        return answer_json(json.dumps({"node": NODE, "row_count": count, "processes": rows}))


def _process(row: Row) -> Row:
    return {
        "pid": str(row["id"]),
        "name": _name(row["kind"], row["name"]),
        "message_queue_len": row["mailbox_depth"],
        "reductions": row["handled"],
        "reduction_delta": round(row["handled_per_second"]),
        "status": row["state"],
    }


def _name(kind: str, name: str) -> dict[str, Any]:
    if kind == "queue":
        return {"supertype": "queue", "type": kind, "queue_name": name}
    if kind in ("connection", "channel"):
        connection, _, number = name.rpartition(" (") if kind == "channel" else (name, "", "")
        channel = {"channel_number": int(number.rstrip(")"))} if number.rstrip(")").isdigit() else {}
        return {"supertype": kind, "type": kind, "connection_name": connection, **channel}
    return {"type": "registered", "name": f"{kind} {name}"}
