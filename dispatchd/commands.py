"""Commands that a running broker carries out: `dispatchd vhost list` and the like, each in the table below."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from dispatchd.model.names import printable
from dispatchd.remote import Api

Given = argparse.Namespace


@dataclass(frozen=True)
class Argument:
    """One argument of a command: an option if its name begins with dashes, else a word in its place."""

    name: str
    help: str
    default: str | None = None
    choices: tuple[str, ...] | None = None

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let a command's parser know it."""
        if self.name.startswith("-"):
            parser.add_argument(self.name, help=self.help, default=self.default, choices=self.choices)
        else:
            parser.add_argument(self.name, help=self.help, choices=self.choices)


@dataclass(frozen=True)
class Command:
    """`run` asks the API, and returns rows to be shown, or None when there is nothing to show."""

    help: str
    run: Callable[[Api, Given], list[dict[str, Any]] | None]
    arguments: tuple[Argument, ...] = ()
    columns: tuple[str, ...] = ()


def _list_vhosts(api: Api, _given: Given) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.ask("GET", "vhosts")
    return rows


def _add_vhost(api: Api, given: Given) -> None:
    body = {"description": given.description, "tags": given.tags}
    api.ask("PUT", "vhosts", given.name, body={key: value for key, value in body.items() if value is not None})


def _delete_vhost(api: Api, given: Given) -> None:
    api.ask("DELETE", "vhosts", given.name)


def _trace(api: Api, given: Given, *, tracing: bool) -> None:
    api.ask("GET", "vhosts", given.vhost)  # to define one that is not there would make it
    api.ask("PUT", "vhosts", given.vhost, body={"tracing": tracing})


_NAME: Final = Argument("name", "name of the vhost")
_VHOST: Final = Argument("--vhost", "name of the vhost (default: /)", "/")


def _list_policies(path: str, api: Api, given: Given) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.ask("GET", path, given.vhost)
    return rows


def _set_policy(path: str, api: Api, given: Given) -> None:
    body = {
        "pattern": given.pattern,
        "definition": given.definition,
        "priority": given.priority,
        "apply-to": given.apply_to,
    }
    api.ask("PUT", path, given.vhost, given.name, body=body)


def _clear_policy(path: str, api: Api, given: Given) -> None:
    api.ask("DELETE", path, given.vhost, given.name)


_POLICY: Final = Argument("name", "name of the policy")


def _policies(path: str, subject: str, settings: str) -> tuple[str, dict[str, Command]]:
    """The commands for policies, or operator policies, which are at `path` of the API."""
    return subject, {
        "list": Command(
            f"show all {subject} of a vhost",
            partial(_list_policies, path),
            (_VHOST,),
            ("vhost", "name", "pattern", "apply-to", "definition", "priority"),
        ),
        "set": Command(
            "add one, or put it in the place of the one with this name",
            partial(_set_policy, path),
            (
                _POLICY,
                Argument("pattern", "regular expression for names of queues and exchanges"),
                Argument("definition", f"JSON object of what is asked of them, such as {settings}"),
                Argument("--priority", "of those that match, the highest governs (default: 0)", "0"),
                Argument("--apply-to", "what it is for (default: all)", "all", ("queues", "exchanges", "all")),
                _VHOST,
            ),
        ),
        "clear": Command("remove one", partial(_clear_policy, path), (_POLICY, _VHOST)),
    }


COMMANDS: Final[dict[str, tuple[str, dict[str, Command]]]] = {
    "vhost": (
        "virtual hosts",
        {
            "list": Command("show all vhosts", _list_vhosts, columns=("name", "queues", "messages", "description")),
            "add": Command(
                "make a vhost, or change the description or the tags of one",
                _add_vhost,
                (_NAME, Argument("--description", "what it is for"), Argument("--tags", "words with commas")),
            ),
            "delete": Command("delete a vhost with everything in it", _delete_vhost, (_NAME,)),
        },
    ),
    "trace": (
        "the firehose (tracing)",
        {
            "on": Command(
                "copy all messages of a vhost to its exchange amq.rabbitmq.trace",
                partial(_trace, tracing=True),
                (_VHOST,),
            ),
            "off": Command("copy the messages of a vhost no more", partial(_trace, tracing=False), (_VHOST,)),
        },
    ),
    "policy": _policies("policies", "policies", '{"max-length": 1000}'),
    "operator-policy": _policies("operator-policies", "operator policies", '{"message-ttl": 60000}'),
}
"""By noun, then by verb."""


def add_commands(commands: Any) -> None:
    """Let the command line's parser (the result of `add_subparsers`) know all of them."""
    for noun, (subject, verbs) in COMMANDS.items():
        parser = commands.add_parser(noun, help=f"{', '.join(verbs)} {subject} of a running broker", allow_abbrev=False)
        actions = parser.add_subparsers(title="actions", metavar="", required=True)
        for verb, command in verbs.items():
            action = actions.add_parser(verb, help=command.help, description=f"{command.help}.", allow_abbrev=False)
            for argument in (*command.arguments, *_BROKER):
                argument.add_to(action)
            action.add_argument("--json", action="store_true", help="show JSON")
            action.set_defaults(command="remote", remote=command)


_BROKER: Final = (
    Argument(
        "--url",
        "where the broker's admin is (default: DISPATCHD_URL, or http://127.0.0.1:8080)",
        os.environ.get("DISPATCHD_URL", "http://127.0.0.1:8080"),
    ),
    Argument("--user", "a user of it (default: DISPATCHD_USER, or guest)", os.environ.get("DISPATCHD_USER", "guest")),
    Argument(
        "--password",
        "the user's password (default: DISPATCHD_PASSWORD, or guest)",
        os.environ.get("DISPATCHD_PASSWORD", "guest"),
    ),
)


def run(given: Given) -> str:
    """Carry out a command of the table; returns what is to be printed. Raises RemoteError."""
    command: Command = given.remote
    rows = command.run(Api(given.url, given.user, given.password), given)
    if rows is None:
        return ""
    return json.dumps(rows, indent=2) if given.json else table(command.columns, rows)


def table(columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    """Rows below the names of their columns, each as wide as it has to be."""
    lines = [list(columns), *([_shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    shown = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in shown)


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value))
