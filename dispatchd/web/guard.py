"""Who may do something to actors, and the record of what was done.

`may_act` is the one place that decides. Everything done or refused goes to the logger `dispatchd.audit`.
"""

from __future__ import annotations

import logging
from typing import Final

import bottle

from dispatchd.actors.runtime import Actor
from dispatchd.web.roles import ADMINISTRATOR, Who, current, has_role

audit = logging.getLogger("dispatchd.audit")

OWN_HEADER: Final = "X-Requested-With"
"""What changes something needs it, whatever it says: the pages of other sites can't send it."""


def may_act(who: Who) -> bool:
    """Whether this user may pause, restart and otherwise touch actors."""
    return has_role(who, ADMINISTRATOR)


class Guard:
    """Lets a request do something, or not. With actions that are off nobody may do anything."""

    def __init__(self, *, are_actions_on: bool) -> None:
        self.are_actions_on = are_actions_on

    def permits(self, who: Who) -> bool:
        """Whether this user may do anything to actors of this broker."""
        return self.are_actions_on and may_act(who)

    def require(self, what: str, actor: Actor, *, changes: bool = True) -> str:
        """Let the request do `what` to the actor; returns who does. Raises 403."""
        who = current()
        user = who.name
        if not self.are_actions_on:
            denied = "actions are off in this broker (--admin-actions=off)"
        elif not may_act(who):
            denied = f"user '{user}' may not touch actors"
        elif changes and not bottle.request.get_header(OWN_HEADER):
            denied = f"what changes something needs the header {OWN_HEADER}"
        else:
            return user
        _record(user, f"was refused to {what}", actor, denied)
        raise bottle.HTTPError(403, denied)

    def done(self, user: str, what: str, actor: Actor, detail: str = "") -> None:
        """Write down what was done."""
        _record(user, what, actor, detail)


def _record(user: str, what: str, actor: Actor, detail: str) -> None:
    peer = bottle.request.environ.get("REMOTE_ADDR", "")
    # Names are shown as Python writes them: one with a line break in it can't make up a line of its own.
    audit.info(
        "%r from %s: %s %s %r (%d)%s", user, peer, what, actor.kind, actor.name, actor.number, detail and f": {detail}"
    )
