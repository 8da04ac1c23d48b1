"""What RabbitMQ has and this broker has nothing of: lists that are empty, and why nothing can be put into them."""

from __future__ import annotations

from typing import Final, NoReturn

import bottle

from dispatchd.actors.lookup import find_vhost
from dispatchd.actors.runtime import System
from dispatchd.web.answers import Answer, created
from dispatchd.web.requests import denials
from dispatchd.web.tables import answer_table

NOTHING_OF: Final = (
    "deprecated-features", "deprecated-features/used", "extensions", "feature-flags", "federation-links",
    "global-parameters", "parameters", "parameters/<component:name>", "shovels",
)  # fmt: skip
NOTHING_IN: Final = ("federation-links", "parameters/<component:name>", "shovels")
"""Of these also by vhost."""


class Absent:
    """The handlers."""

    def __init__(self, system: System) -> None:
        self._system = system

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        for path in NOTHING_OF:
            app.get(f"/api/{path}", callback=lambda **_names: answer_table([]))
        for path in NOTHING_IN:
            app.get(f"/api/{path}/<vhost:name>", callback=self.show_nothing_of)
        app.put("/api/parameters/<component:name>/<vhost:name>/<_name:name>", callback=self.refuse_parameter)
        app.put("/api/global-parameters/<_name:name>", callback=self.refuse_global_parameter)
        app.put("/api/feature-flags/<_name:name>/enable", callback=self.refuse_flag)
        app.post("/api/rebalance/queues", callback=self.rebalance)

    def show_nothing_of(self, vhost: str, **_names: str) -> Answer:
        """There is none in a vhost either. Raises 404."""
        with denials():
            find_vhost(self._system, vhost)
        return answer_table([])

    def refuse_parameter(self, component: str, vhost: str, _name: str) -> NoReturn:
        """Raises 400, with RabbitMQ's reason where it has no plugin for a component; 404 for a vhost that is not."""
        with denials():
            find_vhost(self._system, vhost)
        raise bottle.HTTPError(400, f"Validation failed\n\ncomponent {component} not found\n")

    def refuse_global_parameter(self, _name: str) -> NoReturn:
        """Raises 400."""
        raise bottle.HTTPError(400, "there are no global parameters: nothing here would obey them")

    def refuse_flag(self, _name: str) -> NoReturn:
        """Raises 400, as RabbitMQ for a flag that it does not know."""
        raise bottle.HTTPError(400, "unsupported")

    def rebalance(self) -> str:
        """With one node all queues are where they should be."""
        return created(is_new=False)
