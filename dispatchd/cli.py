"""The command line: options, `hash-password`, commands to a running broker, logging, and the exit status."""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import logging
import sys
from pathlib import Path
from typing import Any, Final

from dispatchd import __version__, is_compiled
from dispatchd.actor_commands import ACTOR_COMMANDS, with_verb
from dispatchd.actors.hashing import DEFAULT_ROUNDS, LEAST_ROUNDS, MOST_ROUNDS, hash_password
from dispatchd.broker_commands import BROKER_COMMANDS, SINGLE_COMMANDS
from dispatchd.commands import add_commands, run, table
from dispatchd.config import OPTIONS, ConfigError, StartError
from dispatchd.config_sources import gather, rows
from dispatchd.logs import log_to
from dispatchd.remote import RemoteError
from dispatchd.store_commands import add_store_commands, run_store_command

logger = logging.getLogger(__name__)

EXIT_FAILURE: Final = 1
EXIT_CONFIG: Final = 78  # EX_CONFIG of sysexits.h


def main(argv: list[str] | None = None) -> int:
    """Run the broker, or the sub-command that `argv` names (without the program's name; None: this process's own).

    Returns:
        The exit status: 0, 1 when the broker can't start, a password can't be hashed, a running broker refuses, or a
        command for the data fails; 69 when no broker answers, 78 when the configuration can't be used. `store check`
        has its own.

    Raises:
        SystemExit: after --help and --version, and with status 2 when `argv` is not understood.
    """
    arguments = _parser().parse_args(with_verb(sys.argv[1:] if argv is None else argv))
    given = vars(arguments)
    try:
        match given.pop("command"):
            case "perf" | "healthcheck" as name:
                raise ConfigError(f"{name} has options of its own only: expected it to be the first argument")
            case "hash-password":
                return _hash_password(given["rounds"])
            case "remote":
                return _print(_run_offline(arguments) if arguments.offline else run(arguments))
            case "store":
                return run_store_command(gather(given).config.persist_dir, arguments)
            case "config":
                return _print(_show_config(arguments))
        return _serve(given)
    except ConfigError as error:
        print(f"dispatchd: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except (RemoteError, StartError) as error:
        print(f"dispatchd: {error}", file=sys.stderr)
        return getattr(error, "status", EXIT_FAILURE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dispatchd",
        description="A durable AMQP 0-9-1 message broker.",
        epilog="Each option may also have one dash, and each but --version be a variable of the environment, such as"
        " DISPATCHD_AMQP_PORT for --amqp-port, which the command line overrides; what the configuration file says"
        " overrides both.",
        allow_abbrev=False,
    )
    parser.set_defaults(command="serve")
    version = f"dispatchd {__version__} ({'compiled' if is_compiled() else 'pure'})"
    _add(parser, "version", action="version", version=version, help="show the version, and whether it runs compiled")
    _add_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="")
    add_commands(commands, _add_place_of_data, {**BROKER_COMMANDS, **ACTOR_COMMANDS}, SINGLE_COMMANDS)
    add_store_commands(commands, _add_place_of_data)
    _add_config_show(commands)
    perf = commands.add_parser("perf", help="put a load on a broker, this one or any other, and measure it")
    perf.set_defaults(command="perf")  # begun by __main__, unless options come before it
    check = commands.add_parser("healthcheck", help="ask whether a broker is ready; quick, for who asks often")
    check.set_defaults(command="healthcheck")  # likewise
    hashing = commands.add_parser(
        "hash-password",
        help="make the password_bcrypt_base64 of a user in the configuration file",
        description="Read a password from the terminal, or else the first line of the standard input, and print the"
        " base64 of its bcrypt hash, for password_bcrypt_base64 of a user in the configuration file.",
        allow_abbrev=False,
    )
    hashing.set_defaults(command="hash-password", rounds=DEFAULT_ROUNDS)
    _add(
        hashing,
        "rounds",
        type=int,
        choices=range(LEAST_ROUNDS, MOST_ROUNDS + 1),
        metavar="N",
        help=f"cost of the hash, from {LEAST_ROUNDS} to {MOST_ROUNDS}: each one more doubles the time of a login"
        f" (default: {DEFAULT_ROUNDS})",
    )
    return parser


def _add(parser: argparse.ArgumentParser, name: str, **settings: Any) -> None:
    """Add an option that may have one dash or two, as in the seed; only two are shown."""
    settings["default"] = argparse.SUPPRESS
    parser.add_argument(f"--{name}", **settings)
    parser.add_argument(f"-{name}", **settings | {"dest": name.replace("-", "_"), "help": argparse.SUPPRESS})


def _add_options(parser: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        if option.is_secret:
            continue
        if option.from_text is None:
            _add(parser, option.key, action="store_true", help=option.help)
        else:
            _add(parser, option.key, metavar=option.key.rpartition("-")[2].upper(), help=option.help)
    _add_config_file(parser)


def _add_config_show(commands: Any) -> None:
    parser = commands.add_parser("config", help="show the configuration that a broker would have", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="", required=True)
    show = actions.add_parser(
        "show",
        help="show every value, and where it comes from",
        description="Show every value that a broker started with these options would have, and where it comes from."
        " Times are in seconds, sizes in bytes; secrets are hidden.",
        allow_abbrev=False,
    )
    show.set_defaults(command="config")
    show.add_argument("--json", action="store_true", help="show JSON")
    _add_options(show)


def _show_config(arguments: argparse.Namespace) -> str:
    sources = gather(vars(arguments))
    for remark in sources.remarks:
        print(f"dispatchd: {remark}", file=sys.stderr)
    found = rows(sources)
    return json.dumps(found, indent=2) if arguments.json else table(("key", "value", "from"), found)


def _add_config_file(parser: argparse.ArgumentParser) -> None:
    _add(parser, "config-file", metavar="FILE", type=Path, help="configuration file, JSON or .toml (default: none)")
    _add(parser, "config-file-if-exists", metavar="FILE", type=Path, help="the same, but it may be missing")


def _add_place_of_data(parser: argparse.ArgumentParser) -> None:
    [option] = (option for option in OPTIONS if option.field == "persist_dir")
    _add(parser, option.key, metavar="DIR", help=option.help)
    _add_config_file(parser)


def _print(text: str) -> int:
    if text:
        print(text)
    return 0


def _run_offline(arguments: argparse.Namespace) -> str:
    from dispatchd.offline import OfflineApi

    with OfflineApi(gather(vars(arguments)).config) as api:
        return run(arguments, api)


def _serve(given: dict[str, Any]) -> int:
    sources = gather(given)
    log = log_to(sys.stderr, sources.config.log_level, sources.config.log_format)
    try:
        for remark in sources.remarks:
            logger.warning("%s", remark)
        from dispatchd.server import serve

        return serve(sources.config, lambda: gather(given).config)
    finally:
        log.flush()


def _hash_password(rounds: int) -> int:
    try:
        hashed = hash_password(_read_password(), rounds)
    except ValueError as error:
        print(f"dispatchd: {error}", file=sys.stderr)
        return EXIT_FAILURE
    print(base64.b64encode(hashed).decode())
    return 0


def _read_password() -> bytes:
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    password = getpass.getpass()
    if getpass.getpass("Again: ") != password:
        raise ValueError("the two passwords are not the same")
    return password.encode()
