"""`rabbitmqadmin`, version 1, as far as scripts use it: the commands in the tables below, with its options and output.

It asks the broker's API, with the same variables of the environment as `dispatchd user` and the like, where neither an
option nor a URL says something else. The exit status is 1 if the broker refused or can't be reached, and 2 when an
option is not understood.
"""

from __future__ import annotations

import argparse
import base64
import json
import ssl
import sys
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dispatchd import __version__
from dispatchd.commands import export_definitions, import_definitions
from dispatchd.config import ConfigError
from dispatchd.config_sources import login_of
from dispatchd.healthcheck import default_url
from dispatchd.listings import FORMS, show
from dispatchd.remote import Api, RemoteError

EXIT_FAILURE: Final = 1
DEFAULT_EXCHANGE: Final = "amq.default"
BINDING: Final = "bindings/{vhost}/e/{source}/{destination_type}/{destination}"
JSON: Final = frozenset({"arguments", "definition", "properties"})
"""Arguments whose values are JSON."""

Values = dict[str, Any]


class UsageError(Exception):
    """The command is not understood."""


@dataclass(frozen=True)
class Kind:
    """What can be declared or deleted: its address, the arguments that it needs, and those it may have."""

    address: str
    needed: tuple[str, ...] = ("name",)
    optional: Mapping[str, Any] = field(default_factory=dict)
    method: str = "PUT"

    @property
    def arguments(self) -> tuple[str, ...]:
        """All of them; a vhost is no argument where it is an option."""
        return *self.needed, *self.optional


_OBJECT: Final = {"auto_delete": "false", "durable": "true", "arguments": None}
_POLICY: Final = {"priority": None, "apply-to": None}
_DEFINED: Final = ("name", "pattern", "definition")
_IN_VHOST: Final = ("vhost", "name")

DECLARED: Final[dict[str, Kind]] = {
    "exchange": Kind("exchanges/{vhost}/{name}", ("name", "type"), {**_OBJECT, "internal": "false"}),
    "queue": Kind("queues/{vhost}/{name}", ("name",), {**_OBJECT, "node": None, "queue_type": None}),
    "binding": Kind(
        BINDING,
        ("source", "destination"),
        {"destination_type": "queue", "routing_key": "", "arguments": None},
        method="POST",
    ),
    "vhost": Kind("vhosts/{name}", ("name",), {"tracing": None}),
    "user": Kind(
        "users/{name}", ("name", "tags"), {"password": None, "password_hash": None, "hashing_algorithm": None}
    ),
    "permission": Kind("permissions/{vhost}/{user}", ("vhost", "user", "configure", "write", "read")),
    "policy": Kind("policies/{vhost}/{name}", _DEFINED, _POLICY),
    "operator_policy": Kind("operator-policies/{vhost}/{name}", _DEFINED, _POLICY),
    "vhost_limit": Kind("vhost-limits/{vhost}/{name}", (*_IN_VHOST, "value")),
}
DELETED: Final[dict[str, Kind]] = {
    "exchange": Kind("exchanges/{vhost}/{name}"),
    "queue": Kind("queues/{vhost}/{name}"),
    "binding": Kind(
        BINDING + "/{properties_key}", ("source", "destination_type", "destination"), {"properties_key": "~"}
    ),
    "vhost": Kind("vhosts/{name}"),
    "user": Kind("users/{name}"),
    "permission": Kind("permissions/{vhost}/{user}", ("vhost", "user")),
    "policy": Kind("policies/{vhost}/{name}"),
    "operator_policy": Kind("operator-policies/{vhost}/{name}"),
    "vhost_limit": Kind("vhost-limits/{vhost}/{name}", _IN_VHOST),
}
CLOSED: Final = {"connection": Kind("connections/{name}")}
PURGED: Final = {"queue": Kind("queues/{vhost}/{name}/contents")}
REMOVING: Final = {"delete": (DELETED, "deleted"), "close": (CLOSED, "closed"), "purge": (PURGED, "purged")}

PUBLISHED: Final = Kind(
    "exchanges/{vhost}/{exchange}/publish",
    ("routing_key",),
    {"payload": None, "properties": None, "exchange": DEFAULT_EXCHANGE, "payload_encoding": "string"},
)
GOT: Final = Kind(
    "queues/{vhost}/{queue}/get",
    ("queue",),
    {"count": "1", "ackmode": "ack_requeue_true", "payload_file": None, "encoding": "auto"},
)
IN_FILE: Final = ("routing_key", "exchange", "message_count", "payload_bytes", "redelivered")
"""What is shown of a message whose payload went to a file."""

LISTED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "connections": ("connections", ("name", "user", "channels")),
    "channels": ("channels", ("name", "user")),
    "consumers": ("consumers", ()),
    "exchanges": ("exchanges", ("name", "type")),
    "queues": ("queues", ("name", "messages")),
    "bindings": ("bindings", ("source", "destination", "routing_key")),
    "users": ("users", ()),
    "vhosts": ("vhosts", ("name", "messages")),
    "permissions": ("permissions", ()),
    "nodes": ("nodes", ("name", "type", "mem_used")),
    "parameters": ("parameters", ()),
    "policies": ("policies", ()),
    "operator_policies": ("operator-policies", ()),
    "vhost_limits": ("vhost-limits", ()),
}
"""The address of each, and the columns to show when none are named; without any: all."""
SHOWN: Final = {
    "overview": ("overview", ("rabbitmq_version", "cluster_name", "queue_totals.messages", "object_totals.queues"))
}
BY_VHOST: Final = frozenset({"consumers", "exchanges", "queues", "bindings"})


def values_of(kind: Kind, words: Sequence[str], vhost: str) -> Values:
    """The values of arguments such as `name=q`. Raises UsageError."""
    given: Values = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator:
            raise UsageError(f'Argument "{name}" not in the name=value format')
        if name not in kind.arguments:
            raise UsageError(f'Argument "{name}" is not recognised, expected {", ".join(kind.arguments)}')
        given[name] = _json(name, text) if name in JSON else text
    for name in kind.needed:
        if name not in given:
            raise UsageError(f'mandatory argument "{name}" is required')
    optional = {name: value for name, value in kind.optional.items() if value is not None}
    return {"vhost": vhost, **optional, **given}


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}, expected JSON: {error}") from None


class Tool:
    """The commands, each by the word that begins it; what they print goes to the standard output."""

    def __init__(self, api: Api, options: Namespace) -> None:
        self._api = api
        self._options = options
        self._vhost = options.vhost or "/"

    def list(self, *words: str) -> None:
        """All of a kind."""
        self._show("list", LISTED, words)

    def show(self, *words: str) -> None:
        """The only one of a kind."""
        self._show("show", SHOWN, words)

    def declare(self, *words: str) -> None:
        """Make one."""
        name, kind, rest = _chosen("declare", DECLARED, words)
        values = values_of(kind, rest, self._vhost)
        if name == "user" and not {"password", "password_hash"} & values.keys():
            raise UsageError("password or password_hash is required")
        if queue_type := values.pop("queue_type", None):
            values["arguments"] = {**values.get("arguments", {}), "x-queue-type": queue_type}
        self._ask(kind.method, kind, values, values)
        self._say(f"{name} declared")

    def delete(self, *words: str) -> None:
        """Remove one."""
        self._remove("delete", words)

    def close(self, *words: str) -> None:
        """Close a connection."""
        self._remove("close", words)

    def purge(self, *words: str) -> None:
        """Remove the messages of a queue that are ready."""
        self._remove("purge", words)

    def publish(self, *words: str) -> None:
        """Publish a message, whose payload is the standard input if it is no argument."""
        values = values_of(PUBLISHED, words, self._vhost)
        if "payload" not in values:
            octets = sys.stdin.buffer.read()
            if values["payload_encoding"] != "base64":
                octets = base64.b64encode(octets)
            values |= {"payload": octets.decode("latin-1"), "payload_encoding": "base64"}
        values.setdefault("properties", {})
        answer = self._ask("POST", PUBLISHED, {**values, "exchange": values["exchange"] or DEFAULT_EXCHANGE}, values)
        self._say("Message published" if answer["routed"] else "Message published but NOT routed")

    def get(self, *words: str) -> None:
        """Show messages."""
        values = values_of(GOT, words, self._vhost)
        file = values.pop("payload_file", None)
        if file is not None:
            if values["count"] != "1":
                raise UsageError("Cannot get multiple messages using payload_file")
            values["encoding"] = "base64"
        rows = self._ask("POST", GOT, values, values)
        if file is not None and rows:
            Path(file).write_bytes(base64.b64decode(rows[0]["payload"]))
        self._print(rows, IN_FILE if file is not None else ())

    def export(self, *words: str) -> None:
        """Write the definitions to a file."""
        [file] = _only(words)
        export_definitions(self._api, Namespace(file=file, vhost=self._options.vhost))
        self._say(f'Exported definitions for {self._options.host} to "{file}"')

    def import_(self, *words: str) -> None:
        """Add the definitions of a file."""
        [file] = _only(words)
        import_definitions(self._api, Namespace(file=file, vhost=self._options.vhost))
        self._say(f'Uploaded definitions from "{file}" to {self._options.host}.')

    def _remove(self, verb: str, words: Sequence[str]) -> None:
        kinds, done = REMOVING[verb]
        name, kind, rest = _chosen(verb, kinds, words)
        self._ask("DELETE", kind, values_of(kind, rest, self._vhost))
        self._say(f"{name} {done}")

    def _ask(self, method: str, kind: Kind, values: Values, body: Values | None = None) -> Any:
        address = {**values, "destination_type": values.get("destination_type", "")[:1]}
        return self._api.ask(method, *(part.format_map(address) for part in kind.address.split("/")), body=body)

    def _show(self, verb: str, kinds: Mapping[str, tuple[str, tuple[str, ...]]], words: Sequence[str]) -> None:
        if not words or words[0] not in kinds:
            raise UsageError(f"Don't know how to {verb} {words[0] if words else 'that'}, expected {', '.join(kinds)}")
        [kind, *columns], options = words, self._options
        address, usual = kinds[kind]
        vhost = (options.vhost,) if options.vhost and kind in BY_VHOST else ()
        query = {"columns": ",".join(columns), "sort": options.sort, "sort_reverse": options.sort_reverse and "true"}
        found = self._api.ask("GET", address, *vhost, query={key: value for key, value in query.items() if value})
        rows = found if isinstance(found, list) else [found]
        self._print(rows, columns or (usual if options.depth == 1 else ()))

    def _print(self, rows: Sequence[Any], columns: Sequence[str]) -> None:
        options = self._options
        if text := show(rows, options.format, columns, options.depth, with_names=not options.quiet):
            print(text)

    def _say(self, text: str) -> None:
        if not self._options.quiet:
            print(text)


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    name.rstrip("_"): getattr(Tool, name) for name in vars(Tool) if not name.startswith("_")
}


def _chosen(verb: str, kinds: Mapping[str, Kind], words: Sequence[str]) -> tuple[str, Kind, Sequence[str]]:
    if not words or words[0] not in kinds:
        what = words[0] if words else "nothing"
        raise UsageError(f"{verb}: Type {what} not recognised, expected {', '.join(kinds)}")
    return words[0], kinds[words[0]], words[1:]


def _only(words: Sequence[str]) -> Sequence[str]:
    if len(words) != 1:
        raise UsageError("Exactly one argument required")
    return words


def run(words: Sequence[str]) -> int:
    """Carry a command out, print what there is to say, and return the exit status."""
    parser = _parser()
    options = parser.parse_intermixed_args(words)
    try:
        [verb, *rest] = options.words or [""]
        if verb == "help":
            print(parser.format_help())
            return 0
        if verb not in COMMANDS:
            raise UsageError(f"Action {verb} not understood, expected {', '.join(COMMANDS)}")
        COMMANDS[verb](Tool(_api(options), options), *rest)
    except UsageError as error:
        print(f"ERROR: {error}\n\nrabbitmqadmin --help for help", file=sys.stderr)
    except (RemoteError, ConfigError, OSError) as error:
        print(f"*** {error}", file=sys.stderr)
    else:
        return 0
    return EXIT_FAILURE


def _api(options: Namespace) -> Api:
    """Raises UsageError and ConfigError."""
    usual = urlsplit(default_url())
    scheme = "https" if options.ssl else usual.scheme
    options.host = options.host or usual.hostname
    url = options.base_uri or f"{scheme}://{_bracketed(options.host)}:{options.port or usual.port}"
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(f"the base URI is {url}, expected one such as http://127.0.0.1:8080")
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=options.ssl_ca_cert_file)
        if options.ssl_insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        urllib.request.install_opener(urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)))
    user, password = login_of()
    return Api(
        url,
        user if options.username is None else options.username,
        password if options.password is None else options.password,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rabbitmqadmin",
        description="The commands of RabbitMQ's rabbitmqadmin, for scripts that were written for it.",
        epilog=_commands(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-H", "--host", help="where the broker is (default: DISPATCHD_URL, or 127.0.0.1)")
    add("-P", "--port", type=int, help="the port of its admin (default: that of DISPATCHD_URL, or 8080)")
    add("-U", "--base-uri", metavar="URI", help="both in one, such as http://127.0.0.1:8080")
    add("-V", "--vhost", help="the vhost (default: of all for lists, else /)")
    add("-u", "--username", help="a user (default: DISPATCHD_USER, or DISPATCHD_DEFAULT_USER, or guest)")
    add("-p", "--password", help="the password (default: DISPATCHD_PASSWORD, or DISPATCHD_DEFAULT_PASS, or guest)")
    add("-q", "--quiet", action="store_true", help="say nothing about what is done; with tsv, no columns' names")
    add("-s", "--ssl", action="store_true", help="ask with TLS")
    add("-k", "--ssl-insecure", action="store_true", help="take any certificate")
    add("--ssl-ca-cert-file", metavar="FILE", help="take certificates that this one signed")
    add("-f", "--format", choices=FORMS, default="table", help=f"how lists look: {', '.join(FORMS)}", metavar="FORMAT")
    add("-S", "--sort", metavar="COLUMN", help="sort a list by this")
    add("-R", "--sort-reverse", action="store_true", help="the other way round")
    add("-d", "--depth", type=int, default=1, help="show what lies so deep in objects (default: 1)")
    add("--version", action="version", version=f"rabbitmqadmin of dispatchd {__version__}")
    add("words", nargs="*", metavar="command", help="as below")
    return parser


def _commands() -> str:
    lines = [f"list {kind} [COLUMN…]" for kind in LISTED] + [f"show {kind} [COLUMN…]" for kind in SHOWN]
    tables = {"declare": DECLARED, **{verb: kinds for verb, (kinds, _) in REMOVING.items()}}
    for verb, kinds in tables.items():
        lines += [f"{verb} {name} {_usage(kind)}" for name, kind in kinds.items()]
    lines += [f"publish {_usage(PUBLISHED)}", f"get {_usage(GOT)}", "export FILE", "import FILE"]
    return "commands:\n  " + "\n  ".join(lines)


def _usage(kind: Kind) -> str:
    return " ".join([*(f"{name}=…" for name in kind.needed), *(f"[{name}=…]" for name in kind.optional)])
