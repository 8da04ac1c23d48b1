"""The server's certificate and whose clients' it trusts, from files that are read again when an operator says so."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gevent

HANDSHAKE_SECONDS: Final = 5.0
"""For HTTPS; over AMQP the deadline of the whole handshake covers it."""

COMMON_NAME: Final = "common_name"
DISTINGUISHED_NAME: Final = "distinguished_name"

_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""RFC 4514's names of attributes, and OpenSSL's."""


@dataclass(frozen=True)
class TlsFiles:
    """`client_certificate` is "no", "optional" or "required"; `ca` has who may have signed one (PEM, as all)."""

    certificate: Path
    key: Path
    ca: Path | None = None
    client_certificate: str = "no"


class Certificates:
    """A TLS context that can be made anew from its files. Connections keep the one that they began with."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises OSError (ssl.SSLError is one) or ValueError if the files can't be used."""
        self._files = files
        self.context = self._read()

    def reload(self) -> None:
        """Read the files again. Raises as the constructor; then all stays as it was."""
        self.context = self._read()

    def _read(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        # Without a password it would ask for one on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=b"")
        if files.client_certificate != "no":
            if files.ca is None:
                raise ValueError("client certificates need a CA that has signed them")
            context.load_verify_locations(files.ca)
            required = files.client_certificate == "required"
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context

    def wrap(self, sock: socket.socket, **_settings: Any) -> ssl.SSLSocket:
        """A socket of gevent's with TLS over it. A client that can't do it in time ends the greenlet, quietly."""
        sock.settimeout(HANDSHAKE_SECONDS)
        try:
            return self.context.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            raise gevent.GreenletExit from None


def name_of(certificate: dict[str, Any] | None, login_from: str) -> str:
    """The user whom a verified certificate stands for: its common name, or its distinguished name as RFC 4514 has it.

    "" if there is none. RabbitMQ's mechanism EXTERNAL takes the same (rabbit_ssl:peer_cert_auth_name).
    """
    subject = (certificate or {}).get("subject", ())
    if login_from == COMMON_NAME:
        names = [value for part in subject for kind, value in part if kind == "commonName"]
        return str(names[0]) if names else ""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in subject[::-1]
    )


def _escaped(value: str) -> str:
    escaped = "".join(f"\\{character}" if character in '\\",+;<>' else character for character in value)
    if escaped.startswith((" ", "#")):
        escaped = f"\\{escaped}"
    return f"{escaped[:-1]}\\ " if escaped.endswith(" ") and len(escaped) > 1 else escaped
