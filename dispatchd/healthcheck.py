"""`dispatchd healthcheck`: whether a broker answers. Asked every few seconds, so it imports next to nothing."""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

USAGE: Final = """usage: dispatchd healthcheck [--ready | --live] [--url URL]

Ask a broker's admin how it does. Exit status 0 if all is well, 1 if not, 64 when this command is not understood.

  --ready    whether clients can connect and publish (default)
  --live     whether the process answers at all
  --url URL  where the admin is (default: DISPATCHD_URL, or else http://127.0.0.1 with the port
             that DISPATCHD_ADMIN_PORT says, or 8080);
             with https its certificate is not checked: nothing is told to it"""
EXIT_SICK: Final = 1
EXIT_USAGE: Final = 64  # EX_USAGE of sysexits.h
SECONDS: Final = 3.0
MOST_OCTETS: Final = 1 << 16


def run(words: list[str]) -> int:
    """Ask, print the answer, and return the exit status; `words` is what follows `healthcheck`."""
    path, url = "/readyz", default_url()
    rest = iter(words)
    for word in rest:
        name, has_value, value = word.partition("=")
        if word in ("-h", "--help"):
            print(USAGE)
            return 0
        if word in ("--ready", "--live"):
            path = f"/{word[2:]}z"
        elif name == "--url" and (value or (not has_value and (value := next(rest, "")))):
            url = value
        else:
            print(f"dispatchd healthcheck: {word} is not understood\n\n{USAGE}", file=sys.stderr)
            return EXIT_USAGE
    try:
        status, text = ask(url, path)
    except (OSError, ValueError) as error:
        print(f"dispatchd healthcheck: {url}: {error}", file=sys.stderr)
        return EXIT_SICK
    print(text)
    return 0 if status == 200 else EXIT_SICK


def default_url() -> str:
    """Where the admin is, as far as the environment says."""
    port = os.environ.get("DISPATCHD_ADMIN_PORT", "")  # of a service of Kubernetes' it would be an address
    return os.environ.get("DISPATCHD_URL") or f"http://127.0.0.1:{port if port.isdigit() else 8080}"


def ask(url: str, path: str) -> tuple[int, str]:
    """Status and body of what a GET of `path` answers; http.client would take longer to import than all the rest.

    Raises OSError if nobody answers in 3 seconds, ValueError if `url` is none or the answer is not HTTP.
    """
    scheme, host, port = _place(url)
    with socket.create_connection((host, port), SECONDS) as connection:
        if scheme == "https":
            import ssl

            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname=host)
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while len(answer) < MOST_OCTETS and (part := connection.recv(4096)):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("what answers there is no broker's admin")
    return int(words[1]), body.decode(errors="replace").strip()


def _place(url: str) -> tuple[str, str, int]:
    scheme, separator, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if not separator or scheme not in ("http", "https") or not host or not port.isdigit():
        raise ValueError("expected a URL with a port, such as http://127.0.0.1:8080")
    return scheme, host.strip("[]"), int(port)
