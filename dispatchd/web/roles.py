"""What a user's tags let it do with the admin: one table, and one function that decides by method and path.

It is asked before every request, so that a handler need not, and an address that nobody thought of is for
administrators. The tags and texts are RabbitMQ's (rabbit_web_dispatch_access_control, rabbit_mgmt_wm_*).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote

import bottle

MANAGEMENT: Final = "management"
POLICYMAKER: Final = "policymaker"
MONITORING: Final = "monitoring"
ADMINISTRATOR: Final = "administrator"

_IMPLIED: Final = {
    MANAGEMENT: {MANAGEMENT},
    POLICYMAKER: {MANAGEMENT, POLICYMAKER},
    MONITORING: {MANAGEMENT, MONITORING},
    ADMINISTRATOR: {MANAGEMENT, POLICYMAKER, MONITORING, ADMINISTRATOR},
}
REFUSALS: Final = {
    MANAGEMENT: "Not management user",
    POLICYMAKER: "User not authorised to access object",
    MONITORING: "Not monitor user",
    ADMINISTRATOR: "Not administrator user",
}
_READING: Final = ("GET", "HEAD")
_WHO: Final = "dispatchd.who"


class Who(Protocol):
    """A user who has logged in. `hash` is that of its password: sessions end when it changes."""

    name: str
    tags: list[str]
    hash: str

    def rights_in(self, vhost: str) -> Any:
        """What it may do in a vhost; None if nothing."""


@dataclass(frozen=True)
class Rule:
    """A path, in which `*` is any one segment and `{vhost}` one that names a vhost; `reads` if nothing is changed."""

    path: str
    reads: bool
    role: str

    def vhost_of(self, reads: bool, segments: list[str]) -> tuple[bool, str | None]:
        """Whether it is for this request, and the vhost that this names."""
        pattern = self.path.split("/")
        if reads != self.reads or len(pattern) != len(segments):
            return False, None
        vhost = None
        for expected, found in zip(pattern, segments, strict=True):
            if expected == "{vhost}":
                vhost = found
            elif expected not in ("*", found):
                return False, None
        return True, vhost


_SHOWN: Final = (
    "auth", "bindings", "bindings/{vhost}", "bindings/{vhost}/e/*/*/*", "bindings/{vhost}/e/*/*/*/*", "cluster-name",
    "consumers", "consumers/{vhost}", "exchanges/{vhost}/*/bindings/*", "extensions", "queues/{vhost}/*/bindings",
    "vhosts/{vhost}/connections", "vhosts/{vhost}/channels", "aliveness-test/{vhost}", "health/checks/*",
    "health/checks/*/*", "healthchecks/node", "healthchecks/node/*", "deprecated-features", "feature-flags",
    "deprecated-features/used", "federation-links", "federation-links/{vhost}", "global-parameters", "parameters",
    "parameters/*", "parameters/*/{vhost}", "shovels", "shovels/{vhost}",
)  # fmt: skip
"""What every user of the management is shown, as far as it sees the vhost."""
_DONE: Final = (
    "bindings/{vhost}/e/*/*/*", "bindings/{vhost}/e/*/*/*/*", "exchanges/{vhost}/*", "exchanges/{vhost}/*/publish",
    "queues/{vhost}/*", "queues/{vhost}/*/contents", "queues/{vhost}/*/get",
)  # fmt: skip
"""What it may do as far as its permissions go: `permits` asks them."""
RULES: Final = (
    *(Rule(f"api/{each}", True, MANAGEMENT) for each in ("whoami", "overview", "vhosts", "events")),
    *(Rule(f"api/{each}", True, MANAGEMENT) for each in ("connections", "channels", "exchanges", "queues")),
    *(Rule(f"api/{each}/*", True, MONITORING) for each in ("connections", "channels")),
    *(Rule(f"api/{each}", True, MONITORING) for each in ("flow", "log")),
    Rule("api/topology/{vhost}", True, MANAGEMENT),
    Rule("api/queues/{vhost}/*/unacked", True, MANAGEMENT),
    *(Rule(f"api/vhost-limits{rest}", True, MANAGEMENT) for rest in ("", "/{vhost}")),
    *(Rule(f"api/user-limits{rest}", True, MANAGEMENT) for rest in ("", "/*")),
    *(
        Rule(f"api/{kind}{rest}", True, MANAGEMENT)
        for kind in ("exchanges", "queues", "policies", "operator-policies")
        for rest in ("", "/{vhost}", "/{vhost}/*")
    ),
    *(Rule(f"api/{path}", True, MANAGEMENT) for path in _SHOWN),
    *(Rule(f"api/{path}", False, MANAGEMENT) for path in _DONE),
    *(Rule(f"api/{path}", True, MONITORING) for path in ("connections/*/channels", "connections/username/*")),
    *(Rule(f"api/{path}", True, MONITORING) for path in ("nodes", "nodes/*", "nodes/*/memory", "auth/attempts/*")),
    *(Rule(path, True, MONITORING) for path in ("metrics", "metrics/*")),
    Rule("api/policies/{vhost}/*", False, POLICYMAKER),
    Rule("api/parameters/*/{vhost}/*", False, POLICYMAKER),
    Rule("api/global-parameters/*", False, POLICYMAKER),
    *(Rule(f"api/actors{rest}", True, MONITORING) for rest in ("", "/*", "/*/*")),
)
"""Whatever is not in it needs an administrator."""


def refusal(who: Who, method: str, path: str) -> str:
    """Why a user may not send this request; "" if it may. `path` is as it was sent, with its `%2F`."""
    reads = method in _READING
    segments = [unquote(segment) for segment in path.strip("/").split("/")]
    role, vhost = ADMINISTRATOR, None
    for rule in RULES:
        is_it, vhost = rule.vhost_of(reads, segments)
        if is_it:
            role = rule.role
            break
    if not has_role(who, MANAGEMENT):
        return REFUSALS[MANAGEMENT]
    if not has_role(who, role):
        return REFUSALS[role]
    if vhost is not None and not (sees_vhost(who, vhost) if reads else works_in(who, vhost)):
        return "User not authorised to access virtual host"
    return ""


def has_role(who: Who, role: str) -> bool:
    """Whether the user's tags give it a role, or one that includes it."""
    return any(role in _IMPLIED.get(tag, ()) for tag in who.tags)


def works_in(who: Who, vhost: str) -> bool:
    """Whether the user may change things there, as far as its role lets it."""
    return has_role(who, ADMINISTRATOR) or who.rights_in(vhost) is not None


def sees_vhost(who: Who, vhost: str) -> bool:
    """Whether the user is shown what is in a vhost."""
    return has_role(who, MONITORING) or who.rights_in(vhost) is not None


def visible(who: Who, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those rows that a user is shown: what is of a vhost with the vhost, of a user (connections, channels) its own."""
    if has_role(who, MONITORING):
        return list(rows)
    return [row for row in rows if "late" not in row and _is_its_own(who, row)]


def _is_its_own(who: Who, row: dict[str, Any]) -> bool:
    vhost = row.get("vhost")
    return row.get("user", who.name) == who.name and (vhost is None or who.rights_in(vhost) is not None)


def admit(who: Who) -> None:
    """Let the request of a user go on, if it may. Raises 401 with RabbitMQ's reasons."""
    reason = refusal(who, bottle.request.method, bottle.request.path)
    if reason:
        raise Forbidden(401, reason)
    bottle.request.environ[_WHO] = who


def current() -> Who:
    """Whose request it is that is being answered."""
    who: Who = bottle.request.environ[_WHO]
    return who


class Forbidden(bottle.HTTPError):  # type: ignore[misc] # bottle has no types
    """Somebody who has logged in may not do this: RabbitMQ answers 401 to that too, under another name."""
