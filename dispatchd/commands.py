"""Commands that a running broker carries out: `dispatchd vhost list` and the like, each in the table below."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from dispatchd.config_sources import login_of
from dispatchd.healthcheck import default_url
from dispatchd.model.names import printable
from dispatchd.remote import Api, RemoteError

Given = argparse.Namespace


@dataclass(frozen=True)
class Argument:
    """One argument of a command: an option if its name begins with dashes, else a word in its place.

    `const` is what an option means that is given without a value; None: it needs one. A flag never has one.
    """

    name: str
    help: str
    default: str | None = None
    choices: tuple[str, ...] | None = None
    const: str | None = None
    is_flag: bool = False

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let a command's parser know it."""
        if self.is_flag:
            parser.add_argument(self.name, help=self.help, action="store_true")
        elif self.const is not None:
            parser.add_argument(self.name, help=self.help, default=self.default, nargs="?", const=self.const)
        elif self.name.startswith("-"):
            parser.add_argument(self.name, help=self.help, default=self.default, choices=self.choices)
        else:
            parser.add_argument(self.name, help=self.help, choices=self.choices)


@dataclass(frozen=True)
class Command:
    """`run` asks the API, and returns rows to be shown as a table, text, or None when there is nothing to show.

    Where JSON is asked for it may return whatever JSON can be. `sparse` are columns that a row has only where there is
    something to tell.
    """

    help: str
    run: Callable[[Api, Given], Any]
    arguments: tuple[Argument, ...] = ()
    columns: tuple[str, ...] = ()
    sparse: tuple[str, ...] = ()


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


def export_definitions(api: Api, given: Given) -> None:
    """Write those of `given.vhost`, or all, to `given.file`."""
    found = api.ask("GET", "definitions", *([] if given.vhost is None else [given.vhost]))
    text = json.dumps(found, indent=2) + "\n"
    if given.file == "-":
        sys.stdout.write(text)
    else:
        Path(given.file).write_text(text)


def import_definitions(api: Api, given: Given) -> None:
    """Add those in `given.file` to `given.vhost`, or to all. Raises RemoteError."""
    try:
        found = json.loads(sys.stdin.read() if given.file == "-" else Path(given.file).read_bytes())
    except (OSError, ValueError) as error:
        raise RemoteError(f"{given.file}: can't be read as JSON: {error}") from None
    api.ask("POST", "definitions", *([] if given.vhost is None else [given.vhost]), body=found)


_FILE: Final = Argument("file", "a file, or - for the standard output or input")
_ONE_VHOST: Final = Argument("--vhost", "only what is in this vhost (default: everything)")

_NAME: Final = Argument("name", "name of the vhost")
VHOST: Final = Argument("--vhost", "name of the vhost (default: /)", "/")


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
            (VHOST,),
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
                VHOST,
            ),
        ),
        "clear": Command("remove one", partial(_clear_policy, path), (_POLICY, VHOST)),
    }


def _list(path: str, api: Api, _given: Given) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = api.ask("GET", path)
    return rows


def _add_user(api: Api, given: Given) -> None:
    if any(row["name"] == given.name for row in api.ask("GET", "users")):
        raise RemoteError(f"there is a user '{given.name}' already")
    api.ask("PUT", "users", given.name, body={"password": password_of_stdin(), "tags": given.tags or ""})


def _delete_user(api: Api, given: Given) -> None:
    api.ask("DELETE", "users", given.name)


def _set_password(api: Api, given: Given) -> None:
    user = api.ask("GET", "users", given.name)
    api.ask("PUT", "users", given.name, body={"password": password_of_stdin(), "tags": user["tags"]})


def _set_tags(api: Api, given: Given) -> None:
    api.ask("GET", "users", given.name)  # to put one that is not there would make it
    api.ask("PUT", "users", given.name, body={"tags": given.tags})


def _set_permission(api: Api, given: Given) -> None:
    body = {"configure": given.configure, "write": given.write, "read": given.read}
    api.ask("PUT", "permissions", given.vhost, given.name, body=body)


def _clear_permission(api: Api, given: Given) -> None:
    api.ask("DELETE", "permissions", given.vhost, given.name)


def _set_topic_permission(api: Api, given: Given) -> None:
    body = {"exchange": given.exchange, "write": given.write, "read": given.read}
    api.ask("PUT", "topic-permissions", given.vhost, given.name, body=body)


def _clear_topic_permission(api: Api, given: Given) -> None:
    exchange = () if given.exchange is None else (given.exchange,)
    api.ask("DELETE", "topic-permissions", given.vhost, given.name, *exchange)


def _limit(path: str, api: Api, given: Given) -> None:
    if given.value == "none":
        api.ask("DELETE", path, given.name, given.limit)
    else:
        api.ask("PUT", path, given.name, given.limit, body={"value": given.value})


_LIMIT: Final = (
    Argument("limit", "such as max-connections"),
    Argument("value", "how many there may be, or none for no limit"),
)
_USER: Final = Argument("name", "name of the user")
_WRITE: Final = Argument("write", "likewise, to bind or publish to")
_READ: Final = Argument("read", "likewise, to consume from or bind from")

USER_COMMANDS: Final[dict[str, tuple[str, dict[str, Command]]]] = {
    "user": (
        "users",
        {
            "list": Command("show all users", partial(_list, "users"), columns=("name", "tags", "of_file")),
            "add": Command(
                "add a user, whose password is asked for, or else the first line of the standard input",
                _add_user,
                (_USER, Argument("--tags", "words with commas: administrator, monitoring, policymaker, management")),
            ),
            "delete": Command("delete a user and close its connections", _delete_user, (_USER,)),
            "set-password": Command("give a user another password, as with add", _set_password, (_USER,)),
            "limit": Command(
                "limit the connections (max-connections) or channels (max-channels) of a user",
                partial(_limit, "user-limits"),
                (_USER, *_LIMIT),
            ),
            "tags": Command("give a user these tags", _set_tags, (_USER, Argument("tags", 'words with commas, or ""'))),
        },
    ),
    "permission": (
        "permissions",
        {
            "list": Command(
                "show who may do what, where",
                partial(_list, "permissions"),
                columns=("user", "vhost", "configure", "write", "read"),
            ),
            "set": Command(
                "let a user into a vhost",
                _set_permission,
                (
                    _USER,
                    Argument("configure", "regular expression: what to declare or delete"),
                    _WRITE,
                    _READ,
                    VHOST,
                ),
            ),
            "clear": Command("let a user into a vhost no more", _clear_permission, (_USER, VHOST)),
        },
    ),
    "topic-permission": (
        "topic permissions",
        {
            "list": Command(
                "show who may use which routing keys",
                partial(_list, "topic-permissions"),
                columns=("user", "vhost", "exchange", "write", "read"),
            ),
            "set": Command(
                "restrict the routing keys of a user",
                _set_topic_permission,
                (
                    _USER,
                    Argument("exchange", "name of a topic exchange"),
                    Argument("write", "regular expression for keys to publish with; {username} and {vhost} are known"),
                    Argument("read", "likewise, to bind with"),
                    VHOST,
                ),
            ),
            "clear": Command(
                "restrict them no more",
                _clear_topic_permission,
                (_USER, Argument("--exchange", "only this one (default: all)"), VHOST),
            ),
        },
    ),
}
"""Likewise: these can be carried out without a broker too."""

COLUMNS: Final = Argument("--columns", "names with commas, of what the JSON shows")
LIST_VHOSTS: Final = Command("show all vhosts", _list_vhosts, (COLUMNS,), ("name", "queues", "messages", "description"))

COMMANDS: Final[dict[str, tuple[str, dict[str, Command]]]] = {
    "vhost": (
        "virtual hosts",
        {
            "list": LIST_VHOSTS,
            "add": Command(
                "make a vhost, or change the description or the tags of one",
                _add_vhost,
                (_NAME, Argument("--description", "what it is for"), Argument("--tags", "words with commas")),
            ),
            "delete": Command("delete a vhost with everything in it", _delete_vhost, (_NAME,)),
            "limit": Command(
                "limit the connections (max-connections), queues (max-queues) or bindings (max-bindings) of a vhost",
                partial(_limit, "vhost-limits"),
                (_NAME, *_LIMIT),
            ),
        },
    ),
    "trace": (
        "the firehose (tracing)",
        {
            "on": Command(
                "copy all messages of a vhost to its exchange amq.rabbitmq.trace",
                partial(_trace, tracing=True),
                (VHOST,),
            ),
            "off": Command("copy the messages of a vhost no more", partial(_trace, tracing=False), (VHOST,)),
        },
    ),
    "definitions": (
        "definitions",
        {
            "export": Command(
                "write all definitions to a file, in RabbitMQ's format", export_definitions, (_FILE, _ONE_VHOST)
            ),
            "import": Command("add the definitions of a file", import_definitions, (_FILE, _ONE_VHOST)),
        },
    ),
    "policy": _policies("policies", "policies", '{"max-length": 1000}'),
    "operator-policy": _policies("operator-policies", "operator policies", '{"message-ttl": 60000}'),
}
"""By noun, then by verb."""


def add_commands(
    commands: Any,
    add_place_of_data: Callable[[argparse.ArgumentParser], None],
    more: Mapping[str, tuple[str, dict[str, Command]]],
    singles: Mapping[str, Command],
) -> None:
    """Let the command line's parser (the result of `add_subparsers`) know all of them, `more` such, and single words.

    `add_place_of_data` gives a command the broker's own options that say where the data are.
    """
    for word, command in singles.items():
        _add_command(commands, word, command, f"{command.help} (of a running broker)")
    for noun, (subject, verbs) in {**COMMANDS, **USER_COMMANDS, **more}.items():
        where = "of a broker, running or not" if noun in USER_COMMANDS else "of a running broker"
        parser = commands.add_parser(noun, help=f"{', '.join(verbs)} {subject} {where}", allow_abbrev=False)
        actions = parser.add_subparsers(title="actions", metavar="", required=True)
        for verb, command in verbs.items():
            action = _add_command(actions, verb, command, command.help)
            if noun in USER_COMMANDS:
                action.add_argument("--offline", action="store_true", help="work on the data; no broker may be running")
                add_place_of_data(action)


def _add_command(actions: Any, word: str, command: Command, help: str) -> argparse.ArgumentParser:
    action: argparse.ArgumentParser = actions.add_parser(
        word, help=help, description=f"{command.help}.", allow_abbrev=False
    )
    for argument in (*command.arguments, *_BROKER):
        argument.add_to(action)
    action.add_argument("--json", action="store_true", help="show JSON")
    action.set_defaults(command="remote", remote=command, offline=False)
    return action


_BROKER: Final = (
    Argument(
        "--url",
        "where the broker's admin is (default: DISPATCHD_URL, or http://127.0.0.1:8080)",
        default_url(),
    ),
    Argument("--user", "a user of it (default: DISPATCHD_USER, or DISPATCHD_DEFAULT_USER, or guest)"),
    Argument("--password", "the user's password (default: DISPATCHD_PASSWORD, or DISPATCHD_DEFAULT_PASS, or guest)"),
)


def run(given: Given, api: Api | None = None) -> str:
    """Carry out a command of the table, by another way than HTTP if there is an `api`; returns what is to be printed.

    Raises RemoteError, and ConfigError if the environment names a password that can't be read.
    """
    command: Command = given.remote
    user, password = login_of()
    rows = command.run(api or Api(given.url, given.user or user, given.password or password), given)
    if rows is None:
        return ""
    columns = command.columns
    if getattr(given, "columns", None):
        columns = tuple(column.strip() for column in given.columns.split(","))
        known = {key for row in rows for key in row}.union(command.columns, command.sparse)
        if rows and (unknown := [column for column in columns if column not in known]):
            raise RemoteError(f"there is no column {unknown[0]!r}, expected some of {', '.join(sorted(known))}")
        rows = [{column: row.get(column) for column in columns} for row in rows]
    if given.json:
        return json.dumps(rows, indent=2)
    return rows if isinstance(rows, str) else table(columns, rows)


def as_json(what: str, text: str) -> Any:
    """The JSON that an argument has. Raises RemoteError."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise RemoteError(f"{what} is {text}, expected JSON: {error}") from None


def password_of_stdin() -> str:
    """A password that is typed twice, or else the first line of the standard input. Raises RemoteError."""
    if sys.stdin.isatty():
        password = getpass.getpass()
        if getpass.getpass("Again: ") != password:
            raise RemoteError("the two passwords are not the same")
    else:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not password:
        raise RemoteError("the password is empty")
    return password


def table(columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> str:
    """Rows below the names of their columns, each as wide as it has to be."""
    lines = [list(columns), *([_shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    shown = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in shown)


def _shown(value: Any) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value))
