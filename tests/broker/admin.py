"""An operator of a broker: asks its API, and gives commands."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

from broker.process import BrokerProcess

SECONDS = 20


def api(
    broker: BrokerProcess, method: str, path: str, body: Any = None, user: str = "guest", password: str = "guest"
) -> tuple[int, Any]:
    """Ask the API; returns the status and the JSON that comes."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    url = f"http://{broker.host}:{broker.admin_port}/api/{path}"
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {"Authorization": f"Basic {login}", "X-Requested-With": "tests"}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            found = answer.read()
            return answer.status, json.loads(found) if found else None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def dispatchd(broker: BrokerProcess, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command against the broker; one with `--offline`, against its data."""
    where = ["--url", f"http://{broker.host}:{broker.admin_port}"]
    if "--offline" in words:
        where = ["--persist-dir", str(broker.persist_dir)]
    return subprocess.run(
        [sys.executable, "-m", "dispatchd", *words, *where],
        input=stdin,
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS,
        env={name: value for name, value in os.environ.items() if not name.startswith("DISPATCHD_")},
    )
