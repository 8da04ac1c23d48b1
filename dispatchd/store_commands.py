"""Commands for the durable data, without the help of a broker: `dispatchd store check` and the like."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dispatchd.commands import table
from dispatchd.store.damage import concerned
from dispatchd.store.data_file import DATA_FILE, LOG_FILE
from dispatchd.store.inspection import Inspection
from dispatchd.store.interface import StoreError
from dispatchd.store.tools import back_up, compact, inspect, restore

EXIT_DAMAGED: Final = 1
EXIT_UNKNOWN: Final = 2
EXIT_FAILURE: Final = 1

Given = argparse.Namespace


@dataclass(frozen=True)
class StoreCommand:
    """`run` is given the folder of the data; it prints, and returns the exit status. May raise StoreError."""

    help: str
    description: str
    run: Callable[[Path, Given], int]
    argument: tuple[str, str] | None = None
    flag: tuple[str, str] | None = None


def _check(directory: Path, _given: Given) -> int:
    try:
        inspection = inspect(directory)
    except StoreError as error:
        print(f"dispatchd: {error}", file=sys.stderr)
        return EXIT_UNKNOWN
    print(f"{directory / DATA_FILE}: {_summary(inspection)}")
    for line in concerned(inspection):
        print(f"damaged: {line}")
    for fault in inspection.remains.faults:
        print(f"fault of the file: {fault}")
    print(
        "sound" if inspection.is_sound else "damaged; a broker with --salvage keeps the file aside and serves the rest"
    )
    return 0 if inspection.is_sound else EXIT_DAMAGED


def _stats(directory: Path, given: Given) -> int:
    inspection = inspect(directory)
    figures = _figures(inspection)
    if given.json:
        print(json.dumps({"path": str(directory / DATA_FILE), **figures}, indent=2))
        return 0
    rows = figures.pop("queues")
    print(table(("vhost", "kind", "name", "messages", "octets", "damaged"), rows))
    print()
    print(table(("of all", "count"), [{"of all": name, "count": count} for name, count in figures.items()]))
    return 0


def _figures(inspection: Inspection) -> dict[str, Any]:
    remains = inspection.remains
    queues = [
        {
            "vhost": queue.owner and queue.owner.vhost,
            "kind": queue.owner and queue.owner.kind,
            "name": queue.owner and queue.owner.name,
            "messages": queue.messages,
            "octets": queue.octets,
            "damaged": queue.damaged,
        }
        for queue in inspection.queues.values()
    ]
    return {
        "queues": sorted(queues, key=lambda row: (row["vhost"] or "", row["kind"] or "", row["name"] or "")),
        "format": remains.format,
        "definitions": len(inspection.definitions),
        "messages": sum(queue.messages for queue in inspection.queues.values()),
        "octets": sum(queue.octets for queue in inspection.queues.values()),
        "contents_shared": len(inspection.contents),
        "batches_logged": inspection.outstanding.records,
        "file_bytes": remains.size,
        "used_bytes": (remains.last_page + 1 - remains.free_pages) * remains.page_size,
        "free_bytes": remains.size - (remains.last_page + 1 - remains.free_pages) * remains.page_size,
    }


def _compact(directory: Path, _given: Given) -> int:
    before, after = compact(directory)
    print(f"{directory / DATA_FILE}: {before:,} bytes before, {after:,} bytes now")
    return 0


def _back_up(directory: Path, given: Given) -> int:
    print(f"{given.target}: {_summary(back_up(directory, given.target))}")
    return 0


def _restore(directory: Path, given: Given) -> int:
    print(f"{directory}: {_summary(restore(given.backup, directory, given.force))}")
    return 0


def _summary(inspection: Inspection) -> str:
    figures = _figures(inspection)
    logged = f"; {figures['batches_logged']:,} batches of that in {LOG_FILE}" if figures["batches_logged"] else ""
    return (
        f"format {figures['format']}, {len(figures['queues']):,} queues, {figures['messages']:,} messages,"
        f" {figures['definitions']:,} definitions, {figures['file_bytes']:,} bytes{logged}"
    )


_DIR: Final = ("dir", "the folder to look into, such as a backup (default: that of the broker)")

STORE_COMMANDS: Final = {
    "check": StoreCommand(
        "look for damage",
        "Read every page and check every record, and name each queue of which messages are damaged. The exit status is"
        " 0 if the data are sound, 1 if they are damaged, and 2 if there are none or they cannot be read. A broker may"
        " be running with them.",
        _check,
        argument=_DIR,
    ),
    "stats": StoreCommand(
        "show queues with their messages, and sizes",
        "Count messages and their octets by queue, and what of the file is free. A broker may be running.",
        _stats,
        argument=_DIR,
        flag=("json", "show JSON"),
    ),
    "compact": StoreCommand(
        "give free pages back to the disk",
        "Write the data anew without what is free, and put that in their place. No broker may be running, and there has"
        " to be room for both.",
        _compact,
    ),
    "backup": StoreCommand(
        "copy the data, also of a running broker",
        "Copy the data as they are in one moment, check the copy, and have it synced. With the folder that is made so a"
        " broker can start. A broker may be running; its file can grow meanwhile.",
        _back_up,
        argument=("target", "a new folder, or an empty one"),
    ),
    "restore": StoreCommand(
        "put a backup in the place of the data",
        "Check a backup and copy it to where a broker looks for its data. No broker may be running.",
        _restore,
        argument=("backup", "a folder that `dispatchd store backup` made"),
        flag=("force", "replace the data that are there; they are lost"),
    ),
}


def add_store_commands(commands: Any, add_options: Callable[[argparse.ArgumentParser], None]) -> None:
    """Let the command line's parser (the result of `add_subparsers`) know all of them.

    `add_options` gives a command the broker's own options that say where the data are.
    """
    parser = commands.add_parser("store", help=f"{', '.join(STORE_COMMANDS)} the durable data", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="", required=True)
    for name, command in STORE_COMMANDS.items():
        action = actions.add_parser(name, help=command.help, description=command.description, allow_abbrev=False)
        if command.argument is not None:
            argument, text = command.argument
            count = "?" if argument == "dir" else None
            action.add_argument(argument, nargs=count, metavar=argument.upper(), type=Path, help=text)
        add_options(action)
        if command.flag is not None:
            flag, text = command.flag
            action.add_argument(f"--{flag}", action="store_true", help=text)
        action.set_defaults(command="store", store=command)


def run_store_command(directory: Path, given: Given) -> int:
    """Carry out a command of the table on the data in a folder; returns the exit status."""
    command: StoreCommand = given.store
    try:
        return command.run(getattr(given, "dir", None) or directory, given)
    except StoreError as error:
        print(f"dispatchd: {error}", file=sys.stderr)
        return EXIT_FAILURE
