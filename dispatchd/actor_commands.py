"""`dispatchd actors`: what every actor of a running broker does, as a table or like top, and what one does to them."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from dispatchd import actor_views as views
from dispatchd.commands import Argument, Command, Given
from dispatchd.remote import Api, RemoteError

Row = dict[str, Any]

WATCH_SECONDS: Final = "2"
FOREVER: Final = "ever"


def with_verb(words: list[str]) -> list[str]:
    """`dispatchd actors` is `dispatchd actors list`, also with options of that."""
    if words[:1] != ["actors"] or (words[1:] and not words[1].startswith("-")) or words[1:2] in (["-h"], ["--help"]):
        return words
    return ["actors", "list", *words[1:]]


def _act(action: str, api: Api, given: Given) -> None:
    actor = views.find(api, given)
    body = {**_body(action, given), **_confirmation(actor, given)}
    api.ask("PUT", "actors", str(actor["id"]), action, body=body)


def _body(action: str, given: Given) -> Row:
    match action:
        case "pause":
            return {"for": None if given.seconds == FOREVER else _number("--seconds", given.seconds)}
        case "step":
            return {"n": _number("--n", given.n)}
        case "stop" | "quarantine" if given.reason is not None:
            return {"reason": given.reason}
    return {}


def _confirmation(actor: Row, given: Given) -> Row:
    """Who gives the name has confirmed it."""
    confirmed = getattr(given, "confirm", None) or given.actor
    return {"confirm": confirmed} if confirmed == actor["name"] else {}


def _drop(api: Api, given: Given) -> list[Row]:
    actor = views.find(api, given)
    dropped = api.ask("DELETE", "actors", str(actor["id"]), "mailbox", "0", body=_confirmation(actor, given))
    return [dropped]


def _replay(api: Api, given: Given) -> None:
    api.ask("POST", "actors", "failures", given.failure, "replay")


def _number(what: str, text: str) -> float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise RemoteError(f"{what} is {text}, expected a number") from None


_ACTOR: Final = Argument("actor", "its number, or its whole name")
_KIND: Final = Argument("--kind", "its kind, where several have the name, such as queue or exchange")
_WHO: Final = (_ACTOR, _KIND)
_CONFIRM: Final = Argument("--confirm", "the actor's name; not needed if that is how it was named")
_REASON: Final = Argument("--reason", "for the log, and for clients")
_HOLD_UPS: Final = ("at", "took", "actor", "message")
_FAILURE: Final = Argument("failure", "its number")
_LIMIT: Final = Argument("--limit", "how many, at most")

ACTOR_COMMANDS: Final[dict[str, tuple[str, dict[str, Command]]]] = {
    "actors": (
        "actors",
        {
            "list": Command(
                "show how actors do (also without this word)",
                views.show_all,
                (
                    Argument(
                        "--sort",
                        "by what, such as mailbox, oldest_ms, p99_ms, busy, handled_per_second (default: state)",
                    ),
                    Argument("--order", "asc or desc", choices=("asc", "desc")),
                    _LIMIT,
                    Argument("--kind", "only these kinds, with commas"),
                    Argument("--state", "only in these states, with commas"),
                    Argument("--name", "only with this in their names"),
                    Argument("--watch", "show it again every so many seconds (2), like top", const=WATCH_SECONDS),
                ),
                views.COLUMNS,
            ),
            "show": Command("show all that is known of one", views.show, _WHO, ("what", "value")),
            "mailbox": Command(
                "show what waits in a mailbox, and take nothing away",
                views.mailbox,
                (*_WHO, _LIMIT),
                ("position", "type", "age", "count", "octets", "summary"),
            ),
            "stack": Command("show where one is in its code now", views.stack, _WHO),
            "trace": Command(
                "show each message that one handles, for a while",
                views.trace,
                (*_WHO, Argument("--seconds", "how long, at most 60 (default: 10)", "10")),
            ),
            "failures": Command(
                "show the last failures of all actors, or of one",
                views.failures,
                (Argument("--actor", "its number, or its whole name"), _KIND, _LIMIT),
                ("id", "at", "actor", "message_type", "error", "fate", "can be replayed"),
            ),
            "failure": Command(
                "show one failure with its traceback", views.failure, (Argument("failure", "its number"),)
            ),
            "slow": Command("show handlers that took long", partial(views.slow, "slow"), (), _HOLD_UPS),
            "blocks": Command("show when the whole broker stood still", partial(views.slow, "blocks"), (), _HOLD_UPS),
            "pause": Command(
                "let one handle nothing for a while",
                partial(_act, "pause"),
                (
                    *_WHO,
                    Argument("--seconds", f"how long, or {FOREVER}, until it is resumed (default: 60)", "60"),
                    _CONFIRM,
                ),
            ),
            "resume": Command("let one go on", partial(_act, "resume"), _WHO),
            "step": Command(
                "let a paused one handle some messages",
                partial(_act, "step"),
                (*_WHO, Argument("--n", "how many (default: 1)", "1"), _CONFIRM),
            ),
            "restart": Command("give one a new state, and lose nothing", partial(_act, "restart"), (*_WHO, _CONFIRM)),
            "stop": Command("close a connection or a channel", partial(_act, "stop"), (*_WHO, _CONFIRM, _REASON)),
            "quarantine": Command(
                "let one refuse what it is told", partial(_act, "quarantine"), (*_WHO, _CONFIRM, _REASON)
            ),
            "release": Command("let one out of quarantine", partial(_act, "release"), _WHO),
            "drop": Command(
                "take the oldest message out of the mailbox of a paused one",
                _drop,
                (*_WHO, _CONFIRM),
                ("id", "message_type", "message", "can_replay"),
            ),
            "replay": Command("tell one again what it failed at", _replay, (_FAILURE,)),
        },
    ),
}
"""As the other commands for a running broker."""
