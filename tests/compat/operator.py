"""Plays the steps of an operator, through the HTTP API that both brokers have."""

from __future__ import annotations

import base64
import html
import json
import re
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from compat import script

SECONDS = 10
VHOST = "/"


class Operator:
    """Guest, as the operator of one broker; knows which policies there are, to take them away in the end."""

    def __init__(self, host: str, admin_port: int) -> None:
        self._url = f"http://{host}:{admin_port}/api/"
        self._set: set[tuple[str, str]] = set()
        self._users: set[str] = set()
        self._limits: set[tuple[str, str, str]] = set()

    def take(self, step: script.OperatorStep) -> list[str]:
        """Do a step; what came of it in lines."""
        match step:
            case script.SetPolicy():
                kind = kind_of(step.by_operator)
                self._set.add((kind, step.name))
                fields = {"priority": step.priority, "apply-to": step.apply_to}
                given = {key: value for key, value in fields.items() if value is not None}
                body = {"pattern": step.pattern, "definition": step.definition, **given}
                return [self._ask("PUT", kind, VHOST, step.name, body=body)]
            case script.ClearPolicy():
                return [self._ask("DELETE", kind_of(step.by_operator), VHOST, step.name)]
            case script.PutUser():
                self._users.add(step.name)
                return [self._ask("PUT", "users", step.name, body={"password": "secret", "tags": step.tags})]
            case script.Permit():
                body = {"configure": step.configure, "write": step.write, "read": step.read}
                return [self._ask("PUT", "permissions", VHOST, step.user, body=body)]
            case script.PermitTopics():
                body = {"exchange": step.exchange, "write": step.write, "read": step.read}
                return [self._ask("PUT", "topic-permissions", VHOST, step.user, body=body)]
            case script.Limit():
                self._limits.add((step.kind, step.name, step.limit))
                return [self._ask("PUT", step.kind, step.name, step.limit, body={"value": step.value})]
            case script.ShowPolicies():
                return [self._ask("GET", kind_of(step.by_operator), VHOST)]
        raise TypeError(f"an operator can't do {step!r}")

    def _ask(self, method: str, *names: str, body: Any = None) -> str:
        """The status, and the JSON that came or the reason of a bad request, in one line."""
        data = None if body is None else json.dumps(body).encode()
        login = base64.b64encode(b"guest:guest").decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        path = "/".join(quote(name, safe="") for name in names)
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                found = answer.read()
                return f"{answer.status} {json.dumps(json.loads(found), sort_keys=True) if found else ''}".rstrip()
        except urllib.error.HTTPError as error:
            return f"{error.code} {one_line(json.load(error)['reason'])}" if error.code == 400 else str(error.code)

    def clean_up(self) -> None:
        for kind, name in self._set:
            self._ask("DELETE", kind, VHOST, name)
        for limit in self._limits:
            self._ask("DELETE", *limit)
        for user in self._users:
            self._ask("DELETE", "users", user)


def kind_of(by_operator: bool) -> str:
    return "operator-policies" if by_operator else "policies"


def one_line(reason: str) -> str:
    """RabbitMQ breaks long terms in lines, and escapes some reasons for a page of HTML."""
    return " ".join(re.sub(r",\n\s*", ",", html.unescape(reason)).split())
