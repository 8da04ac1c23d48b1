"""Figures for Prometheus, under RabbitMQ's names where it has them: of the broker, of each object, or of some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import bottle

from dispatchd.actors.breath import in_turns
from dispatchd.actors.runtime import PAUSED, QUARANTINED, Actor, System
from dispatchd.web.encoding import plain
from dispatchd.web.exposition import CONTENT_TYPE, family, histogram, labelled
from dispatchd.web.families import COUNTER, FAMILIES, GAUGE
from dispatchd.web.meter import Meter, figures_of
from dispatchd.web.node import NODE, node_row
from dispatchd.web.overview import all_of, overview_row
from dispatchd.web.snapshots import Row, Snapshots

PROTOCOL: Final = labelled(protocol="amqp091")
CAUSES: Final = ("memory", "disk", "store", "scratch", "failing")
"""Of alarms: without a sample of 0 nobody could tell that one is off from that it is not told."""
CLASSIC: Final = labelled(protocol="amqp091", queue_type="rabbit_classic_queue")


TOLD: Final = {
    "persistence": (
        ("store_commits_total", COUNTER, "Commits", "commits", 1),
        ("store_commit_seconds_total", COUNTER, "What they took together", "commit_seconds", 1),
        ("store_failed_commits_total", COUNTER, "Commits that failed", "failed_commits", 1),
        ("store_last_commit_seconds", GAUGE, "What the last commit took", "last_commit_ms", 1000),
        ("store_entries_to_write", GAUGE, "Messages that are not written yet", "entries_to_write", 1),
        ("store_bytes_used", GAUGE, "Octets of durable data", "bytes_used", 1),
        ("store_bytes_limit", GAUGE, "Octets that these may come to", "bytes_limit", 1),
    ),
    "authenticator": (("logins_refused_total", COUNTER, "Logins that were refused", "refused", 1),),
}
"""Of what an actor says of itself, by its kind: names, and what it is divided by."""


class Metrics:
    """The handlers. `facts` are those of the broker, `lag_ms` how late the loop is, `sizes` those of messages."""

    def __init__(
        self,
        system: System,
        meter: Meter,
        facts: Callable[[], dict[str, Any]],
        lag_ms: Callable[[], float],
        sizes: Callable[[], tuple[list[int], list[int], int]],
    ) -> None:
        self._system = system
        self._meter = meter
        self._facts = facts
        self._lag_ms = lag_ms
        self._sizes = sizes
        self._snapshots = Snapshots(system)

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/metrics", callback=self.of_broker)
        app.get("/metrics/per-object", callback=self.of_objects)
        app.get("/metrics/detailed", callback=self.of_some)

    def of_broker(self) -> Iterator[bytes]:
        """What is so, and was counted, over all objects. It costs no more with more of them."""
        return _answer(self._broker(summed=True))

    def of_objects(self) -> Iterator[bytes]:
        """The same, with the figures of queues, channels and connections for each of them."""
        return _answer(self._per_object())

    def of_some(self) -> Iterator[bytes]:
        """Those of the families in the query, for each object, in the `vhost`s that it names, or all. Raises 400."""
        query = bottle.request.query
        wanted = [name for value in query.getall("family") for name in value.split(",") if name]
        vhosts = [vhost.encode("latin-1").decode(errors="replace") for vhost in query.getall("vhost")]
        unknown = [name for name in wanted if name not in FAMILIES]
        if unknown:
            raise bottle.HTTPError(400, f"no family {unknown[0]!r}, expected one of {', '.join(FAMILIES)}")
        return _answer(self._detailed("rabbitmq_detailed_", wanted, set(vhosts)))

    def _per_object(self) -> Iterator[str]:
        yield from self._broker(summed=False)
        yield from self._detailed("rabbitmq_", list(FAMILIES), set())

    def _detailed(self, prefix: str, families: list[str], vhosts: set[str]) -> Iterator[str]:
        by_kind: dict[str, list[tuple[str, Row]]] = {}
        for kind, metrics in (FAMILIES[name] for name in dict.fromkeys(families)):
            if kind not in by_kind:
                by_kind[kind] = self._figures(kind, vhosts)
            for metric in metrics:
                samples = ((labels, figures.get(metric.figure, 0)) for labels, figures in by_kind[kind])
                yield from family(prefix + metric.name, metric.kind, metric.about, samples)

    def _figures(self, kind: str, vhosts: set[str]) -> list[tuple[str, Row]]:
        """Labels and figures of all actors of a kind, seen from outside; others have turns meanwhile."""
        found = []
        for actor in in_turns(list(self._system.actors.values())):
            figures = figures_of(actor) if actor.kind == kind else None
            if figures is not None and (not vhosts or figures.get("vhost") in vhosts):
                found.append((_labels(actor, figures), figures))
        return found

    # The whole broker

    def _broker(self, *, summed: bool) -> Iterator[str]:
        self._meter.look()
        facts = self._facts()
        node, row = node_row(self._system, facts), overview_row(facts, self._meter, all_of(self._meter))
        yield from self._identity(facts, row)
        causes = {alarm["cause"] for alarm in facts.get("alarms", ())}
        meter, churn = self._meter, row["churn_rates"]
        sums, totals = meter.sums_of(), meter.totals()
        sent = sums["channel"].to_row()
        for name, kind, about, labels, value in (
            ("erlang_uptime_seconds", GAUGE, "Seconds since the start", "", node["uptime"] / 1000),
            ("connections", GAUGE, "Connections open now", "", totals["connections"]),
            ("channels", GAUGE, "Channels open now", "", totals["channels"]),
            ("queues", GAUGE, "Queues there are", "", totals["queues"]),
            ("consumers", GAUGE, "Consumers there are", "", totals["consumers"]),
            ("global_consumers", GAUGE, "Consumers there are", PROTOCOL, totals["consumers"]),
            ("global_publishers", GAUGE, "Channels that have published", PROTOCOL, sums["channel"].active),
            ("process_open_fds", GAUGE, "Open files and sockets", "", node["fd_used"]),
            ("process_max_fds", GAUGE, "Open files and sockets there may be", "", node["fd_total"]),
            ("process_open_tcp_sockets", GAUGE, "Connections of clients", "", node["sockets_used"]),
            ("process_max_tcp_sockets", GAUGE, "Sockets there may be", "", node["sockets_total"]),
            ("process_resident_memory_bytes", GAUGE, "Memory used", "", node["mem_used"]),
            ("resident_memory_limit_bytes", GAUGE, "Memory above which publishers wait", "", node["mem_limit"]),
            ("disk_space_available_bytes", GAUGE, "Disk that is free", "", node["disk_free"]),
            ("disk_space_available_limit_bytes", GAUGE, "Disk below which they wait", "", node["disk_free_limit"]),
            ("alarms_memory_used_watermark", GAUGE, "1 while memory is short", "", int("memory" in causes)),
            ("alarms_free_disk_space_watermark", GAUGE, "1 while disk is short", "", int(node["disk_free_alarm"])),
            ("connections_opened_total", COUNTER, "Connections opened", "", churn["connection_created"]),
            ("connections_closed_total", COUNTER, "Connections closed", "", churn["connection_closed"]),
            ("channels_opened_total", COUNTER, "Channels opened", "", churn["channel_created"]),
            ("channels_closed_total", COUNTER, "Channels closed", "", churn["channel_closed"]),
            ("queues_declared_total", COUNTER, "Queues declared, there already or not", "", churn["queue_declared"]),
            ("queues_created_total", COUNTER, "Queues created", "", churn["queue_created"]),
            ("queues_deleted_total", COUNTER, "Queues deleted", "", churn["queue_deleted"]),
            ("global_messages_received_total", COUNTER, "Messages published", PROTOCOL, sent["published"]),
            (
                "global_messages_received_confirm_total",
                COUNTER,
                "Those of them that are to be confirmed",
                PROTOCOL,
                sent["published_to_confirm"],
            ),
            ("global_messages_confirmed_total", COUNTER, "Messages confirmed", PROTOCOL, sent["confirmed"]),
            (
                "global_messages_unroutable_returned_total",
                COUNTER,
                "Mandatory ones that found no queue",
                PROTOCOL,
                sent["returned"],
            ),
            ("global_messages_unroutable_dropped_total", COUNTER, "Others that found none", PROTOCOL, sent["dropped"]),
            ("global_messages_routed_total", COUNTER, "Messages put into queues", PROTOCOL, totals["published"]),
            ("global_messages_delivered_total", COUNTER, "Messages delivered, or got", CLASSIC, totals["delivered"]),
            (
                "global_messages_delivered_consume_manual_ack_total",
                COUNTER,
                "Delivered, to be acknowledged",
                CLASSIC,
                totals["delivered_ack"],
            ),
            (
                "global_messages_delivered_consume_auto_ack_total",
                COUNTER,
                "Delivered without that",
                CLASSIC,
                totals["delivered_no_ack"],
            ),
            (
                "global_messages_delivered_get_manual_ack_total",
                COUNTER,
                "Got, to be acknowledged",
                CLASSIC,
                totals["got"],
            ),
            (
                "global_messages_delivered_get_auto_ack_total",
                COUNTER,
                "Got without that",
                CLASSIC,
                totals["got_no_ack"],
            ),
            (
                "global_messages_get_empty_total",
                COUNTER,
                "Times that a basic.get found nothing",
                CLASSIC,
                totals["got_nothing"],
            ),
            ("global_messages_redelivered_total", COUNTER, "Delivered again", CLASSIC, totals["redelivered"]),
            ("global_messages_acknowledged_total", COUNTER, "Acknowledged", CLASSIC, totals["acknowledged"]),
        ):
            yield from family(f"rabbitmq_{name}", kind, about, [(labels, value)])
        if summed:
            found: dict[str, Row] = {kind: each.to_row() for kind, each in sums.items()}
            found["channel"]["consumer_count"] = totals["consumers"]
            found["connection"]["channels"] = totals["channels"]
            for of_kind, metrics in FAMILIES.values():
                for metric in metrics:
                    if metric.figure in found[of_kind]:
                        value = found[of_kind][metric.figure]
                        yield from family(f"rabbitmq_{metric.name}", metric.kind, metric.about, [("", value)])
        about = "Octets of the messages that clients published"
        yield histogram("rabbitmq_message_size_bytes", about, {"protocol": "amqp091"}, *self._sizes())
        raised = [(labelled(cause=cause), float(cause in causes)) for cause in CAUSES]
        yield from family("dispatchd_alarm", GAUGE, "1 while publishers wait for this", raised)
        yield from self._own()

    @staticmethod
    def _identity(facts: Row, row: Row) -> Iterator[str]:
        identity = labelled(
            rabbitmq_node=NODE,
            rabbitmq_cluster=row["cluster_name"],
            rabbitmq_cluster_permanent_id=NODE,
            rabbitmq_endpoint="aggregated",
        )
        build = labelled(
            rabbitmq_version=row["rabbitmq_version"],
            prometheus_plugin_version=facts["version"],
            prometheus_client_version=facts["version"],
            erlang_version=row["erlang_version"],
            product_name=row["product_name"],
            product_version=row["product_version"],
        )
        yield from family("rabbitmq_identity_info", GAUGE, "Which node this is", [(identity, 1)])
        yield from family("rabbitmq_build_info", GAUGE, "What runs here, and what it is compatible with", [(build, 1)])

    def _own(self) -> Iterator[str]:
        """What only dispatchd has: how its actors, its loop and its store do."""
        system = self._system
        counts: Counter[str] = Counter()
        depths: Counter[str] = Counter()
        oldest: dict[str, float] = {}
        held = Counter(dict.fromkeys((PAUSED, QUARANTINED), 0))
        handled, busy = Counter(system.handled), Counter(system.busy_ns)
        for actor in in_turns(list(system.actors.values())):
            kind, depth = actor.kind, len(actor.actor_inbox)
            counts[kind] += 1
            handled[kind] += actor.handled
            busy[kind] += actor.busy_ns
            if (state := actor.state) in held:
                held[state] += 1
            if depth:
                depths[kind] += depth
                oldest[kind] = max(oldest.get(kind, 0.0), actor.actor_inbox.oldest_age())
        names = {kind: labelled(kind=kind) for kind in sorted(handled | counts)}
        for name, metric, about, values in (
            ("actors", GAUGE, "Actors there are", counts),
            ("actor_mailbox_depth", GAUGE, "Messages in all their mailboxes", depths),
            ("actor_mailbox_oldest_seconds", GAUGE, "How long the oldest of these has waited", oldest),
            ("actor_messages_handled_total", COUNTER, "Messages between actors that were handled", handled),
            ("actor_handler_seconds_total", COUNTER, "What that took", {kind: ns / 1e9 for kind, ns in busy.items()}),
        ):
            samples = [(labels, float(values.get(kind, 0))) for kind, labels in names.items()]
            yield from family(f"dispatchd_{name}", metric, about, samples)
        samples = [(labelled(state=state), float(number)) for state, number in held.items()]
        yield from family("dispatchd_actors_held", GAUGE, "Actors that handle nothing for now", samples)
        for name, metric, about, value in (
            ("actor_failures_total", COUNTER, "Failures of actors", system.failures.total),
            ("slow_handlers_total", COUNTER, "Handlers that took longer than 100 ms", system.slow.total),
            ("loop_blocks_total", COUNTER, "Times that the loop stood still", system.blocks.total),
            ("loop_lag_seconds", GAUGE, "How late the loop was last", self._lag_ms() / 1000),
        ):
            yield from family(f"dispatchd_{name}", metric, about, [("", value)])
        for kind, figures in TOLD.items():
            for row in self._snapshots.of_kind(kind):
                for name, metric, about, figure, unit in figures:
                    if figure in row:
                        yield from family(f"dispatchd_{name}", metric, about, [("", row[figure] / unit)])


def _labels(actor: Actor, figures: Row) -> str:
    vhost = str(plain(figures.get("vhost") or ""))
    return labelled(**{"vhost": vhost, actor.kind: str(plain(actor.name))})


def _answer(parts: Iterator[str]) -> Iterator[bytes]:
    bottle.response.content_type = CONTENT_TYPE
    bottle.response.set_header("Cache-Control", "no-store")
    return (part.encode() for part in parts)
