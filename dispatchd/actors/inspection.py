"""What actors tell of themselves to somebody who looks at them alone."""

from __future__ import annotations

import logging
from typing import Any

from dispatchd.actors.messages import Inspect
from dispatchd.actors.runtime import Actor, receives

logger = logging.getLogger(__name__)


class Inspectable(Actor):
    """An actor that has a page of its own in the admin."""

    kind = Actor.kind

    @receives(Inspect)
    def on_inspect(self, _message: Inspect) -> dict[str, Any] | None:
        """Its row, and its details; None if it can't tell. To look at a broken one does nothing to it."""
        try:
            return {**self.snapshot(), **self.details()}
        except Exception:
            logger.exception("%s %s can't show its details", self.kind, self.name)
            return None

    def details(self) -> dict[str, Any]:
        """Facts beyond those of the row."""
        return {}


def inspected(actor: Actor) -> dict[str, Any]:
    """The same from outside, of one in whom nothing goes on."""
    return {**actor.snapshot(), **(actor.details() if isinstance(actor, Inspectable) else {})}
