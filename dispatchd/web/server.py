"""The HTTP server under the admin: bounded in connections, in time and in what a request may bring."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import gevent
from gevent.pywsgi import LoggingLogAdapter, WSGIHandler, WSGIServer

logger = logging.getLogger(__name__)

CONNECTIONS = 64
REQUEST_SECONDS = 20.0
SOCKET_SECONDS = 30.0  # longer: it matters only where a request's deadline was met and the client still does not read
BODY_OCTETS = 64 * 1024
DEFINITIONS = "/api/definitions"
DEFINITIONS_OCTETS = 16 << 20
"""The body is read when whoever sends it is known to be an administrator."""
TOO_LARGE = ("413", b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
"""What gevent sends before it closes the connection: status, and octets."""
STOP_SECONDS = 0.5
LIFT_DEADLINE = "dispatchd.lift_deadline"
"""Where the environment of a request has what its handler calls to serve it for longer, as a stream needs."""


class Handler(WSGIHandler):
    """One connection of a client, which must not be able to keep it forever or to send without end."""

    _deadline: gevent.Timeout
    _is_too_large = False

    def handle(self) -> None:
        """Serve the requests of one connection."""
        self.socket.settimeout(SOCKET_SECONDS)
        super().handle()

    def handle_one_request(self) -> Any:
        """Serve one request; ends the connection if it takes, with the wait for it, more than REQUEST_SECONDS."""
        deadline = self._deadline = gevent.Timeout.start_new(REQUEST_SECONDS)
        try:
            answered = super().handle_one_request()
            return TOO_LARGE if self._is_too_large else answered
        except gevent.Timeout as expired:
            if expired is not deadline:
                raise
            return None
        finally:
            deadline.close()

    def read_request(self, raw_requestline: str) -> Any:
        """Read the head of a request. Raises ValueError, answered 413, for a body too large or of unknown size."""
        accepted = super().read_request(raw_requestline)
        most = DEFINITIONS_OCTETS if str(self.path).startswith(DEFINITIONS) else BODY_OCTETS
        if self.headers.get("Transfer-Encoding") or (self.content_length or 0) > most:
            self._is_too_large = True
            raise ValueError(f"the body has more than {most} octets, or does not say how many")
        return accepted

    def get_environ(self) -> dict[str, Any]:
        """Leave the path as it was sent: a `%2F` in it belongs to a name, and is not what divides segments."""
        environ: dict[str, Any] = super().get_environ()
        environ["PATH_INFO"] = str(self.path).partition("?")[0]
        environ[LIFT_DEADLINE] = self._deadline.close
        return environ

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        """Report an unforeseen error; a client that was too slow is none, and only loses its connection."""
        if isinstance(v, gevent.Timeout | TimeoutError):
            self.close_connection = True
        else:
            super().handle_error(t, v, tb)


class Tls(Protocol):
    """What makes a connection one of HTTPS."""

    context: Any

    def wrap(self, sock: Any, **settings: Any) -> Any:
        """The socket with TLS over it."""


class AdminServer:
    """Serves a WSGI application at one address, with `tls` over HTTPS; `port` 0 takes a free one."""

    def __init__(self, app: Any, bind: str, port: int, tls: Tls | None = None) -> None:
        secured = {} if tls is None else {"ssl_context": tls.context}
        self._server = WSGIServer(
            (bind, port),
            app,
            spawn=CONNECTIONS,
            log=None,
            error_log=LoggingLogAdapter(logger, logging.WARNING),
            handler_class=Handler,
            environ={"SERVER_NAME": bind},  # else gevent asks DNS
            **secured,
        )
        if tls is not None:
            # gevent would keep the certificate that there is now for ever.
            setattr(self._server, "wrap_socket", tls.wrap)  # noqa: B010 - its type is that of a method

    @property
    def port(self) -> int:
        """The port that it listens on: the real one after `start`."""
        return int(self._server.address[1])

    def start(self) -> None:
        """Listen and serve. Raises OSError if the address cannot be bound."""
        self._server.start()

    def stop(self) -> None:
        """Stop listening; give requests that are being served STOP_SECONDS, then end them."""
        self._server.stop(timeout=STOP_SECONDS)
