"""`rabbitmqctl` and `rabbitmq-diagnostics`, as far as the health checks and start scripts of images use them.

They ask the broker's API, as `dispatchd user` and the like do, with the same variables of the environment. Output and
exit statuses are those of RabbitMQ's tools: lines about what is done (not with -q), then rows with tabs, below the
columns' names (not with -s).
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Final

from dispatchd.config import ConfigError
from dispatchd.config_sources import login_of
from dispatchd.healthcheck import ask, default_url
from dispatchd.remote import Api, RemoteError, UnreachableError

EXIT_USAGE: Final = 64  # EX_USAGE of sysexits.h, and so on
EXIT_REFUSED: Final = 70
EXIT_CONFIG: Final = 78
STARTUP_SECONDS: Final = 300.0  # RabbitMQ's
LOOK_SECONDS: Final = 0.5

Row = Mapping[str, Any]


class UsageError(Exception):
    """The command line is not understood."""


class ColumnError(Exception):
    """A column is asked for that no row has."""


@dataclass
class Given:
    """What the command line says: options that may be anywhere, and the words that are left."""

    words: list[str] = field(default_factory=list)
    vhost: str = "/"
    timeout: float | None = None
    is_quiet: bool = False
    has_headers: bool = True

    @staticmethod
    def of(words: Sequence[str]) -> Given:
        """Raises UsageError."""
        given = Given()
        rest = iter(words)
        for word in rest:
            name, _, value = word.partition("=")
            match name:
                case "-q" | "--quiet":
                    given.is_quiet = True
                case "-s" | "--silent":
                    given.is_quiet, given.has_headers = True, False
                case "--no-table-headers":
                    given.has_headers = False
                case "-p" | "--vhost":
                    given.vhost = value or next(rest, "")
                case "-t" | "--timeout":
                    given.timeout = _seconds(value or next(rest, ""))
                case "-n" | "--node":
                    value = value or next(rest, "")  # there is one
                case _ if word.startswith("-") and word != "-":
                    raise UsageError(f"{word}: this option is not known")
                case _:
                    given.words.append(word)
        return given


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--timeout is {text}, expected seconds") from None


class Tool:
    """The commands; what they print goes to the standard output."""

    def __init__(self, given: Given) -> None:
        self._given = given

    def _api(self) -> Api:
        return Api(default_url(), *login_of())

    def _say(self, text: str) -> None:
        if not self._given.is_quiet:
            print(text)

    def _print(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if self._given.has_headers:
            print("\t".join(columns))
        for row in rows:
            print("\t".join(_cell(row.get(column, "")) for column in columns))

    # Whether there is a broker

    def ping(self) -> None:
        """Whether it answers at all."""
        self._say(f"Will ping {_node()}.")
        _look("/livez")
        self._say("Ping succeeded")

    def check_running(self) -> None:
        """Whether clients can connect."""
        self._say(f"Checking if RabbitMQ is running on node {_node()} ...")
        _look("/readyz")
        self._say(f"RabbitMQ on node {_node()} is fully booted and running")

    def await_startup(self) -> None:
        """Wait until they can."""
        seconds = STARTUP_SECONDS if self._given.timeout is None else self._given.timeout
        end = time.monotonic() + seconds
        while True:
            try:
                return _look("/readyz")
            except RemoteError:
                if time.monotonic() > end:
                    raise
            time.sleep(LOOK_SECONDS)

    def status(self) -> None:
        """What the overview says, in short."""
        self._say(f"Status of node {_node()} ...")
        facts = self._api().ask("GET", "overview")
        print(f"Runtime\n\nUptime (seconds): {facts['uptime_ms'] // 1000}")
        print(f"{facts['product']} version: {facts['version']}\nPython version: {facts['python']}\n\nAlarms\n")
        print("\n".join(str(alarm) for alarm in facts["alarms"]) or "(none)")
        print("\nTotals\n")
        for name, number in facts["totals"].items():
            print(f"{name}: {_cell(number)}")
        print("\nListeners\n")
        for row in facts["listeners"]:
            print(f"Interface: {row['address']}, port: {row['port']}, protocol: {row['protocol']}")

    # Users and vhosts

    def add_user(self, name: str, password: str | None = None) -> None:
        """Make one; without a password it is the first line of the standard input."""
        self._say(f'Adding user "{name}" ...')
        if any(row["name"] == name for row in self._api().ask("GET", "users")):
            raise RemoteError(f'User "{name}" already exists')
        self._api().ask("PUT", "users", name, body={"password": _password(password), "tags": ""})

    def delete_user(self, name: str) -> None:
        """Delete one."""
        self._say(f'Deleting user "{name}" ...')
        self._api().ask("DELETE", "users", name)

    def change_password(self, name: str, password: str | None = None) -> None:
        """Give one another password."""
        self._say(f'Changing password for user "{name}" ...')
        tags = self._api().ask("GET", "users", name)["tags"]
        self._api().ask("PUT", "users", name, body={"password": _password(password), "tags": tags})

    def set_user_tags(self, name: str, *tags: str) -> None:
        """Give one these tags and no others."""
        self._say(f'Setting tags for user "{name}" to [{", ".join(tags)}] ...')
        self._api().ask("GET", "users", name)
        self._api().ask("PUT", "users", name, body={"tags": ",".join(tags)})

    def list_users(self) -> None:
        """Their names and tags."""
        self._say("Listing users ...")
        rows = self._api().ask("GET", "users")
        self._print(("user", "tags"), [{"user": row["name"], "tags": _tags(row["tags"])} for row in rows])

    def set_permissions(self, user: str, configure: str, write: str, read: str) -> None:
        """Let one into the vhost."""
        self._say(f'Setting permissions for user "{user}" in vhost "{self._given.vhost}" ...')
        body = {"configure": configure, "write": write, "read": read}
        self._api().ask("PUT", "permissions", self._given.vhost, user, body=body)

    def clear_permissions(self, user: str) -> None:
        """Let one into the vhost no more."""
        self._say(f'Clearing permissions for user "{user}" in vhost "{self._given.vhost}" ...')
        self._api().ask("DELETE", "permissions", self._given.vhost, user)

    def list_permissions(self) -> None:
        """Those of the vhost."""
        self._say(f'Listing permissions for vhost "{self._given.vhost}" ...')
        rows = [row for row in self._api().ask("GET", "permissions") if row["vhost"] == self._given.vhost]
        self._print(("user", "configure", "write", "read"), rows)

    def add_vhost(self, name: str) -> None:
        """Make one."""
        self._say(f'Adding vhost "{name}" ...')
        self._api().ask("PUT", "vhosts", name, body={})

    def delete_vhost(self, name: str) -> None:
        """Delete one."""
        self._say(f'Deleting vhost "{name}" ...')
        self._api().ask("DELETE", "vhosts", name)

    def list_vhosts(self, *columns: str) -> None:
        """All of them."""
        rows = self._api().ask("GET", "vhosts")
        known = {name for row in rows for name in row}
        if unknown := [column for column in columns if rows and column not in known]:
            raise ColumnError(f"Info key(s) {', '.join(unknown)} are not supported, but {', '.join(sorted(known))}")
        self._say("Listing vhosts ...")
        self._print(columns or ("name",), rows)

    # What is in them

    def list_queues(self, *columns: str) -> None:
        """Those of the vhost."""
        self._say(f"Timeout: 60.0 seconds ...\nListing queues for vhost {self._given.vhost} ...")
        self._print(columns or ("name", "messages"), self._api().ask("GET", "queues", self._given.vhost))

    def list_exchanges(self, *columns: str) -> None:
        """Those of the vhost."""
        self._say(f"Listing exchanges for vhost {self._given.vhost} ...")
        self._print(columns or ("name", "type"), self._api().ask("GET", "exchanges", self._given.vhost))

    def list_connections(self, *columns: str) -> None:
        """Those of all vhosts."""
        self._say("Listing connections ...")
        self._print(columns or ("user", "peer_host", "peer_port", "state"), self._api().ask("GET", "connections"))

    def list_channels(self, *columns: str) -> None:
        """Those of all vhosts."""
        self._say("Listing channels ...")
        columns = columns or ("name", "user", "consumer_count", "messages_unacknowledged")
        self._print(columns, self._api().ask("GET", "channels"))

    def purge_queue(self, name: str) -> None:
        """Remove all messages that are ready."""
        self._say(f"Purging queue '{name}' in vhost '{self._given.vhost}' ...")
        self._api().ask("DELETE", "queues", self._given.vhost, name, "contents")

    def delete_queue(self, name: str) -> None:
        """Delete one."""
        self._say(f"Deleting queue '{name}' on vhost '{self._given.vhost}' ...")
        self._api().ask("DELETE", "queues", self._given.vhost, name)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    name: getattr(Tool, name) for name in vars(Tool) if not name.startswith("_")
}


def run(words: Sequence[str]) -> int:
    """Carry a command out, print what there is to say, and return the exit status."""
    try:
        given = Given.of(words)
        if not given.words:
            raise UsageError("a command is missing")
        name, *arguments = given.words
        if name not in COMMANDS:
            raise UsageError(f"{name}: dispatchd has no such command")
        call, needed, most = COMMANDS[name], *_arity(COMMANDS[name])
        if len(arguments) < needed or (most is not None and len(arguments) > most):
            raise UsageError(f"{name}: {len(arguments)} arguments do not fit")
        call(Tool(given), *arguments)
    except ColumnError as error:
        print(f"Error (argument validation): {error}", file=sys.stderr)
        return EXIT_USAGE
    except UsageError as error:
        print(f"Error: {error}; expected one of {', '.join(sorted(COMMANDS))}", file=sys.stderr)
        return EXIT_USAGE
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except RemoteError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.status if isinstance(error, UnreachableError) else EXIT_REFUSED
    return 0


def _arity(call: Callable[..., None]) -> tuple[int, int | None]:
    """How many arguments a command needs, and takes at most (None: any number)."""
    of_command = [each for name, each in signature(call).parameters.items() if name != "self"]
    needed = sum(each.default is each.empty and each.kind is not each.VAR_POSITIONAL for each in of_command)
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in of_command)
    return needed, None if takes_any else len(of_command)


def _look(path: str) -> None:
    url = default_url()
    try:
        status, text = ask(url, path)
    except (OSError, ValueError) as error:
        raise _unavailable(f"{url}: {error}") from None
    if status != 200:
        raise _unavailable(f"{url}: {text}")


def _unavailable(text: str) -> UnreachableError:
    return UnreachableError(f"unable to perform an operation on node {_node()}: {text}")


def _node() -> str:
    return f"dispatchd@{socket.gethostname()}"


def _password(given: str | None) -> str:
    password = sys.stdin.readline().rstrip("\r\n") if given is None else given
    if not password:
        raise UsageError("the password is empty")
    return password


def _tags(tags: Any) -> str:
    return f"[{', '.join(tags.split(',') if isinstance(tags, str) else tags)}]"


def _cell(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) or value is None else str(value)
    return text if text.isprintable() else ascii(text)[1:-1]
