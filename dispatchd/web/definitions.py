"""All definitions in one file: out, in RabbitMQ's format, and in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import bottle
import gevent

from dispatchd.actors.breath import in_turns
from dispatchd.actors.definitions_export import Exporter
from dispatchd.actors.definitions_import import Importer
from dispatchd.actors.definitions_plan import read_definitions
from dispatchd.actors.directory import Directory
from dispatchd.web.answers import created
from dispatchd.web.encoding import plain
from dispatchd.web.requests import denials, json_of

ROWS_IN_ONE_GO = 100


class Definitions:
    """The handlers."""

    def __init__(self, exporter: Exporter, importer: Importer, directory: Directory) -> None:
        self._exporter = exporter
        self._importer = importer
        self._directory = directory

    def route(self, app: bottle.Bottle) -> None:
        """Say at which addresses the handlers are."""
        app.get("/api/definitions", callback=self.export)
        app.post("/api/definitions", callback=self.take_in)
        app.get("/api/definitions/<vhost:name>", callback=self.export_vhost)
        app.post("/api/definitions/<vhost:name>", callback=self.take_in)

    def export(self) -> Iterator[bytes]:
        """Everything, but for the users of the configuration file."""
        return _answer(self._exporter.facts(), self._exporter.of_broker())

    def export_vhost(self, vhost: str) -> Iterator[bytes]:
        """What is in a vhost. Raises 404."""
        if not self._exporter.has(vhost):
            raise bottle.HTTPError(404, f"no vhost '{vhost}'")
        return _answer(self._exporter.facts(), self._exporter.of_vhost(vhost))

    def take_in(self, vhost: str | None = None) -> str:
        """Add definitions. Raises 400 and 404; what is wrong with the form of them is told before any is added."""
        if vhost is not None and not self._exporter.has(vhost):
            raise bottle.HTTPError(404, f"no vhost '{vhost}'")
        document = json_of(bottle.request.body.read(), "The body")
        of_file = {row["name"] for row in self._directory.users() if row["of_file"]}
        with denials():
            plan = gevent.get_hub().threadpool.apply(read_definitions, (document, vhost, of_file))
            self._importer.carry_out(plan)
        return created(is_new=False)


def _answer(facts: dict[str, Any], kinds: Iterator[tuple[str, Iterator[dict[str, Any]]]]) -> Iterator[bytes]:
    bottle.response.content_type = "application/json"
    bottle.response.set_header("Cache-Control", "no-store")
    return _encoded(facts, kinds)


def _encoded(facts: dict[str, Any], kinds: Iterator[tuple[str, Iterator[dict[str, Any]]]]) -> Iterator[bytes]:
    yield json.dumps(facts)[:-1].encode()
    for kind, rows in kinds:
        yield f', "{kind}": ['.encode()
        separator = ""
        part: list[str] = []
        for row in in_turns(rows):
            part.append(json.dumps(plain(row), allow_nan=False))
            if len(part) == ROWS_IN_ONE_GO:
                yield (separator + ", ".join(part)).encode()
                separator = ", "
                part.clear()
        if part:
            yield (separator + ", ".join(part)).encode()
        yield b"]"
    yield b"}"
