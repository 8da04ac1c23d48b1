"""What leads where in a vhost: exchanges, queues and who consumes from them, as a graph for a picture."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, Final

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.lookup import find_vhost
from dispatchd.actors.runtime import Actor, System
from dispatchd.web.answers import answer_json
from dispatchd.web.encoding import plain
from dispatchd.web.meter import Meter, figures_of
from dispatchd.web.requests import denials
from dispatchd.web.snapshots import Row, Snapshots

MOST_NODES: Final = 300
MOST_EDGES: Final = 1500


class Topology:
    """The handler. It looks once; nobody draws anything that moves."""

    def __init__(self, system: System, meter: Meter) -> None:
        self._system = system
        self._meter = meter
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which address the handler is."""
        app.get("/api/topology/<vhost:name>", callback=self.show)

    def show(self, vhost: str) -> str:
        """The graph of a vhost, or of what has `name` in its name and what that is bound to. Raises 404.

        `nodes` have an `id`, `kind` (exchange, queue, connection), `name` and figures; `edges` go `from` one `to`
        another, with a `label` and a `rate`. With more than MOST_NODES there are none, only `total`. Left out are the
        default exchange, which leads to all queues, and those that every vhost has, unless they are bound.
        """
        with denials():
            catalogue = find_vhost(self._system, vhost).catalogue
        wanted = bottle.request.query.getunicode("name", "").lower()
        bindings = [
            (binding.source, binding.destination.kind, binding.destination.name, binding.routing_key)
            for binding in catalogue.bindings()
        ]
        shown = self._chosen(wanted, bindings, list(catalogue.exchanges), list(catalogue.queues))
        total = len(shown["exchange"]) + len(shown["queue"])
        if total > MOST_NODES:
            return answer_json(json.dumps({"total": total, "nodes": [], "edges": []}))
        refs = {
            ("exchange", name): catalogue.exchanges[name].destination.ref
            for name in shown["exchange"]
            if name in catalogue.exchanges
        } | {
            ("queue", name): catalogue.queues[name].destination.ref
            for name in shown["queue"]
            if name in catalogue.queues
        }
        actors = {key: actor for key, ref in refs.items() if (actor := self._system.actors.get(ref.number))}
        self._meter.look()
        nodes = {f"{kind}:{name}": self._node(kind, name, actor) for (kind, name), actor in actors.items()}
        edges = [
            {
                "from": f"exchange:{source}",
                "to": f"{kind}:{name}",
                "label": key,
                "rate": self._rate(actors.get((kind, name))),
            }
            for source, kind, name, key in bindings
            if f"exchange:{source}" in nodes and f"{kind}:{name}" in nodes
        ]
        self._add_consumers([actor for (kind, _), actor in actors.items() if kind == "queue"], nodes, edges)
        found = {"total": total, "nodes": list(nodes.values()), "edges": edges[:MOST_EDGES], "edges_total": len(edges)}
        return answer_json(json.dumps(plain(found), allow_nan=False))

    @staticmethod
    def _chosen(
        wanted: str, bindings: list[tuple[str, Any, str, str]], exchanges: list[str], queues: list[str]
    ) -> dict[str, set[str]]:
        """The names of what is to be shown, by kind."""
        bound = {source for source, *_ in bindings} | {name for _, kind, name, _ in bindings if kind == "exchange"}
        shown = {
            "exchange": {
                name
                for name in exchanges
                if name and wanted in name.lower() and (name in bound or not name.startswith("amq."))
            },
            "queue": {name for name in queues if wanted in name.lower()},
        }
        if wanted:
            chosen = {kind: set(names) for kind, names in shown.items()}
            for source, kind, name, _ in in_turns(bindings):
                if source in chosen["exchange"] or name in chosen[kind]:
                    shown["exchange"].add(source)
                    shown[kind].add(name)
        return shown

    def _node(self, kind: str, name: str, actor: Actor) -> Row:
        figures = figures_of(actor) or {}
        keys = ("type", "messages_ready", "messages_unacknowledged", "consumers")
        return {
            "id": f"{kind}:{name}",
            "kind": kind,
            "name": name,
            "state": actor.state,
            **{key: figures[key] for key in keys if key in figures},
            "rate": self._rate(actor),
        }

    def _rate(self, actor: Actor | None) -> float:
        """What comes into an exchange or a queue, per second."""
        if actor is None:
            return 0.0
        rates = self._meter.rates_of(actor)
        rate: float = rates["publish_in_details" if actor.kind == "exchange" else "publish_details"]["rate"]
        return rate

    def _add_consumers(self, queues: list[Actor], nodes: dict[str, Row], edges: list[Row]) -> None:
        """A node for each connection that consumes, and an edge from each of its queues, with how often it does."""
        clients = {actor.number: actor for actor in self._system.actors.values() if actor.kind == "connection"}
        parents = {actor.name: actor.parent_number for actor in self._system.actors.values() if actor.kind == "channel"}
        by_number = {actor.number: actor for actor in queues}
        for row in self._snapshots.of(queues, wake=False):
            queue = by_number[row["id"]]
            counts: dict[int, int] = defaultdict(int)
            for consumer in row.get("consumer_details", ()):
                if (parent := parents.get(consumer["channel"])) in clients and parent is not None:
                    counts[parent] += 1
            for number, count in counts.items():
                client = clients[number]
                own_name = (figures_of(client) or {}).get("user_provided_name")
                node = f"connection:{client.name}"
                nodes.setdefault(
                    node,
                    {
                        "id": node,
                        "kind": "connection",
                        "name": client.name,
                        "own_name": own_name,
                        "state": client.state,
                    },
                )
                rate = self._meter.rates_of(queue)["deliver_get_details"]["rate"]
                label = f"{count} consumers" if count > 1 else ""
                edges.append({"from": f"queue:{queue.name}", "to": node, "label": label, "rate": rate})
