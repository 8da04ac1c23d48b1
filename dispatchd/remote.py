"""The API of a running broker, as the command line asks it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any, Final
from urllib.parse import quote

SECONDS: Final = 15.0


class RemoteError(Exception):
    """The broker could not be asked, or refused: one line that says why."""


class Api:
    """`url` is where the admin is, such as http://127.0.0.1:8080; nothing is asked of it before a method is called."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def ask(self, method: str, *names: str, body: dict[str, Any] | None = None) -> Any:
        """Ask for the address /api/`names`, each of them one segment; returns the JSON that comes, None without any.

        Raises RemoteError if there is no broker, or it refuses.
        """
        path = "/".join(quote(name, safe="") for name in names)
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": self._login, "Content-Type": "application/json"}
        try:
            request = urllib.request.Request(f"{self._url}/api/{path}", data, headers, method=method)
            with urllib.request.urlopen(request, timeout=SECONDS) as response:
                found = response.read()
            return json.loads(found) if found else None
        except urllib.error.HTTPError as error:
            raise RemoteError(_reason(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise RemoteError(f"{self._url}: no broker's admin answers there: {reason}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return " ".join(str(json.load(error)["reason"]).split())
    except (ValueError, LookupError, TypeError):
        return f"{error.url}: {error.code} {error.reason}"
