"""How actors of a running broker are shown in a terminal: as a table, again and again like top, or one of them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any, Final

import gevent

from dispatchd.commands import Given, table
from dispatchd.model.names import printable
from dispatchd.remote import Api, RemoteError

Row = dict[str, Any]

CLEAR: Final = "\x1b[H\x1b[2J"
MOST_OF_A_NAME: Final = 1000
MOST_FAILURES: Final = 200


def find(api: Api, given: Given) -> Row:
    """The actor with this number or this name. Raises RemoteError if there is none, or several have the name."""
    who = given.actor
    if who.isascii() and who.isdigit():
        number: Row = api.ask("GET", "actors", who)
        return number
    query = {"name": who, "limit": str(MOST_OF_A_NAME), "sort": "id"}
    if given.kind is not None:
        query["kind"] = given.kind
    found = [row for row in api.ask("GET", "actors", query=query)["items"] if row["name"] == who]
    if not found:
        raise RemoteError(f"there is no actor {who!r}: expected a number, or the whole name")
    if len(found) > 1:
        several = ", ".join(f"{row['kind']} {row['id']}" for row in found[:10])
        raise RemoteError(f"{len(found)} actors have the name {who!r}: {several}; expected a number, or --kind")
    return dict(found[0])


def show_all(api: Api, given: Given) -> list[Row] | None:
    """A table of some actors, once or with --watch again and again."""
    if given.watch is not None:
        _watch(api, given)
        return None
    return _shown(_page(api, given)["items"], given)


def _page(api: Api, given: Given, most: int | None = None) -> Row:
    query = {"sort": given.sort, "order": given.order, "limit": given.limit, "kind": given.kind, "state": given.state,
             "name": given.name}  # fmt: skip
    if most is not None and given.limit is None:
        query["limit"] = str(most)
    page: Row = api.ask("GET", "actors", query={key: value for key, value in query.items() if value is not None})
    return page


def _shown(rows: list[Row], given: Given) -> list[Row]:
    return rows if given.json else [_in_words(row) for row in rows]


def _in_words(row: Row) -> Row:
    return {
        "state": row["state"],
        "kind": row["kind"],
        "id": row["id"],
        "name": row["name"],
        "mailbox": row["mailbox_depth"],
        "peak": row["mailbox_peak"],
        "oldest": _duration(row["oldest_ms"]),
        "wait p99": _duration(row["wait_p99_ms"]),
        "per s": f"{row['handled_per_second']:g}",
        "mean": _duration(row["mean_ms"]),
        "p99": _duration(row["p99_ms"]),
        "max": _duration(row["max_ms"]),
        "busy": f"{row['busy_percent']:.0f}%",
        "failures": row["failures"],
        "restarts": row["restarts"],
        "now": _now(row),
    }


COLUMNS: Final = (
    "state", "kind", "id", "name", "mailbox", "peak", "oldest", "wait p99", "per s", "mean", "p99", "max", "busy",
    "failures", "restarts", "now",
)  # fmt: skip


def _now(row: Row) -> str:
    if row["handling"] is not None:
        return f"{row['handling']} for {_duration(row['handling_ms'])}"
    if row["resumes_in_ms"] is not None:
        return f"goes on in {_duration(row['resumes_in_ms'])}"
    return f"waits for {row['waits_for']}" if row["waits_for"] else ""


def _duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "-"
    for unit, size in (("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g}{unit}"
    return f"{milliseconds * 1000:.0f}us" if milliseconds else "0"


def _watch(api: Api, given: Given) -> None:
    """Show the table again and again, until somebody has seen enough, or nobody reads it. Raises RemoteError."""
    try:
        seconds = float(given.watch)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise RemoteError(f"--watch is {given.watch}, expected seconds, from 0.1 to 3600")
    gevent.get_hub().NOT_ERROR += (KeyboardInterrupt,)  # that is how it ends
    try:
        while True:
            size = shutil.get_terminal_size()
            page = _page(api, given, size.lines - 4)
            if given.json:
                text = json.dumps(page["items"])
            else:
                states = ", ".join(f"{count} {state}" for state, count in page["states"].items() if count)
                heading = f"{time.strftime('%H:%M:%S')}  {page['total']} actors: {states}"
                lines = [heading, "", *table(COLUMNS, _shown(page["items"], given)).splitlines()]
                text = "\n".join(line[: size.columns] for line in lines) if sys.stdout.isatty() else "\n".join(lines)
            print(CLEAR + text if sys.stdout.isatty() else text, flush=True)
            time.sleep(seconds)
    except (KeyboardInterrupt, BrokenPipeError):
        return


def show(api: Api, given: Given) -> Any:
    """All that is known of one actor."""
    found = api.ask("GET", "actors", str(find(api, given)["id"]))
    if given.json:
        return found
    return [{"what": key, "value": value} for key, value in found.items() if key != "kept_failures"]


def failures(api: Api, given: Given) -> list[Row]:
    """The last failures of all actors, or of one."""
    query = {"limit": given.limit} if given.limit is not None else {}
    if given.actor is not None:
        query["actor"] = str(find(api, given)["id"])
    found: list[Row] = api.ask("GET", "actors", "failures", query=query)
    if given.json:
        return found
    return [
        {
            **failure,
            "at": _time(failure["at"]),
            "actor": f"{failure['actor']['kind']} {failure['actor']['name']}",
            "can be replayed": failure["no_replay_because"] or "yes",
        }
        for failure in found
    ]


def failure(api: Api, given: Given) -> Any:
    """One failure with its traceback. Raises RemoteError."""
    for failure in api.ask("GET", "actors", "failures", query={"limit": str(MOST_FAILURES)}):
        if str(failure["id"]) == given.failure:
            break
    else:
        raise RemoteError(f"failure {given.failure} is not kept any more, or never was")
    if given.json:
        return failure
    actor = failure["actor"]
    heading = f"{_time(failure['at'])}  {actor['kind']} {actor['name']} ({actor['id']}): {failure['error']}"
    return _text([heading, f"while it handled {failure['message']}", f"it was {failure['fate']}", failure["traceback"]])


def mailbox(api: Api, given: Given) -> list[Row]:
    """What waits for an actor."""
    query = {"limit": given.limit} if given.limit is not None else {}
    found: list[Row] = api.ask("GET", "actors", str(find(api, given)["id"]), "mailbox", query=query)["items"]
    return found if given.json else [{**row, "age": _duration(row["age_ms"])} for row in found]


def stack(api: Api, given: Given) -> Any:
    """Where an actor is in its code."""
    found = api.ask("GET", "actors", str(find(api, given)["id"]), "stack")
    return found if given.json else _text(found["stack"] or [found["note"]])


def slow(path: str, api: Api, given: Given) -> list[Row]:
    """Hold-ups, which are at `path`: slow handlers, or blocks of the loop."""
    found: list[Row] = api.ask("GET", "actors", path)
    if given.json:
        return found
    return [
        {
            "at": _time(row["at"]),
            "took": _duration(row["took_ms"]),
            "actor": f"{row['actor']['kind']} {row['actor']['name']}" if row["actor"] else "",
            "message": row["message_type"] or "",
        }
        for row in found
    ]


def trace(api: Api, given: Given) -> None:
    """Print each message that an actor handles, as it does."""
    actor = find(api, given)
    for event, told in api.listen("actors", str(actor["id"]), "trace", query={"seconds": given.seconds}):
        if given.json:
            print(json.dumps({"event": event, **told}), flush=True)
        elif event == "handled":
            times = f"waited {_duration(told['waited_ms'])}, took {_duration(told['took_ms'])}"
            print(f"{_time(told['at'])}  {told['type']}  {told['outcome']}  {times}", flush=True)
        else:
            print(f"{told['reason']}; {told['left_out']} left out", flush=True)


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds % 1 * 1000):03}"


def _text(parts: list[str]) -> str:
    return "\n".join(printable(line) for part in parts for line in part.splitlines())
