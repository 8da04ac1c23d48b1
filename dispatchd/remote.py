"""The API of a running broker, as the command line asks it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import quote, urlencode

SECONDS: Final = 15.0


EXIT_FAILURE: Final = 1
EXIT_UNAVAILABLE: Final = 69  # EX_UNAVAILABLE of sysexits.h


class RemoteError(Exception):
    """The broker could not be asked, or refused: one line that says why. `status` is the exit status to end with."""

    status = EXIT_FAILURE


class UnreachableError(RemoteError):
    """Nobody answers where the broker should be, or it can't work now."""

    status = EXIT_UNAVAILABLE


class Api:
    """`url` is where the admin is, such as http://127.0.0.1:8080; nothing is asked of it before a method is called."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def ask(
        self,
        method: str,
        *names: str,
        body: dict[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask for the address /api/`names`, each of them one segment; returns the JSON that comes, None without any.

        Raises RemoteError if there is no broker, or it refuses.
        """
        with self._answer(method, names, body, query, headers) as response:
            found = response.read()
            return json.loads(found) if found else None

    def listen(self, *names: str, query: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        """The server-sent events at /api/`names`: name and JSON of each, until the broker ends. Raises RemoteError."""
        event = ""
        with self._answer("GET", names, None, query) as response:
            for line in response:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    event = value
                elif field == "data":
                    yield event, json.loads(value)

    @contextmanager
    def _answer(
        self,
        method: str,
        names: Iterable[str],
        body: dict[str, Any] | None,
        query: Mapping[str, str] | None,
        more_headers: Mapping[str, str] | None = None,
    ) -> Iterator[HTTPResponse]:
        path = "/".join(quote(name, safe="") for name in names)
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": self._login, "Content-Type": "application/json", "X-Requested-With": "dispatchd"}
        headers |= more_headers or {}
        url = f"{self._url}/api/{path}{f'?{urlencode(query)}' if query else ''}"
        try:
            request = urllib.request.Request(url, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                yield response
        except urllib.error.HTTPError as error:
            raise (UnreachableError if error.code == 503 else RemoteError)(_reason(error)) from None
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(f"{self._url}: no broker's admin answers there: {reason}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return " ".join(str(json.load(error)["reason"]).split())
    except (ValueError, LookupError, TypeError):
        return f"{error.url}: {error.code} {error.reason}"
