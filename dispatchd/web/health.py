"""Checks for whoever supervises the broker, as RabbitMQ has them: 200 if all is well, 503 with a reason if not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import bottle

from dispatchd.actors import operations
from dispatchd.actors.lookup import find_exchange, find_queue, find_vhost
from dispatchd.actors.runtime import QUARANTINED, System
from dispatchd.amqp import methods as m
from dispatchd.web.answers import answer_json
from dispatchd.web.permits import Permits, refusals
from dispatchd.web.requests import denials

TEST_QUEUE: Final = "aliveness-test"
TEST_BODY: Final = b"test_message"
PROTOCOLS: Final = {"amqp091": "amqp", "amqp0.9.1": "amqp", "amqps": "amqp/ssl", "management": "http"}
"""Other names of protocols that RabbitMQ's check takes."""

Facts = Callable[[], dict[str, Any]]


class Health:
    """The handlers. `facts` are those of the broker: its alarms and listeners."""

    def __init__(self, system: System, permits: Permits, facts: Facts, is_ready: Callable[[], bool]) -> None:
        self._system = system
        self._permits = permits
        self._facts = facts
        self._is_ready = is_ready

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/aliveness-test/<vhost:name>", callback=self.aliveness)
        for name in ("alarms", "local-alarms"):
            app.get(f"/api/health/checks/{name}", callback=self.alarms)
        for path in ("health/checks/is-in-service", "health/checks/ready-to-serve-clients", "healthchecks/node"):
            app.get(f"/api/{path}", callback=self.service)
        app.get("/api/healthchecks/node/<_node:name>", callback=lambda _node: self.service())
        # There is one node: nothing depends on a majority of several.
        for name in ("quorum", "mirror-sync"):
            app.get(f"/api/health/checks/node-is-{name}-critical", callback=lambda: _ok(reason="single node cluster"))
        app.get("/api/health/checks/virtual-hosts", callback=self.vhosts)
        app.get("/api/health/checks/port-listener/<port:int>", callback=self.port)
        app.get("/api/health/checks/protocol-listener/<protocol:name>", callback=self.protocol)

    def aliveness(self, vhost: str) -> str:
        """Declare a queue, publish a message to it and get that back. Raises 401, 404 and 503."""
        access = self._permits.access(vhost)
        self._permits.require("write", "exchange", vhost, "")
        self._permits.require("read", "queue", vhost, TEST_QUEUE)
        with denials(), refusals(access):
            operations.declare(find_vhost(self._system, vhost).ref, m.QueueDeclare(queue=TEST_QUEUE), access)
            exchange, queue = find_exchange(self._system, vhost, ""), find_queue(self._system, vhost, TEST_QUEUE)
            operations.publish(exchange, "", TEST_QUEUE, {}, TEST_BODY)
            found = operations.get(queue, TEST_QUEUE, 1, "ack_requeue_false")
        return _ok() if found else _failed("the message that was published did not come back")

    def alarms(self) -> str:
        """Whether no alarm is on."""
        alarms = self._facts().get("alarms", [])
        shown = [{"node": "", "resource": alarm["cause"], "detail": alarm["detail"]} for alarm in alarms]
        return _failed("alarms are in effect", alarms=shown) if alarms else _ok()

    def service(self) -> str:
        """Whether clients can connect and what they publish can get to the disk."""
        return _ok() if self._is_ready() else _failed("clients are not served")

    def vhosts(self) -> str:
        """Whether all vhosts work."""
        actors = [actor for actor in self._system.actors.values() if actor.kind == "vhost"]
        down = [actor.name for actor in actors if actor.state == QUARANTINED]
        return _failed("some virtual hosts are down", **{"virtual-hosts": down}) if down else _ok()

    def port(self, port: int) -> str:
        """Whether somebody listens on a port."""
        ports = sorted(listener["port"] for listener in self._facts()["listeners"])
        if port in ports:
            return _ok(port=port)
        return _failed("No active listener", missing=port, ports=ports)

    def protocol(self, protocol: str) -> str:
        """Whether somebody listens for a protocol."""
        name = PROTOCOLS.get(protocol.lower().replace(" ", ""), protocol.lower())
        protocols = sorted({listener["protocol"] for listener in self._facts()["listeners"]})
        if name in protocols:
            return _ok(protocol=protocol)
        return _failed("No active listener", missing=protocol, protocols=protocols)


def _ok(**others: Any) -> str:
    return answer_json(json.dumps({"status": "ok", **others}))


def _failed(reason: str, **others: Any) -> str:
    bottle.response.status = 503
    return answer_json(json.dumps({"status": "failed", "reason": reason, **others}))
