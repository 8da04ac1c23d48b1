"""Policies and operator policies in the API, as RabbitMQ's management has them."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import bottle

from dispatchd.actors.orders import ClearPolicy, SetPolicy, ShowPolicies
from dispatchd.actors.runtime import Ref, System
from dispatchd.web.answers import answer_json, created
from dispatchd.web.encoding import json_list
from dispatchd.web.requests import body_object, give, json_of
from dispatchd.web.roles import current, visible
from dispatchd.web.snapshots import Row

_INTEGER: Final = re.compile(r"[+-]?\d{1,18}")


class Policies:
    """The handlers for policies, or operator policies: the vhosts have them, and are told what to change."""

    def __init__(self, system: System, *, of_operator: bool = False) -> None:
        self._system = system
        self._of_operator = of_operator

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        path = "/api/operator-policies" if self._of_operator else "/api/policies"
        app.get(path, callback=self.show_all)
        app.get(f"{path}/<vhost:name>", callback=self.show_those_of)
        app.get(f"{path}/<vhost:name>/<policy:name>", callback=self.show)
        app.put(f"{path}/<vhost:name>/<policy:name>", callback=self.set)
        app.delete(f"{path}/<vhost:name>/<policy:name>", callback=self.clear)

    def show_all(self) -> str:
        """The policies of all vhosts, the lowest priority first."""
        rows = [row for vhost in self._vhosts().values() for row in self._rows(vhost)]
        return self._answer(visible(current(), rows))

    def show_those_of(self, vhost: str) -> str:
        """The policies of one vhost, likewise. Raises 404."""
        return self._answer(self._rows(self._vhost(vhost)))

    def show(self, vhost: str, policy: str) -> str:
        """One policy. Raises 404."""
        for row in self._rows(self._vhost(vhost)):
            if row["name"] == policy:
                return answer_json(json.dumps(row))
        kind = "operator policy" if self._of_operator else "policy"
        raise bottle.HTTPError(404, f"no {kind} '{policy}' in vhost '{vhost}'")

    def set(self, vhost: str, policy: str) -> str:
        """Add a policy, or replace the one with its name. Raises 400 that names all mistakes, and 404."""
        receiver, body = self._vhost(vhost), body_object()
        missing = ",".join(f"{{key_missing,{key}}}" for key in ("pattern", "definition") if key not in body)
        if missing:
            raise bottle.HTTPError(400, f"[{missing}]")
        definition = body["definition"]
        if isinstance(definition, str):
            definition = json_of(definition, "The definition")
        order = SetPolicy(
            policy,
            self._of_operator,
            body["pattern"],
            definition,
            _number(body.get("priority", 0)),
            body.get("apply-to", "all"),
        )
        return created(give(receiver, order))

    def clear(self, vhost: str, policy: str) -> str:
        """Remove a policy. Raises 404."""
        give(self._vhost(vhost), ClearPolicy(policy, self._of_operator))
        return created(is_new=False)

    def _vhosts(self) -> dict[str, Ref]:
        return {actor.name: actor.ref for actor in self._system.actors.values() if actor.kind == "vhost"}

    def _vhost(self, name: str) -> Ref:
        vhost = self._vhosts().get(name)
        if vhost is None:
            raise bottle.HTTPError(404, f"no vhost '{name}'")
        return vhost

    def _rows(self, vhost: Ref) -> list[Row]:
        rows: list[Row] = give(vhost, ShowPolicies(self._of_operator))
        return rows

    @staticmethod
    def _answer(rows: list[Row]) -> str:
        return answer_json(json_list(sorted(rows, key=lambda row: (row["priority"], row["vhost"], row["name"]))))


def _number(given: Any) -> Any:
    """A number that may have come as a string, as rabbitmqadmin sends it."""
    return int(given) if isinstance(given, str) and _INTEGER.fullmatch(given) else given
